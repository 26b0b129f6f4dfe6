"""A program prints nothing at exit: no warning about open sockets or pending coroutines, whatever it left open."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.endurance.conftest import Echo

ROOT = Path(__file__).parents[2]
BEGINNING = """
import asyncio, logging, sys, threading
from predictionguard_core import AsyncClient, ChatRequest, Client
# On a busy machine asyncio's debug mode remarks on how long something took.
logging.getLogger("asyncio").addFilter(lambda record: not record.getMessage().startswith("Executing"))
url = sys.argv[1]
HELLO = ChatRequest(model="m", messages="marker-7")
client, async_client = Client("key", url), AsyncClient("key", url)
endless, endless_async = Client("key", url + "/endless"), AsyncClient("key", url + "/endless")
"""
PROGRAMS = {
    "sync": "client.chat(HELLO); list(client.stream(HELLO))",
    "sync, never closed, in a cycle": "a = [client]; a.append(a); client.chat(HELLO)",
    "a stream that is left": "chunks = endless.stream(HELLO); next(chunks)",
    "a stream that is left in a cycle": "a = [endless.stream(HELLO)]; a.append(a); next(a[0]); del a",
    "async": """
async def main():
    await async_client.chat(HELLO)
    return [each async for each in async_client.stream(HELLO)]
for _ in range(3):
    asyncio.run(main())
""",
    "an asynchronous stream that is left": """
async def main():
    chunks = endless_async.stream(HELLO)
    await anext(chunks)
    return chunks
kept = asyncio.run(main())
""",
    "an asynchronous stream that is left as its loop ends": """
async def main():
    async for each in endless_async.stream(HELLO): break
for _ in range(3):
    asyncio.run(main())
""",
    "tasks that are left": """
async def main():
    async def read():
        async for _ in endless_async.stream(HELLO): pass
    tasks = [asyncio.create_task(read()) for _ in range(5)]
    await async_client.chat(HELLO)
asyncio.run(main())
""",
    "a loop that was closed by hand": """
async def main():
    await async_client.chat(HELLO)
    await async_client.aclose()
loop = asyncio.new_event_loop()
loop.run_until_complete(main())
loop.close()
""",
    "both, and an error": """
asyncio.run(async_client.chat(HELLO)); client.chat(HELLO)
kept = endless.stream(HELLO); next(kept)
sys.exit(0)
""",
    "a daemon thread in the midst of a stream": """
begun = threading.Event()
def read():
    for _ in endless.stream(HELLO): begun.set()
threading.Thread(target=read, daemon=True).start()
begun.wait()
""",
    "adapters": """
from langchain_predictionguard import ChatPredictionGuard
from llama_index.core.llms import ChatMessage
from llama_index_predictionguard import PredictionGuard
chat, llm = ChatPredictionGuard("m", api_key="key", base_url=url), PredictionGuard("m", api_key="key", base_url=url)
chat.invoke("marker-7"); llm.complete("marker-7")
async def main():
    await chat.ainvoke("marker-7"); await llm.acomplete("marker-7")
    async for each in chat.astream("marker-7"): break
    async for each in await llm.astream_complete("marker-7"): break
async def chatting():
    async for each in await llm.astream_chat([ChatMessage("marker-7")]): break
for each in (main, chatting, main):
    asyncio.run(each())
for each in chat.stream("marker-7"): break
for each in llm.stream_complete("marker-7"): break
""",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_ends_without_output(name: str, echo: Echo) -> None:
    command = [sys.executable, "-X", "dev", "-W", "error::ResourceWarning", "-W", "error::RuntimeWarning"]
    if name == "adapters":  # frameworks warn of their own accord when they are imported
        command += ["-W", "ignore::DeprecationWarning", "-W", "ignore::UserWarning"]
    done = subprocess.run(
        [*command, "-c", BEGINNING + PROGRAMS[name], echo.url], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
