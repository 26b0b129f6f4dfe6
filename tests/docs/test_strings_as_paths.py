"""The table "When a string is a path" in docs/images.md."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from llama_index.core.llms import ChatMessage, ImageBlock
from llama_index.core.schema import ImageNode

from langchain_predictionguard import ChatPredictionGuard, PredictionGuardEmbeddings
from llama_index_predictionguard import PredictionGuard, PredictionGuardEmbedding, PredictionGuardMultiModal
from predictionguard_core import Image, ImagePolicy, PredictionGuardError
from predictionguard_core.sandbox import Sandbox

VISION, EMBEDDING = "Qwen2.5-VL-7B-Instruct", "bridgetower-large-itm-mlm-itc"
DATA_URI, BASE64, PATH, ROOTED = "data URI", "base64", "path", "path below local_roots"
ALL = {DATA_URI, BASE64, PATH, ROOTED}


def test_when_a_string_is_a_path(sandbox: Sandbox, photos: Path) -> None:
    path = str(photos / "cat.jpg")
    uri = Image.open(path).data_uri
    plain, rooted = ImagePolicy(), ImagePolicy(local_roots=[photos])
    found = {
        name: {
            kind
            for kind, text, policy in (
                (DATA_URI, uri, plain),
                (BASE64, uri.partition(",")[2], plain),
                (PATH, path, plain),
                (ROOTED, path, rooted),
            )
            if is_accepted(call, text, {"api_key": "any", "base_url": sandbox.url, "images": policy})
        }
        for name, call in CALLS.items()
    }
    assert found == {
        "block's url": ALL - {PATH},
        "block's image_url": ALL - {PATH},
        "block's base64": {DATA_URI, BASE64},
        "embed_images": ALL - {PATH},
        "embed_image_text": ALL - {PATH},
        "embed_image": ALL,
        "ImageBlock.url": {DATA_URI},
        "ImageBlock.image": {DATA_URI, BASE64},
        "ImageBlock.path": {PATH, ROOTED},
        "ImageNode.image_url": ALL - {PATH},
        "ImageNode.image": {DATA_URI, BASE64},
        "ImageNode.image_path": {PATH, ROOTED},
        "metadata of ImageNode": ALL - {PATH},
        "get_image_embedding": ALL,
        "Image.open": ALL,
    }


def is_accepted(call: Callable[[str, dict[str, Any]], Any], text: str, options: dict[str, Any]) -> bool:
    try:
        call(text, options)
    except (PredictionGuardError, ValueError, OSError):
        return False
    return True


def ask_langchain(block: dict[str, Any], options: dict[str, Any]) -> None:
    ChatPredictionGuard(VISION, **options).invoke([{"role": "user", "content": [block]}])


def ask_llama_index(block: ImageBlock, options: dict[str, Any]) -> None:
    PredictionGuard(VISION, **options).chat([ChatMessage(role="user", blocks=[block])])


def ask_about_node(node: ImageNode, options: dict[str, Any]) -> None:
    PredictionGuardMultiModal(VISION, **options).complete("What is this?", [node])


def embeddings(options: dict[str, Any]) -> PredictionGuardEmbeddings:
    return PredictionGuardEmbeddings(EMBEDDING, **options)


CALLS: dict[str, Callable[[str, dict[str, Any]], Any]] = {
    "block's url": lambda text, options: ask_langchain({"type": "image", "url": text}, options),
    "block's image_url": lambda text, options: ask_langchain(
        {"type": "image_url", "image_url": {"url": text}}, options
    ),
    "block's base64": lambda text, options: ask_langchain(
        {"type": "image", "base64": text, "mime_type": "image/jpeg"}, options
    ),
    "embed_images": lambda text, options: embeddings(options).embed_images([text]),
    "embed_image_text": lambda text, options: embeddings(options).embed_image_text([{"image": text}]),
    "embed_image": lambda text, options: embeddings(options).embed_image(uris=[text]),
    "ImageBlock.url": lambda text, options: ask_llama_index(ImageBlock(url=text), options),
    "ImageBlock.image": lambda text, options: ask_llama_index(ImageBlock(image=text), options),
    "ImageBlock.path": lambda text, options: ask_llama_index(ImageBlock(path=text), options),
    "ImageNode.image_url": lambda text, options: ask_about_node(ImageNode(image_url=text), options),
    "ImageNode.image": lambda text, options: ask_about_node(ImageNode(image=text), options),
    "ImageNode.image_path": lambda text, options: ask_about_node(ImageNode(image_path=text), options),
    "metadata of ImageNode": lambda text, options: ask_about_node(ImageNode(metadata={"file_path": text}), options),
    "get_image_embedding": lambda text, options: PredictionGuardEmbedding(EMBEDDING, **options).get_image_embedding(
        text
    ),
    "Image.open": lambda text, options: Image.open(text),
}
