"""A studio with the debug model, served on a free port by a thread of the test."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from instruct_imagen.studio.drawing import Painter


@contextmanager
def serving(painter: Painter, folder: Path, pack: str = "builtin", keep: Path | None = None) -> Iterator[str]:
    """Serves the page, and yields its address."""
    from instruct_imagen.studio.server import make_app, make_server

    app = make_app(painter, folder, pack=pack, keep=keep)
    listener = socket.create_server(("127.0.0.1", 0))
    server = make_server(app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.05)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
