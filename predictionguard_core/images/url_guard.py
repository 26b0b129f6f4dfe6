"""Which addresses may be dialled for a picture, and the guarded download.

A download is a flow without I/O: it yields `Resolve` and `Get`, is sent their results, and returns the bytes. Each hop
is judged by itself: the address as text, then every network address its name has. The connection goes to an address
that was judged, not to whatever the name means a moment later.

A proxy of the environment is not used: it would resolve the name once more, out of this guard's sight. Where the only
way out is a proxy, download pictures in your own code and hand over the bytes.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Generator

import httpx

from predictionguard_core.errors import ImageBlockedError, ImageFetchError
from predictionguard_core.images.policy import ImagePolicy

MAX_REDIRECTS = 5
TOTAL_TIMEOUT = 30.0
"""Seconds for one download, redirects included."""

_LONGEST_URL = 8192
_PORTS = {"http": 80, "https": 443}
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


@dataclasses.dataclass(frozen=True, slots=True)
class Resolve:
    """Ask for every network address of `host`; answered by a list of their texts."""

    host: str
    port: int


@dataclasses.dataclass(frozen=True, slots=True)
class Get:
    """Ask `address`, and no other, for `url`; answered by a `Got`. The body may have at most `max_bytes`."""

    url: httpx.URL
    address: str
    max_bytes: int


@dataclasses.dataclass(frozen=True, slots=True)
class Got:
    """An answer: `location` of a redirect, else the body."""

    status_code: int
    location: str | None = None
    body: bytes = b""


Step = Resolve | Get


def download(text: str, policy: ImagePolicy) -> Generator[Step, object, bytes]:
    """The flow of one download. Raises `ImageBlockedError`, `ImageFetchError` or `ImageTooLargeError`."""
    url = parse(text, policy)
    for _ in range(MAX_REDIRECTS + 1):
        addresses = yield Resolve(url.raw_host.decode("ascii").strip("[]"), url.port or _PORTS[url.scheme])
        assert isinstance(addresses, list)
        got = yield Get(url, _judged(addresses, url, policy), policy.max_bytes)
        assert isinstance(got, Got)
        if got.location is not None:
            url = parse(_joined(url, got.location), policy)
        elif got.status_code == 200:
            return got.body
        else:
            raise ImageFetchError(f"the host {name(url)} answered status {got.status_code} for the picture")
    raise ImageFetchError(f"the host {name(url)} redirects more than {MAX_REDIRECTS} times")


def parse(text: str, policy: ImagePolicy) -> httpx.URL:
    """The address, if it is one that may be asked for its addresses. Raises `ImageBlockedError`."""
    if len(text) > _LONGEST_URL:
        raise ImageBlockedError(f"the picture's address has {len(text):,} characters, more than {_LONGEST_URL:,}")
    if any(sign <= " " or sign in "\\\x7f" or "\x80" <= sign <= "\xa0" for sign in text):
        raise ImageBlockedError("the picture's address holds a space, a control character or a backslash")
    try:
        url = httpx.URL(text)
        host = url.raw_host.decode("ascii").lower()
        port = url.port
    except (httpx.InvalidURL, ValueError, UnicodeError, TypeError):
        raise ImageBlockedError("the picture's address is no valid URL") from None
    if url.scheme not in _PORTS:
        raise ImageBlockedError("pictures are downloaded over http and https only")
    if url.userinfo or "@" in re.split("[/?#]", text.partition("://")[2], maxsplit=1)[0]:
        raise ImageBlockedError("the picture's address holds a user name or password")
    if port is not None and not 0 < port <= 65535:
        raise ImageBlockedError("the picture's address names a port that is none")
    if not host or not _is_plain(host):
        raise ImageBlockedError("the picture's address names its host in a form that is not taken")
    if not policy.allows_host(host):
        raise ImageBlockedError(f"the host {host} is not in ImagePolicy.allowed_hosts")
    return url


def name(url: httpx.URL) -> str:
    """The host's name as it is dialled: `url.host` fails for names that only look like encoded ones."""
    return url.raw_host.decode("ascii")


def is_allowed(address: str, *, private: bool) -> bool:
    """Whether a network address may be dialled. `private`: loopback, private-use and shared addresses, too."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        return _is_allowed_6(ip, private=private)
    return _is_allowed_4(ip, private=private)


def _is_plain(host: str) -> bool:
    if ":" in host:
        return "%" not in host
    # A host whose last label is a number is an IPv4 address in some spelling (WHATWG URL, 3.5): only the ordinary one.
    last = host.rstrip(".").rpartition(".")[2]
    if last.isdecimal() or last.startswith("0x"):
        try:
            return str(ipaddress.IPv4Address(host)) == host
        except ValueError:
            return False
    labels = host.rstrip(".").split(".")
    return all(label and all(sign.isalnum() or sign in "-_" for sign in label) for label in labels) and host.isascii()


def _joined(url: httpx.URL, location: str) -> str:
    try:
        # As text, so that the joined address goes through the same door as one that a caller gave.
        return location if _SCHEME.match(location) else str(url.join(location))
    except (httpx.InvalidURL, ValueError, UnicodeError):
        raise ImageBlockedError(f"the host {name(url)} redirects to an address that is no valid URL") from None


def _judged(addresses: list[str], url: httpx.URL, policy: ImagePolicy) -> str:
    if not addresses:
        raise ImageFetchError(f"the host {name(url)} has no address")
    # One bad address among good ones is how a name is made to point inwards: all must pass.
    if not all(is_allowed(address, private=policy.allow_private_hosts) for address in addresses):
        raise ImageBlockedError(
            f"the host {name(url)} has an address that is never dialled (link-local, multicast, reserved, or that of a "
            "metadata service): get the picture in your own code and give its bytes"
            if policy.allow_private_hosts
            else f"the host {name(url)} has an address that is not public; allow your own hosts with "
            "ImagePolicy(allow_private_hosts=True, allowed_hosts=[...])"
        )
    return addresses[0]


def _networks(*texts: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


# IANA's registries of special-purpose addresses (RFC 6890 and its successors), written out because what Python calls
# global differs from version to version, and the addresses at which clouds serve credentials to their machines: Azure's
# 168.63.129.16, Alibaba's 100.100.100.200, and in IPv6 those of Amazon, Google, Oracle, Scaleway and Linode.
_PRIVATE_4 = _networks("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
_NEVER_4 = _networks(
    "0.0.0.0/8",
    "100.100.100.200/32",
    "168.63.129.16/32",
    "169.254.0.0/16",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.31.196.0/24",
    "192.52.193.0/24",
    "192.88.99.0/24",
    "192.175.48.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/3",
)
_PRIVATE_6 = _networks("::1/128", "fc00::/7")
_NEVER_6 = _networks("fd00:ec2::/32", "fd20:ce::/32", "fd00:c1::/32", "fd00:42::/32", "fd00:a9fe:a9fe::/48")
_GLOBAL_6 = _networks("2000::/3")
# Inside 2000::/3 and not for a picture's host: protocol assignments with Teredo, documentation, 6to4, AS112.
_SPECIAL_6 = _networks("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3ffe::/16", "3fff::/20")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_ISATAP = (0x00005EFE, 0x02005EFE)


def _is_allowed_4(ip: ipaddress.IPv4Address, *, private: bool) -> bool:
    if any(ip in network for network in _NEVER_4):
        return False
    return private or not any(ip in network for network in _PRIVATE_4)


def _is_allowed_6(ip: ipaddress.IPv6Address, *, private: bool) -> bool:
    if ip.ipv4_mapped is not None:
        return _is_allowed_4(ip.ipv4_mapped, private=private)
    if ip in _NAT64:
        return _is_allowed_4(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF), private=private)
    if any(ip in network for network in _NEVER_6):
        return False
    if any(ip in network for network in _PRIVATE_6):
        return private
    if int(ip) >> 32 & 0xFFFFFFFF in _ISATAP:
        return _is_allowed_4(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF), private=private)
    return any(ip in network for network in _GLOBAL_6) and not any(ip in network for network in _SPECIAL_6)
