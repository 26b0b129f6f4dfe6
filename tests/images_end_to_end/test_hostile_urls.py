"""URLs in untrusted text: none reaches a private host, through any entry point of either adapter.

A decoy server on loopback counts its connections, and `network` records every attempt to connect.
"""

from __future__ import annotations

from typing import Any

import pytest
from llama_index.core.llms import ImageBlock
from pydantic import ValidationError

from predictionguard_core import (
    ImageBlockedError,
    ImageError,
    ImageFetchError,
    ImageFormatError,
    ImagePolicy,
    PredictionGuardError,
)
from predictionguard_core.sandbox import Sandbox
from tests.faults.server import FaultServer, answer
from tests.images_end_to_end.entry_points import ENTRY_POINTS, PNG, RAW, Text, all_text, ask, sent
from tests.images_end_to_end.fake_network import OTHER_PUBLIC, PUBLIC, Decoy, FakeNetwork

PRIVATE = "10.20.30.40"

# The IP addresses that the host names resolve to.
NAMES = {
    "inner.example": [PRIVATE],
    "mixed.example": [PUBLIC, PRIVATE],
    "mixed-first.example": [PRIVATE, PUBLIC],
    "mixed-six.example": [PUBLIC, "fd12:3456::1"],
    "mixed-zone.example": [PUBLIC, "fe80::1%eth0"],
    "loop.example": ["127.0.0.1"],
    "loop-six.example": ["::1"],
    "mapped.example": ["::ffff:127.0.0.1"],
    "nat64.example": ["64:ff9b::7f00:1"],
    "sixtofour.example": ["2002:7f00:1::1"],
    "unspecified.example": ["0.0.0.0"],
    "azure.example": ["168.63.129.16"],
    "metadata.google.internal": ["169.254.169.254"],
    "instance-data.ec2.internal": ["169.254.169.254"],
    "127.0.0.1.nip.example": ["127.0.0.1"],
    "printer.local": ["192.168.1.20"],
    "xn--bcher-kva.example": [PRIVATE],
}

# One or more of each range that IANA or a cloud provider reserves.
_IPV4 = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.254", "127.0.0.1", "127.1.2.3",
    "127.255.255.254", "169.254.0.1", "169.254.169.254", "169.254.170.2", "172.16.0.1", "172.31.255.254", "192.0.0.1",
    "192.0.0.192", "192.0.2.1", "192.31.196.1", "192.52.193.1", "192.88.99.1", "192.168.0.1", "192.168.255.254",
    "192.175.48.1", "198.18.0.1", "198.19.255.254", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250",
    "240.0.0.1", "255.255.255.255", "168.63.129.16", "100.100.100.200",
]  # fmt: skip

_IPV6 = {
    "unspecified": "::",
    "loopback": "::1",
    "loopback in full": "0:0:0:0:0:0:0:1",
    "mapped loopback": "::ffff:127.0.0.1",
    "mapped loopback in hex": "::ffff:7f00:1",
    "mapped metadata": "::ffff:169.254.169.254",
    "mapped private": "::ffff:10.0.0.1",
    "compatible loopback": "::127.0.0.1",
    "compatible metadata": "::a9fe:a9fe",
    "translated loopback": "::ffff:0:127.0.0.1",
    "NAT64 loopback": "64:ff9b::127.0.0.1",
    "NAT64 metadata": "64:ff9b::a9fe:a9fe",
    "NAT64 private": "64:ff9b::c0a8:1",
    "local NAT64": "64:ff9b:1::7f00:1",
    "6to4 loopback": "2002:7f00:1::1",
    "6to4 metadata": "2002:a9fe:a9fe::1",
    "6to4 private": "2002:c0a8:101::1",
    "Teredo": "2001:0:4136:e378:8000:63bf:80ff:fffe",
    "ISATAP loopback": "2606:2800:220:1:0:5efe:7f00:1",
    "ISATAP private": "2606:2800:220:1:200:5efe:c0a8:1",
    "ISATAP on link": "fe80::5efe:7f00:1",
    "site-local": "fec0::1",
    "unique local": "fc00::1",
    "unique local by chance": "fd12:3456:789a::1",
    "link-local": "fe80::1",
    "link-local with zone": "fe80::1%eth0",
    "link-local with encoded zone": "fe80::1%25lo",
    "loopback with zone": "::1%lo",
    "multicast": "ff02::1",
    "documentation": "2001:db8::1",
    "newer documentation": "3fff::1",
    "discard": "100::1",
    "ORCHID": "2001:20::1",
    "benchmarks": "2001:2::1",
    "segment routing": "5f00::1",
    "unassigned": "4000::1",
    "Amazon's metadata": "fd00:ec2::254",
    "Google's metadata": "fd20:ce::254",
    "Oracle's metadata": "fd00:c1::a9fe:a9fe",
}

# PORT is the decoy's: it would count a URL that was not refused.
HOSTILE: dict[str, str] = {
    **{f"IPv4 {address}": f"http://{address}:PORT/x.png" for address in _IPV4},
    **{f"IPv6 {name}": f"http://[{address}]:PORT/x.png" for name, address in _IPV6.items()},
    **{f"name {name}": f"http://{name}:PORT/x.png" for name in NAMES if name.isascii()},
    # schemes
    "scheme file": "file:///etc/passwd",
    "scheme file upper": "FILE:///etc/passwd",
    "scheme file with host": "file://localhost/etc/passwd",
    "scheme file of one slash": "file:/etc/passwd",
    "scheme ftp": "ftp://127.0.0.1:PORT/x.png",
    "scheme gopher": "gopher://127.0.0.1:PORT/_GET",
    "scheme dict": "dict://127.0.0.1:PORT/d:x",
    "scheme ldap": "ldap://127.0.0.1:PORT/x",
    "scheme ws": "ws://127.0.0.1:PORT/x",
    "scheme unix": "unix:///var/run/docker.sock",
    "scheme http+unix": "http+unix://%2Fvar%2Frun%2Fdocker.sock/info",
    "scheme jar": "jar:http://127.0.0.1:PORT/x.jar!/x.png",
    "scheme url": "url:http://127.0.0.1:PORT/x.png",
    "scheme view-source": "view-source:http://127.0.0.1:PORT/",
    "scheme javascript": "javascript:fetch('http://127.0.0.1:PORT/')",
    "scheme blob": "blob:http://127.0.0.1:PORT/x",
    "scheme about": "about:blank",
    "scheme s3": "s3://bucket/x.png",
    "scheme none": "//127.0.0.1:PORT/x.png",
    "scheme empty": "://127.0.0.1:PORT/x.png",
    "scheme upper": "HTTP://127.0.0.1:PORT/x.png",
    "scheme https": "https://127.0.0.1:PORT/x.png",
    "slashes none": "http:127.0.0.1:PORT/x.png",
    "slashes one": "http:/127.0.0.1:PORT/x.png",
    "slashes three": "http:///127.0.0.1:PORT/x.png",
    "slashes many": "http://////127.0.0.1:PORT/x.png",
    "no host": "http://",
    "no host but a port": "http://:PORT/x.png",
    # user-info and backslashes
    "user info": "http://user:secret@127.0.0.1:PORT/x.png",
    "user info public looking": "http://images.example@127.0.0.1:PORT/x.png",
    "user info with port": "http://images.example:80@127.0.0.1:PORT/x.png",
    "user info encoded": "http://images.example%40127.0.0.1:PORT/x.png",
    "user info empty": "http://@127.0.0.1:PORT/x.png",
    "user info twice": "http://a@b@127.0.0.1:PORT/x.png",
    "fragment before at": "http://127.0.0.1:PORT#@images.example/x.png",
    "query before at": "http://127.0.0.1:PORT?@images.example/x.png",
    "backslash before at": "http://127.0.0.1:PORT\\@images.example/x.png",
    "backslash after host": "http://images.example\\@127.0.0.1:PORT/x.png",
    "backslashes for slashes": "http:\\\\127.0.0.1:PORT\\x.png",
    "backslash mixed": "http:/\\127.0.0.1:PORT/x.png",
    # control, space and Unicode
    "NUL in host": "http://127.0.0.1\0.images.example:PORT/x.png",
    "NUL in path": "http://127.0.0.1:PORT/\0.png",
    "line end in host": "http://127.0.0.1\r\n.images.example:PORT/x.png",
    "line end and header": "http://127.0.0.1:PORT/ HTTP/1.1\r\nX-Evil: 1\r\n\r\n",
    "tab in scheme": "ht\ttp://127.0.0.1:PORT/x.png",
    "tab in host": "http://127.0.\t0.1:PORT/x.png",
    "space before": "  http://127.0.0.1:PORT/x.png",
    "space after": "http://127.0.0.1:PORT/x.png \n",
    "space in host": "http://127.0.0.1 .images.example:PORT/x.png",
    "delete character": "http://127.0.0.1\x7f:PORT/x.png",
    "next line character": "http://127.0.0.1\x85:PORT/x.png",
    "no-break space": "http://127.0.0.1\xa0:PORT/x.png",
    "zero width space": "http://127.0.0.\u200b1:PORT/x.png",
    "right to left": "http://\u202e127.0.0.1:PORT/x.png",
    "soft hyphen": "http://local\u00adhost:PORT/x.png",
    "lone surrogate": "http://127.0.0.1:PORT/\ud800.png",
    "lone surrogate in host": "http://\ud800.example:PORT/x.png",
    "fullwidth digits": "http://１２７.０.０.１:PORT/x.png",
    "circled digits": "http://①②⑦.⓪.⓪.①:PORT/x.png",
    "ideographic stops": "http://127。0。0。1:PORT/x.png",
    "fullwidth letters": "http://ｌｏｃａｌｈｏｓｔ:PORT/x.png",
    "bold letters": "http://𝐥𝐨𝐜𝐚𝐥𝐡𝐨𝐬𝐭:PORT/x.png",
    "long s": "http://localho\u017ft:PORT/x.png",
    "umlaut to a private address": "http://bücher.example:PORT/x.png",
    "Arabic digits": "http://١٢٧.٠.٠.١:PORT/x.png",
    # odd spellings of numbers
    "octal": "http://0177.0.0.1:PORT/x.png",
    "octal in full": "http://0177.0000.0000.0001:PORT/x.png",
    "octal of one number": "http://017700000001:PORT/x.png",
    "hex": "http://0x7f.0.0.1:PORT/x.png",
    "hex in full": "http://0x7f.0x0.0x0.0x1:PORT/x.png",
    "hex upper": "http://0X7F000001:PORT/x.png",
    "hex of one number": "http://0x7f000001:PORT/x.png",
    "hex empty": "http://0x:PORT/x.png",
    "decimal": "http://2130706433:PORT/x.png",
    "decimal of metadata": "http://2852039166/latest/meta-data/",
    "decimal too large": "http://4294967297:PORT/x.png",
    "short of one": "http://127.1:PORT/x.png",
    "short of two": "http://127.0.1:PORT/x.png",
    "zero": "http://0:PORT/x.png",
    "mixed bases": "http://0177.0.0x0.1:PORT/x.png",
    "leading zeros": "http://127.000.000.001:PORT/x.png",
    "a part too large": "http://127.0.0.257:PORT/x.png",
    "five parts": "http://127.0.0.1.1:PORT/x.png",
    "negative": "http://-2130706433:PORT/x.png",
    "number in brackets": "http://[127.0.0.1]:PORT/x.png",
    "name in brackets": "http://[localhost]:PORT/x.png",
    "future address": "http://[v1.127]:PORT/x.png",
    "brackets open": "http://[::1:PORT/x.png",
    "two double colons": "http://[::1::]:PORT/x.png",
    # names for this machine, dots, encoding, ports
    "localhost": "http://localhost:PORT/x.png",
    "localhost upper": "http://LOCALHOST:PORT/x.png",
    "localhost below": "http://images.localhost:PORT/x.png",
    "dot after name": "http://localhost.:PORT/x.png",
    "dots after name": "http://localhost..:PORT/x.png",
    "dot after number": "http://127.0.0.1.:PORT/x.png",
    "dot before": "http://.127.0.0.1:PORT/x.png",
    "dots within": "http://127..0.0.1:PORT/x.png",
    "dot alone": "http://.:PORT/x.png",
    "encoded digits": "http://%31%32%37.0.0.1:PORT/x.png",
    "encoded dots": "http://127%2e0%2e0%2e1:PORT/x.png",
    "encoded twice": "http://127%252e0.0.1:PORT/x.png",
    "encoded name": "http://%6c%6f%63%61%6c%68%6f%73%74:PORT/x.png",
    "encoded NUL": "http://127.0.0.1%00.images.example:PORT/x.png",
    "encoded slash": "http://127.0.0.1%2fimages.example:PORT/x.png",
    "port zero": "http://127.0.0.1:0/x.png",
    "port too large": "http://127.0.0.1:99999/x.png",
    "port negative": "http://127.0.0.1:-1/x.png",
    "port no number": "http://127.0.0.1:x/x.png",
    "port twice": "http://127.0.0.1:PORT:80/x.png",
    "port empty": "http://127.0.0.1:/x.png",
    "port of ssh": "http://127.0.0.1:22/",
    "metadata path": "http://169.254.169.254/latest/meta-data/iam/security-credentials/",
    "metadata of containers": "http://169.254.170.2/v2/credentials/",
    "wireserver": "http://168.63.129.16/machine?comp=goalstate",
    "too long": "http://127.0.0.1:PORT/" + "x" * 9000,
    "comma of hosts": "http://images.example,127.0.0.1:PORT/x.png",
    "wildcard": "http://*:PORT/x.png",
    "underscore of nothing": "http://_:PORT/x.png",
}

# This has no scheme, so it is not taken for a URL.
NO_URL = {"scheme none"}
# Well-formed host names that do not resolve.
NOT_FOUND = {"underscore of nothing", "negative", "dots after name"}


def is_taken(url: str) -> bool:
    """Whether LlamaIndex's own block accepts this URL."""
    try:
        ImageBlock(url=url)
    except ValidationError:
        return False
    return True


def refused(entry_point: str, box: Sandbox, url: str, **policy: Any) -> PredictionGuardError:
    try:
        ask(entry_point, box, Text(url), policy=ImagePolicy(**policy))
    except PredictionGuardError as error:
        assert box.requests == [], url
        return error
    pytest.fail(f"{url!r} was not refused")


@pytest.mark.parametrize("entry_point", [*ENTRY_POINTS, RAW])
def test_no_private_host_is_reached(entry_point: str, box: Sandbox, network: FakeNetwork, decoy: Decoy) -> None:
    for host, addresses in NAMES.items():
        network.name(host, addresses)
    tried = 0
    for name, url in HOSTILE.items():
        if entry_point not in ("invoke", "ainvoke", RAW) and not is_taken(url.replace("PORT", "8080")):
            continue
        tried += 1
        error = refused(entry_point, box, url.replace("PORT", str(decoy.port)))
        expected = ImageFormatError if name in NO_URL else ImageFetchError if name in NOT_FOUND else ImageBlockedError
        # LlamaIndex's block may normalise the text to one that is refused for another reason.
        assert isinstance(error, ImageError if entry_point in ("chat", "achat") else expected), name
        assert (network.connected, decoy.hits) == ([], 0), name
        assert PRIVATE not in all_text(error), name
        assert "secret" not in all_text(error), name
        assert str(error).isprintable(), name  # no part of the URL can forge a line of a log
    assert tried >= 100


@pytest.mark.parametrize("entry_point", [*ENTRY_POINTS, RAW])
def test_private_hosts_are_reached_where_they_are_allowed(
    entry_point: str, box: Sandbox, network: FakeNetwork, decoy: Decoy
) -> None:
    """This also proves that the decoy counts connections."""
    network.name("loop.example", ["127.0.0.1"])
    hosts = ["127.0.0.1", "[::ffff:127.0.0.1]", "loop.example", *(["[::1]"] if decoy.has_ipv6 else [])]
    for count, host in enumerate(hosts, 1):
        ask(entry_point, box, Text(f"http://{host}:{decoy.port}/x.png"), policy=ImagePolicy(allow_private_hosts=True))
        assert decoy.hits == count, host
        assert sent(box) == [("image/png", PNG)], host


ALWAYS_REFUSED = (
    "http://169.254.169.254/latest/meta-data/",
    "http://168.63.129.16/machine",
    "http://100.100.100.200/latest/",
    "http://[fd00:ec2::254]/latest/",
    "http://[fe80::1]/",
    "http://0.0.0.0:PORT/x.png",
    "http://metadata.google.internal/",
    "http://user@127.0.0.1:PORT/x.png",
    "http://0x7f000001:PORT/x.png",
    "file:///etc/passwd",
)


@pytest.mark.parametrize("entry_point", [*ENTRY_POINTS, RAW])
def test_some_urls_are_refused_even_where_private_hosts_are_allowed(
    entry_point: str, box: Sandbox, network: FakeNetwork, decoy: Decoy
) -> None:
    network.name("metadata.google.internal", ["169.254.169.254"])
    for url in ALWAYS_REFUSED:
        if entry_point in ("chat", "achat") and "0x7f" in url:
            continue  # LlamaIndex's block normalises the number to 127.0.0.1, which is allowed here
        error = refused(entry_point, box, url.replace("PORT", str(decoy.port)), allow_private_hosts=True)
        assert isinstance(error, ImageBlockedError), url
        assert (network.connected, decoy.hits) == ([], 0), url


# A public host that leads to a private one


REDIRECTS = {
    "a private address": "http://127.0.0.1:PORT/x.png",
    "IPv6": "http://[::1]:PORT/x.png",
    "mapped": "http://[::ffff:7f00:1]:PORT/x.png",
    "without a scheme": "//127.0.0.1:PORT/x.png",
    "a name that is private": "http://inner.example:PORT/x.png",
    "a name that is mixed": "http://mixed.example:PORT/x.png",
    "localhost": "http://localhost:PORT/x.png",
    "metadata": "http://169.254.169.254/latest/meta-data/",
    "a file": "file:///etc/passwd",
    "a data URI": "data:image/png;base64,iVBORw0KGgo=",
    "user info": "http://images.example@127.0.0.1:PORT/x.png",
    "backslash": "http://images.example\\@127.0.0.1:PORT/x.png",
    "a decimal": "http://2130706433:PORT/x.png",
    "fullwidth digits": "http://%EF%BC%91%EF%BC%92%EF%BC%97.0.0.1:PORT/x.png",
    "gopher": "gopher://127.0.0.1:PORT/_x",
    "mail": "mailto:somebody",
    "a name that only looks encoded": "http://xn--a:PORT/x.png",
}
# Well-formed host names that do not resolve.
NO_HOST = {"a name that only looks encoded"}


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_the_target_of_a_redirect_is_checked_like_a_url(
    entry_point: str, box: Sandbox, network: FakeNetwork, decoy: Decoy
) -> None:
    cases = [(target, 302) for target in REDIRECTS] + [("a private address", each) for each in (301, 303, 307, 308)]
    for target, status in cases:
        network.connected.clear()
        location = REDIRECTS[target].replace("PORT", str(decoy.port))
        with FaultServer(answer(status, location=location)) as host:
            outside(network, host.port)
            error = refused(entry_point, box, "http://images.example/photo.png")
            assert len(host.requests) == 1, (target, status)
        assert isinstance(error, ImageFetchError if target in NO_HOST else ImageBlockedError), (target, status)
        assert (network.connected, decoy.hits) == ([(PUBLIC, 80)], 0), (target, status)
        assert PRIVATE not in all_text(error), (target, status)


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_a_redirect_after_allowed_ones_is_checked_too(
    entry_point: str, box: Sandbox, network: FakeNetwork, decoy: Decoy
) -> None:
    hops = ["/second", "http://other.example/third", f"http://127.0.0.1:{decoy.port}/x.png"]
    with FaultServer(*(answer(302, location=hop) for hop in hops)) as host:
        outside(network, host.port)
        assert isinstance(refused(entry_point, box, "http://images.example/first"), ImageBlockedError)
        assert [request.path for request in host.requests] == ["/first", "/second", "/third"]
    assert (network.connected, decoy.hits) == ([(PUBLIC, 80), (PUBLIC, 80), (OTHER_PUBLIC, 80)], 0)


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_endless_redirects_are_refused(entry_point: str, box: Sandbox, network: FakeNetwork) -> None:
    with FaultServer(answer(302, location="/again")) as host:
        outside(network, host.port)
        assert isinstance(refused(entry_point, box, "http://images.example/"), ImageFetchError)
        assert len(host.requests) == 6


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_a_redirect_to_another_public_host_is_followed(entry_point: str, box: Sandbox, network: FakeNetwork) -> None:
    with FaultServer(answer(302, location="http://other.example/x"), answer(200, PNG)) as host:
        outside(network, host.port)
        ask(entry_point, box, Text("http://images.example/photo.png"))
        assert [request.headers["host"] for request in host.requests] == ["images.example", "other.example"]
    assert sent(box) == [("image/png", PNG)]


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_the_connection_goes_to_the_ip_address_that_was_checked(
    entry_point: str, box: Sandbox, network: FakeNetwork, decoy: Decoy
) -> None:
    """A host name that resolves to a public IP address when it is checked, and to a private one after that."""
    for later in ("127.0.0.1", PRIVATE, "::1", "169.254.169.254"):
        network.connected.clear()
        network.asked.clear()
        network.name("rebind.example", [PUBLIC], [later])
        with FaultServer(answer(200, PNG)) as host:
            network.serve(PUBLIC, host.port)
            ask(entry_point, box, Text(f"http://rebind.example:{decoy.port}/x.png"))
            assert host.requests[0].headers["host"] == f"rebind.example:{decoy.port}", later
        assert network.asked == ["rebind.example"], later
        assert (network.connected, decoy.hits) == ([(PUBLIC, decoy.port)], 0), later
        assert sent(box) == [("image/png", PNG)], later


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_a_host_that_becomes_private_before_its_redirect_is_followed_is_refused(
    entry_point: str, box: Sandbox, network: FakeNetwork, decoy: Decoy
) -> None:
    network.name("rebind.example", [PUBLIC], ["127.0.0.1"])
    with FaultServer(answer(302, location="/again")) as host:
        network.serve(PUBLIC, host.port)
        assert isinstance(refused(entry_point, box, f"http://rebind.example:{decoy.port}/x.png"), ImageBlockedError)
    assert (network.connected, decoy.hits) == ([(PUBLIC, decoy.port)], 0)


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_allowed_hosts_match_the_whole_host_name(entry_point: str, box: Sandbox, network: FakeNetwork) -> None:
    for url in (
        "http://images.example.evil.example/x.png",
        "http://evilimages.example/x.png",
        "http://evil.example/images.example",
        "http://evil.example#images.example",
        "http://evil.example?images.example",
        "http://images.example@evil.example/x.png",
        "http://evil.example\\.images.example/x.png",
    ):
        assert isinstance(refused(entry_point, box, url, allowed_hosts=["images.example"]), ImageBlockedError), url
        assert (network.asked, network.connected) == ([], []), url


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_allowed_hosts_apply_to_redirects_too(entry_point: str, box: Sandbox, network: FakeNetwork) -> None:
    with FaultServer(answer(302, location="http://other.example/x"), answer(200, PNG)) as host:
        outside(network, host.port)
        error = refused(entry_point, box, "http://images.example/photo.png", allowed_hosts=["images.example"])
        assert isinstance(error, ImageBlockedError)
        assert len(host.requests) == 1


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_downloads_send_no_key_or_cookie_and_use_no_proxy(
    entry_point: str, box: Sandbox, network: FakeNetwork, decoy: Decoy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy of the environment is not used for images, and the host learns nothing about the caller."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://user:pass@127.0.0.1:{decoy.port}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with FaultServer(answer(302, location="/again", set_cookie="a=b"), answer(200, PNG)) as host:
        outside(network, host.port)
        ask(entry_point, box, Text("http://images.example/photo.png"))
        for request in host.requests:
            assert not {"authorization", "cookie", "proxy-authorization", "referer"} & request.headers.keys()
    assert decoy.hits == 0


BAD_RESPONSES: dict[str, tuple[bytes, type[PredictionGuardError]]] = {
    "404": (answer(404, b"no"), ImageFetchError),
    "a page": (answer(200, b"<html>the internal wiki</html>"), ImageFormatError),
    "an empty body": (answer(200, b""), ImageFormatError),
    "a compressed body": (answer(200, PNG, content_encoding="gzip"), ImageFetchError),
    "a redirect to an invalid URL": (answer(302, location="http://["), ImageBlockedError),
}


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_bad_responses_of_a_public_host_are_typed_errors(entry_point: str, box: Sandbox, network: FakeNetwork) -> None:
    for name, (reply, kind) in BAD_RESPONSES.items():
        with FaultServer(reply) as host:
            outside(network, host.port)
            error = refused(entry_point, box, "http://images.example/photo.png")
        assert isinstance(error, kind), name
        assert PUBLIC not in all_text(error), name
        assert "wiki" not in all_text(error), name


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_a_connection_error_does_not_show_the_ip_address(entry_point: str, box: Sandbox, network: FakeNetwork) -> None:
    network.name("images.example", [PUBLIC])
    error = refused(entry_point, box, "http://images.example/photo.png")
    assert isinstance(error, ImageFetchError)
    assert network.connected == [(PUBLIC, 80)]
    assert PUBLIC not in f"{error} {error!r} {vars(error)}"


def outside(network: FakeNetwork, port: int) -> None:
    """Resolve two public hosts to the server at `port`, and the names in `NAMES`."""
    for host, addresses in NAMES.items():
        network.name(host, addresses)
    for host, address in (("images.example", PUBLIC), ("other.example", OTHER_PUBLIC)):
        network.name(host, [address])
        network.serve(address, port)
