"""Where LlamaIndex keeps a picture: in blocks, nodes and documents. Only recognised here, never read."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path
from typing import Any

from llama_index.core.base.llms.types import DocumentBlock, ImageBlock
from llama_index.core.schema import BaseNode, ImageDocument, ImageNode, MediaResource, Node, NodeWithScore

from predictionguard_core.api.chat import ImagePart, ImageURL, Part, TextPart
from predictionguard_core.errors import ImageFormatError, UnsupportedContentError
from predictionguard_core.images.detect import sniff
from predictionguard_core.images.sources import Base64, sniff_base64

Picture = ImageBlock | ImageNode | Node | NodeWithScore

_HEAD = 64
_SCHEME = 16

_reading = threading.Lock()


class FromStart:
    """An open file that is read from its start each time and left where it stood, as a message may be sent again."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def read(self, count: int) -> Any:
        """At most `count` bytes."""
        if not self._file.seekable():
            return self._file.read(count)
        with _reading:
            stood = self._file.tell()
            self._file.seek(0)
            try:
                return self._file.read(count)
            finally:
                self._file.seek(stood)


def block_source(block: ImageBlock | DocumentBlock) -> Any:
    """The source that a block names. Raises `ImageFormatError` if it names none.

    A document is a source like any other: a PDF becomes pictures of its pages, and the bytes tell which it is.
    """
    image: Any = block.image if isinstance(block, ImageBlock) else block.data
    if isinstance(image, bytes) and image:
        # A validated block holds base64; one that was changed afterwards may hold a picture's own bytes.
        return image if sniff(image[:_HEAD]) else Base64(image)
    if isinstance(image, io.BytesIO):
        return image.getvalue()
    if isinstance(image, str) and image:
        return image if is_data_uri(image) else Base64(image)
    if isinstance(image, bytearray | memoryview):
        return bytes(image)
    if hasattr(image, "read"):
        return FromStart(image)
    if image:
        raise ImageFormatError(f"a block's image is bytes, base64 or an open file, not {_name(image)}")
    if block.path:
        if not isinstance(block.path, str | os.PathLike):
            raise ImageFormatError(f"a block's path is a path, not {_name(block.path)}")
        return Path(block.path)
    if block.url is not None:  # not its truth, for which a pydantic URL copies itself, picture and all
        return str(block.url)
    raise ImageFormatError("the block holds no picture: give it an image, a path or a url")


def image_source(given: Any) -> Any:
    """The source of a picture as LlamaIndex hands it to an embedding model: a node, a block, an open file, or text.

    Text that is no data URI, address or base64 is a file's path here: that is how LlamaIndex hands paths over.
    Raises `ImageFormatError` for None or a block, and `UnsupportedContentError` for a node, that holds no picture.
    """
    if isinstance(given, ImageBlock):
        return block_source(given)
    if isinstance(given, BaseNode | NodeWithScore):
        return _node_source(given.node if isinstance(given, NodeWithScore) else given)
    if isinstance(given, io.BytesIO):
        return given.getvalue()
    if hasattr(given, "read"):
        return FromStart(given)
    if isinstance(given, os.PathLike):
        return Path(given)
    if given is None:
        raise ImageFormatError("None is no picture: give a path, an open file, bytes, an address or base64")
    if not isinstance(given, str) or not given.strip():
        return given
    if is_data_uri(given) or "://" in given[:_SCHEME]:
        return given
    return Base64(given) if sniff_base64(given) else Path(given)


def is_data_uri(text: str) -> bool:
    """Whether a text begins as a data URI does; blanks may go before it."""
    return text.lstrip()[:5].lower() == "data:"


def is_picture(node: Any) -> bool:
    """Whether a node holds a picture and no text."""
    if isinstance(node, ImageNode):
        return bool(node.image or node.image_path or node.image_url) and not node.text
    return isinstance(node, Node) and node.image_resource is not None and not node.get_content()


def document_parts(document: Any) -> list[Part]:
    """A node's or document's text, if it has any, and its picture.

    A path in its fields is a path; one in `metadata["file_path"]` counts only below `ImagePolicy.local_roots`.
    Raises `UnsupportedContentError` for a node with no picture.
    """
    node: Any = document.node if isinstance(document, NodeWithScore) else document
    source = _node_source(node)
    text = node.text if isinstance(node, ImageNode) else (node.text_resource.text if node.text_resource else None)
    image = ImagePart.model_construct(image_url=ImageURL.model_construct(url=source))
    return [TextPart(text=text), image] if text else [image]


def _node_source(node: Any) -> Any:
    if isinstance(node, ImageNode):
        source = _source(node.image, node.image_path, node.image_url)
    elif isinstance(node, Node):
        _refuse_other_media(node)
        resource = node.image_resource or MediaResource()
        source = _source(resource.data, resource.path, resource.url)
    else:
        raise UnsupportedContentError(
            f"a picture is an ImageNode, ImageDocument or ImageBlock, not {_name(node)}; a file is ImageBlock(path=...)"
        )
    if not source and isinstance(node, ImageNode | ImageDocument) and node.metadata.get("file_path"):
        source = str(node.metadata["file_path"])  # as text, it is a path only where the policy says so
    if not source:
        raise UnsupportedContentError(f"this {_name(node)} holds no picture")
    return source


def _source(image: str | bytes | None, path: str | Path | None, url: Any) -> Any:
    if image:
        return image if isinstance(image, str) and is_data_uri(image) else Base64(image)
    if path:
        return Path(path)
    return None if url is None else str(url)


def _refuse_other_media(node: Node) -> None:
    for name in ("audio", "video"):
        if getattr(node, f"{name}_resource", None) is not None:
            raise UnsupportedContentError(f"the endpoint takes text and pictures, no {name}")


def _name(node: object) -> str:
    return type(node).__name__
