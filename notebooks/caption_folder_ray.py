"""Write captions or vectors of a folder of images into Parquet files, with Ray Data. Copy it and adapt it.

    python caption_folder_ray.py IMAGES OUT                  one caption per image
    python caption_folder_ray.py IMAGES OUT --embed          one vector per image
    python caption_folder_ray.py IMAGES OUT --workers 8 --at-once 32 --prompt "What is for sale here?"

It needs `ray[data]`, `tqdm`, and this project with its extras `langchain` and `images`. Without PREDICTIONGUARD_API_KEY
the sandbox answers.

- **Run it again** after a crash, with new images, or to retry failures. What has its answer is not requested again, no
  image has two rows, and no half-written file is read: a file gets its name when it is complete. A crash costs the
  batches in work, one per worker. An image is identified by its path below IMAGES. For another prompt or model, use
  another OUT.
- **An image that fails** gets a row with the class and the text of the error. A wrong key, a service that is down, and
  a batch that is refused as a whole stop the job.
- **The key** is read by each worker from its environment, and is in no pickle. A Ray on this machine passes on the
  environment that it was started in. On a cluster (--address), set PREDICTIONGUARD_API_KEY on its nodes: Ray writes
  `runtime_env` into its logs. IMAGES and OUT must be on a file system that all nodes share.
- **Load**: at most workers × at-once requests are open. If the service answers 429, each waits as long as it says.
- **Memory**: only names and counts go between processes; an image is in memory while it is being sent.
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
from predictionguard_core.sandbox import use_if_no_key

PROMPT = "Describe this image in one sentence."
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".heic", ".avif"}
# Errors that every other image would get, too, and errors that are not the fault of an image.
HOPELESS = (core.ConfigurationError, core.AuthenticationError, core.NotFoundError)
OF_THE_SERVICE = (core.APIConnectionError, core.InvalidResponseError, core.RateLimitError, core.ServerError)
ENOUGH = 10  # if a batch of this many images is refused as a whole, the next one will be, too


class Captions:
    """A worker that takes a batch of names, asks about each image and writes one file."""

    column, kind, capability = "caption", pa.string(), "chat-with-image"
    together = 1  # images in one request
    adapter: Any = ChatPredictionGuard

    def __init__(self, folder: Path, desk: Path, model: str, prompt: str, at_once: int) -> None:
        self.folder, self.desk, self.model, self.prompt = folder, desk, model, prompt
        # Created in the worker, which has the key. One event loop for all batches, so that connections are reused.
        self.asked = self.adapter(model=model, max_retries=6, images=ImagePolicy(local_roots=[folder]))
        self.loop = asyncio.Runner()
        self.slots = asyncio.Semaphore(at_once)
        self.stop = ""  # the error that ended the job

    async def ask(self, paths: list[Path]) -> list[Any]:
        """Return an answer for each image of one request."""
        question = [{"type": "text", "text": self.prompt}, {"type": "image", "url": str(paths[0])}]
        return [(await self.asked.ainvoke([HumanMessage(question)])).text]

    def __call__(self, batch: pa.Table) -> pa.Table:
        names = batch["image"].to_pylist()
        part = self.desk.parent / f"part-{hashlib.sha256(repr(names).encode()).hexdigest()[:20]}.parquet"
        failed = 0
        try:
            # It exists if a worker died after writing it, and Ray gave the batch to another.
            if not part.exists() and not self.stop:
                write(self.table(names, self.loop.run(self.answers(names))), part, self.desk)
        except core.PredictionGuardError as error:
            self.stop = f"{type(error).__name__}: {error}"
        if not self.stop:
            failed = len(names) - pq.read_table(part, columns=["error"])["error"].null_count
        return pa.table({"done": [len(names) - failed], "failed": [failed], "stop": [self.stop]})

    async def answers(self, names: list[str]) -> list[Any]:
        """Return an answer for each name, or its error."""
        paths = [self.folder / name for name in names]
        try:
            async with asyncio.TaskGroup() as tasks:
                groups = [paths[start : start + self.together] for start in range(0, len(paths), self.together)]
                asked = [tasks.create_task(self.ask_or_fail(group)) for group in groups]
        except ExceptionGroup as errors:  # one of HOPELESS; the others are cancelled
            raise errors.exceptions[0] from None
        answers = [answer for task in asked for answer in task.result()]
        refused = [each for each in answers if isinstance(each, Exception) and not isinstance(each, core.ContentError)]
        if len(refused) >= ENOUGH and all(isinstance(answer, Exception) for answer in answers):
            raise refused[-1]
        return answers

    async def ask_or_fail(self, paths: list[Path]) -> list[Any]:
        async with self.slots:
            try:
                return await self.ask(paths)
            except HOPELESS:
                raise
            except core.PredictionGuardError as error:
                failure = error
        if len(paths) == 1 or isinstance(failure, OF_THE_SERVICE):
            return [failure] * len(paths)
        return [answer for path in paths for answer in await self.ask_or_fail([path])]  # one of them is the cause

    def table(self, names: list[str], answers: list[Any]) -> pa.Table:
        errors = [answer if isinstance(answer, Exception) else None for answer in answers]
        columns = {
            "image": pa.array(names, pa.string()),
            self.column: pa.array([None if isinstance(each, Exception) else each for each in answers], self.kind),
            "error": pa.array([type(error).__name__ if error else None for error in errors], pa.string()),
            "message": pa.array([str(error) if error else None for error in errors], pa.string()),
            "model": pa.array([self.model] * len(names), pa.string()),
        }
        return pa.table(columns)


class Vectors(Captions):
    """A worker that stores a vector for each image."""

    column, kind, capability = "vector", pa.list_(pa.float32()), "embedding-with-image"
    together = 16
    adapter = PredictionGuardEmbeddings

    async def ask(self, paths: list[Path]) -> list[Any]:
        """Return a vector for each image of one request."""
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
    """Ask about each image below `folder` that has no answer in `out` yet, and return a summary."""
    if not folder.is_dir() or min(workers, at_once, batch) < 1:
        raise ValueError("folder must exist; workers, at_once and batch must be at least 1")
    folder, out = folder.resolve(), out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    with alone(out) as desk:
        names, others = images(folder)
        missing = sorted(names - finished(desk, worker.column))
        failed = 0
        if missing:
            models = [model] if model else [each.id for each in core.Client().models(worker.capability)]
            if not models:
                raise RuntimeError(f"the account has no model for {worker.capability}")
            with started(address, workers):
                blocks = [pa.table({"image": missing[at : at + batch]}) for at in range(0, len(missing), batch)]
                batches = ray.data.from_arrow(blocks).map_batches(
                    worker,
                    fn_constructor_args=(folder, desk, models[0], prompt, at_once),
                    batch_size=None,
                    batch_format="pyarrow",
                    compute=ray.data.ActorPoolStrategy(size=min(workers, len(blocks))),
                )
                with tqdm(total=len(missing), unit=" images", file=sys.stdout) as bar:
                    for each in batches.iter_rows():
                        if each["stop"]:
                            raise RuntimeError(f"stopped: {each['stop']}")
                        failed += each["failed"]
                        bar.update(each["done"] + each["failed"])
    return (
        f"{len(names)} images: {len(missing) - failed} done now, {len(names) - len(missing)} done before, "
        f"{failed} failed ({others} other files)"
    )


def images(folder: Path) -> tuple[set[str], int]:
    """Return the names of the images below a folder, and the number of other files."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    names = {path.relative_to(folder).as_posix() for path in files if path.suffix.lower() in SUFFIXES}
    names = {name for name in names if name.isprintable() and not name.rpartition("/")[2].startswith(".")}
    return names, len(files) - len(names)


def finished(desk: Path, column: str) -> set[str]:
    """Return the names that have their answer. Rows of failures are removed, so that their images are tried again."""
    done: set[str] = set()
    for part in sorted(desk.parent.glob("*.parquet")):
        if column not in pq.read_schema(part).names:
            raise RuntimeError(f"{part} has no column {column!r}: captions and vectors need folders of their own")
        rows = pq.read_table(part, columns=["image", "error"])
        good = rows["error"].is_null()
        if rows["error"].null_count < len(rows):
            write(pq.read_table(part).filter(good), part, desk)
        done.update(rows["image"].filter(good).to_pylist())
    return done


def write(rows: pa.Table, part: Path, desk: Path) -> None:
    """Write a file that gets its name when all of it is on the disk."""
    with open(desk / part.name, "wb") as file:
        pq.write_table(rows, file)
        file.flush()
        os.fsync(file.fileno())
    (desk / part.name).replace(part)
    if not len(rows):
        part.unlink()


@contextlib.contextmanager
def alone(out: Path) -> Iterator[Path]:
    """Lock `out` against other runs, and create a folder below it for files in progress."""
    with open(out / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError(f"another run is writing to {out}") from None
        for old in out.glob(".run-*"):  # of a run that was killed; its workers can no longer finish a file
            shutil.rmtree(old.rename(out / f".gone-{uuid.uuid4().hex}"))
        desk = out / f".run-{uuid.uuid4().hex}"
        desk.mkdir()
        yield desk
        shutil.rmtree(desk)


@contextlib.contextmanager
def started(address: str, workers: int) -> Iterator[None]:
    """Use the Ray that is running, or start one and stop it at the end."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # so workers do not need this file
    if ray.is_initialized():
        yield
        return
    start_ray(address, workers)
    try:
        yield
    finally:
        ray.shutdown()


def start_ray(address: str = "local", workers: int = 2) -> None:
    """Start a small Ray on this machine, or connect to a cluster. Ray's messages go to its log files only."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal", "RAY_IGNORE_UNHANDLED_ERRORS": "1"}
    ray.data.DataContext.get_current().enable_progress_bars = False  # our own bar counts images
    for handler in [*logging.getLogger("ray").handlers, *logging.getLogger("ray.data").handlers]:
        if isinstance(handler, logging.StreamHandler):
            handler.setLevel(logging.CRITICAL)
    settings: dict[str, Any] = {"log_to_driver": False}
    if address == "local":
        settings |= {"num_cpus": workers, "object_store_memory": 100 * 2**20, "include_dashboard": False}
    stderr = os.dup(2)  # some messages do not come from Python
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        ray.init(address, **settings)
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Captions or vectors of a folder of images, into Parquet.")
    parser.add_argument("photos", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--embed", action="store_true", help="vectors in place of captions")
    parser.add_argument(
        "--model", default=os.environ.get("PREDICTIONGUARD_MODEL"), help="default: the account's first one"
    )
    parser.add_argument("--prompt", default=PROMPT)
    parser.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--at-once", type=int, default=16, help="open requests per worker (default: 16)")
    parser.add_argument("--batch", type=int, default=256, help="images in one file (default: 256)")
    parser.add_argument("--address", default="local", help="a Ray cluster's, or auto (default: a Ray of this machine)")
    options = vars(parser.parse_args(arguments))
    folder, out, embed = options.pop("photos"), options.pop("out"), options.pop("embed")
    use_if_no_key()
    try:
        print(run(folder, out, Vectors if embed else Captions, **options))
    except (core.PredictionGuardError, OSError, RuntimeError, ValueError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; run it again to continue")


if __name__ == "__main__":
    main()
