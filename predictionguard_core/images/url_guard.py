"""Decide which URLs and network addresses an image may be downloaded from (protection against SSRF).

A download is a sans-I/O generator: it yields `Resolve` and `Get`, is sent their results, and returns the bytes. Each
redirect is checked like the first URL: its text, then every address that its host resolves to. The connection goes to
an address that was checked, so a host that resolves to another one a moment later (DNS rebinding) gains nothing.

The environment's proxies are not used: a proxy would resolve the host again, unseen by this check. Where a proxy is the
only way out, download images in your own code and pass their bytes.
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
    """Resolve `host`. The result is a list of all its addresses."""

    host: str
    port: int


@dataclasses.dataclass(frozen=True, slots=True)
class Get:
    """Get `url` from `address` and no other. The result is a `Got`, whose body has at most `max_bytes`."""

    url: httpx.URL
    address: str
    max_bytes: int


@dataclasses.dataclass(frozen=True, slots=True)
class Got:
    """A response: the `location` of a redirect, else the body."""

    status_code: int
    location: str | None = None
    body: bytes = b""


Step = Resolve | Get


def download(text: str, policy: ImagePolicy) -> Generator[Step, object, bytes]:
    """Download one image. Raises `ImageBlockedError`, `ImageFetchError` or `ImageTooLargeError`."""
    url = parse(text, policy)
    for _ in range(MAX_REDIRECTS + 1):
        addresses = yield Resolve(url.raw_host.decode("ascii").strip("[]"), url.port or _PORTS[url.scheme])
        assert isinstance(addresses, list)
        got = yield Get(url, _checked_address(addresses, url, policy), policy.max_bytes)
        assert isinstance(got, Got)
        if got.location is not None:
            url = parse(_join(url, got.location), policy)
        elif got.status_code == 200:
            return got.body
        else:
            raise ImageFetchError(
                f"the host {name(url)} answered status {got.status_code} for the image: check the URL, or download the "
                "image in your own code"
            )
    raise ImageFetchError(f"the host {name(url)} redirects more than {MAX_REDIRECTS} times")


def parse(text: str, policy: ImagePolicy) -> httpx.URL:
    """Parse a URL and check all that can be checked before its host is resolved. Raises `ImageBlockedError`."""
    if len(text) > _LONGEST_URL:
        raise ImageBlockedError(f"the image URL has {len(text):,} characters, more than {_LONGEST_URL:,}")
    if any(char <= " " or char in "\\\x7f" or "\x80" <= char <= "\xa0" for char in text):
        raise ImageBlockedError("the image URL contains a space, a control character or a backslash: percent-encode it")
    try:
        url = httpx.URL(text)
        host = url.raw_host.decode("ascii").lower()
        port = url.port
    except (httpx.InvalidURL, ValueError, UnicodeError, TypeError):
        raise ImageBlockedError("the image URL is not a valid URL: check its spelling") from None
    if url.scheme not in _PORTS:
        raise ImageBlockedError("images are downloaded over http and https only")
    if url.userinfo or "@" in re.split("[/?#]", text.partition("://")[2], maxsplit=1)[0]:
        raise ImageBlockedError(
            "the image URL contains a user name or password: download the image in your own code and pass its bytes"
        )
    if port is not None and not 0 < port <= 65535:
        raise ImageBlockedError("the image URL has an invalid port")
    if not host or not _is_plain(host):
        raise ImageBlockedError(
            "the image URL's host must be a name, an IPv6 address, or an IPv4 address of four decimal numbers"
        )
    if not policy.allows_host(host):
        raise ImageBlockedError(
            f"the host {host} is not in ImagePolicy.allowed_hosts: add it if you trust it, or pass the image's bytes"
        )
    return url


def name(url: httpx.URL) -> str:
    """Return the host of a URL. `url.host` fails for hosts that are no valid IDNA."""
    return url.raw_host.decode("ascii")


def is_allowed(address: str, *, private: bool) -> bool:
    """Return whether an address may be connected to. `private` includes loopback, private and shared addresses."""
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
    # A host whose last label is a number is an IPv4 address in some notation (WHATWG URL, 3.5). Accept the usual one.
    last = host.rstrip(".").rpartition(".")[2]
    if last.isdecimal() or last.startswith("0x"):
        try:
            return str(ipaddress.IPv4Address(host)) == host
        except ValueError:
            return False
    labels = host.rstrip(".").split(".")
    return all(label and all(char.isalnum() or char in "-_" for char in label) for label in labels) and host.isascii()


def _join(url: httpx.URL, location: str) -> str:
    try:
        # As text, so that it is parsed and checked like a URL of the caller.
        return location if _SCHEME.match(location) else str(url.join(location))
    except (httpx.InvalidURL, ValueError, UnicodeError):
        raise ImageBlockedError(f"the host {name(url)} redirects to an invalid URL") from None


def _checked_address(addresses: list[str], url: httpx.URL, policy: ImagePolicy) -> str:
    if not addresses:
        raise ImageFetchError(f"could not resolve host {name(url)}")
    # All must pass: one private address among public ones is an attack.
    if not all(is_allowed(address, private=policy.allow_private_hosts) for address in addresses):
        raise ImageBlockedError(
            f"the host {name(url)} has an address that is never connected to (link-local, multicast, reserved, or a "
            "cloud's metadata service); download the image in your own code and pass its bytes"
            if policy.allow_private_hosts
            else f"the host {name(url)} has an address that is not public; allow your own hosts with "
            "ImagePolicy(allow_private_hosts=True, allowed_hosts=[...])"
        )
    return addresses[0]


def _networks(*texts: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


# IANA's registries of special-purpose addresses (RFC 6890 and its successors): written out, because `is_global` differs
# between Python versions. Then the addresses at which clouds give credentials to their machines: Azure's 168.63.129.16,
# Alibaba's 100.100.100.200, and in IPv6 those of Amazon, Google, Oracle, Scaleway and Linode.
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
# Inside 2000::/3, but not for hosts: protocol assignments with Teredo, documentation, 6to4, AS112.
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
