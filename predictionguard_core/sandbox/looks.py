"""What the fields of a schema may ask about a picture, by their names."""

from __future__ import annotations

from collections.abc import Sequence

from predictionguard_core.sandbox.vision import Picture
from predictionguard_core.sandbox.words import parts, stem


def about(name: str, *topics: str) -> bool:
    """Whether a field's name has one of the words in it, in whatever form."""
    spoken = {stem(word) for word in parts(name)}
    return any(stem(topic) in spoken for topic in topics)


def field(
    name: str, picture: Picture, pictures: Sequence[Picture], colour: int | None = None
) -> str | int | float | None:
    """The value for a field of that name, or None if it asks for nothing that can be seen.

    `colour` is the place in the list of main colours if the field belongs to one of them.
    """
    width, height = picture.shown
    seen = picture.main_colours
    if about(name, "width"):
        return width
    if about(name, "height"):
        return height
    if seen and (about(name, "color") or (colour is not None and about(name, "name", "value", "label"))):
        return seen[min(colour or 0, len(seen) - 1)][0]
    if seen and about(name, "share", "percent", "percentage", "fraction", "proportion"):
        share = seen[min(colour or 0, len(seen) - 1)][1]
        return round(share * 100) if about(name, "percent", "percentage") else round(share, 2)
    if about(name, "orientation", "aspect", "shape"):
        return picture.shape
    if about(name, "brightness", "lightness", "tone"):
        return picture.brightness
    if about(name, "format", "type", "mime"):
        return picture.format
    if about(name, "size", "dimension", "resolution"):
        return f"{width} x {height} pixels"
    if about(name, "description", "caption", "summary", "describe"):
        return picture.describe("The image")
    return len(pictures) if about(name, "count") and about(name, "image", "picture", "photo") else None
