"""The benchmark runs, with counts as small as possible. No time is judged here."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import http.client
import socket
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image

from predictionguard_core import Image as OurImage
from predictionguard_core import ImagePolicy
from tests.benchmarks import __main__ as command
from tests.benchmarks import measure, report
from tests.benchmarks.contestants import CONTESTANTS, LARGEST, OURS, RIVALS, Raw
from tests.benchmarks.images import data_uri, jpeg
from tests.benchmarks.measure import Cost, Pace
from tests.benchmarks.processes import ROOT, Ground, Process, ground
from tests.benchmarks.rows import KB, MB, ROW, ROWS, SIZES, Row
from tests.benchmarks.server import answer, stream
from tests.benchmarks.worker import Worker

TINY = Pace(rounds=2, block=0.0, bursts=2, times=2, patience=10.0)
CONTENDERS = ("raw", "least", *OURS)


@pytest.fixture(scope="module")
def at() -> Iterator[Ground]:
    with ground() as found:
        yield found


@pytest.fixture(scope="module")
def workers(at: Ground) -> Iterator[list[Process]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(at.worker(name)) for name in CONTENDERS]


def small(row: Row) -> Row:
    return dataclasses.replace(
        row, images=tuple(min(size, 20 * KB) for size in row.images), calls=row.calls and min(row.calls, 8)
    )


class TestRows:
    @pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
    def test_each_row_runs(self, at: Ground, workers: list[Process], row: Row) -> None:
        taking_part = [each for each in workers if not row.ours_only or each.name != "least"]
        row = small(row)
        if row.form == "inputs":
            row = dataclasses.replace(row, images=(60 * KB,) * 20)
        found = measure.compare(taking_part, at, row, TINY)[row.clock]
        assert list(found) == [each.name for each in taking_part]
        assert found["raw"].ratio == 1.0
        assert all(cost.seconds > 0 for cost in found.values())

    def test_an_image_that_is_sent_in_pieces(self, at: Ground, workers: list[Process]) -> None:
        row = dataclasses.replace(ROW["10MB"], images=(2 * MB,))
        assert list(measure.compare(workers, at, row, TINY)["cpu"]) == list(CONTENDERS)

    def test_a_contestant_that_leaves_the_image_out_is_noticed(
        self, at: Ground, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Blind(Raw):
            def question(self, images: list[bytes], *, stream: bool = False) -> bytes:
                return super().question([], stream=stream)

        monkeypatch.setitem(CONTESTANTS, "blind", Blind)
        with asyncio.Runner() as runner, contextlib.closing(Worker("blind", runner)) as worker:
            worker.prepare(url=at.url(ROW["100KB"]), images=[20 * KB])
            with pytest.raises(AssertionError, match="the image was not sent"):
                worker.ask(calls=1)

    def test_a_contestant_that_fails_ends_the_run(self, at: Ground, capfd: pytest.CaptureFixture[str]) -> None:
        with at.worker("raw") as worker:
            with pytest.raises(RuntimeError, match="raw ended with code 1"):
                worker.tell("prepare", url=at.plain, images=["large"])
        assert "TypeError" in capfd.readouterr().err

    def test_slow_contestants_skip_rounds(self, at: Ground, workers: list[Process]) -> None:
        impatient = dataclasses.replace(TINY, patience=1e-9)
        assert list(measure.compare(workers, at, ROW["text"], impatient)["cpu"]) == list(CONTENDERS)

    def test_another_model_object(self, at: Ground, workers: list[Process]) -> None:
        assert all(seconds > 0 for seconds in measure.another(workers[1:], at, ROW["text"], TINY).values())

    def test_memory(self, at: Ground) -> None:
        row = dataclasses.replace(ROW["10MB"], images=(2 * MB,))
        found = measure.memory(["langchain-base64"], at, row, TINY)
        # LangChain's own walk over such a block copies it once: what finds less does not see all memory.
        assert found["langchain-base64"] > 1

    def test_uplink(self, at: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(measure, "UPLINK", 10**9)
        found = measure.uplink(at)
        assert found["max_edge=1568"][1] < found["as it is"][1] / 3

    def test_imports(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(measure.IMPORTS, "langchain", ("import predictionguard_core", "import json"))
        assert measure.imports(["langchain"], TINY)["langchain"] > 1

    def test_every_contestant_has_its_title_and_its_import(self) -> None:
        assert set(report.COLUMNS) <= set(CONTESTANTS)
        assert {*OURS, *RIVALS} == set(measure.IMPORTS) == set(report.COLUMNS) - {"raw", "least"}
        assert all(name in report.TITLES for name in report.COLUMNS)


class TestCommand:
    def test_lists_the_rows(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            command.main(["--only", "text,nothing"])
        assert "there is no nothing; there are text, " in capsys.readouterr().err

    def test_measures_and_writes_the_wanted_rows(
        self, tmp_path: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(measure, "QUICK", TINY)
        monkeypatch.setattr(command, "OURS", ())
        results = command.main(["--quick", "--ours", "--only", "text,another", "--out", str(tmp_path)])
        assert set(results.rows) == {"text"}
        assert set(results.another) == {"least"}
        written = (tmp_path / "results.md").read_text()
        assert written.strip() == capsys.readouterr().out.strip()
        assert "| text call | 1.0 (" in written


class TestReport:
    def test_shows_which_budgets_are_met(self) -> None:
        results = report.Results(
            rows={"text": {"raw": Cost(0.0004, 1.0), "langchain": Cost(0.0006, 1.5), "llama-index": Cost(0.0008, 2.0)}},
            imports={"langchain": 1.25, "llama-index": 1.3},
            another={"langchain": 0.00009, "llama-index": 0.00011},
            memory={"langchain": 0.1, "llama-index": 0.3, "langchain-base64": 1.4},
        )
        table = report.main_table(results)
        assert (
            "| text call | 1.0 (400 µs) | – | – | – | – | **1.50** (at most 1.7) | **2.00** (at most 1.5: **missed**) |"
            in table
        )
        assert [line.partition(":")[0] for line in results.missed()] == [
            "text call", "import", "another model object, ms", "peak memory",
        ]  # fmt: skip
        assert not report.Results().missed()

    def test_every_line_of_the_table_has_all_columns(self) -> None:
        costs = dict.fromkeys(report.COLUMNS, Cost(0.001, 1.0))
        results = report.Results(
            rows={row.name: costs for row in ROWS},
            processor={"256-at-once": costs},
            another=dict.fromkeys(report.COLUMNS, 0.0001),
            memory=dict.fromkeys([*report.COLUMNS, "langchain-base64"], 1.0),
            imports=dict.fromkeys(report.COLUMNS, 1.0),
            uplink={"as it is": (3.5, 4_000_000)},
            floors={"text": dict.fromkeys(["raw", "langchain-itself", "llama-index-itself"], Cost(0.001, 0.5))},
            sizes={1000: costs},
            at_once={512: costs},
        )
        for table in report.markdown(results).split("\n\n"):
            lines = [line.replace("|---", "| ---").count("| ") for line in table.splitlines() if line.startswith("|")]
            assert len(set(lines)) <= 1


class TestImages:
    @pytest.mark.parametrize("size", [1 * KB, 100 * KB, 2 * MB, max(SIZES)])
    def test_are_jpegs_of_that_size(self, size: int) -> None:
        made = jpeg(size)
        assert len(made) == size
        taken = OurImage.open(data_uri(made), ImagePolicy(max_bytes=LARGEST))
        assert taken.media_type == "image/jpeg"
        assert Image.open(BytesIO(made)).size == taken.size


class TestServer:
    def test_answers_one_request_after_the_other(self, at: Ground) -> None:
        connection = http.client.HTTPConnection(urlsplit(at.plain).netloc, timeout=60)
        for body in (b"x" * 3_000_000, b"", b"{}"):
            connection.request("POST", "/plain/chat/completions", body)
            assert f"{len(body)} bytes came".encode() in connection.getresponse().read()
        connection.request("POST", "/stream-3/chat/completions", b"{}")
        assert connection.getresponse().read().count(b'" word"') == 3
        connection.close()

    def test_refuses_a_body_without_a_length(self, at: Ground) -> None:
        connection = http.client.HTTPConnection(urlsplit(at.plain).netloc, timeout=60)
        connection.putrequest("POST", "/plain/chat/completions")
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()  # and no body: the server hangs up on it, at any moment
        assert connection.getresponse().status == 411
        connection.close()

    def test_content_length_is_right(self) -> None:
        head, _, body = answer(5).partition(b"\r\n\r\n")
        assert f"content-length: {len(body)}".encode() in head
        assert stream(2).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")

    def test_ends_with_the_process_that_started_it(self) -> None:
        # What started it does not say good-bye: it is gone from one moment to the next.
        code = (
            "import os; from tests.benchmarks.processes import Process; server = Process('tests.benchmarks.server');"
            "print(server.answer()[0], flush=True); os._exit(0)"
        )
        # The server writes its errors to the same pipe: only when it has ended, too, is everything read.
        run = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
        )
        with socket.socket() as attempt:
            assert attempt.connect_ex(("127.0.0.1", int(run.stdout))) != 0
