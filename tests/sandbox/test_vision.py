import base64
import contextlib
import io
import json
import random
import struct
import sys
import zlib

import pytest
from PIL import Image, ImageDraw

from predictionguard_core.sandbox.responses import ServiceError
from predictionguard_core.sandbox.vision import colors, images

TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "GIF": "image/gif"}


def said(reply):
    assert reply.status == 200, reply.body
    return reply.body["choices"][0]["message"]["content"]


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


@pytest.mark.parametrize("kind", list(TYPES))
def test_answers_name_type_size_shape_and_color(see, uri, encoded, kind):
    text = said(see(uri(encoded(kind, (90, 60), (220, 20, 30)), TYPES[kind])))
    assert ("WebP" if kind == "WEBP" else kind) in text
    assert "90 x 60 pixels" in text
    assert "landscape" in text
    assert "red (100%)" in text
    assert "declared" not in text
    assert 'You asked: "What is this?"' in text


@pytest.mark.parametrize(
    ("size", "shape"), [((3, 2), "landscape"), ((2, 3), "portrait"), ((2, 2), "square"), ((1, 199), "portrait")]
)
def test_shapes(see, uri, encoded, size, shape):
    assert shape in said(see(uri(encoded(size=size))))


@pytest.mark.parametrize(
    ("color", "words"),
    [("white", "light"), ((20, 20, 24), "dark"), ((119, 119, 119), "of medium brightness")],
)
def test_brightness(see, uri, encoded, color, words):
    assert f"square, {words}." in said(see(uri(encoded(size=(8, 8), color=color))))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation_is_named(see, uri, encoded, orientation, kind):
    text = said(see(uri(encoded(kind, (90, 60), exif=exif(orientation)), TYPES[kind])))
    turned = orientation >= 5
    assert ("60 x 90 pixels, portrait" if turned else "90 x 60 pixels, landscape") in text
    words = f"stored as 90 x 60 pixels with EXIF orientation {orientation}, not turned upright"
    assert (words in text) == (orientation != 1)


def test_several_images_are_numbered_in_order(see, uri, encoded):
    text = said(see(uri(encoded(color="blue")), uri(encoded(size=(20, 40), color="yellow"))))
    assert "There are 2 images" in text
    first, second = text.index("Image 1 is a PNG, 40 x 20"), text.index("Image 2 is a PNG, 20 x 40")
    assert first < text.index("blue") < second < text.index("yellow")


def test_images_of_earlier_turns_are_still_seen(ask, uri, encoded):
    messages = [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": uri(encoded())}}]},
        {"role": "assistant", "content": "An image."},
        {"role": "user", "content": "How wide was it?"},
    ]
    text = said(ask({"model": "Qwen2.5-VL-7B-Instruct", "messages": messages}))
    assert "40 x 20 pixels" in text
    assert "How wide was it?" in text


def test_shares_of_colors():
    image = Image.new("RGB", (100, 100), (0, 0, 220))
    image.paste((250, 250, 250), (0, 0, 100, 30))
    image.paste((0, 0, 0), (0, 30, 100, 40))
    out = io.BytesIO()
    image.save(out, "PNG")
    seen = images.from_bytes(out.getvalue())
    assert [(name, round(share, 2)) for name, share in seen.main_colors] == [
        ("blue", 0.6),
        ("white", 0.3),
        ("black", 0.1),
    ]


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("ff0000", "red"),
        ("c0392b", "red"),
        ("800000", "dark red"),
        ("ff8c00", "orange"),
        ("8b4513", "brown"),
        ("d2b48c", "tan"),
        ("f5f5dc", "beige"),
        ("ffff00", "yellow"),
        ("808000", "olive"),
        ("008000", "green"),
        ("00ff00", "green"),
        ("013220", "dark green"),
        ("008080", "teal"),
        ("40e0d0", "turquoise"),
        ("87ceeb", "light blue"),
        ("0000ff", "blue"),
        ("000080", "navy"),
        ("800080", "purple"),
        ("e6e6fa", "lavender"),
        ("ff00ff", "magenta"),
        ("ffc0cb", "pink"),
        ("000000", "black"),
        ("111111", "black"),
        ("3c3c3c", "dark grey"),
        ("808080", "grey"),
        ("d3d3d3", "light grey"),
        ("ffffff", "white"),
    ],
)
def test_names_of_colors(value, name):
    assert colors.color_name(*bytes.fromhex(value)) == name


def test_every_color_has_a_name():
    steps = range(0, 256, 15)
    names = {colors.color_name(r, g, b) for r in steps for g in steps for b in steps}
    assert 25 <= len(names) <= 32


def test_a_noisy_photograph_like_image_keeps_its_colors():
    dice = random.Random(1)
    image = Image.new("RGB", (400, 300), (70, 130, 200))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 200, 400, 300), (60, 140, 50))
    for _ in range(4000):
        x, y = dice.randrange(400), dice.randrange(300)
        r, g, b = image.getpixel((x, y))
        image.putpixel((x, y), tuple(max(0, min(255, value + dice.randrange(-25, 25))) for value in (r, g, b)))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=60)
    assert [name for name, _ in images.from_bytes(out.getvalue()).main_colors] == ["blue", "green"]


@pytest.mark.parametrize(
    ("mode", "white"),
    [
        ("1", 1),
        ("L", 255),
        ("LA", (255, 255)),
        ("P", 255),
        ("RGB", (255, 255, 255)),
        ("RGBA", (255, 255, 255, 255)),
        ("I;16", 65535),
    ],
)
def test_every_kind_of_png_is_seen(mode, white):
    image = Image.new(mode, (30, 30), white)
    if mode == "P":
        image.putpalette([value for value in range(256) for _ in range(3)])
    out = io.BytesIO()
    image.save(out, "PNG")
    assert images.from_bytes(out.getvalue()).main_colors == [("white", 1.0)]


def test_what_is_transparent_lies_on_white(encoded):
    assert images.from_bytes(encoded(color=(255, 0, 0, 0), mode="RGBA")).main_colors == [("white", 1.0)]


def test_cmyk_jpegs_are_seen(encoded):
    assert images.from_bytes(encoded("JPEG", mode="CMYK", color=(0, 255, 255, 0))).main_colors[0][0] == "red"


def test_an_animation_is_counted_and_its_first_frame_seen():
    frames = [Image.new("RGB", (10, 10), color) for color in ("red", "blue", "green")]
    for kind in ("GIF", "WEBP"):
        out = io.BytesIO()
        frames[0].save(out, kind, save_all=True, append_images=frames[1:], lossless=True)
        seen = images.from_bytes(out.getvalue())
        assert "3 frames" in seen.describe("It")
        assert seen.main_colors[0][0] == "red"


@pytest.mark.parametrize("declared", ["image/jpeg", "image/PNG", "", "None", "application/octet-stream"])
def test_a_wrong_declared_type_is_accepted_and_named(see, uri, encoded, declared):
    text = said(see(uri(encoded("PNG"), declared)))
    assert ("declared" in text) == (declared.lower() != "image/png")


@pytest.mark.parametrize(
    "address",
    [
        "https://example.com/cat.jpg",
        "file:///etc/passwd",
        "",
        "data:",
        "data:image/png,rawtext",
        "data:image/png;base64",
        "data:image/png;base64,",
        "data:image/png;base64,????",
        "data:image/png;base64,aGk",
        "data:image/png;base64,aG k=",
        "data:image/png;base64,aGVsbG8gd29ybGQ=",
        "data:image/png;base64,é",
        "data:" + "x" * 1000 + ";base64,aGk=",
    ],
)
def test_what_is_not_a_data_uri_of_an_image_is_refused(see, address):
    reply = see(address)
    assert reply.status == 400
    assert reply.body["error"].startswith("messages[0].content[1].image_url.url: ")
    assert len(reply.body["error"]) < 300


def test_bare_base64_is_refused(see, encoded):
    reply = see(base64.b64encode(encoded()).decode())
    assert reply.status == 400
    assert "data URI" in reply.body["error"]


@pytest.mark.parametrize(
    "image",
    [
        "text",
        None,
        [],
        {},
        {"url": None},
        {"url": 5},
        {"url": "data:", "detail": "huge"},
        {"url": "data:", "detail": None},
    ],
)
def test_a_malformed_image_part_is_refused(ask, image):
    messages = [{"role": "user", "content": [{"type": "image_url", "image_url": image}]}]
    reply = ask({"model": "Qwen2.5-VL-7B-Instruct", "messages": messages})
    assert reply.status == 400
    assert "messages[0].content[0].image_url" in reply.body["error"]


@pytest.mark.parametrize("detail", ["auto", "low", "high"])
def test_detail_is_taken(ask, uri, encoded, detail):
    part = {"type": "image_url", "image_url": {"url": uri(encoded()), "detail": detail}}
    messages = [{"role": "user", "content": [part]}]
    assert ask({"model": "Qwen2.5-VL-7B-Instruct", "messages": messages}).status == 200


@pytest.mark.parametrize("kind", list(TYPES))
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_image_is_refused(kind, share):
    out = io.BytesIO()
    Image.effect_noise((200, 200), 80).convert("RGB").save(out, kind)
    data = out.getvalue()
    with pytest.raises(ServiceError) as caught:
        images.from_bytes(data[: int(len(data) * share)])
    assert "corrupt" in caught.value.text or "not a" in caught.value.text


@pytest.mark.parametrize("data", [b"%PDF-1.7", b"BM" + b"\0" * 60, b"II*\0" + b"\0" * 60, b"<svg/>", b"\xff\xd8\xff"])
def test_other_types_are_refused(data):
    with pytest.raises(ServiceError):
        images.from_bytes(data)


@pytest.mark.filterwarnings("ignore:(Corrupt EXIF data|Tag data larger):UserWarning")  # of Pillow
def test_damaged_bytes_never_raise_anything_else(encoded):
    dice = random.Random(7)
    for kind in TYPES:
        whole = encoded(kind, (64, 48), **({"exif": exif(6)} if kind != "GIF" else {}))
        for _ in range(150):
            data = bytearray(whole)
            for _ in range(dice.randrange(1, 6)):
                data[dice.randrange(len(data))] = dice.randrange(256)
            with contextlib.suppress(ServiceError):
                assert images.from_bytes(bytes(data)).format


def test_an_image_with_too_many_pixels_is_refused_by_its_header():
    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    with pytest.raises(ServiceError) as caught:
        images.from_bytes(data)
    assert "20000 x 20000" in caught.value.text
    assert "100000000" in caught.value.text


def test_without_pillow_only_the_type_is_named(encoded, monkeypatch):
    data = encoded("JPEG")
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    monkeypatch.setitem(sys.modules, "PIL", None)
    text = images.from_bytes(data).describe("The image")
    assert text.startswith("The image is a JPEG.")
    assert 'pip install "predictionguard-integrations[sandbox]"' in text


def test_an_aspect_ratio_of_200_is_refused_as_qwen_does(see, uri, encoded):
    reply = see(uri(encoded(size=(1, 200))))
    assert reply.status == 400
    assert "absolute aspect ratio must be smaller than 200, got 200.0" in reply.body["error"]


def test_answers_about_images_say_that_no_model_was_asked(see, uri, encoded):
    assert said(see(uri(encoded()))).endswith("This is a sandbox: rules made this answer, no AI model was asked.")


def test_a_text_model_takes_no_image(ask, uri, encoded):
    part = {"type": "image_url", "image_url": {"url": uri(encoded())}}
    reply = ask({"model": "gpt-oss-120b", "messages": [{"role": "user", "content": [part]}]})
    assert reply.status == 400
    assert "gpt-oss-120b" in reply.body["error"]
    assert "image" in reply.body["error"]


def test_at_most_sixteen_images(see, uri, encoded):
    address = uri(encoded())
    assert "Image 16" in said(see(*[address] * 16))
    reply = see(*[address] * 17)
    assert reply.status == 400
    assert reply.body == {"error": "At most 16 image(s) may be provided in one request."}


def test_an_image_in_a_tool_message_is_refused(ask, uri, encoded):
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    part = {"type": "image_url", "image_url": {"url": uri(encoded())}}
    messages = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": [part]},
    ]
    reply = ask({"model": "Qwen2.5-VL-7B-Instruct", "messages": messages})
    assert reply.status == 400
    assert "messages[2].content[0]" in reply.body["error"]


def test_larger_images_count_more_tokens_up_to_a_limit(see, uri, encoded):
    counts = [
        see(uri(encoded("PNG", size))).body["usage"]["prompt_tokens"]
        for size in ((28, 28), (280, 280), (1400, 1400), (2800, 2800))
    ]
    assert counts[0] < counts[1] < counts[2] == counts[3]
    assert counts[1] - counts[0] == 99


def test_a_list_of_objects_has_one_for_each_image(see, uri, encoded):
    color = {"type": "object", "properties": {"name": {}, "share": {"type": "number"}}, "required": ["name", "share"]}
    photo = {
        "type": "object",
        "properties": {"colors": {"type": "array", "items": color}, "width": {"type": "integer"}, "caption": {}},
        "required": ["colors", "width", "caption"],
    }
    fields = {"photos": {"type": "array", "items": photo}, "height": {"type": "integer"}}
    parameters = {"type": "object", "properties": fields, "required": list(fields)}
    tool = {"type": "function", "function": {"name": "Report", "parameters": parameters}}
    reply = see(uri(encoded()), uri(encoded(size=(7, 9), color="blue")), tools=[tool], tool_choice="required")
    call = reply.body["choices"][0]["message"]["tool_calls"][0]["function"]
    made = json.loads(call["arguments"])
    first, second = made["photos"]
    assert made["height"] == 20
    assert (first["width"], first["colors"]) == (40, [{"name": "red", "share": 1.0}])
    assert (second["width"], second["colors"]) == (7, [{"name": "blue", "share": 1.0}])
    assert "7 x 9 pixels" in second["caption"]


def test_images_fill_fields_of_a_forced_tool(see, uri, encoded):
    fields = {
        "dominant_colors": {"type": "array", "items": {"type": "string"}},
        "width": {"type": "integer"},
        "height_px": {"type": "integer"},
        "format": {"type": "string", "enum": ["PNG", "JPEG"]},
        "orientation": {"type": "string", "enum": ["landscape", "portrait", "square"]},
        "is_dark": {"type": "boolean"},
    }
    parameters = {"type": "object", "properties": fields, "required": list(fields)}
    tool = {"type": "function", "function": {"name": "Photo", "parameters": parameters}}
    reply = see(uri(encoded("JPEG", (90, 60), "navy"), "image/jpeg"), tools=[tool], tool_choice="required")
    call = reply.body["choices"][0]["message"]["tool_calls"][0]["function"]
    assert json.loads(call["arguments"]) == {
        "dominant_colors": ["navy"],
        "width": 90,
        "height_px": 60,
        "format": "JPEG",
        "orientation": "landscape",
        "is_dark": True,
    }
