"""Names of colors: the nearest sample in OKLab, a space in which distance is close to what eyes see.

OKLab's matrices are those of its definition (Björn Ottosson, 2020); the samples are this module's own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache

_SAMPLES = {
    "red": "ff0000 e01818 d02020 f03030 c8102e e8403a",
    "dark red": "8b0000 700c0c 5a1010 a01818 6e1423",
    "orange": "ff8000 ff9a20 f07818 e8701a ffa540 ff6a1a d85a28 c85024 e06838",
    "brown": "8b4513 7a4a24 6b4226 95602f a0522d 8a5a3c 7d5a40",
    "dark brown": "3a2010 4a2c16 2e1a0e 402818 352015 503020",
    "tan": "d2b48c c8a06c b8905c c49a6c b08a60 d2a679 bc9870",
    "beige": "f5f5dc e8d8b8 f0e0c0 e6d2b5 dcc8a4 f5e6c8",
    "yellow": "ffff00 ffe020 f0e040 ffd700 fff060 e8d030",
    "gold": "d4a017 c9981e daa520 b8860b e0ac30",
    "olive": "808000 6b6b20 7a7a30 555520 8a8440 606838",
    "green": "00a000 208a20 30b030 2e8b40 40a040 00c000 50a860 5a9a3c 00ff00",
    "dark green": "004000 0a5020 1c4a1c 2a4a28 003818 344a2c",
    "light green": "90ee90 a8e0a0 b8e8b0 a0d880 c0e8c0 98d0a0",
    "lime": "a0e020 80ff00 b8f020 c0ff40 90d830",
    "teal": "008080 107878 208088 2a7a78 006868 1a5c60",
    "turquoise": "40e0d0 30c8c0 00ffff 50d8d8 20d0c0 60d0c8",
    "light blue": "add8e6 a0c8f0 b0d0f0 87ceeb 90c0e8 b8d8f0 a8c4e0",
    "blue": "0000ff 2040e0 3060d0 1e60c8 2870c0 4070d0 1838b8 4682c4 1e90ff 3a6aa8",
    "navy": "000080 101848 0a1a50 182858 1a2a60 0c1230 203060",
    "slate blue": "5a7090 486080 607a98 70869e 4a5a78",
    "purple": "800080 7020a0 6a1b9a 8030b0 602080 5a2878 9040c0 8a2be2",
    "lavender": "c8a2e8 d0b8f0 b8a0e0 c8b8e8 e0d0f8 b39ddb",
    "magenta": "ff00ff e020c0 d81b90 f030d0 c71585 e0208c",
    "pink": "ffc0cb ffa0c0 f8b0c8 ff90b0 f4a6b8 ffd0d8 e890a8 ff69b4",
    "salmon": "fa8072 f09080 e88878 e9967a ffa08c d88070",
}
_GREYS = ((0.22, "black"), (0.43, "dark grey"), (0.72, "grey"), (0.915, "light grey"), (2.0, "white"))


def lab(red: int, green: int, blue: int) -> tuple[float, float, float]:
    """Return the OKLab values of an sRGB color of 0 to 255 a channel: lightness 0 to 1, then two axes around 0."""
    r, g, b = (_linear(value) for value in (red, green, blue))
    long = (0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b) ** (1 / 3)
    medium = (0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b) ** (1 / 3)
    short = (0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b) ** (1 / 3)
    return (
        0.2104542553 * long + 0.7936177850 * medium - 0.0040720468 * short,
        1.9779984951 * long - 2.4285922050 * medium + 0.4505937099 * short,
        0.0259040371 * long + 0.7827717662 * medium - 0.8086757660 * short,
    )


def _linear(value: int) -> float:
    share = value / 255
    return float(share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4)


_POINTS = [(*lab(*bytes.fromhex(sample)), name) for name, samples in _SAMPLES.items() for sample in samples.split()]


@lru_cache(maxsize=65536)
def color_name(red: int, green: int, blue: int) -> str:
    """Return the name of an sRGB color of 0 to 255 a channel."""
    light, a, b = lab(red, green, blue)
    chroma = (a * a + b * b) ** 0.5
    # The darker or the nearer to white a color is, the more chroma eyes ask for before they call it one.
    if chroma < 0.026 + max(0.0, 0.35 - light) * 0.12 or light < 0.16:
        return next(word for limit, word in _GREYS if light < limit)
    return min(
        _POINTS, key=lambda point: 0.8 * (light - point[0]) ** 2 + 1.6 * ((a - point[1]) ** 2 + (b - point[2]) ** 2)
    )[3]


def shares(counted: Iterable[tuple[int, tuple[int, int, int]]]) -> tuple[list[tuple[str, float]], float]:
    """Return names with their shares of the whole, largest first, and the mean lightness, 0 to 1.

    `counted` holds pairs of a count and an sRGB color.
    """
    sums: dict[str, int] = defaultdict(int)
    total, light = 0, 0.0
    for number, color in counted:
        sums[color_name(*color)] += number
        light += number * lab(*color)[0]
        total += number
    ranked = sorted(sums.items(), key=lambda item: (-item[1], item[0]))
    return [(word, number / total) for word, number in ranked], light / total if total else 0.0
