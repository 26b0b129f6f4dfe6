"""The recipe for a fleet, on a Ray of this machine: nothing is asked for twice, nothing is lost, nothing leaks."""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from langchain_predictionguard import PredictionGuardEmbeddings
from predictionguard_core import PermissionDeniedError
from predictionguard_core.sandbox import Sandbox
from predictionguard_core.sandbox.responses import Response

ray = pytest.importorskip("ray")
pq = pytest.importorskip("pyarrow.parquet")

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
sys.path.append(str(NOTEBOOKS))
recipe: Any = importlib.import_module("caption_folder_ray")

KEY = "sk-not-to-be-seen-anywhere"
BROKEN = "broken.jpg"
PATIENCE = 240  # seconds

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")]


class Service(Sandbox):
    """A sandbox whose responses a test can replace."""

    fault: Callable[[Any], Response | None] | None = None

    def _respond(self, call: Any) -> Response:
        instead = self.fault(call) if self.fault and call.method == "POST" else None
        return instead or super()._respond(call)


class Dying(recipe.Captions):
    """Ends its process when it has written its first file, as the kernel does where memory runs out."""

    def __call__(self, batch: Any) -> Any:
        answer = super().__call__(batch)
        mark = self.desk.parent / "died"
        if not mark.exists():
            mark.touch()
            os._exit(1)
        return answer


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with Service(api_key=KEY) as box:
        yield box


@pytest.fixture(scope="module")
def a_ray(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Ray whose workers find the key in their environment. Yields the folder of its logs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))  # it keeps a token there
        patch.setenv("PREDICTIONGUARD_API_KEY", KEY)
        patch.setenv("PREDICTIONGUARD_URL", service.url)
        for name in ("RAY_USAGE_STATS_ENABLED", "RAY_BACKEND_LOG_LEVEL", "RAY_IGNORE_UNHANDLED_ERRORS"):
            patch.setenv(name, "")  # put back afterwards
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        recipe.start_ray()
        yield Path(ray._private.worker._global_node.get_session_dir_path())
        ray.shutdown()


@pytest.fixture
def box(a_ray: Path, service: Service, monkeypatch: pytest.MonkeyPatch) -> Service:
    monkeypatch.setenv("PREDICTIONGUARD_API_KEY", KEY)
    monkeypatch.setenv("PREDICTIONGUARD_URL", service.url)
    service.fault = None
    service.clear()
    return service


@pytest.fixture
def folder(photos: Path, tmp_path: Path) -> Path:
    """Six images, one of them in a folder of its own, a broken one, and a text."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for name in ("astronaut.jpg", "cat.jpg", "coffee.jpg", "galaxies.jpg", "receipt.jpg"):
        shutil.copy(photos / name, folder)
    shutil.copy(photos / "photographer.jpg", folder / "more" / "Ünter uns #1.JPG")
    (folder / BROKEN).write_bytes((photos / "cat.jpg").read_bytes()[500:2500])
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def rows(out: Path) -> dict[str, dict[str, Any]]:
    """All rows by the image's name, which each has but once."""
    found = [row for part in out.glob("*.parquet") for row in pq.read_table(part).to_pylist()]
    named = {row["image"]: row for row in found}
    assert len(named) == len(found)
    return named


def many(folder: Path, photo: Path, count: int) -> None:
    folder.mkdir()
    for number in range(count):
        shutil.copy(photo, folder / f"{number:03}.jpg")


def test_new_files_are_added_to_results(a_ray: Path, box: Service, folder: Path, out: Path, photos: Path) -> None:
    said = recipe.run(folder, out, batch=3)
    assert said == "7 images: 6 done now, 0 done before, 1 failed (1 other files)"
    first = rows(out)
    assert first.keys() == {*(path.name for path in folder.glob("*.jpg")), "more/Ünter uns #1.JPG"}
    assert first[BROKEN]["caption"] is None
    assert first[BROKEN]["error"] == "ImageFormatError"
    assert "no known image type" in first[BROKEN]["message"]
    assert "600 x 400" in first["coffee.jpg"]["caption"]
    assert first["coffee.jpg"]["error"] is None
    assert first["coffee.jpg"]["model"] == "Qwen2.5-VL-7B-Instruct"
    assert len(box.requests) == 6  # what is no image was not sent

    box.clear()
    (out / ".run-0").mkdir()
    (out / ".run-0" / "part-0.parquet").write_bytes(b"PAR1 cut off")
    shutil.copy(photos / "phone_portrait.jpg", folder)
    shutil.copy(photos / "cat.jpg", folder / BROKEN)  # it was repaired
    assert recipe.run(folder, out) == "8 images: 2 done now, 6 done before, 0 failed (1 other files)"
    assert len(box.requests) == 2
    assert [path.name for path in out.iterdir() if path.suffix != ".parquet"] == [".lock"]
    assert "480 x 640" in rows(out)["phone_portrait.jpg"]["caption"]
    assert rows(out)[BROKEN]["error"] is None
    box.clear()
    assert recipe.run(folder, out).startswith("8 images: 0 done now, 8 done before, 0 failed")
    assert box.requests == []
    assert {name: row for name, row in rows(out).items() if name in first and name != BROKEN} == {
        name: row for name, row in first.items() if name != BROKEN
    }

    with pytest.raises(RuntimeError, match="folders of their own"):
        recipe.run(folder, out, recipe.Vectors)
    kept = [path for root in (a_ray, out) for path in root.rglob("*") if path.is_file()]
    assert len(kept) > 10
    assert [path for path in kept if KEY.encode() in path.read_bytes()] == []


def test_vectors_are_requested_in_batches(box: Service, folder: Path, out: Path) -> None:
    assert recipe.run(folder, out, recipe.Vectors).startswith("7 images: 6 done now, 0 done before, 1 failed")
    # The broken one spoiled the request that all were in: each was asked about for itself.
    assert [len(each["input"]) for each in box.requests] == [1] * 6
    assert rows(out)[BROKEN]["error"] == "ImageFormatError"
    embeddings = PredictionGuardEmbeddings("bridgetower-large-itm-mlm-itc")
    for name in ("cat.jpg", "more/Ünter uns #1.JPG"):
        assert rows(out)[name]["vector"] == pytest.approx(embeddings.embed_images([folder / name])[0])
    (folder / BROKEN).unlink()
    shutil.rmtree(out)
    box.clear()
    recipe.run(folder, out, recipe.Vectors)
    assert [len(each["input"]) for each in box.requests] == [6]


def test_results_survive_a_worker_that_dies(box: Service, folder: Path, out: Path) -> None:
    assert recipe.run(folder, out, Dying, batch=3, workers=1).startswith("7 images: 6 done now")
    assert (out / "died").exists()
    assert sum(row["caption"] is not None for row in rows(out).values()) == 6
    assert len(box.requests) == 6


def test_a_revoked_key_stops_the_job(
    box: Service, photos: Path, tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many(tmp_path / "photos", photos / "cat.jpg", 60)
    box.fault = lambda call: Response(403, {"error": "no more"})
    with pytest.raises(RuntimeError, match=r"stopped: PermissionDeniedError: no more"):
        recipe.run(tmp_path / "photos", out, batch=10, at_once=2, workers=1)
    assert 1 <= len(box.requests) <= 2
    assert rows(out) == {}
    monkeypatch.setenv("PREDICTIONGUARD_API_KEY", "wrong")
    with pytest.raises(PermissionDeniedError):  # before there is a Ray
        recipe.run(tmp_path / "photos", out)


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Response(503, {"error": "down"}, headers={"Retry-After": "0"}), "ServerError: down"),
        (Response(400, {"error": "no such model"}), "InvalidRequestError: no such model"),
    ],
    ids=["down", "refused"],
)
def test_the_job_stops_if_all_requests_fail(
    box: Service, photos: Path, tmp_path: Path, out: Path, reply: Response, error: str
) -> None:
    many(tmp_path / "photos", photos / "cat.jpg", 30)
    box.fault = lambda call: reply
    with pytest.raises(RuntimeError, match=f"stopped: {error}"):
        recipe.run(tmp_path / "photos", out)
    assert rows(out) == {}


def test_rate_limits_are_waited_for(box: Service, photos: Path, tmp_path: Path, out: Path) -> None:
    many(tmp_path / "photos", photos / "cat.jpg", 12)
    lock, refused = threading.Lock(), []

    def limit(call: Any) -> Response | None:
        with lock:
            if len(refused) >= 20:
                return None
            refused.append(time.monotonic())
        return Response(429, {"error": "too many"}, headers={"Retry-After": "1"})

    box.fault = limit
    assert recipe.run(tmp_path / "photos", out).startswith("12 images: 12 done now, 0 done before, 0 failed")
    assert len(box.requests) == 12 + 20
    assert refused[-1] - refused[0] > 0.9  # the second refusal of a image came when its second was over


def test_a_killed_run_is_resumed(box: Service, photos: Path, tmp_path: Path, out: Path) -> None:
    """As a user runs it, with a Ray of its own; ended by force between one file and the next."""
    many(tmp_path / "photos", photos / "cat.jpg", 16)
    stuck, let_go = threading.Event(), threading.Event()

    def stall(call: Any) -> Response | None:
        if len(box.requests) > 8:
            stuck.set()
            let_go.wait(PATIENCE)
        return None

    box.fault = stall
    mark = f"FLEET_TEST={uuid.uuid4()}"
    environment = {**os.environ, "HOME": str(tmp_path), **dict([mark.split("=")])}
    command = [NOTEBOOKS / "caption_folder_ray.py", tmp_path / "photos", out, "--batch=4", "--workers=1", "--at-once=2"]
    driver = subprocess.Popen([sys.executable, *command], env=environment, stdout=subprocess.DEVNULL)
    try:
        assert stuck.wait(PATIENCE), "no request came"
        assert len(rows(out)) == 8
        with pytest.raises(RuntimeError, match="another run"):
            recipe.run(tmp_path / "photos", out)
        driver.send_signal(signal.SIGKILL)
        driver.wait(PATIENCE)
        box.fault = None
        assert recipe.run(tmp_path / "photos", out).startswith("16 images: 8 done now, 8 done before, 0 failed")
        let_go.set()
        # A worker that outlives its run has its answers now, and nowhere to write them.
        until = time.monotonic() + PATIENCE
        while any("MapWorker" in name for name in started_with(mark).values()):
            assert time.monotonic() < until
            time.sleep(0.1)
        assert len(rows(out)) == 16
    finally:
        let_go.set()
        driver.kill()
        driver.wait(PATIENCE)
        for process in started_with(mark):  # Ray's own would take a minute to see that they are alone
            os.kill(process, signal.SIGKILL)


def started_with(mark: str) -> dict[int, str]:
    """The processes, by id and name, that have this in their environment."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (process / "environ").read_bytes():
                found[int(process.name)] = (process / "cmdline").read_text()
        except OSError:
            pass  # it ended, or is another user's
    return found
