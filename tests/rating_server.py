"""The server as its users start it: a process of the command line, on a free port of loopback."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path


class RatingServer:
    """`instruct-imagen rate serve`, started on construction."""

    def __init__(self, study: str, port: int = 0) -> None:
        command = [sys.executable, "-m", "instruct_imagen.cli", "rate", "serve", study, "--port", str(port)]
        source = Path(__file__).parents[1] / "src"
        environment = {**os.environ, "PYTHONPATH": str(source)}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:([0-9]+)/", line)
        assert found, f"the server did not start: {line!r}"
        self.port = int(found[1])
        self.url = f"http://127.0.0.1:{self.port}"

    def kill(self) -> None:
        """Ends it as a power cut would: without a chance to finish anything."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)

    def stop(self) -> int:
        """Ends it as Ctrl-C does; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(30)
