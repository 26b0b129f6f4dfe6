"""Asks a vision model about a photograph, once through LangChain and once through LlamaIndex.

    python notebooks/demo.py [PHOTO] [QUESTION]

PHOTO is a file, or the public http(s) address of one.

With PREDICTIONGUARD_API_KEY set (and PREDICTIONGUARD_URL, if it is not the public service) it asks there, else the
sandbox, a stand-in that looks at pictures by simple rules. PREDICTIONGUARD_MODEL chooses the model; the default is the
first that the account has for pictures.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from langchain_core.messages import HumanMessage
from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock

from langchain_predictionguard import ChatPredictionGuard
from llama_index_predictionguard import PredictionGuard
from predictionguard_core import Client, ConfigurationError, Image, PredictionGuardError
from predictionguard_core.sandbox import Sandbox

PHOTO = Path(__file__).parent / "photos" / "coffee.jpg"
QUESTION = "What is in this picture?"


def main(photo: str, question: str) -> None:
    """Ask both, and print what they say."""
    if photo.lower().startswith(("http://", "https://")):
        url, block = photo, ImageBlock(url=photo)
        print(f"Photograph  {photo}")
    else:
        picture = Image.open(Path(photo))
        url, block = picture.data_uri, ImageBlock(path=Path(photo))
        size = f"{picture.size[0]} x {picture.size[1]} pixels"
        print(f"Photograph  {os.path.relpath(photo)}: {picture.media_type}, {size}")
    print(f"Question    {question}")
    with contextlib.ExitStack() as stack:
        where = {}
        if not os.environ.get("PREDICTIONGUARD_API_KEY"):
            where = {"api_key": "sandbox", "base_url": stack.enter_context(Sandbox()).url}
        with Client(**where) as client:
            print(f"Service     {'the sandbox: PREDICTIONGUARD_API_KEY is not set' if where else client.base_url}")
            model = os.environ.get("PREDICTIONGUARD_MODEL") or first_that_sees(client)
            print(f"Model       {model}")

        chat = ChatPredictionGuard(model, **where)
        parts = [{"type": "text", "text": question}, {"type": "image", "url": url}]
        answer = chat.invoke([HumanMessage(parts)])
        print(f"\nLangChain says:\n  {answer.text}")
        print(f"  ({answer.usage_metadata['total_tokens']} tokens)" if answer.usage_metadata else "")

        llm = PredictionGuard(model=model, **where)
        blocks = [TextBlock(text=question), block]
        response = llm.chat([ChatMessage(role="user", blocks=blocks)])
        print(f"LlamaIndex says:\n  {response.message.content}")


def first_that_sees(client: Client) -> str:
    """The name of the account's first model for pictures."""
    models = client.models("chat-with-image")
    if not models:
        raise ConfigurationError("this account has no model for pictures; name one in PREDICTIONGUARD_MODEL")
    return models[0].id


if __name__ == "__main__":
    photo, question = (*sys.argv[1:], "", "")[:2]
    try:
        main(photo or str(PHOTO), question or QUESTION)
    except PredictionGuardError as error:
        sys.exit(f"\n{type(error).__name__}: {error}")
