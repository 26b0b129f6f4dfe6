"""Measure how many images per second `caption_folder_ray.py` captions, and what limits it.

    python fleet_throughput.py                 the service answers after 0.1 s
    python fleet_throughput.py --seconds 2     after 2 s

A local server waits and always gives the same answer, so only this side is measured. The last column is what the
waiting alone would allow. If the rate is near it, the service is the limit, and more open requests help. If the rate is
far below, this machine is the limit. The images are copies of one photo of 60 kB.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import shutil
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path

import caption_folder_ray
import ray

PHOTO = Path(__file__).parent / "photos" / "coffee.jpg"
CHOICE = {"index": 0, "message": {"role": "assistant", "content": "A cup of espresso."}, "finish_reason": "stop"}
ANSWER = {"id": "chat-1", "object": "chat.completion", "created": 1727889823, "model": "m", "choices": [CHOICE]}
MODELS = {"object": "list", "data": [{"id": "m", "object": "model", "created": 1727889823}]}
BATCHES = 5  # per worker; the first one is the start of the measurement
ROUNDS = 8  # requests in sequence per batch


def serve(seconds: float, tell: Connection) -> None:
    """Run the server, in a process of its own."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
                await reader.readexactly(int(fields.get(b"content-length", 0)))
                asked = head.startswith(b"POST")
                await asyncio.sleep(seconds if asked else 0)
                body = json.dumps(ANSWER if asked else MODELS).encode()
                head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
                writer.write(head + body)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def main() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0, limit=2**20, backlog=1024)
        tell.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


def images_per_second(workers: int, at_once: int) -> float:
    """Return images per second, counted from the moment when each worker has written its first file."""
    batch = at_once * ROUNDS
    with tempfile.TemporaryDirectory() as folder:
        photos, out = Path(folder, "photos"), Path(folder, "out")
        photos.mkdir()
        for number in range(workers * BATCHES * batch):
            shutil.copy(PHOTO, photos / f"{number:06}.jpg")
        caption_folder_ray.run(photos, out, workers=workers, at_once=at_once, batch=batch)
        times = sorted(part.stat().st_mtime for part in out.glob("*.parquet"))
    return batch * (len(times) - workers) / (times[-1] - times[workers - 1])


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Images per second for numbers of workers and open requests.")
    parser.add_argument("--seconds", type=float, default=0.1, help="duration of an answer (default: 0.1)")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--at-once", type=int, nargs="+", default=[4, 16, 64], help="open requests of each worker")
    options = parser.parse_args()
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(options.seconds, there), daemon=True)
    server.start()
    os.environ |= {"PREDICTIONGUARD_API_KEY": "any", "PREDICTIONGUARD_URL": f"http://127.0.0.1:{here.recv()}"}
    caption_folder_ray.start_ray(workers=max(options.workers))
    lines = ["| workers | open requests of each | images per second | the waiting alone allows |", "|---|---|---|---|"]
    for workers in options.workers:
        for at_once in options.at_once:
            ideal = workers * at_once / options.seconds
            lines.append(f"| {workers} | {at_once} | {images_per_second(workers, at_once):.0f} | {ideal:.0f} |")
    ray.shutdown()
    server.terminate()
    print("\n".join(lines))


if __name__ == "__main__":
    main()
