"""Paths in untrusted text: no file outside the allowed folder is read, and no error or callback quotes one."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import pickle
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.llms import ImageBlock
from llama_index.core.schema import ImageDocument, ImageNode

from llama_index_predictionguard import PredictionGuardMultiModal
from predictionguard_core import (
    ImageBlockedError,
    ImageError,
    ImageFormatError,
    ImagePolicy,
    ImageTooLargeError,
    PredictionGuardError,
)
from predictionguard_core.sandbox import Sandbox
from tests.images_end_to_end import entry_points
from tests.images_end_to_end.entry_points import (
    PNG,
    QUESTION,
    VISION,
    RecordingCallback,
    all_text,
    ask,
    embed,
    options,
    sent,
)
from tests.images_end_to_end.fake_network import FakeNetwork

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs POSIX files")
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux files")

SECRET = "s3cr3t-file-content"
IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


@dataclasses.dataclass
class Location:
    """`photos` is the allowed folder; the files outside it must not be read."""

    photos: Path
    outside: Path
    fifo: int
    """Both ends of the FIFO. It holds a secret that the code under test must not read."""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Location]:
    photos, outside, evil = (tmp_path / name for name in ("photos", "outside", "photos-evil"))
    for folder in (photos / "deep", outside, evil):
        folder.mkdir(parents=True)
    for folder in (photos, photos / "deep", outside, evil):
        (folder / "in.png").write_bytes(PNG)
        (folder / "secret.jpg").write_text(SECRET)
    (photos / "secret.svg").write_text(f"<svg xmlns='http://www.w3.org/2000/svg'><text>{SECRET}</text></svg>")
    (photos / "empty.png").write_bytes(b"")
    (photos / "cut.png").write_bytes(PNG[:20])
    (photos / "large.png").write_bytes(PNG + bytes(100_000))
    with open(photos / "huge.png", "wb") as file:
        file.truncate(1 << 40)
    (photos / "locked.png").write_bytes(PNG)
    (photos / "locked.png").chmod(0)
    os.link(photos / "in.png", photos / "hard.png")
    for name, target in {
        "link.png": "../outside/in.png",
        "full.png": str(outside / "in.png"),
        "way": "../outside",
        "up": "..",
        "first.png": "second.png",
        "second.png": "third.png",
        "third.png": "../outside/in.png",
        "loop.png": "loop.png",
        "ping.png": "pong.png",
        "pong.png": "ping.png",
        "dangling.png": "nothing.png",
        "passwd.png": "/etc/passwd",
        "to-fifo.png": "fifo.png",
        "zero.png": "/dev/zero",
        "inner.png": "deep/in.png",
    }.items():
        (photos / name).symlink_to(target)
    os.mkfifo(photos / "fifo.png")
    monkeypatch.setenv("HOME", str(outside))
    monkeypatch.setenv("SECRET", SECRET)
    monkeypatch.chdir(photos)
    # Held open, so that a reader gets the secret instead of blocking; the timer then closes it, and the test fails.
    fifo = os.open(photos / "fifo.png", os.O_RDWR | os.O_NONBLOCK)
    os.write(fifo, SECRET.encode())
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.png")  # relative: the name of a socket is limited to 107 bytes
        closes = threading.Timer(120, os.close, [fifo])
        closes.daemon = True
        closes.start()
        yield Location(photos, outside, fifo)
        closes.cancel()
    with contextlib.suppress(OSError):
        os.close(fifo)


# ROOT is the allowed folder, BESIDE its parent.
BEYOND = {
    "up": "../outside/in.png",
    "up from below": "deep/../../outside/in.png",
    "up and back": "../photos/../outside/in.png",
    "up very often": "../" * 40 + "etc/passwd",
    "up encoded": "..%2foutside%2fin.png",
    "up encoded in full": "%2e%2e/outside/in.png",
    "up with four dots": "....//outside/in.png",
    "up with a backslash": "..\\outside\\in.png",
    "up by a full path": "ROOT/../outside/in.png",
    "a full path": "BESIDE/outside/in.png",
    "a name that begins like the root": "BESIDE/photos-evil/in.png",
    "a name that begins like the root, from within": "../photos-evil/in.png",
    "the root's name and more": "ROOT-evil/in.png",
    "slashes before": "//BESIDE/outside/in.png",
    "passwd": "/etc/passwd",
    "passwd behind a NUL": "/etc/passwd\0.png",
    "a NUL behind a good name": "ROOT/in.png\0",
    "a NUL alone": "\0",
    "environ": "/proc/self/environ",
    "a descriptor": "/proc/self/fd/0",
    "the root by way of proc": "/proc/self/root/etc/passwd",
    "the folder by way of proc": "/proc/self/cwd/../outside/in.png",
    "zero": "/dev/zero",
    "random": "/dev/urandom",
    "stdin": "/dev/stdin",
    "a terminal": "/dev/tty",
    "a link to a file": "link.png",
    "a link with a full path": "full.png",
    "a link to a folder": "way/in.png",
    "a link upwards": "up/outside/in.png",
    "a chain of links": "first.png",
    "a link to passwd": "passwd.png",
    "a link to a device": "zero.png",
    "a link to itself": "loop.png",
    "a link in a circle": "ping.png",
    "a link to nothing": "dangling.png",
    "a link to a FIFO": "to-fifo.png",
    "a FIFO": "fifo.png",
    "a socket": "socket.png",
    "a folder": "deep",
    "the root": "ROOT",
    "the root with a slash": "ROOT/",
    "the folder here": ".",
    "the folder above": "..",
    "below a file": "in.png/in.png",
    "nothing there": "nothing.png",
    "home": "~/in.png",
    "somebody's home": "~root/in.png",
    "home by a variable": "$HOME/in.png",
    "home in braces": "${HOME}/in.png",
    "a pattern": "*.png",
    "a text called jpg": "secret.jpg",
    "an SVG": "secret.svg",
    "an empty file": "empty.png",
    "a cut file": "cut.png",
    "one that may not be read": "locked.png",
    "too large": "large.png",
    "a tebibyte": "huge.png",
    "a very long name": "x" * 300 + ".png",
    "a very long path": "a/" * 3000 + "in.png",
    "a drive": "C:\\Windows\\win.ini",
    "a share": "\\\\server\\share\\in.png",
    "a lone surrogate": "\ud800.png",
    "a line end": "in.png\n",
    "a space before": " in.png",
}
URLS = {
    "file": "file://BESIDE/outside/in.png",
    "file below the root": "file://ROOT/in.png",
    "file with host": "file://localhostBESIDE/outside/in.png",
    "file of one slash": "file:ROOT/in.png",
    "file upper": "FILE://ROOT/in.png",
    "file relative": "file:in.png",
    "a path after http": "http:ROOT/in.png",
    "an archive": "zip://ROOT/in.png",
}
TOO_LARGE = {"too large", "a tebibyte"}
BLOCKED = {
    *("up", "up from below", "up and back", "up by a full path", "a full path", "a name that begins like the root"),
    *("a name that begins like the root, from within", "the root's name and more", "passwd", "environ", "zero"),
    *("random", "a link to a file", "a link with a full path", "a link to a folder", "a link upwards"),
    *("a chain of links", "a link to passwd", "a link to a device", "a link to a FIFO", "a FIFO", "a socket"),
    *("a folder", "the root", "the root with a slash", "the folder here", "the folder above"),
}

if IS_ROOT:
    del BEYOND["one that may not be read"]  # root may read every file

LIMIT = 50_000


def test_each_expected_error_belongs_to_a_path() -> None:
    assert BEYOND.keys() >= BLOCKED | TOO_LARGE


# The entry points


def written(place: Location, text: str) -> str:
    return text.replace("ROOT", str(place.photos)).replace("BESIDE", str(place.photos.parent))


EntryPoint = Callable[[Sandbox, ImagePolicy, str], Any]


def _langchain(entry_point: str, block: Callable[[str], Any]) -> EntryPoint:
    return lambda box, policy, text: ask(entry_point, box, block(text), policy=policy)


def _multi_modal(make: Callable[[str], Any], *, is_async: bool) -> EntryPoint:
    def call(box: Sandbox, policy: ImagePolicy, text: str) -> Any:
        model = PredictionGuardMultiModal(VISION, **options(box, policy))
        if is_async:
            return asyncio.run(model.acomplete(QUESTION, [make(text)]))
        return model.complete(QUESTION, [make(text)])

    return call


def _changed_block(text: str) -> ImageBlock:
    """A block whose path was changed after LlamaIndex validated it."""
    block = ImageBlock()
    block.path = Path(text)
    return block


STRINGS: dict[str, EntryPoint] = {
    "invoke": _langchain("invoke", lambda text: {"type": "image", "url": text}),
    "ainvoke": _langchain("ainvoke", lambda text: {"type": "image", "url": text}),
    "image_url": _langchain("invoke", lambda text: {"type": "image_url", "image_url": {"url": text}}),
    "image_url as text": _langchain("ainvoke", lambda text: {"type": "image_url", "image_url": text}),
    "source": _langchain("invoke", lambda text: {"type": "image", "source": {"type": "url", "url": text}}),
    "embed_images": lambda box, policy, text: embed(box, text, policy=policy),
    "image_url of a node": _multi_modal(lambda text: ImageNode(image_url=text), is_async=True),
    "file_path of a node": _multi_modal(lambda text: ImageNode(metadata={"file_path": text}), is_async=False),
    "file_path of a document": _multi_modal(lambda text: ImageDocument(metadata={"file_path": text}), is_async=True),
}
TYPED: dict[str, EntryPoint] = {
    "embed_images": lambda box, policy, text: embed(box, Path(text), policy=policy),
    "aembed_images": lambda box, policy, text: embed(box, Path(text), policy=policy, is_async=True),
    "image_path of a node": _multi_modal(lambda text: ImageNode(image_path=text), is_async=False),
    "image_path of a node, async": _multi_modal(lambda text: ImageNode(image_path=text), is_async=True),
    "chat": lambda box, policy, text: ask("chat", box, _changed_block(text), policy=policy),
    "achat": lambda box, policy, text: ask("achat", box, _changed_block(text), policy=policy),
}


def each_entry(found: dict[str, EntryPoint]) -> Any:
    return pytest.mark.parametrize(
        "entry_point", [pytest.param(entry_point, id=name) for name, entry_point in found.items()]
    )


def refused(
    place: Location,
    entry_point: EntryPoint,
    box: Sandbox,
    text: str,
    policy: ImagePolicy,
    kind: type[PredictionGuardError],
) -> PredictionGuardError:
    error: Exception | None = None
    try:
        entry_point(box, policy, written(place, text))
    except Exception as caught:
        error = caught
    assert isinstance(error, kind), f"{text!r}: expected {kind.__name__}, got {error!r}"
    assert box.requests == [], text
    assert SECRET not in all_text(error), text
    assert "root:x:" not in all_text(error), text
    assert os.read(place.fifo, 100) == SECRET.encode(), f"{text!r}: the FIFO was read"
    os.write(place.fifo, SECRET.encode())
    return error


# Without `local_roots`


@each_entry(STRINGS)
def test_strings_are_never_paths_without_local_roots(
    entry_point: EntryPoint, place: Location, box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file system is not touched: the valid path is refused like the others."""
    looked = []
    real = os.path.realpath
    monkeypatch.setattr(os.path, "realpath", lambda path, **more: looked.append(str(path)) or real(path, **more))
    for text in ("in.png", "ROOT/in.png", "./in.png", *BEYOND.values(), *URLS.values()):
        with pytest.raises(ImageError) as caught:
            entry_point(box, ImagePolicy(), written(place, text))
        assert SECRET not in all_text(caught.value)
    assert box.requests == []
    assert [path for path in looked if "photos" in path or "/etc" in path] == []
    assert os.read(place.fifo, 100) == SECRET.encode()


@pytest.mark.parametrize("entry_point", entry_points.LANGCHAIN)
@pytest.mark.parametrize("block", ["base64", "data", "source"])
def test_base64_fields_are_never_paths_even_with_local_roots(
    entry_point: str, block: str, place: Location, box: Sandbox
) -> None:
    text = str(place.photos / "in.png")
    given = {
        "base64": {"type": "image", "base64": text, "mime_type": "image/png"},
        "data": {"type": "image", "source_type": "base64", "data": text, "mime_type": "image/png"},
        "source": {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": text}},
    }[block]
    with pytest.raises(ImageFormatError):
        ask(entry_point, box, given, policy=ImagePolicy(local_roots=[place.photos]))
    assert box.requests == []


# With them


@each_entry(STRINGS | {f"typed {name}": entry_point for name, entry_point in TYPED.items()})
def test_paths_outside_the_local_roots_are_refused(
    entry_point: EntryPoint, place: Location, box: Sandbox, network: FakeNetwork
) -> None:
    policy = ImagePolicy(local_roots=[place.photos], max_bytes=LIMIT)
    for name, text in BEYOND.items():
        kind = ImageTooLargeError if name in TOO_LARGE else ImageBlockedError if name in BLOCKED else ImageError
        error = refused(place, entry_point, box, text, policy, kind)
        assert f"{LIMIT:,}" in str(error) or name not in TOO_LARGE, name
        assert len(text) <= 200 or text not in str(error), name


@each_entry(STRINGS)
def test_file_urls_are_refused_even_with_local_roots(
    entry_point: EntryPoint, place: Location, box: Sandbox, network: FakeNetwork
) -> None:
    for url in URLS.values():
        refused(place, entry_point, box, url, ImagePolicy(local_roots=[place.photos]), ImageBlockedError)
    assert network.connected == []


@pytest.mark.parametrize("entry_point", entry_points.LLAMA_INDEX)
@pytest.mark.parametrize("text", ["file://BESIDE/outside/in.png", "file://ROOT/in.png", "file:///etc/passwd"])
def test_the_url_of_a_llama_index_block_is_never_a_path(
    entry_point: str, text: str, place: Location, box: Sandbox
) -> None:
    for policy in (ImagePolicy(), ImagePolicy(local_roots=[place.photos])):
        with pytest.raises(ImageBlockedError):
            ask(entry_point, box, ImageBlock(url=written(place, text)), policy=policy)
    assert box.requests == []


@each_entry(STRINGS | {f"typed {name}": entry_point for name, entry_point in TYPED.items()})
def test_an_image_below_a_root_is_sent(entry_point: EntryPoint, place: Location, box: Sandbox) -> None:
    """A hard link, too: it is a file of the folder like any other."""
    for text in (
        *("in.png", "./in.png", "deep/in.png", "deep/../in.png", "ROOT/in.png", "ROOT//in.png", "ROOT/in.png/"),
        *("hard.png", "inner.png", "up/photos/in.png"),
    ):
        entry_point(box, ImagePolicy(local_roots=[place.photos]), written(place, text))
        request = box.requests[-1]
        if "messages" in request:
            assert sent(box) == [("image/png", PNG)], text
        else:
            assert len(request["input"]) == 1, text
        box.clear()


@each_entry(STRINGS)
def test_a_root_does_not_allow_files_of_another_folder(entry_point: EntryPoint, place: Location, box: Sandbox) -> None:
    for root, text in {
        "/nonexistent": "ROOT/in.png",
        "photos/in.png": "ROOT/deep/in.png",
        "photos/dangling.png": "ROOT/in.png",
        "photos/deep": "ROOT/in.png",
    }.items():
        policy = ImagePolicy(local_roots=[place.photos.parent / root])
        refused(place, entry_point, box, text, policy, ImageBlockedError)


# Without roots, the application chose a typed path itself: it is read if it is an image


TYPED_REFUSED = [
    "passwd", "environ", "zero", "stdin", "a link to passwd", "a link to a device", "a link to itself", "a FIFO",
    "a link to a FIFO", "a socket", "a folder", "a text called jpg", "an SVG", "an empty file", "a cut file",
    "too large", "a tebibyte", "nothing there", "home", "home by a variable", "a NUL behind a good name",
    "below a file",
]  # fmt: skip


@each_entry(TYPED)
def test_a_typed_path_must_be_an_image(entry_point: EntryPoint, place: Location, box: Sandbox) -> None:
    for name in TYPED_REFUSED:
        kind = ImageTooLargeError if name in TOO_LARGE else ImageError
        refused(place, entry_point, box, BEYOND[name], ImagePolicy(max_bytes=LIMIT), kind)


@each_entry(TYPED)
def test_a_typed_path_may_be_anywhere(entry_point: EntryPoint, place: Location, box: Sandbox) -> None:
    entry_point(box, ImagePolicy(), str(place.outside / "in.png"))
    assert len(box.requests) == 1


# What callbacks receive


class Recorder(BaseEventHandler):
    recorded: list[str] = []

    @classmethod
    def class_name(cls) -> str:
        return "Recorder"

    def handle(self, event: Any, **kwargs: Any) -> None:
        self.recorded.append(repr(event))


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """Records all LlamaIndex events of a test."""
    dispatcher = get_dispatcher()
    before = list(dispatcher.event_handlers)
    recorder = Recorder(recorded=[])
    dispatcher.add_event_handler(recorder)
    yield recorder
    dispatcher.event_handlers = before


@pytest.mark.parametrize("entry_point", entry_points.ENTRY_POINTS)
def test_callbacks_receive_no_content_of_a_refused_file(
    entry_point: str, place: Location, box: Sandbox, recorder: Recorder
) -> None:
    for name in ("a text called jpg", "an SVG", "a FIFO", "a link to a file", "passwd"):
        recorder.recorded.clear()
        handler = RecordingCallback()
        text = written(place, BEYOND[name])
        block = {"type": "image", "url": text} if entry_point in entry_points.LANGCHAIN else _changed_block(text)
        with pytest.raises(PredictionGuardError):
            ask(entry_point, box, block, policy=ImagePolicy(local_roots=[place.photos]), callback=handler)
        recorded = "\n".join(handler.recorded if entry_point in entry_points.LANGCHAIN else recorder.recorded)
        assert QUESTION in recorded, name
        assert SECRET not in recorded, name
        assert "root:x:" not in recorded, name
        assert box.requests == [], name


@pytest.mark.parametrize("entry_point", entry_points.ENTRY_POINTS)
def test_the_error_names_the_block_and_can_be_pickled(entry_point: str, place: Location, box: Sandbox) -> None:
    text = str(place.outside / "in.png")
    block = {"type": "image", "url": text} if entry_point in entry_points.LANGCHAIN else _changed_block(text)
    with pytest.raises(ImageBlockedError) as caught:
        ask(entry_point, box, block, policy=ImagePolicy(local_roots=[place.photos]))
    for error in (caught.value, pickle.loads(pickle.dumps(caught.value))):
        assert (error.message_index, error.block_index) == (0, 1)
        assert str(place.outside) not in str(error)
