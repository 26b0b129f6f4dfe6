"""`Image`: made of what people have, shown in notebooks, saved, and turned into a content block."""

from __future__ import annotations

import base64
import io
import json
import pickle
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from predictionguard_core import Image, ImagePolicy
from predictionguard_core.errors import ImageBlockedError, ImageError, ImageFormatError, UnsupportedContentError
from tests.core.images.samples import GIF, b64, data_uri, png, prepared

Pillow = pytest.importorskip("PIL.Image")

PNG = png(5, 4)


def pil(mode: str = "RGB", size: tuple[int, int] = (40, 20)) -> Any:
    return Pillow.effect_noise(size, 90).convert(mode)


class UploadedFile(io.BytesIO):
    """Like Streamlit's, a BytesIO with a name."""

    name = "photo.png"


def test_opens_paths_of_the_developer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "my photo.png"
    path.write_bytes(PNG)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    for source in (path, str(path), path.as_uri(), "~/my photo.png", {"path": str(path), "orig_name": "photo.png"}):
        assert Image.open(source).data == PNG, source
    monkeypatch.chdir(tmp_path)
    assert Image.open("my photo.png").data == PNG


def test_a_file_that_exists_goes_before_base64(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = b64(GIF).replace("/", "")[:20]
    (tmp_path / name).write_bytes(PNG)
    assert Image.open(name).data == PNG


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ImageFormatError, match=r"'no-such-cat.jpg' cannot be read"):
        Image.open("photos/no-such-cat.jpg")


def test_does_not_download() -> None:
    with pytest.raises(ImageBlockedError, match="does not download"):
        Image.open("https://example.com/cat.jpg")


def test_opens_bytes_files_data_uris_and_base64(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(PNG)
    for source in (PNG, io.BytesIO(PNG), UploadedFile(PNG), b64(PNG), data_uri(PNG), Image.open(PNG)):
        assert Image.open(source).data == PNG
    with open(path, "rb") as file:
        file.seek(3)
        assert Image.open(file).data == Image.open(file).data == PNG
        assert file.tell() == 3


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "I;16", "F", "YCbCr"])
def test_opens_pil_images_and_leaves_them_as_they_are(mode: str) -> None:
    image = pil("L" if mode == "I;16" else mode)
    if mode == "I;16":
        image = image.convert("I").convert("I;16")
    image.info["icc_profile"] = b"kept"
    image.info["comment"] = "kept"
    before = image.tobytes()
    opened = Image.open(image)
    assert opened.size == (40, 20)
    assert opened.media_type in ("image/png", "image/jpeg")
    assert (image.tobytes(), image.info["icc_profile"], image.info["comment"]) == (before, b"kept", "kept")


def test_a_pil_image_in_a_message_is_turned_and_shrunk_like_a_file() -> None:
    out, exif = io.BytesIO(), Pillow.Exif()
    exif[0x0112] = 6
    pil().save(out, "JPEG", exif=exif)
    assert Image.open(Pillow.open(out)).size == (20, 40)
    assert Image.open(Pillow.open(out), ImagePolicy(upright=False)).size == (40, 20)
    (image,) = prepared(Pillow.open(out), ImagePolicy(max_edge=10))
    assert image.size == (5, 10)
    with pytest.raises(ImageError, match="800 pixels"):
        prepared(Pillow.open(out), ImagePolicy(max_pixels=100))


def test_a_transparent_pil_image_stays_transparent() -> None:
    image = Pillow.new("RGBA", (40, 20), (255, 0, 0, 0))
    assert Image.open(image).to_pil().convert("RGBA").getpixel((0, 0)) == (255, 0, 0, 0)


def test_the_error_for_an_array_says_how_to_convert_it() -> None:
    numpy = pytest.importorskip("numpy")
    for prepare in (Image.open, prepared):
        with pytest.raises(ImageFormatError, match=r"a numpy\.ndarray.*PIL\.Image\.fromarray\(array\)"):
            prepare(numpy.zeros((4, 4, 3), "uint8"))


def test_the_error_for_a_figure_says_how_to_convert_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Figure:
        """In place of matplotlib's, which is large to install."""

    monkeypatch.setitem(sys.modules, "matplotlib.figure", SimpleNamespace(FigureBase=Figure))
    with pytest.raises(ImageFormatError, match=r"figure\.savefig"):
        Image.open(Figure())


def test_the_error_for_an_upload_says_how_to_get_its_path() -> None:
    with pytest.raises(ImageFormatError, match=r'pathlib\.Path\(value\["path"\]\)'):
        prepared({"path": "/tmp/gradio/photo.png"})


def test_a_pdf_of_several_pages_is_not_one_image() -> None:
    from tests.image_helpers import pdf

    pytest.importorskip("pypdfium2")
    with pytest.raises(UnsupportedContentError, match="expected one image, got a document with 2 pages"):
        Image.open(pdf(pil(), pil()))


def test_its_block_is_plain_json() -> None:
    image = Image.open(PNG)
    assert image.block() == {"type": "image", "base64": b64(PNG), "mime_type": "image/png"}
    assert Image.open(json.loads(json.dumps(image.block()))["base64"]) == image


def test_its_block_survives_a_checkpointer() -> None:
    serializer = pytest.importorskip("langgraph.checkpoint.serde.jsonplus").JsonPlusSerializer()
    block = Image.open(PNG).block()
    assert serializer.loads_typed(serializer.dumps_typed(block)) == block


@pytest.mark.parametrize("source", [PNG, b64(PNG)])
def test_is_pickled(source: Any) -> None:
    image = Image.open(source)
    again = pickle.loads(pickle.dumps(image))
    assert (again, again.data, again.size) == (image, PNG, (5, 4))


def test_is_decoded_and_saved(tmp_path: Path) -> None:
    out = io.BytesIO()
    pil("RGBA").save(out, "PNG")
    image = Image.open(out)
    assert (image.width, image.height) == image.to_pil().size == (40, 20)
    for name, kind in {"a.png": "PNG", "b.jpg": "JPEG", "c.webp": "WEBP", "d": "PNG"}.items():
        image.save(tmp_path / name)
        with Pillow.open(tmp_path / name) as saved:
            assert saved.format == kind
    assert (tmp_path / "a.png").read_bytes() == image.data
    image.save(str(tmp_path / "e.PNG"))
    assert (tmp_path / "e.PNG").read_bytes() == image.data


def test_a_large_photo_is_a_thumbnail_in_a_notebook() -> None:
    out = io.BytesIO()
    pil(size=(4000, 3000)).save(out, "JPEG")
    image = Image.open(out)
    bundle = image._repr_mimebundle_()
    shown = base64.b64decode(bundle["image/jpeg"])
    assert Pillow.open(io.BytesIO(shown)).size == (512, 384)
    assert len(shown) < 256 * 1024 < len(image.data)
    assert bundle["text/plain"] == repr(image)


def test_a_small_image_is_itself_in_a_notebook() -> None:
    bundle = Image.open(PNG)._repr_mimebundle_()
    assert base64.b64decode(bundle["image/png"]) == PNG
