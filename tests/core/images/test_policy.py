"""`ImagePolicy`: its defaults are safe, its mistakes are named, and it can't be changed."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from pathlib import Path
from typing import Any

import pytest

from predictionguard_core import Client, Image, ImagePolicy
from predictionguard_core.errors import ConfigurationError, ImageTooLargeError


def test_the_defaults() -> None:
    assert dataclasses.asdict(ImagePolicy()) == {
        "local_roots": (),
        "allowed_hosts": None,
        "allow_private_hosts": False,
        "max_bytes": 20 * 1024 * 1024,
        "max_pixels": 50_000_000,
        "max_images": 16,
        "min_edge": 1,
        "max_edge": None,
        "upright": True,
        "strip_metadata": False,
        "max_pages": 16,
        "pdf_dpi": 150,
        "max_decode_seconds": 30.0,
        "max_decode_memory": 1024 * 1024 * 1024,
        "cache_bytes": 0,
    }


def test_it_is_frozen_compared_hashed_and_copied() -> None:
    policy = ImagePolicy(local_roots=["/srv/photos"], allowed_hosts=["a.example"], max_edge=9)
    with pytest.raises(dataclasses.FrozenInstanceError):
        policy.max_bytes = 1  # type: ignore[misc]
    for copied in (pickle.loads(pickle.dumps(policy)), copy.deepcopy(policy), dataclasses.replace(policy)):
        assert copied == policy
        assert hash(copied) == hash(policy)
    assert policy != ImagePolicy()


def test_roots_become_paths_and_hosts_lower_case() -> None:
    policy = ImagePolicy(local_roots=["/a", Path("/b")], allowed_hosts=["A.Example", ".B.example", "c.example."])
    assert policy.local_roots == (Path("/a"), Path("/b"))
    assert policy.allowed_hosts == ("a.example", ".b.example", "c.example")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("local_roots", "/srv"),
        ("local_roots", Path("/srv")),
        ("local_roots", None),
        ("allowed_hosts", "a.example"),
        ("allowed_hosts", 5),
        ("allowed_hosts", [5]),
        *(
            (name, value)
            for name in ("max_bytes", "max_pixels", "max_images", "max_edge")
            for value in (0, -1, True, 1.5, "9")
        ),
        *(("max_decode_seconds", value) for value in (0, -1.0, True, "9", float("inf"), float("nan"), None)),
        ("cache_bytes", -1),
        ("max_bytes", None),
        ("max_pixels", None),
        ("max_images", None),
        *(
            (name, value)
            for name in ("allow_private_hosts", "upright", "strip_metadata")
            for value in ("false", 0, None)
        ),
        *(("allowed_hosts", [each]) for each in ("https://a.example", "*.a.example", "a.example:80", "a.example/b")),
    ],
)
def test_a_mistake_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=field):
        ImagePolicy(**{field: value})


@pytest.mark.parametrize(
    ("given", "named"),
    [({"max_edgs": 5}, "max_edgs.*max_edge"), ("x", "got 'x'"), (5, "got 5"), ({"max_edge": 0}, "max_edge")],
)
def test_what_is_no_policy_is_refused(given: Any, named: str) -> None:
    for make in (lambda: Client("key", images=given), lambda: Image.open(b"", given), lambda: ImagePolicy.of(given)):
        with pytest.raises(ConfigurationError, match=named):
            make()


def test_a_dict_is_a_policy() -> None:
    assert ImagePolicy.of({"max_edge": 5}) == ImagePolicy(max_edge=5)
    assert ImagePolicy.of(None) == ImagePolicy()
    with pytest.raises(ImageTooLargeError, match="max_bytes"):
        Image.open(b"123", {"max_bytes": 2})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("allowed", "host", "may"),
    [
        (None, "anything.example", True),
        ([], "anything.example", False),
        (["a.example"], "a.example", True),
        (["a.example"], "a.example.", True),
        (["a.example"], "b.a.example", False),
        (["a.example"], "xa.example", False),
        (["a.example"], "a.example.evil.example", False),
        ([".a.example"], "a.example", True),
        ([".a.example"], "b.a.example", True),
        ([".a.example"], "c.b.a.example", True),
        ([".a.example"], "xa.example", False),
        ([".a.example"], "a.example.evil", False),
        (["A.Example."], "a.example", True),
        (["127.0.0.1"], "127.0.0.1", True),
        (["::1"], "::1", True),
        (["[::1]"], "::1", True),
        (["bücher.example"], "xn--bcher-kva.example", True),
        ([""], "a.example", False),
        (["."], "a.example", False),
    ],
)
def test_which_hosts_are_allowed(allowed: Any, host: str, may: bool) -> None:
    assert ImagePolicy(allowed_hosts=allowed).allows_host(host) is may
