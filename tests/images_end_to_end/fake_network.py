"""All the network that a test has: this machine's loopback, and names that mean what the test says.

Names are answered here, since asking for one would leave the machine, and since what a hostile name answers is the
point. Numbers go to the system's own reader of numbers, which takes odder ones than any specification. Below that,
every connection of this process goes through one method, `socket.socket.connect`, in both colours: what is dialled
there is written down, and nothing but loopback is reached.
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
    """`dialled` has the address and port of each connection, but for those to `service`; `asked` each name."""

    def __init__(self, patch: pytest.MonkeyPatch, service: int) -> None:
        self.names: dict[str, list[list[str]]] = {}
        self.stand_ins: dict[str, int] = {}
        self.dialled: list[tuple[str, int]] = []
        self.asked: list[str] = []
        self._service = service
        self._real_look_up, self._real_connect = socket.getaddrinfo, socket.socket.connect
        patch.setattr(socket, "getaddrinfo", self._looked_up)
        patch.setattr(socket.socket, "connect", lambda own, address: self._connect(own, address))

    def name(self, host: str, *answers: list[str]) -> None:
        """Have `host` mean these addresses: the first list when it is first asked for, the last from then on."""
        self.names[host] = list(answers)

    def stand_in(self, address: str, port: int) -> None:
        """Have the server at `port` of this machine stand for a public address."""
        self.stand_ins[address] = port

    def _looked_up(self, host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        asked = inspect.signature(_getaddrinfo).bind(*args, **kwargs).arguments
        asked["flags"] = asked.get("flags", 0) | socket.AI_NUMERICHOST
        with contextlib.suppress(socket.gaierror):
            return self._real_look_up(host, port, **asked)
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
        self.dialled.append((host, port))
        if host in self.stand_ins:
            return self._real_connect(own, ("127.0.0.1", self.stand_ins[host]))
        if leads_home(host):
            return self._real_connect(own, address)
        raise OSError(errno.ENETUNREACH, "only loopback is here")


def _getaddrinfo(family: int = 0, type: int = 0, proto: int = 0, flags: int = 0) -> None:  # noqa: A002 - its name there
    """The further arguments of the system's own."""


def leads_home(host: str) -> bool:
    """Whether a connection to this address stays on this machine, by any of the spellings that Linux takes for it."""
    ip = ipaddress.ip_address(host.partition("%")[0])
    ip = getattr(ip, "ipv4_mapped", None) or ip
    return ip.is_loopback or ip.is_unspecified


class Decoy:
    """What must not be reached: a server on loopback, IPv4 and, where there is one, IPv6, that counts who comes."""

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
