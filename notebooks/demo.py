"""Ask a vision model about an image, through LangChain and through LlamaIndex.

    python notebooks/demo.py [IMAGE] [QUESTION]

IMAGE is an image file, a PDF file, or a public http(s) URL. With PREDICTIONGUARD_API_KEY set (and PREDICTIONGUARD_URL,
if it is not the public service) the real service answers, else a mock on this machine, which has no AI model.
PREDICTIONGUARD_MODEL selects the model; the default is the first one of the account that accepts images.
"""

from __future__ import annotations

import base64
import os
import sys
from pathlib import Path
from typing import Any

from langchain_core.messages import HumanMessage
from llama_index.core.llms import ChatMessage, DocumentBlock, ImageBlock, TextBlock

from langchain_predictionguard import ChatPredictionGuard
from llama_index_predictionguard import PredictionGuard
from predictionguard_core import (
    AuthenticationError,
    Client,
    ConfigurationError,
    Image,
    ImageBlockedError,
    ImageFetchError,
    ImageFormatError,
    ImageTooLargeError,
    PredictionGuardError,
    UnsupportedContentError,
)
from predictionguard_core.sandbox import use_if_no_key

PHOTO = Path(__file__).parent / "photos" / "coffee.jpg"
QUESTION = "What is in this image?"


def main(image: str, question: str) -> None:
    """Ask through both frameworks, and print the answers."""
    langchain_block, llama_index_block, description = read(image)
    print(f"Image     {description}")
    print(f"Question  {question}")
    sandbox = use_if_no_key()
    with Client() as client:
        model = os.environ.get("PREDICTIONGUARD_MODEL") or first_vision_model(client)
    print(f"Model     {model}{' (only its name: the sandbox has no AI model)' if sandbox else ''}")

    answer = ChatPredictionGuard(model).invoke([HumanMessage([{"type": "text", "text": question}, langchain_block])])
    tokens = f" ({answer.usage_metadata['total_tokens']} tokens)" if answer.usage_metadata else ""
    print(f"\nLangChain{tokens}:\n  {answer.text}")

    message = ChatMessage(role="user", blocks=[TextBlock(text=question), llama_index_block])
    print(f"\nLlamaIndex:\n  {PredictionGuard(model).chat([message]).message.content}")
    if sandbox:
        print("\nNo AI model was asked. Set PREDICTIONGUARD_API_KEY to ask a real one.")


def read(image: str) -> tuple[dict[str, Any], Any, str]:
    """Return the image as a block for LangChain, as one for LlamaIndex, and its description."""
    if image.lower().startswith(("http://", "https://")):
        return {"type": "image", "url": image}, ImageBlock(url=image), image
    path = Path(image).expanduser()
    if path.is_dir():
        raise ConfigurationError(f"{image} is a folder. Give one image file or PDF file")
    if not path.is_file():
        raise ConfigurationError(f"there is no file {image}. Give an image file, a PDF file or an http(s) URL")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{image} cannot be read: {error.strerror}") from None
    if b"%PDF-" in data[:1024]:
        block = {"type": "file", "base64": base64.b64encode(data).decode(), "mime_type": "application/pdf"}
        document = DocumentBlock(data=data, document_mimetype="application/pdf", title=path.name)
        return block, document, f"{image}: PDF, each page is converted to a JPEG image of 150 dots per inch"
    opened = Image.open(path)
    description = f"{image}: {opened.media_type}, {opened.size[0]} x {opened.size[1]} pixels"
    if opened.data != data:
        description += ", converted from the file"
    return {"type": "image", "url": opened.data_uri}, ImageBlock(path=path), description


def first_vision_model(client: Client) -> str:
    """Return the name of the account's first model that accepts images."""
    models = client.models("chat-with-image")
    if not models:
        raise ConfigurationError("this account has no model that accepts images. Name one in PREDICTIONGUARD_MODEL")
    return models[0].id


def advice(error: PredictionGuardError) -> str:
    """Return what to do about an error, for a user of the command line."""
    match error:
        case ImageBlockedError():
            return (
                "the demo downloads images from public http(s) hosts only. Download the image, and give its file name"
            )
        case ImageFetchError():
            return error.message
        case ImageFormatError() | UnsupportedContentError():
            return f"this file can't be sent: {error.message}"
        case ImageTooLargeError():
            # Without the advice for programs, such as "(ImagePolicy.max_pages)".
            message = error.message.partition(" (ImagePolicy")[0].replace("the policy allows", "at most")
            return f"{message}. Give a smaller file"
        case AuthenticationError():
            return "the service refused the key. Check PREDICTIONGUARD_API_KEY, or unset it to use the sandbox"
    return str(error)


if __name__ == "__main__":
    image, question = (*sys.argv[1:], "", "")[:2]
    try:
        main(image or os.path.relpath(PHOTO), question or QUESTION)
    except PredictionGuardError as error:
        sys.exit(f"\n{type(error).__name__}: {advice(error)}")
