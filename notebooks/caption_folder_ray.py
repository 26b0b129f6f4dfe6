"""Captions for a folder of pictures, or vectors of them, into Parquet, with Ray Data. Copy it and make it yours.

    python caption_folder_ray.py PHOTOS OUT                  one caption a picture
    python caption_folder_ray.py PHOTOS OUT --embed          one vector a picture
    python caption_folder_ray.py PHOTOS OUT --workers 8 --at-once 32 --prompt "What is for sale here?"

It needs `ray[data]`, `tqdm`, and this project with its extras `langchain` and `images`. Where PREDICTIONGUARD_API_KEY is
not set, the sandbox answers. What you can rely on:

- **Run it again** after a crash, with new pictures, or to give failures another try. What has its answer is not asked
  for again, no picture ever has two rows, and no half of a file is read as a whole one: a file gets its name when it is
  finished. A crash costs the batches that are being worked on, one a worker. A picture is known by its path below
  PHOTOS; for another prompt or model, choose another OUT.
- **A picture that fails** gets a row with the error's class and text. A wrong key, a service that is down, and a batch
  that is refused as a whole stop the job.
- **The key** is read by each worker from its environment, and is in no pickle. A Ray on this machine hands on the
  environment it is started in. On a cluster (--address), set PREDICTIONGUARD_API_KEY on its nodes: what is given as
  `runtime_env` Ray writes into its logs. PHOTOS and OUT then lie on a file system that all nodes share.
- **Load**: at most workers × at-once requests are open. Where the service answers 429, each waits as long as it is told.
- **Memory**: what goes between processes is names and counts; a picture is in memory while it is being sent.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import hashlib
import logging
import os
import shutil
import sys
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.data
from langchain_core.messages import HumanMessage
from tqdm import tqdm

import predictionguard_core as core
from langchain_predictionguard import ChatPredictionGuard, ImagePolicy, PredictionGuardEmbeddings
from predictionguard_core.sandbox import Sandbox

PROMPT = "Describe this picture in one sentence."
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".heic", ".avif"}
# What the next picture would meet, too; and what is no picture's fault.
HOPELESS = (core.ConfigurationError, core.AuthenticationError, core.NotFoundError)
OF_THE_SERVICE = (core.APIConnectionError, core.InvalidResponseError, core.RateLimitError, core.ServerError)
ENOUGH = 10  # where so many pictures are all refused, the next will be, too


class Captions:
    """A worker: takes a batch of names, asks about each picture, writes one file."""

    column, kind, capability = "caption", pa.string(), "chat-with-image"
    together = 1  # pictures in one request
    adapter: Any = ChatPredictionGuard

    def __init__(self, folder: Path, desk: Path, model: str, prompt: str, at_once: int) -> None:
        self.folder, self.desk, self.model, self.prompt = folder, desk, model, prompt
        # Made in the worker, where the key is. One event loop for good, so that connections last from batch to batch.
        self.asked = self.adapter(model=model, max_retries=6, images=ImagePolicy(local_roots=[folder]))
        self.loop = asyncio.Runner()
        self.slots = asyncio.Semaphore(at_once)
        self.stop = ""  # why nothing more is asked

    async def ask(self, paths: list[Path]) -> list[Any]:
        """An answer for each picture of one request."""
        question = [{"type": "text", "text": self.prompt}, {"type": "image", "url": str(paths[0])}]
        return [(await self.asked.ainvoke([HumanMessage(question)])).text]

    def __call__(self, batch: pa.Table) -> pa.Table:
        names = batch["picture"].to_pylist()
        part = self.desk.parent / f"part-{hashlib.sha256(repr(names).encode()).hexdigest()[:20]}.parquet"
        failed = 0
        try:
            # It is there if a worker died after writing it, and Ray gives the batch to another.
            if not part.exists() and not self.stop:
                write(self.table(names, self.loop.run(self.answers(names))), part, self.desk)
        except core.PredictionGuardError as error:
            self.stop = f"{type(error).__name__}: {error}"
        if not self.stop:
            failed = len(names) - pq.read_table(part, columns=["error"])["error"].null_count
        return pa.table({"done": [len(names) - failed], "failed": [failed], "stop": [self.stop]})

    async def answers(self, names: list[str]) -> list[Any]:
        """For each name an answer, or the error that came in its place."""
        paths = [self.folder / name for name in names]
        try:
            async with asyncio.TaskGroup() as tasks:
                groups = [paths[start : start + self.together] for start in range(0, len(paths), self.together)]
                asked = [tasks.create_task(self.tried(group)) for group in groups]
        except ExceptionGroup as errors:  # a hopeless one: the others are cancelled
            raise errors.exceptions[0] from None
        answers = [answer for task in asked for answer in task.result()]
        refused = [each for each in answers if isinstance(each, Exception) and not isinstance(each, core.ContentError)]
        if len(refused) >= ENOUGH and all(isinstance(answer, Exception) for answer in answers):
            raise refused[-1]
        return answers

    async def tried(self, paths: list[Path]) -> list[Any]:
        async with self.slots:
            try:
                return await self.ask(paths)
            except HOPELESS:
                raise
            except core.PredictionGuardError as error:
                failure = error
        if len(paths) == 1 or isinstance(failure, OF_THE_SERVICE):
            return [failure] * len(paths)
        return [answer for path in paths for answer in await self.tried([path])]  # one of them is to blame

    def table(self, names: list[str], answers: list[Any]) -> pa.Table:
        errors = [answer if isinstance(answer, Exception) else None for answer in answers]
        columns = {
            "picture": pa.array(names, pa.string()),
            self.column: pa.array([None if isinstance(each, Exception) else each for each in answers], self.kind),
            "error": pa.array([type(error).__name__ if error else None for error in errors], pa.string()),
            "message": pa.array([str(error) if error else None for error in errors], pa.string()),
            "model": pa.array([self.model] * len(names), pa.string()),
        }
        return pa.table(columns)


class Vectors(Captions):
    """The same, with a vector for each picture."""

    column, kind, capability = "vector", pa.list_(pa.float32()), "embedding-with-image"
    together = 16
    adapter = PredictionGuardEmbeddings

    async def ask(self, paths: list[Path]) -> list[Any]:
        """A vector for each picture of one request."""
        return await self.asked.aembed_images(paths)


def run(
    folder: Path,
    out: Path,
    worker: type[Captions] = Captions,
    *,
    model: str | None = None,
    prompt: str = PROMPT,
    workers: int = 2,
    at_once: int = 16,
    batch: int = 256,
    address: str = "local",
) -> str:
    """Ask about each picture below `folder` that has no answer in `out` yet. Returns what was done, in a sentence."""
    if not folder.is_dir() or min(workers, at_once, batch) < 1:
        raise ValueError("give a folder that is there, and 1 or more for workers, at_once and batch")
    folder, out = folder.resolve(), out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    with alone(out) as desk:
        names, others = pictures(folder)
        missing = sorted(names - finished(desk, worker.column))
        failed = 0
        if missing:
            models = [model] if model else [each.id for each in core.Client().models(worker.capability)]
            if not models:
                raise RuntimeError(f"the account has no model for {worker.capability}")
            with started(address, workers):
                blocks = [pa.table({"picture": missing[at : at + batch]}) for at in range(0, len(missing), batch)]
                batches = ray.data.from_arrow(blocks).map_batches(
                    worker,
                    fn_constructor_args=(folder, desk, models[0], prompt, at_once),
                    batch_size=None,
                    batch_format="pyarrow",
                    compute=ray.data.ActorPoolStrategy(size=min(workers, len(blocks))),
                )
                with tqdm(total=len(missing), unit=" pictures", file=sys.stdout) as bar:
                    for each in batches.iter_rows():
                        if each["stop"]:
                            raise RuntimeError(f"stopped: {each['stop']}")
                        failed += each["failed"]
                        bar.update(each["done"] + each["failed"])
    return (
        f"{len(names)} pictures: {len(missing) - failed} done now, {len(names) - len(missing)} done before, "
        f"{failed} failed ({others} other files)"
    )


def pictures(folder: Path) -> tuple[set[str], int]:
    """The names of the pictures below a folder, and how many other files there are."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    names = {path.relative_to(folder).as_posix() for path in files if path.suffix.lower() in SUFFIXES}
    names = {name for name in names if name.isprintable() and not name.rpartition("/")[2].startswith(".")}
    return names, len(files) - len(names)


def finished(desk: Path, column: str) -> set[str]:
    """The names that have their answer. Rows of failures are taken out: their pictures are asked about again."""
    done: set[str] = set()
    for part in sorted(desk.parent.glob("*.parquet")):
        if column not in pq.read_schema(part).names:
            raise RuntimeError(f"{part} has no column {column!r}: captions and vectors need folders of their own")
        rows = pq.read_table(part, columns=["picture", "error"])
        good = rows["error"].is_null()
        if rows["error"].null_count < len(rows):
            write(pq.read_table(part).filter(good), part, desk)
        done.update(rows["picture"].filter(good).to_pylist())
    return done


def write(rows: pa.Table, part: Path, desk: Path) -> None:
    """A file that gets its name when all of it is on the disk."""
    with open(desk / part.name, "wb") as file:
        pq.write_table(rows, file)
        file.flush()
        os.fsync(file.fileno())
    (desk / part.name).replace(part)
    if not len(rows):
        part.unlink()


@contextlib.contextmanager
def alone(out: Path) -> Iterator[Path]:
    """A folder below `out` for what is being written, and nobody else at it."""
    with open(out / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError(f"another run is writing to {out}") from None
        for old in out.glob(".run-*"):  # of a run that was killed: what its workers still write gets no name any more
            shutil.rmtree(old.rename(out / f".gone-{uuid.uuid4().hex}"))
        desk = out / f".run-{uuid.uuid4().hex}"
        desk.mkdir()
        yield desk
        shutil.rmtree(desk)


@contextlib.contextmanager
def started(address: str, workers: int) -> Iterator[None]:
    """The Ray that runs already, else one for as long as it is needed."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers need not have this file
    if ray.is_initialized():
        yield
        return
    start_ray(address, workers)
    try:
        yield
    finally:
        ray.shutdown()


def start_ray(address: str = "local", workers: int = 2) -> None:
    """A small Ray of this machine, or the cluster at an address; what it says goes into its log files only."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal", "RAY_IGNORE_UNHANDLED_ERRORS": "1"}
    ray.data.DataContext.get_current().enable_progress_bars = False  # the bar here counts pictures
    for handler in [*logging.getLogger("ray").handlers, *logging.getLogger("ray.data").handlers]:
        if isinstance(handler, logging.StreamHandler):
            handler.setLevel(logging.CRITICAL)
    options: dict[str, Any] = {"log_to_driver": False}
    if address == "local":
        options |= {"num_cpus": workers, "object_store_memory": 100 * 2**20, "include_dashboard": False}
    said = os.dup(2)  # some it writes past Python
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        ray.init(address, **options)
    finally:
        os.dup2(said, 2)
        os.close(said)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Captions or vectors of a folder of pictures, into Parquet.")
    parser.add_argument("photos", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--embed", action="store_true", help="vectors in place of captions")
    parser.add_argument("--model", default=os.environ.get("PREDICTIONGUARD_MODEL"), help="default: the account's first")
    parser.add_argument("--prompt", default=PROMPT)
    parser.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--at-once", type=int, default=16, help="requests that a worker has open (default: 16)")
    parser.add_argument("--batch", type=int, default=256, help="pictures in one file (default: 256)")
    parser.add_argument("--address", default="local", help="a Ray cluster's, or auto (default: a Ray of this machine)")
    given = vars(parser.parse_args(arguments))
    folder, out, embed = given.pop("photos"), given.pop("out"), given.pop("embed")
    with contextlib.ExitStack() as stack:
        if not os.environ.get("PREDICTIONGUARD_API_KEY"):
            box = stack.enter_context(Sandbox())
            os.environ |= {"PREDICTIONGUARD_API_KEY": "sandbox", "PREDICTIONGUARD_URL": box.url}
            print("PREDICTIONGUARD_API_KEY is not set: the sandbox answers")
        try:
            print(run(folder, out, Vectors if embed else Captions, **given))
        except (core.PredictionGuardError, OSError, RuntimeError, ValueError) as error:
            sys.exit(f"{type(error).__name__}: {error}")
        except KeyboardInterrupt:
            sys.exit("interrupted; run again, it goes on where it stood")


if __name__ == "__main__":
    main()
