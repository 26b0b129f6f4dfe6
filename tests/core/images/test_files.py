"""Which files are read: regular ones, below the roots, within the limit; all else is refused, and nothing hangs."""

from __future__ import annotations

import os
import pickle
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictionguard_core.errors import (
    ImageBlockedError,
    ImageError,
    ImageFormatError,
    ImageTooLargeError,
    PredictionGuardError,
)
from predictionguard_core.images import files
from predictionguard_core.images.policy import ImagePolicy
from tests.core.images.samples import b64, png, prepared

PNG = png(4, 4)
posix = pytest.mark.skipif(os.name != "posix", reason="needs the files of a Unix")
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs the files of Linux")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with an image, and next to it another folder that must not be read."""
    (tmp_path / "root" / "deep").mkdir(parents=True)
    (tmp_path / "root" / "in.png").write_bytes(PNG)
    (tmp_path / "root" / "deep" / "in.png").write_bytes(PNG)
    (tmp_path / "root-not").mkdir()
    (tmp_path / "root-not" / "out.png").write_bytes(PNG)
    (tmp_path / "out.png").write_bytes(PNG)
    return tmp_path / "root"


@pytest.fixture
def odd(root: Path) -> Iterator[Path]:
    """The root, with what a Unix has beside files."""
    os.mkfifo(root / "fifo")
    (root / "link.png").symlink_to(root.parent / "out.png")
    (root / "inner.png").symlink_to(root / "deep" / "in.png")
    (root / "way").symlink_to(root.parent)
    (root / "loop").symlink_to(root / "loop")
    (root / "dangling").symlink_to(root / "nothing")
    (root / "to-fifo").symlink_to(root / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(root)  # the name of a socket may have 107 bytes only
        try:
            listener.bind("socket")
        finally:
            os.chdir(here)
        yield root


def below(root: Path, **more: Any) -> ImagePolicy:
    return ImagePolicy(local_roots=[root], **more)


class TestRead:
    @pytest.mark.parametrize("name", ["in.png", "deep/in.png", "deep/../in.png", "./in.png"])
    def test_a_regular_file_below_a_root(self, root: Path, name: str) -> None:
        assert files.read(root / name, below(root)) == PNG
        assert files.read(root / name, ImagePolicy(local_roots=["/nonexistent", root])) == PNG
        assert files.read(root / name, ImagePolicy()) == PNG

    @posix
    def test_a_link_within_the_roots_and_a_root_that_is_a_link(self, odd: Path) -> None:
        assert files.read(odd / "inner.png", below(odd)) == PNG
        assert files.read(odd / "way" / "root" / "in.png", below(odd)) == PNG
        assert files.read(odd / "in.png", below(odd / "way" / "root")) == PNG
        assert files.read(odd / "link.png", ImagePolicy()) == PNG

    def test_a_relative_path(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(root)
        assert files.read(Path("in.png"), below(root)) == PNG
        assert files.read(Path("deep/in.png"), ImagePolicy(local_roots=["."])) == PNG
        with pytest.raises(ImageBlockedError):
            files.read(Path("../out.png"), below(root))

    @pytest.mark.parametrize(
        "name",
        [
            "../out.png",
            "../root-not/out.png",
            "deep/../../out.png",
            "/etc/passwd",
            "..",
            "/",
            "/dev/zero",
            "/proc/self/environ",
        ],
    )
    def test_paths_outside_the_roots_are_refused(self, root: Path, name: str) -> None:
        with pytest.raises(ImageBlockedError):
            files.read(root / name, below(root))

    @posix
    @pytest.mark.parametrize("name", ["link.png", "way/out.png"])
    def test_links_out_of_the_roots_are_refused(self, odd: Path, name: str) -> None:
        with pytest.raises(ImageBlockedError, match="local_roots"):
            files.read(odd / name, below(odd))

    @posix
    @pytest.mark.parametrize("name", ["fifo", "to-fifo", "socket", "deep", ".", ""])
    def test_only_regular_files_are_opened(self, odd: Path, name: str) -> None:
        for policy in (below(odd), ImagePolicy()):
            with pytest.raises(ImageBlockedError, match="regular"):
                files.read(odd / name, policy)

    @linux
    @pytest.mark.parametrize("path", ["/dev/zero", "/dev/random", "/dev/stdin", "/dev/tty", "/dev", "/proc/self/fd/0"])
    def test_devices_are_not_read(self, path: str) -> None:
        with pytest.raises(ImageError):
            files.read(Path(path), ImagePolicy())

    @posix
    @pytest.mark.parametrize(
        "name", ["nothing.png", "dangling", "loop", "in.png/x", "a\0b", "x" * 300, "~/in.png", "~root/x"]
    )
    def test_missing_files_are_reported(self, odd: Path, name: str) -> None:
        for policy in (below(odd), ImagePolicy()):
            with pytest.raises(ImageFormatError, match="cannot be read"):
                files.read(odd / name, policy)

    @posix
    @pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may read everything")
    def test_an_unreadable_file_is_reported(self, root: Path) -> None:
        (root / "in.png").chmod(0)
        with pytest.raises(ImageFormatError, match="cannot be read"):
            files.read(root / "in.png", below(root))

    def test_the_allowed_number_of_bytes_and_one_more(self, root: Path) -> None:
        assert files.read(root / "in.png", below(root, max_bytes=len(PNG))) == PNG
        with pytest.raises(ImageTooLargeError, match=rf"{len(PNG)}.*{len(PNG) - 1}"):
            files.read(root / "in.png", below(root, max_bytes=len(PNG) - 1))

    @linux
    def test_a_file_with_size_zero_is_bounded_too(self) -> None:
        # /proc's files are regular and have a size of 0.
        with pytest.raises(ImageTooLargeError):
            files.read(Path("/proc/self/status"), ImagePolicy(max_bytes=10))

    def test_a_huge_sparse_file_is_refused_unread(self, root: Path) -> None:
        with open(root / "huge", "wb") as file:
            file.truncate(1 << 40)
        with pytest.raises(ImageTooLargeError, match=f"{1 << 40:,}"):
            files.read(root / "huge", ImagePolicy())

    def test_the_error_can_be_pickled_and_shows_no_folder(self, root: Path) -> None:
        for name in ("../out.png", "nothing.png", "deep"):
            with pytest.raises(ImageError) as caught:
                files.read(root / name, below(root))
            assert str(root) not in str(caught.value)
            assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


class TestStrings:
    """A string is a path only below `local_roots`."""

    @pytest.mark.parametrize("policy", [ImagePolicy(), ImagePolicy(local_roots=[])])
    def test_is_never_a_path_without_roots(
        self, root: Path, policy: ImagePolicy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(files, "read", never)
        for text in (str(root / "in.png"), "in.png", "./in.png", "~/in.png", "/dev/zero", "/etc/passwd", "/9j/x.jpg"):
            with pytest.raises(ImageError):
                prepared(text, policy)

    def test_is_a_path_below_a_root(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert prepared(str(root / "in.png"), below(root))[0].data == PNG
        monkeypatch.chdir(root)
        assert prepared("in.png", below(root))[0].data == PNG

    @pytest.mark.parametrize(
        "text",
        [
            "../out.png", "/etc/passwd", "/proc/self/environ", "/dev/zero", "file:///etc/passwd", "file:/etc/passwd",
            "FILE:///etc/passwd", "file://localhost/etc/passwd", "~/out.png", "a\0b", "..", "", " ", "\n", "x" * 5000,
            "C:\\Windows\\win.ini", "\\\\server\\share\\x.png", "deep", "nothing.png", "smb://server/x", "\ud800.png",
        ],
    )  # fmt: skip
    def test_is_refused_otherwise(self, root: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(root)
        with pytest.raises(ImageError):
            prepared(text, below(root))

    @given(text=st.text(max_size=60))
    def test_any_text_is_accepted_or_refused_with_our_error(self, text: str) -> None:
        with pytest.raises(PredictionGuardError):
            prepared(text, ImagePolicy(local_roots=["/nonexistent"]))

    def test_a_file_below_a_root_must_be_an_image(self, root: Path) -> None:
        (root / "secret.png").write_bytes(b"root:x:0:0:s3cr3t")
        with pytest.raises(ImageFormatError) as caught:
            prepared(str(root / "secret.png"), below(root))
        assert "s3cr3t" not in str(caught.value)

    def test_damaged_base64_that_is_tried_as_a_path_is_not_quoted(self, root: Path) -> None:
        text = b64(b"no image, but bytes of another file " * 50)
        with pytest.raises(ImageError) as caught:
            prepared(text, below(root))
        assert text[:200] not in str(caught.value)
        assert text[-200:] not in str(caught.value)


def never(*_: Any) -> bytes:
    raise AssertionError("a file was read")
