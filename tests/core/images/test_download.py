"""Which URLs an image may be downloaded from: the checks without I/O, then the download over a real socket."""

from __future__ import annotations

import asyncio
import gzip
import random
import socket
import threading
import tracemalloc
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictionguard_core import AsyncClient, Client
from predictionguard_core.errors import (
    ImageBlockedError,
    ImageError,
    ImageFetchError,
    ImageTooLargeError,
    PredictionGuardError,
)
from predictionguard_core.http import transport
from predictionguard_core.images import download, url_guard
from predictionguard_core.images.policy import ImagePolicy
from predictionguard_core.images.url_guard import Get, Got, Resolve
from tests.core.images.samples import png, question
from tests.faults.server import RESET, STALL, Drip, FaultServer, answer, unused_port

PUBLIC = "93.184.215.14"
PUBLIC_6 = "2606:2800:21f:cb07:6820:80da:af6b:8b2c"
OPEN = ImagePolicy(allow_private_hosts=True)


def drive(url: str, *results: Any, policy: ImagePolicy | None = None) -> tuple[list[Any], Any]:
    """The steps of a download that is sent `results`, and what it returned."""
    generator = url_guard.download(url, policy or ImagePolicy())
    steps = [next(generator)]
    try:
        for result in results:
            step = generator.send(result)
            steps.append(step)
    except StopIteration as end:
        return steps, end.value
    return steps, None


def truthful(url: str, policy: ImagePolicy | None = None, names: dict[str, list[str]] | None = None) -> list[str]:
    """Drives a download as this machine's resolver would, without a network, and returns what would be dialled."""
    generator = url_guard.download(url, policy or ImagePolicy())
    dialled = []
    step: Any = next(generator)
    while True:
        if isinstance(step, Get):
            dialled.append(step.address)
            try:
                step = generator.send(Got(200, body=b"x"))
            except StopIteration:
                return dialled
        else:
            step = generator.send((names or {}).get(step.host.rstrip(".")) or numeric(step.host))


def numeric(host: str) -> list[str]:
    try:
        found = socket.getaddrinfo(host, 80, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return []
    return [str(each[4][0]) for each in found]


class TestFlow:
    def test_resolves_the_host_then_downloads_the_image(self) -> None:
        steps, body = drive("https://a.example/p.png?q=1#f", [PUBLIC, PUBLIC_6], Got(200, body=b"x"))
        assert steps[0] == Resolve("a.example", 443)
        assert (str(steps[1].url.copy_with(fragment=None)), steps[1].address, steps[1].max_bytes) == (
            "https://a.example/p.png?q=1",
            PUBLIC,
            ImagePolicy().max_bytes,
        )
        assert body == b"x"

    @pytest.mark.parametrize(
        ("url", "host", "port"),
        [
            ("http://a.example/", "a.example", 80),
            ("HTTP://A.Example:8080", "a.example", 8080),
            ("https://a.example.", "a.example.", 443),
            ("https://bücher.example/", "xn--bcher-kva.example", 443),
            (f"http://[{PUBLIC_6}]:81/", PUBLIC_6, 81),
            (f"http://{PUBLIC}/", PUBLIC, 80),
            ("http://a_b.example/?mail=x@y.example", "a_b.example", 80),
            ("http://a.example?mail=x@y.example", "a.example", 80),
        ],
    )
    def test_public_urls_are_accepted(self, url: str, host: str, port: int) -> None:
        assert drive(url)[0] == [Resolve(host, port)]

    @pytest.mark.parametrize(
        ("location", "next_url"),
        [
            ("/other", "https://a.example/other"),
            ("other?x=1", "https://a.example/dir/other?x=1"),
            ("//b.example/x", "https://b.example/x"),
            ("http://b.example/x", "http://b.example/x"),
            ("?x=http://c.example/", "https://a.example/dir/p?x=http://c.example/"),
            ("/resized/https://c.example/x.png", "https://a.example/resized/https://c.example/x.png"),
        ],
    )
    def test_the_target_of_a_redirect_is_checked_again(self, location: str, next_url: str) -> None:
        steps, body = drive(
            "https://a.example/dir/p", [PUBLIC], Got(302, location=location), [PUBLIC_6], Got(200, body=b"x")
        )
        kinds = [type(step) for step in steps]
        assert kinds == [Resolve, Get, Resolve, Get]
        assert (str(steps[3].url), steps[3].address, body) == (next_url, PUBLIC_6, b"x")

    @pytest.mark.parametrize(
        "location",
        [
            "http://127.0.0.1/",
            "http://169.254.169.254/latest/meta-data/",
            "http://[::1]/",
            "http://localhost/",
            "//127.0.0.1/",
            "file:///etc/passwd",
            "ftp://a.example/",
            "gopher://a.example/",
            "data:image/png;base64,AAAA",
            "http://user:pw@a.example/",
            "http://a.example\\@127.0.0.1/",
            "http://0x7f000001/",
            "http://[::ffff:127.0.0.1]/",
            "http://a.example:0/",
            "http://a.example/\x00",
            "http://",
        ],
    )
    def test_a_redirect_to_a_private_host_is_refused(self, location: str) -> None:
        steps = [[PUBLIC], Got(302, location=location), numeric("127.0.0.1")]
        with pytest.raises(ImageBlockedError):
            drive("https://a.example/", *steps)

    def test_five_redirects_are_followed_and_no_more(self) -> None:
        hop = [[PUBLIC], Got(302, location="/again")]
        assert drive("https://a.example/", *hop * 5, [PUBLIC], Got(200, body=b"x"))[1] == b"x"
        with pytest.raises(ImageFetchError, match="redirects more than 5"):
            drive("https://a.example/", *hop * 6)

    def test_a_redirect_to_a_host_that_is_not_allowed_is_refused(self) -> None:
        policy = ImagePolicy(allowed_hosts=["a.example"])
        with pytest.raises(ImageBlockedError, match="allowed_hosts"):
            drive("https://a.example/", [PUBLIC], Got(302, location="https://b.example/"), policy=policy)

    @pytest.mark.parametrize("status", [204, 206, 304, 400, 401, 403, 404, 429, 500, 503])
    def test_any_other_status_is_an_error(self, status: int) -> None:
        with pytest.raises(ImageFetchError, match=str(status)):
            drive("https://a.example/", [PUBLIC], Got(status, body=b"x"))

    def test_a_host_without_ip_addresses_is_an_error(self) -> None:
        with pytest.raises(ImageFetchError):
            drive("https://a.example/", [])

    @pytest.mark.parametrize(
        "addresses",
        [
            [PUBLIC, "127.0.0.1"],
            ["127.0.0.1", PUBLIC],
            [PUBLIC_6, PUBLIC, "fe80::1%eth0"],
            [PUBLIC, "not an address"],
            [PUBLIC, ""],
        ],
    )
    def test_one_private_ip_address_among_public_ones_is_refused(self, addresses: list[str]) -> None:
        with pytest.raises(ImageBlockedError):
            drive("https://a.example/", addresses)

    def test_the_error_does_not_show_the_ip_address(self) -> None:
        with pytest.raises(ImageBlockedError) as caught:
            drive("https://a.example/", ["10.20.30.40"])
        assert "10.20" not in str(caught.value)
        assert "a.example" in str(caught.value)

    def test_the_connection_goes_to_the_checked_ip_address(self) -> None:
        for address in (PUBLIC, PUBLIC_6):
            (_, get), _ = drive("https://a.example:8443/p", [address])
            assert (get.address, str(get.url)) == (address, "https://a.example:8443/p")


NAMES = {
    "localhost": ["127.0.0.1", "::1"],
    "metadata.google.internal": ["169.254.169.254"],
    "intranet": ["10.1.2.3"],
    "rebind.example": [PUBLIC, "192.168.0.1"],
    "mapped.example": ["::ffff:10.0.0.1"],
}
HOSTILE = [
    # schemes
    "file:///etc/passwd", "ftp://a.example/p", "gopher://a.example/", "dict://127.0.0.1:11211/", "ldap://a.example/",
    "data:text/plain,x", "javascript:alert(1)", "unix:///var/run/docker.sock",
    "jar:http://a.example!/", "//a.example/p",
    "a.example/p", "http:a.example", "http:/a.example", "http:///p", "http://", "https://?", "http://#", "",
    # user names, and what is taken for them
    "http://user@a.example/", "http://user:pw@a.example/", "http://a.example@127.0.0.1/", "http://@127.0.0.1/",
    "http://127.0.0.1:80@a.example/", "http://a.example:80@127.0.0.1:80/", "http://:pw@a.example/",
    # backslashes, spaces, control characters
    "http://a.example\\@127.0.0.1/", "http:\\\\127.0.0.1\\", "http://127.0.0.1\\.a.example/",
    "http://a.example/\\..\\x",
    " http://127.0.0.1/", "http://a.example/ x", "http://a.example/\tx",
    "http://a.example/\r\nX-Evil: 1", "http://a\n.example/",
    "http://a.example/\x00", "http://a.example/\x7f", "http://a.example/\x85",
    "http://a.example/\xa0", "ht\ntp://127.0.0.1/",
    # IPv4 in odd spellings
    "http://127.0.0.1/", "http://127.1/", "http://127.0.1/", "http://2130706433/",
    "http://0x7f000001/", "http://0x7f.0.0.1/",
    "http://0X7F.1/", "http://0177.0.0.1/", "http://017700000001/", "http://127.0.0.1./", "http://127.000.000.001/",
    "http://0/", "http://0.0.0.0/", "http://%31%32%37.0.0.1/",
    "http://127.0.0.1%00.a.example/", "http://127%2e0.0.1/",
    "http://256.256.256.256/", "http://1.2.3.4.5/", "http://4294967297/", "http://0x/", "http://127.0.0.08/",
    "http://１２７.0.0.1/", "http://①②⑦.⓪.⓪.①/", "http://127。0。0。1/", "http://127．0．0．1/",
    "http://१२७.0.0.1/", "http://٠/",
    # IPv4 ranges
    "http://10.0.0.1/", "http://172.16.0.1/", "http://172.31.255.255/", "http://192.168.1.1/", "http://100.64.0.1/",
    "http://169.254.0.1/", "http://192.0.0.1/", "http://192.0.2.1/", "http://198.18.0.1/", "http://198.51.100.1/",
    "http://203.0.113.1/", "http://224.0.0.1/", "http://239.255.255.250/",
    "http://240.0.0.1/", "http://255.255.255.255/",
    "http://192.88.99.1/", "http://127.255.255.254/",
    # services that tell secrets to their machines
    "http://169.254.169.254/latest/meta-data/", "http://169.254.170.2/v2/credentials", "http://100.100.100.200/",
    "http://168.63.129.16/", "http://192.0.0.192/", "http://[fd00:ec2::254]/", "http://[fd20:ce::254]/",
    "http://metadata.google.internal/",
    # IPv6, and IPv4 inside it
    "http://[::1]/", "http://[::]/", "http://[0:0:0:0:0:0:0:1]/",
    "http://[::ffff:127.0.0.1]/", "http://[::ffff:7f00:1]/",
    "http://[::ffff:169.254.169.254]/", "http://[::127.0.0.1]/", "http://[::10.0.0.1]/",
    "http://[::ffff:0:127.0.0.1]/",
    "http://[64:ff9b::7f00:1]/", "http://[64:ff9b::10.0.0.1]/", "http://[64:ff9b:1::1]/", "http://[2002:7f00:1::]/",
    "http://[2002:a00:1::1]/", "http://[2001:0:4136:e378:8000:63bf:80ff:fffe]/", "http://[2001::1]/",
    "http://[fe80::5efe:10.0.0.1]/", "http://[2606:4700::5efe:10.0.0.1]/", "http://[2606:4700::200:5efe:127.0.0.1]/",
    "http://[fe80::1]/", "http://[fe80::1%25eth0]/", "http://[fe80::1%eth0]/",
    "http://[fec0::1]/", "http://[fc00::1]/",
    "http://[fd12:3456::1]/", "http://[ff02::1]/", "http://[100::1]/", "http://[2001:db8::1]/", "http://[3fff::1]/",
    "http://[5f00::1]/", "http://[3ffe::1]/", "http://[::1", "http://::1/", "http://[v1.x]/", "http://[]/",
    # ports
    "http://a.example:0/", "http://a.example:-1/", "http://a.example:65536/", "http://a.example:99999/",
    "http://a.example:http/", "http://a.example:8 0/", "http://127.0.0.1:6379/",
    # names
    "http://localhost/", "http://LOCALHOST/", "http://localhost./", "http://intranet/", "http://rebind.example/",
    "http://mapped.example/", "http://a..example/", "http://.example/", "http://a.example../", "http://-/:/",
    "http://*.example/", "http://a,b.example/", "http://a.example;x/", "http://a.example<x>/",
    "http://\u202ea.example/",
    "http://a\u00ad.example/",
    "http://xn--.example/", f"http://{'a' * 300}.example/", f"http://a.example/{'p' * 9000}",
]  # fmt: skip


class TestHostileAddresses:
    def test_the_list_of_hostile_urls_is_long(self) -> None:
        assert len(set(HOSTILE)) == len(HOSTILE) > 100

    @pytest.mark.parametrize("url", HOSTILE)
    def test_hostile_urls_are_refused(self, url: str) -> None:
        with pytest.raises((ImageBlockedError, ImageFetchError)):
            truthful(url, names=NAMES)

    @pytest.mark.parametrize("host", ["a.example", "a.example:65535", "[2606:2800:21f:cb07:6820:80da:af6b:8b2c]"])
    def test_an_ordinary_url_is_accepted(self, host: str) -> None:
        assert truthful(f"https://{host}/p", names={"a.example": [PUBLIC]}) in ([PUBLIC], [PUBLIC_6])

    @given(st.text(max_size=40), st.sampled_from(["http://", "https://", "http:", "HTTP://a.example:", ""]))
    def test_any_text_is_accepted_or_refused_with_our_error(self, text: str, start: str) -> None:
        try:
            dialled = truthful(start + text, names=NAMES)
        except ImageError:
            return
        assert all(url_guard.is_allowed(address, private=False) for address in dialled)

    @given(st.text(max_size=40))
    def test_any_redirect_is_followed_or_refused_with_our_error(self, location: str) -> None:
        try:
            drive("https://a.example/", [PUBLIC], Got(302, location=location), [PUBLIC], Got(200, body=b"x"))
        except ImageError:
            return


PRIVATE = ["127.0.0.1", "10.0.0.1", "172.16.5.4", "192.168.1.1", "100.64.0.1", "::1", "fd12:3456::1", "::ffff:10.0.0.1"]
NEVER = [
    "0.0.0.0", "169.254.169.254", "169.254.1.1", "100.100.100.200", "168.63.129.16", "192.0.0.192", "192.0.2.1",
    "198.18.0.1", "198.51.100.7", "203.0.113.9", "224.0.0.1", "255.255.255.255", "::",
    "fe80::1", "fec0::1", "ff02::1",
    "fd00:ec2::254", "fd20:ce::254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1", "::169.254.169.254",
    "2001:db8::1", "::ffff:168.63.129.16", "fe80::5efe:169.254.169.254", "2606:4700::5efe:169.254.169.254",
]  # fmt: skip


class TestPolicy:
    @pytest.mark.parametrize("address", PRIVATE)
    def test_private_hosts_can_be_allowed(self, address: str) -> None:
        assert not url_guard.is_allowed(address, private=False)
        assert url_guard.is_allowed(address, private=True)

    @pytest.mark.parametrize("address", NEVER)
    def test_reserved_ip_addresses_are_never_allowed(self, address: str) -> None:
        assert not url_guard.is_allowed(address, private=False)
        assert not url_guard.is_allowed(address, private=True)

    @pytest.mark.parametrize(
        "address",
        ["fd00:ec2::23", "fd00:c1::a9fe:a9fe", "fd00:42::42", "fd00:a9fe:a9fe::1"],
        ids=["Amazon EKS", "Oracle", "Scaleway", "Linode"],
    )
    def test_metadata_services_of_clouds_are_never_allowed(self, address: str) -> None:
        assert not url_guard.is_allowed(address, private=True)

    @pytest.mark.parametrize("address", [PUBLIC, PUBLIC_6, "8.8.8.8", f"::ffff:{PUBLIC}", "64:ff9b::8.8.8.8"])
    def test_public_ip_addresses_are_allowed(self, address: str) -> None:
        assert url_guard.is_allowed(address, private=False)

    @given(st.ip_addresses(v=4))
    def test_ipv4_inside_ipv6_is_checked_as_ipv4(self, address: Any) -> None:
        for private in (False, True):
            may = url_guard.is_allowed(str(address), private=private)
            assert url_guard.is_allowed(f"::ffff:{address}", private=private) is may
            assert url_guard.is_allowed(f"64:ff9b::{address}", private=private) is may
            assert not url_guard.is_allowed(
                f"2002:{int(address) >> 16:x}:{int(address) & 0xFFFF:x}::1", private=private
            )

    @given(st.ip_addresses())
    def test_ip_addresses_that_python_calls_private_are_refused(self, address: Any) -> None:
        if url_guard.is_allowed(str(address), private=False) and int(address) >> 32 != 0x64FF9B << 64:
            address = getattr(address, "ipv4_mapped", None) or address
            kinds = ("private", "loopback", "link_local", "multicast", "reserved", "unspecified")
            assert [kind for kind in kinds if getattr(address, f"is_{kind}")] == []

    @pytest.mark.parametrize(
        ("url", "may"),
        [
            ("https://a.example/", True),
            ("https://A.EXAMPLE./", True),
            ("https://b.a.example/", False),
            ("https://b.example/", True),
            ("https://x.b.example/", True),
            ("https://xb.example/", False),
            ("https://c.example/", False),
            ("https://a.example.c.example/", False),
            ("http://127.0.0.1/", False),
        ],
    )
    def test_allowed_hosts_are_checked_before_the_name_is_resolved(self, url: str, may: bool) -> None:
        policy = ImagePolicy(allowed_hosts=["a.example", ".b.example"])
        if may:
            assert isinstance(drive(url, policy=policy)[0][0], Resolve)
        else:
            with pytest.raises(ImageBlockedError, match="allowed_hosts"):
                drive(url, policy=policy)

    def test_an_allowed_host_must_still_be_public(self) -> None:
        policy = ImagePolicy(allowed_hosts=["localhost"])
        with pytest.raises(ImageBlockedError, match="not public"):
            drive("http://localhost/", ["127.0.0.1"], policy=policy)


def sync_download(url: str, policy: ImagePolicy) -> bytes:
    return download.download(url, policy)


def async_download(url: str, policy: ImagePolicy) -> bytes:
    return asyncio.run(download.async_download(url, policy))


BOTH = pytest.mark.parametrize("download", [sync_download, async_download])
PNG = png(40, 30, padding=300_000)


@BOTH
class TestDownload:
    def test_the_bytes_arrive_and_nothing_secret_is_sent(self, download: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PREDICTIONGUARD_API_KEY", "pg-s3cr3t")
        with FaultServer(answer(200, PNG, set_cookie="a=b")) as server:
            assert download(f"{server.url}/p.png?x=1", OPEN) == PNG
            assert download(f"{server.url}/p.png?x=1", OPEN) == PNG
        for request in server.requests:
            assert (request.method, request.path, request.body) == ("GET", "/p.png?x=1", b"")
            assert request.headers["host"] == f"127.0.0.1:{server.port}"
            assert request.headers["accept-encoding"] == "identity"
            assert not {"authorization", "cookie", "proxy-authorization", "referer"} & request.headers.keys()
            assert "s3cr3t" not in str(request)

    def test_the_host_keeps_its_name(self, download: Any) -> None:
        with FaultServer(answer(200, PNG)) as server:
            assert download(f"http://localhost:{server.port}/", OPEN) == PNG
        assert server.requests[0].headers["host"] == f"localhost:{server.port}"

    @pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
    def test_a_proxy_of_the_environment_is_not_used(
        self, download: Any, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with FaultServer(answer(200, b"by way of the proxy")) as proxy, FaultServer(answer(200, PNG)) as server:
            monkeypatch.setenv(name, f"http://user:pw@127.0.0.1:{proxy.port}")
            assert download(server.url, OPEN) == PNG
        assert proxy.requests == []

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_redirects_are_followed(self, download: Any, status: int) -> None:
        with FaultServer(answer(200, PNG)) as goal:
            moved = answer(status, b"x" * 99, location=f"{goal.url}/there", set_cookie="a=b")
            with FaultServer(moved) as server:
                assert download(server.url, OPEN) == PNG
        assert [request.path for request in goal.requests] == ["/there"]
        assert "cookie" not in goal.requests[0].headers

    def test_endless_redirects_are_refused(self, download: Any) -> None:
        with FaultServer(answer(302, location="/")) as server:
            with pytest.raises(ImageFetchError, match="redirects"):
                download(server.url, OPEN)
            assert len(server.requests) == 6

    def test_a_private_host_is_not_connected_to(self, download: Any) -> None:
        with FaultServer(answer(200, PNG)) as server:
            for url in (server.url, f"http://localhost:{server.port}/"):
                with pytest.raises(ImageBlockedError):
                    download(url, ImagePolicy())
        assert server.requests == []

    def test_max_bytes_is_inclusive(self, download: Any) -> None:
        with FaultServer(answer(200, PNG)) as server:
            assert download(server.url, ImagePolicy(allow_private_hosts=True, max_bytes=len(PNG))) == PNG
            with pytest.raises(ImageTooLargeError, match=rf"{len(PNG):,}.*{len(PNG) - 1:,}"):
                download(server.url, ImagePolicy(allow_private_hosts=True, max_bytes=len(PNG) - 1))

    @pytest.mark.parametrize(
        "script",
        [
            answer(200, b"", content_length="999999999"),
            answer(200, b"x" * 200_000, content_length=""),
            [
                answer(200, b"", content_length="", transfer_encoding="chunked"),
                b"10000\r\n" + b"x" * 0x10000 + b"\r\n" + b"10000\r\n" + b"x" * 0x10000 + b"\r\n",
                STALL,
            ],
        ],
        ids=["declared", "without a length", "chunked"],
    )
    def test_a_body_over_the_limit_is_refused_while_it_arrives(self, download: Any, script: Any) -> None:
        with FaultServer(script) as server:
            with pytest.raises(ImageTooLargeError, match="100,000"):
                download(server.url, ImagePolicy(allow_private_hosts=True, max_bytes=100_000))

    @pytest.mark.parametrize("declared", ["abc", "-5", "9" * 30, "1e9"])
    def test_an_invalid_content_length_is_an_error(self, download: Any, declared: str) -> None:
        with FaultServer(answer(200, PNG, content_length=declared)) as server:
            with pytest.raises(ImageError):
                download(server.url, OPEN)

    @pytest.mark.parametrize(("coding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
    def test_a_compressed_image_is_decompressed_within_the_limit(
        self, download: Any, coding: str, compress: Any
    ) -> None:
        with FaultServer(answer(200, compress(PNG), content_encoding=coding)) as server:
            assert download(server.url, OPEN) == PNG
            with pytest.raises(ImageTooLargeError, match=f"{len(PNG) - 1:,}"):
                download(server.url, ImagePolicy(allow_private_hosts=True, max_bytes=len(PNG) - 1))

    @pytest.mark.parametrize("size", [0, 1, 2**20 - 1, 2**20, 2**20 + 1, 2**21, 5_000_000])
    def test_whatever_the_size_all_of_it_is_decompressed(self, download: Any, size: int) -> None:
        data = (b"\0" * 100_000 + random.randbytes(100_000)) * 25
        bare = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        for coding, body in (
            ("gzip", gzip.compress(data[:size], 1)),
            ("deflate", zlib.compress(data[:size], 1)),
            ("deflate", bare.compress(data[:size]) + bare.flush()),
        ):
            with FaultServer(answer(200, body, content_encoding=coding)) as server:
                assert download(server.url, OPEN) == data[:size]

    def test_a_decompression_bomb_takes_little_memory(self, download: Any) -> None:
        bomb = gzip.compress(b"\0" * 200_000_000)
        with FaultServer(answer(200, bomb, content_encoding="gzip")) as server:
            tracemalloc.start()
            try:
                with pytest.raises(ImageTooLargeError):
                    download(server.url, ImagePolicy(allow_private_hosts=True, max_bytes=1_000_000))
                assert tracemalloc.get_traced_memory()[1] < 10_000_000
            finally:
                tracemalloc.stop()

    @pytest.mark.parametrize("coding", ["br", "zstd", "x-odd", "gzip, gzip"])
    def test_another_compression_is_refused(self, download: Any, coding: str) -> None:
        with FaultServer(answer(200, gzip.compress(PNG), content_encoding=coding)) as server:
            with pytest.raises(ImageFetchError, match=f"encoded as '{coding}'"):
                download(server.url, OPEN)

    def test_a_body_with_a_false_content_encoding_is_an_error(self, download: Any) -> None:
        with FaultServer(answer(200, PNG, content_encoding="gzip")) as server:
            with pytest.raises(ImageFetchError, match="DecodingError"):
                download(server.url, OPEN)

    def test_the_host_is_looked_up_once(self, download: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        # A second lookup could answer otherwise (DNS rebinding).
        real, asked = socket.getaddrinfo, []

        def lookup(host: Any, *args: Any, **options: Any) -> Any:
            asked.append(host)
            return real("127.0.0.1" if host in ("a.example", b"a.example") else host, *args, **options)

        monkeypatch.setattr(socket, "getaddrinfo", lookup)
        with FaultServer(answer(200, PNG)) as server:
            assert download(f"http://a.example:{server.port}/p", OPEN) == PNG
        assert [str(host) for host in asked].count("a.example") == 1
        assert server.requests[0].headers["host"] == f"a.example:{server.port}"

    def test_the_host_is_looked_up_once_without_our_pool(self, download: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(transport, "is_supported", lambda: False)
        self.test_the_host_is_looked_up_once(download, monkeypatch)

    @pytest.mark.parametrize(
        "script",
        [
            [answer(200, b"", content_length="500"), b"half"],
            [answer(200, b"", content_length="500"), b"half", RESET],
            [RESET],
            [],
            b"not HTTP at all\r\n\r\n",
            answer(404, b"gone"),
            answer(204),
            answer(302),
            answer(302, location="http://127.0.0.1:1/\x01"),
        ],
        ids=["cut", "reset in the body", "reset", "closed", "no HTTP", "404", "204", "no location", "bad location"],
    )
    def test_failures_are_our_errors_and_show_no_ip_address(self, download: Any, script: Any) -> None:
        with FaultServer(script) as server:
            with pytest.raises((ImageFetchError, ImageBlockedError)) as caught:
                download(f"http://localhost:{server.port}/", OPEN)
        assert "127.0.0.1" not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None or caught.value.__suppress_context__

    def test_a_refused_connection_is_an_error(self, download: Any) -> None:
        with pytest.raises(ImageFetchError):
            download(f"http://127.0.0.1:{unused_port()}/", OPEN)

    def test_an_unknown_host_is_an_error(self, download: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        def unknown(*_: Any, **__: Any) -> Any:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")

        monkeypatch.setattr(socket, "getaddrinfo", unknown)
        with pytest.raises(ImageFetchError, match=r"nowhere\.example"):
            download("http://nowhere.example/", OPEN)

    @pytest.mark.parametrize(
        "steps",
        [
            [STALL],
            [answer(200, b"", content_length="500"), STALL],
            [answer(200, b"", content_length="60"), Drip(b"x" * 60, 0.5)],
            [Drip(answer(200, b"x"), 0.5)],
        ],
        ids=["silence", "silence in the body", "dripping body", "dripping headers"],
    )
    def test_a_slow_host_times_out(self, download: Any, steps: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(url_guard, "TOTAL_TIMEOUT", 0.4)
        delivered = threading.Event()
        with FaultServer([*steps, delivered.set]) as server:
            with pytest.raises(ImageFetchError, match=r"0\.4 s"):
                download(server.url, OPEN)
            assert not delivered.is_set()


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_the_timeout_of_the_call_bounds_a_download(mode: str) -> None:
    def ask(url: str) -> Any:
        options: dict[str, Any] = {"timeout": 0.4, "max_retries": 0, "images": OPEN}
        asked = question(f"{url}/a.png")
        if mode == "sync":
            return Client("key", url, **options).chat(asked)
        return asyncio.run(AsyncClient("key", url, **options).chat(asked))

    with FaultServer([STALL]) as host:
        with pytest.raises(ImageFetchError, match=r"0\.4 s"):
            ask(host.url)
        assert {request.path for request in host.requests} <= {"/a.png"}  # the service itself was not asked


@pytest.mark.parametrize("address", ["169.254.169.254", "224.0.0.1", "[fe80::1]"])
def test_an_error_suggests_no_option_that_would_not_help(address: str) -> None:
    (error,) = download.download_all([f"http://{address}/"], OPEN)
    assert isinstance(error, ImageBlockedError)
    assert "never connected to" in str(error)
    assert "allow_private_hosts" not in str(error)


def many(urls: list[str]) -> list[Any]:
    return download.download_all(urls, OPEN)


def async_many(urls: list[str]) -> list[Any]:
    return asyncio.run(download.async_download_all(urls, OPEN))


@pytest.mark.parametrize("fetch_all", [many, async_many])
class TestSideBySide:
    def test_each_gets_its_own_bytes_or_error_in_order(self, fetch_all: Any) -> None:
        with FaultServer(answer(200, PNG)) as good, FaultServer(answer(404)) as bad:
            results = fetch_all([good.url, bad.url, "ftp://a.example/", good.url])
        assert [type(result) for result in results] == [bytes, ImageFetchError, ImageBlockedError, bytes]
        assert results[0] == results[3] == PNG

    def test_downloads_run_at_the_same_time(self, fetch_all: Any) -> None:
        # The server answers only when all of them were asked: one after the other would never get there.
        meeting = threading.Barrier(4, timeout=20)
        with FaultServer([meeting.wait, answer(200, PNG)]) as server:
            assert fetch_all([server.url] * 4) == [PNG] * 4

    def test_more_images_than_run_at_once(self, fetch_all: Any) -> None:
        with FaultServer(answer(200, PNG)) as server:
            assert fetch_all([server.url] * 20) == [PNG] * 20
        assert len(server.requests) == 20


def test_download_errors_are_our_errors() -> None:
    assert issubclass(ImageFetchError, PredictionGuardError)
