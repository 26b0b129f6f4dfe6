"""Replace the network of a test: loopback only, and host names that resolve as the test says.

Host names are resolved here, because a real lookup would leave the machine. Numbers are parsed by the system's
`getaddrinfo`, which accepts more spellings than any specification. Every connection of this process, sync or async,
goes through `socket.socket.connect`: it is recorded there, and only loopback is reached.
"""

from __future__ import annotations

import contextlib
import errno
import inspect
import ipaddress
import socket
import threading
from types import TracebackType
from typing import Any

import pytest

from tests.images_end_to_end.entry_points import PNG

PUBLIC = "93.184.215.14"
OTHER_PUBLIC = "93.184.215.15"

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(PNG)


class FakeNetwork:
    """`connected` lists the IP address and port of each connection, except those to `service`; `asked` each name."""

    def __init__(self, patch: pytest.MonkeyPatch, service: int) -> None:
        self.names: dict[str, list[list[str]]] = {}
        self.servers: dict[str, int] = {}
        self.connected: list[tuple[str, int]] = []
        self.asked: list[str] = []
        self._service = service
        self._real_getaddrinfo, self._real_connect = socket.getaddrinfo, socket.socket.connect
        patch.setattr(socket, "getaddrinfo", self._resolve)
        patch.setattr(socket.socket, "connect", lambda own, address: self._connect(own, address))

    def name(self, host: str, *answers: list[str]) -> None:
        """Resolve `host` to these addresses: to the first list at the first lookup, to the last one from then on."""
        self.names[host] = list(answers)

    def serve(self, address: str, port: int) -> None:
        """Connect to `port` of this machine in place of a public address."""
        self.servers[address] = port

    def _resolve(self, host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        asked = inspect.signature(_getaddrinfo).bind(*args, **kwargs).arguments
        asked["flags"] = asked.get("flags", 0) | socket.AI_NUMERICHOST
        with contextlib.suppress(socket.gaierror):
            return self._real_getaddrinfo(host, port, **asked)
        text = host.decode() if isinstance(host, bytes) else host
        self.asked.append(text)
        bare = text.rstrip(".").lower()
        if bare == "localhost" or bare.endswith(".localhost"):
            return self._as_answers(["127.0.0.1"], port)
        answers = self.names.get(bare)
        if not answers:
            raise socket.gaierror(socket.EAI_NONAME, "not known")
        return self._as_answers(answers.pop(0) if len(answers) > 1 else answers[0], port)

    def _as_answers(self, addresses: list[str], port: Any) -> list[Any]:
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))
            if ":" in address
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in addresses
        ]

    def _connect(self, own: socket.socket, address: Any) -> None:
        host, port = address[:2]
        if port == self._service and host == "127.0.0.1":
            return self._real_connect(own, address)
        self.connected.append((host, port))
        if host in self.servers:
            return self._real_connect(own, ("127.0.0.1", self.servers[host]))
        if is_on_this_machine(host):
            return self._real_connect(own, address)
        raise OSError(errno.ENETUNREACH, "only loopback is here")


def _getaddrinfo(family: int = 0, type: int = 0, proto: int = 0, flags: int = 0) -> None:  # noqa: A002 - its name there
    """The signature of the system's function after its first two arguments."""


def is_on_this_machine(host: str) -> bool:
    """Return whether a connection to this IP address stays on this machine, in any spelling that Linux accepts."""
    ip = ipaddress.ip_address(host.partition("%")[0])
    ip = getattr(ip, "ipv4_mapped", None) or ip
    return ip.is_loopback or ip.is_unspecified


class Decoy:
    """A server that must not be reached: on loopback, IPv4 and, if there is one, IPv6. It counts connections."""

    def __init__(self) -> None:
        self.hits = 0
        self._listeners = [socket.create_server(("127.0.0.1", 0))]
        self.port: int = self._listeners[0].getsockname()[1]
        with contextlib.suppress(OSError):
            self._listeners.append(socket.create_server(("::1", self.port), family=socket.AF_INET6))
        self._threads = [threading.Thread(target=self._serve, args=(each,)) for each in self._listeners]

    @property
    def has_ipv6(self) -> bool:
        return len(self._listeners) > 1

    def __enter__(self) -> Decoy:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for listener, thread in zip(self._listeners, self._threads, strict=True):
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            thread.join()

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self.hits += 1
            with connection, contextlib.suppress(OSError):
                connection.settimeout(5)
                connection.recv(65536)
                connection.sendall(_ANSWER + PNG)
                connection.shutdown(socket.SHUT_WR)
                connection.recv(1)
