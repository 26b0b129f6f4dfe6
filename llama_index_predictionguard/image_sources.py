"""Finds the image in LlamaIndex's blocks, nodes and documents. No file or URL is read here."""

from __future__ import annotations

import binascii
import os
from pathlib import Path
from typing import Any

from llama_index.core.base.llms.types import DocumentBlock, ImageBlock
from llama_index.core.schema import BaseNode, ImageDocument, ImageNode, MediaResource, Node, NodeWithScore

from predictionguard_core.api.chat import ImagePart, ImageURL, Part, TextPart
from predictionguard_core.errors import ImageFormatError, UnsupportedContentError
from predictionguard_core.images.detect import sniff
from predictionguard_core.images.sources import Base64, sniff_base64

ImageLike = ImageBlock | ImageNode | Node | NodeWithScore

_HEAD = 64
_LONGEST_SCHEME = 16
_LONGEST_SUFFIX = 6
_MAX_SHOWN = 40


def block_source(block: ImageBlock | DocumentBlock) -> Any:
    """Return the image source of a block. Raises `ImageFormatError` if it has none.

    A document is a source too: its bytes say whether it is a PDF, which becomes images of its pages.
    """
    image: Any = block.image if isinstance(block, ImageBlock) else block.data
    if isinstance(image, bytes) and image:
        # A validated block holds base64; one that was assigned to afterwards may hold the bytes of an image.
        return image if sniff(image[:_HEAD]) else _from_base64(image)
    if isinstance(image, str) and image:
        return image if is_data_uri(image) else _from_base64(image)
    if image:
        return image
    if block.path:
        if not isinstance(block.path, str | os.PathLike):
            raise ImageFormatError(f"the block's path must be a string or a path, not {_name(block.path)}")
        return Path(block.path)
    if block.url is not None:  # `if block.url` would copy a pydantic URL, image included
        return str(block.url)
    raise ImageFormatError("the block has no image: set image, path or url")


def image_source(image: Any) -> Any:
    """Return the source of an image to embed: a node, a block, a file, bytes or a string.

    A string that is no data URI, URL or base64 is the path of a file, as in LlamaIndex itself.
    Raises `ImageFormatError` for None or an empty block, and `UnsupportedContentError` for a node without an image.
    """
    if isinstance(image, ImageBlock):
        return block_source(image)
    if isinstance(image, BaseNode | NodeWithScore):
        return _node_source(image.node if isinstance(image, NodeWithScore) else image)
    if image is None:
        raise ImageFormatError("None is not an image: pass a path, an open file, bytes, a URL or base64")
    if not isinstance(image, str) or not image.strip():
        return image
    if is_data_uri(image) or "://" in image[:_LONGEST_SCHEME]:
        return image
    return Base64(image) if sniff_base64(image) else Path(image)


def is_data_uri(text: str) -> bool:
    """Return whether a string begins as a data URI does, after any white space."""
    return text.lstrip()[:5].lower() == "data:"


def is_image_node(node: Any) -> bool:
    """Return whether a node holds an image and no text."""
    if isinstance(node, ImageNode):
        return bool(node.image or node.image_path or node.image_url) and not node.text
    return isinstance(node, Node) and node.image_resource is not None and not node.get_content()


def document_parts(document: Any) -> list[Part]:
    """Return the text of a node or document, if it has any, and its image.

    A path in `metadata["file_path"]` is read only below `ImagePolicy.local_roots`.
    Raises `UnsupportedContentError` for a node without an image.
    """
    node: Any = document.node if isinstance(document, NodeWithScore) else document
    source = _node_source(node) if isinstance(node, BaseNode) else _from_argument(node)
    text = None
    if isinstance(node, ImageNode):
        text = node.text
    elif isinstance(node, Node) and node.text_resource:
        text = node.text_resource.text
    image = ImagePart(image_url=ImageURL(url=source))
    return [TextPart(text=text), image] if text else [image]


def _from_argument(image: Any) -> Any:
    if image is None or isinstance(image, str):
        raise UnsupportedContentError(
            f"an image is an ImageBlock, ImageNode or ImageDocument, not {_name(image)}; for a file, pass "
            "ImageBlock(path=...)"
        )
    return image


def _node_source(node: Any) -> Any:
    if isinstance(node, ImageNode):
        source = _field_source(node.image, node.image_path, node.image_url)
    elif isinstance(node, Node):
        for name in ("audio", "video"):
            if getattr(node, f"{name}_resource", None) is not None:
                raise UnsupportedContentError(f"the service accepts text and images, not {name}")
        resource = node.image_resource or MediaResource()
        source = _field_source(resource.data, resource.path, resource.url)
    else:
        source = None
    if not source and isinstance(node, ImageNode | ImageDocument) and node.metadata.get("file_path"):
        source = str(node.metadata["file_path"])  # a string is a path only where the policy allows it
    if not source:
        raise UnsupportedContentError(f"this {_name(node)} has no image")
    return source


def _field_source(image: str | bytes | None, path: str | Path | None, url: Any) -> Any:
    if image:
        return image if isinstance(image, str) and is_data_uri(image) else _from_base64(image)
    if path:
        return Path(path)
    return None if url is None else str(url)


def _from_base64(text: str | bytes) -> Any:
    """Return the source for base64 text. Raises `ImageFormatError` for a path or a URL in its place.

    LlamaIndex encodes `ImageBlock(image=str)` once more if the string is not base64, or has line breaks.
    """
    if isinstance(text, str) and "." in text[-_LONGEST_SUFFIX:]:
        raise ImageFormatError(_not_base64(text))
    try:
        head = binascii.a2b_base64(text[:_HEAD])
    except (binascii.Error, ValueError):
        return Base64(text)
    is_uri = head.lstrip()[:5].lower() == b"data:"
    if is_uri or sniff_base64(head.decode("latin-1")):
        inner = binascii.a2b_base64(text).decode("latin-1")
        return inner if is_uri else Base64(inner)
    if head.isascii() and head.decode().isprintable() and not head.startswith(b"<"):  # "<": SVG has an error of its own
        raise ImageFormatError(_not_base64(head.decode()))
    return Base64(text)


def _not_base64(text: str) -> str:
    return (
        f"image must be bytes or base64, got {text[:_MAX_SHOWN]!r}. For a file pass path=..., for a URL url=... (in an "
        "ImageNode or ImageDocument: image_path=..., image_url=...)"
    )


def _name(value: object) -> str:
    return type(value).__name__
