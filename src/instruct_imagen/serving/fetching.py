"""References by web address, without letting a caller reach what only this machine can reach.

The name is resolved once, every address it stands for must be public, and the connection goes to an address that was
checked (so a name that resolves otherwise a moment later gains nothing). Redirects are followed by the same rules.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, urljoin, urlsplit

from ..errors import InstructionError

_MAX_REDIRECTS = 3
_PORTS = {"http": 80, "https": 443}
_CHUNK_BYTES = 65_536
_TRANSLATION = ipaddress.ip_network("64:ff9b::/96")  # IPv6 that a gateway turns into the IPv4 of its last 32 bits


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open internet, whatever IPv4 address an IPv6 one may carry."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        carried = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in _TRANSLATION:
            carried = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if carried is not None:
            return is_public(str(carried))
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def resolve(host: str, port: int) -> Sequence[str]:
    """The IP addresses of a name."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@dataclass(frozen=True)
class Fetcher:
    """Fetches pictures.

    Attributes:
        max_bytes: of one picture.
        timeout_s: for all of it, redirects included.
        allowed: which IP addresses may be reached; tests let their own server through.
        resolve: from a name and a port to addresses.
        ports: which ports may be reached; None: those of http and https.
    """

    max_bytes: int
    timeout_s: float = 10.0
    allowed: Callable[[str], bool] = is_public
    resolve: Callable[[str, int], Sequence[str]] = resolve
    ports: frozenset[int] = frozenset(_PORTS.values())

    def fetch(self, url: str, name: str) -> bytes:
        """The bytes behind `url`; `name` stands for the picture in errors, and nothing of the answer does.

        Raises:
            InstructionError: not http(s), not public, too large, too slow, or no picture there.
        """
        deadline = time.monotonic() + self.timeout_s
        for _ in range(_MAX_REDIRECTS + 1):
            parts = self._checked(url, name)
            try:
                redirect, content = self._get(parts, name, deadline)
            except (OSError, http.client.HTTPException, ValueError) as error:
                if isinstance(error, InstructionError):
                    raise
                raise InstructionError(f"{name} could not be fetched; check its address.") from error
            if redirect is None:
                return content
            url = urljoin(url, redirect)
        raise InstructionError(f"{name} is redirected more than {_MAX_REDIRECTS} times; give the last address.")

    def _checked(self, url: str, name: str) -> SplitResult:
        try:
            parts = urlsplit(url)
            port = parts.port or _PORTS.get(parts.scheme, 0)
        except ValueError as error:
            raise InstructionError(f"{name} has an address that cannot be read.") from error
        if parts.scheme not in _PORTS or not parts.hostname or parts.username or parts.password:
            raise InstructionError(f"{name} must be at a plain http or https address.")
        if port not in self.ports:
            raise InstructionError(f"{name} is at a port that is not fetched from.")
        if not (parts.path + parts.query).isascii() or any(ord(c) <= 32 for c in url):
            raise InstructionError(f"{name} has an address with characters that must be percent-encoded.")
        return parts

    def _address(self, parts: SplitResult, port: int, name: str) -> str:
        """One checked address of the host; every one of them must be allowed."""
        try:
            addresses = self.resolve(str(parts.hostname), port)
        except (OSError, UnicodeError) as error:
            raise InstructionError(f"{name} is at a host that is not known.") from error
        if not addresses or not all(self.allowed(address) for address in addresses):
            raise InstructionError(f"{name} is at an address that is not fetched from; send the picture itself.")
        return addresses[0]

    def _get(self, parts: SplitResult, name: str, deadline: float) -> tuple[str | None, bytes]:
        """Where an answer redirects to, or what it holds."""
        host, port = str(parts.hostname), parts.port or _PORTS[parts.scheme]
        connection = http.client.HTTPConnection(host, port, timeout=self._left(deadline, name))
        sock = socket.create_connection((self._address(parts, port, name), port), self._left(deadline, name))
        try:
            if parts.scheme == "https":
                sock = ssl.create_default_context().wrap_socket(sock, server_hostname=host)
            connection.sock = sock
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("GET", target, headers={"Accept": "image/*", "Connection": "close"})
            answer = connection.getresponse()
            if answer.status in (301, 302, 303, 307, 308) and (place := answer.getheader("Location")):
                return place, b""
            if answer.status != 200:
                raise InstructionError(f"{name} could not be fetched (status {answer.status}); check its address.")
            content = bytearray()
            while chunk := answer.read1(_CHUNK_BYTES):
                content += chunk
                if len(content) > self.max_bytes:
                    raise InstructionError(f"{name} is larger than {self.max_bytes:,} bytes; reduce it first.")
                sock.settimeout(self._left(deadline, name))
            return None, bytes(content)
        finally:
            sock.close()
            connection.close()

    def _left(self, deadline: float, name: str) -> float:
        seconds = deadline - time.monotonic()
        if seconds <= 0:
            raise InstructionError(f"{name} did not arrive within {self.timeout_s:g} s.")
        return seconds
