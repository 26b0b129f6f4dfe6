"""Files that a stranger might send to hurt the process that decodes them: small to send, large to decode.

    python -m tests.core.images.hostile

opens each with the default policy (and `max_edge=1000`) in a process of its own, and prints seconds, megabytes and the
error as a table.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from io import BytesIO

from PIL import Image

PAGE = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R /Resources << %s >> >>"


def pdf(page: bytes, *streams: tuple[bytes, bytes]) -> bytes:
    """Return a PDF of one page. The streams, each with entries of its dictionary, are the objects 4, 5, ..."""
    bodies = [b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>", page]
    bodies += [b"<< %s /Length %d >> stream\n%s\nendstream" % (more, len(data), data) for more, data in streams]
    out, offsets = b"%PDF-1.7\n", []
    for number, body in enumerate(bodies, 1):
        offsets.append(len(out))
        out += b"%d 0 obj %s endobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    count = len(bodies) + 1
    return out + b"xref\n0 %d\n0000000000 65535 f \n%strailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (
        count, table, count, len(out)
    )  # fmt: skip


FORM = b"/Type /XObject /Subtype /Form /BBox [0 0 612 792] /Resources << %s >>"


def form_that_draws_itself() -> bytes:
    names = b"/XObject << /F 5 0 R >>"
    return pdf(PAGE % names, (b"", b"/F Do"), (FORM % names, b"/F Do /F Do"))


def forms_in_forms() -> bytes:
    """Ten levels, each drawn ten times by the one above."""
    streams = [(b"", b"/F Do")]
    streams += [(FORM % (b"/XObject << /F %d 0 R >>" % (6 + level)), b"/F Do " * 10) for level in range(10)]
    streams.append((FORM % b"", b"0 0 600 700 re f " * 100))
    return pdf(PAGE % b"/XObject << /F 5 0 R >>", *streams)


def many_paths() -> bytes:
    """Five million curves, which compress to half a megabyte."""
    curves = zlib.compress(b"0 0 m 600 700 1 2 300 400 c 5 w S " * 2_000_000, 9)
    return pdf(PAGE % b"", (b"/Filter /FlateDecode", curves))


def nested_arrays() -> bytes:
    return pdf(PAGE % b"", (b"", b"[" * 1_000_000))


def large_image_in_pdf() -> bytes:
    entries = b"/Type /XObject /Subtype /Image /Width 30000 /Height 30000 /BitsPerComponent 8 /ColorSpace /DeviceRGB"
    data = zlib.compress(zlib.compress(bytes(100_000_000), 9), 9)
    return pdf(
        PAGE % b"/XObject << /I 5 0 R >>",
        (b"", b"600 0 0 700 0 0 cm /I Do"),
        (entries + b" /Filter [/FlateDecode /FlateDecode]", data),
    )


def wide_page() -> bytes:
    return pdf(b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9000000 9000000] /Contents 4 0 R >>", (b"", b""))


def jpeg_of_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan is repeated. It is marked as rotated, so it has to be decoded."""
    out = BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (7000, 7000), 128).save(out, "JPEG", progressive=True, exif=exif.tobytes())
    data = out.getvalue()
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * count + b"\xff\xd9"


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_bomb(width: int, height: int, depth: int, color: int, row: int) -> bytes:
    """A PNG of zeros, with text chunks that unpack to a gigabyte. It is marked as rotated."""
    deflate = zlib.compressobj(9)
    data = b"".join(deflate.compress(bytes(row)) for _ in range(height)) + deflate.flush()
    text = b"a\0\0" + zlib.compress(bytes(50_000_000), 9)
    turned = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)), (b"eXIf", turned)]
    chunks += [(b"zTXt", text)] * 20 + [(b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*each) for each in chunks)


def tiff_of_pages(count: int, size: tuple[int, int] = (8, 8), **options: object) -> bytes:
    out = BytesIO()
    pages = [Image.new("1", size, 1) for _ in range(count)]
    pages[0].save(out, "TIFF", save_all=True, append_images=pages[1:], **options)
    return out.getvalue()


def tiff_in_a_ring() -> bytes:
    """The directory's successor is itself."""
    entries = b"".join(struct.pack("<HHII", tag, 3, 1, value) for tag, value in ((256, 9), (257, 9)))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", 2) + entries + struct.pack("<I", 8)


def tiff_of_lzw() -> bytes:
    out = BytesIO()
    Image.new("L", (7000, 7000)).save(out, "TIFF", compression="tiff_lzw")
    return out.getvalue()


def gif_of_frames() -> bytes:
    head = b"GIF89a" + struct.pack("<HHBBB", 7000, 7000, 0x80, 0, 0) + bytes(6)
    frame = b"," + struct.pack("<HHHHB", 0, 0, 7000, 7000, 0) + b"\2\2\x44\1\0"
    return head + frame * 50_000 + b";"


def webp_animation() -> bytes:
    out = BytesIO()
    frames = [Image.new("RGB", (4000, 4000), (shade, 0, 0)) for shade in (0, 60, 120, 180, 240)]
    frames[0].save(out, "WEBP", save_all=True, append_images=frames[1:], lossless=True, method=0)
    return out.getvalue()


FILES: dict[str, Callable[[], bytes]] = {
    "PDF: a form that draws itself": form_that_draws_itself,
    "PDF: forms in forms, 10^10 drawings": forms_in_forms,
    "PDF: 2 million curves": many_paths,
    "PDF: a million nested arrays": nested_arrays,
    "PDF: an image of 900 megapixels": large_image_in_pdf,
    "PDF: a page of 9 million points": wide_page,
    "JPEG: 49 megapixels, 900 scans": lambda: jpeg_of_scans(900),
    "JPEG: 49 megapixels, 20,000 scans": lambda: jpeg_of_scans(20_000),
    "PNG: 49 megapixels of 16-bit RGBA": lambda: png_bomb(7000, 7000, 16, 6, 7000 * 8 + 1),
    "PNG: 49 megapixels of 16-bit gray": lambda: png_bomb(7000, 7000, 16, 0, 7000 * 2 + 1),
    "TIFF: 17 pages": lambda: tiff_of_pages(17),
    "TIFF: 2,000 pages": lambda: tiff_of_pages(2000),
    "TIFF: 16 pages of Group 4, 49 megapixels each": lambda: tiff_of_pages(16, (7000, 7000), compression="group4"),
    "TIFF: a directory that follows itself": tiff_in_a_ring,
    "TIFF: 49 megapixels of LZW": tiff_of_lzw,
    "GIF: 50,000 frames": gif_of_frames,
    "WebP: an animation of 16 megapixels": webp_animation,
}

MEASURE = """
import json, resource, sys, time
from predictionguard_core import Image, ImagePolicy, PredictionGuardError
from predictionguard_core.images import decoder
data = sys.stdin.buffer.read()
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
started, error = time.monotonic(), ""
try:
    Image.open(data, ImagePolicy(max_edge=1000, **json.loads(sys.argv[1])))
except PredictionGuardError as caught:
    error = f"{type(caught).__name__}: {caught}"
seconds = time.monotonic() - started
decoder._pool.close()
with open("/proc/self/status") as status:  # ru_maxrss is inherited from the process before exec
    own = int(next(line for line in status if line.startswith("VmHWM")).split()[1]) // 1024
child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
print(json.dumps({"seconds": seconds, "own": own, "child": child, "error": error}))
"""


def measure(data: bytes, **policy: float) -> dict[str, float | str]:
    """Open a file in a process with a memory limit of its own."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, json.dumps(policy)], input=data, capture_output=True, check=True
    )
    found: dict[str, float | str] = json.loads(done.stdout)
    return found


def rows() -> Iterator[str]:
    """Yield the lines of a table in Markdown."""
    yield "| file | bytes | seconds | MB of the process | MB of the decoder | error |"
    yield "|---|---|---|---|---|---|"
    for name, make in FILES.items():
        data = make()
        found = measure(data)
        numbers = f"{len(data):,} | {found['seconds']:.1f} | {found['own']} | {found['child']}"
        yield f"| {name} | {numbers} | {found['error']} |"


if __name__ == "__main__":
    for line in rows():
        print(line, flush=True)  # noqa: T201
