"""The run over time: what a recorder notes, and the page."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support import tiny
from support.page import Page
from support.tiny import EBREAK, LOOP

import dragoman
from dbt import cli, report, timeline
from dbt.options import Options

ROOT = Path(__file__).resolve().parents[2]
BUSY = ("--promote=1000", "--background=off", "--no-disk-cache")  # regions in a short run
GROWING = set(timeline.COLUMNS) - {"queue", "bytes", "translations"}


def run(*words: str, status: int = 0) -> None:
    assert cli.main(["run", *words]) == status


def consistent(data: Any) -> None:
    """What every recording must be."""
    samples = data["samples"]
    assert set(samples) == set(timeline.COLUMNS)
    (length,) = {len(column) for column in samples.values()}
    assert length >= 2
    for name in GROWING:
        assert samples[name] == sorted(samples[name]), name
    for n in range(length):
        assert samples["reference"][n] + samples["monitor"][n] + samples["regions"][n] <= samples["count"][n]
        assert samples["host"][n] + samples["calls"][n] + samples["stencils"][n] <= samples["wall"][n] + 2
        assert samples["busy"][n] <= samples["wall"][n] + 2
    assert sum({(row["address"], row["boundary"]): row["retired"] for row in data["installed"]}.values()) <= (
        samples["regions"][-1]
    )
    assert all(samples["wall"][0] <= row["wall"] <= samples["wall"][-1] for row in data["installed"])


# --- through the command --------------------------------------------------------------------------------------------


def test_a_page_is_whole_and_needs_nothing_else(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.html"
    run(f"--timeline={path}", "--stats=json", *BUSY, "@json", "small")
    stats = json.loads(capfd.readouterr().err)
    text = path.read_text()
    page = Page(text)
    data = page.data
    consistent(data)
    assert data["title"] == "@json small" and data["title"] in page.words
    assert data["samples"]["count"][-1] == stats["instructions"]
    for name in ("reference", "monitor", "regions"):
        assert data["samples"][name][-1] == stats["retired"][name]
    assert data["samples"]["bytes"][-1] == stats["cache_bytes"]
    assert len(data["installed"]) == stats["translations"] and all(row["symbol"] for row in data["installed"])
    assert {row["by"] for row in data["installed"]} == {"here"}
    page.needs_nothing_else()


def test_it_says_where_regions_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAGOMAN_CACHE_DIR", str(tmp_path / "cache"))
    path = tmp_path / "run.json"

    def origins(*words: str, status: int = 0) -> set[str]:
        run(f"--timeline={path}", *words, status=status)
        data = json.loads(path.read_text())
        consistent(data)
        return {row["by"] for row in data["installed"]}

    assert origins("--background=off", "--promote=1000", "@json", "small") == {"here"}
    with monkeypatch.context() as patched:
        patched.setattr(timeline, "INTERVAL", 1000.0)  # seconds: the whole run is between two samples
        found = origins("--background=off", "--promote=1000", "@json", "small")
        assert found == {"disk", "here"}, "one more is hot now"
    assert "disk" in origins("--background=off", "--promote=1000", "@json", "small")
    limit = 4_000_000_000  # the worker needs a second or two
    found = origins("--no-disk-cache", "--promote=20000", f"--max-instructions={limit}", "@queens", "large", status=124)
    assert found == {"worker"}
    samples = json.loads(path.read_text())["samples"]
    assert samples["busy"][-1] > 10_000 and samples["stencils"][-1] > 0


def test_a_path_that_cannot_be_written(capfd: pytest.CaptureFixture[str]) -> None:
    run("--timeline=/nowhere/at/all.html", "@hello", status=2)
    out, err = capfd.readouterr()
    assert out == "" and err == "dragoman: cannot write /nowhere/at/all.html: no such file or directory\n"


@pytest.mark.parametrize(("words", "sentence"), [
    (("--timeline",), "--timeline needs a value"),
    (("--timeline=x.html", "--engine=reference", "@hello"), "--timeline shows how the translator does"),
    (("--timeline=x.html", "--trace", "@hello"), "--timeline shows how the translator does"),
    (("--timeline=x", "-D", "./x", "@hello"), "something else is to be written there"),
    (("--timeline=x", "--profile=x", "@hello"), "something else is to be written there"),
])  # fmt: skip
def test_what_makes_no_sense(
    words: tuple[str, ...], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    run(*words, status=2)
    out, err = capfd.readouterr()
    assert out == "" and sentence in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_it_is_written_at_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "run.html"
    run(f"--timeline={path}", "--max-instructions=200000", "@queens", "small", status=124)
    data = Page(path.read_text()).data
    consistent(data)
    assert data["samples"]["count"][-1] >= 200000


@pytest.mark.parametrize("sent", [0, signal.SIGINT, signal.SIGTERM])
def test_it_is_written_when_a_signal_ends_the_run(sent: int, tmp_path: Path) -> None:
    program = tiny.program(tmp_path / "program", [LOOP] if sent else [EBREAK])
    page, table = tmp_path / "run.html", tmp_path / "profile.txt"
    command = [sys.executable, "-m", "dragoman", "run", f"--timeline={page}", f"--profile={table}", str(program)]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        if sent:
            deadline = time.monotonic() + 30
            while not page.exists():  # it is opened before the program runs
                assert time.monotonic() < deadline and process.poll() is None
                time.sleep(0.02)
            time.sleep(2)
            process.send_signal(sent)
        text = process.stderr.read()
        assert process.wait(60) == {0: -5, signal.SIGINT: 130, signal.SIGTERM: -15}[sent]
    assert "Traceback" not in text
    consistent(Page(page.read_text()).data)
    assert table.read_text().startswith("hot functions")


def test_both_views_at_once_and_no_trace_left(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    page, table = tmp_path / "run.html", tmp_path / "p.json"
    run(f"--timeline={page}", f"--profile={table}", *BUSY, "--deterministic", "@strings", "small")
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    out = capfd.readouterr().out
    run(*BUSY, "--deterministic", "@strings", "small")
    assert capfd.readouterr().out == out
    assert json.loads(table.read_text())["samples"] > 100
    consistent(Page(page.read_text()).data)


# --- the recorder ---------------------------------------------------------------------------------------------------


def record(program: str, **options: Any) -> tuple[timeline.Recorder, Any]:
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        chosen = Options(background=False, **options)
        with dragoman.load(program, ["small"], seed=0, stdout=null, options=chosen) as process:
            recorder = timeline.Recorder(process)
            recorder.attach()
            process.run()
            recorder.finish()
            return recorder, recorder.data("x", report.symbols_of(process))
    finally:
        os.close(null)


@pytest.mark.parametrize("options", [
    {}, {"promote": 1000}, {"promote": 1000, "cache_size": 2048}, {"tiers": (1,), "hot": 8}, {"tiers": (0,)},
    {"promote": 1000, "chaos": 3},
])  # fmt: skip
def test_every_recording_is_consistent(options: dict[str, Any]) -> None:
    _, data = record("@strings", **options)
    consistent(data)
    samples = data["samples"]
    if options.get("tiers") == (1,):
        assert samples["reference"][-1] + samples["monitor"][-1] + samples["regions"][-1] == samples["count"][-1]
    if "cache_size" in options:
        assert samples["dropped"][-1] > 0 and max(samples["bytes"]) <= 2048


def test_a_long_run_has_no_more_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeline, "MOST", 8)
    monkeypatch.setattr(timeline, "INTERVAL", 0.0005)
    recorder, data = record("@strings", promote=1000)
    consistent(data)
    assert len(data["samples"]["wall"]) <= 9 and data["samples"]["wall"][0] < 100_000
    assert recorder._interval > 0.0005


def test_leaving_samples_out_keeps_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder, _ = record("@hello")
    recorder.samples = {name: list(range(7)) for name in timeline.COLUMNS}
    recorder.samples["queue"] = [0, 5, 0, 0, 2, 1, 0]
    recorder._thin()
    assert recorder.samples["count"] == [0, 2, 4, 6]
    assert recorder.samples["queue"] == [5, 0, 2, 0]


def test_the_time_of_system_calls_is_that_of_the_kernels(tmp_path: Path) -> None:
    with dragoman.load("@hello", stdout=2, options=Options(background=False)) as process:
        call = process.kernel.call
        process.kernel.call = lambda number, arguments: time.sleep(0.02) or call(number, arguments)  # type: ignore
        recorder = timeline.Recorder(process)
        recorder.attach()
        process.run()
        recorder.finish()
        assert recorder.samples["calls"][-1] >= 20_000 * process.syscalls > 0


def test_a_long_system_call_stands_alone(tmp_path: Path) -> None:
    now = [0.0]
    with dragoman.load("@hello", options=Options(background=False)) as process:
        process.kernel.call = lambda number, arguments: now.__setitem__(0, now[0] + 3) or 0  # type: ignore
        recorder = timeline.Recorder(process, lambda: now[0])
        recorder.attach()
        now[0] = 1.0
        process.kernel.call(64, ())
        assert recorder.samples["wall"] == [1_000_000, 4_000_000]
        assert recorder.samples["calls"] == [0, 3_000_000]


# --- the page -------------------------------------------------------------------------------------------------------


def test_names_cannot_break_the_page() -> None:
    title = '</script><b onclick="x">&amp;'
    samples = {name: [0, 10] for name in timeline.COLUMNS}
    row = {"symbol": "</script>", "address": 1, "boundary": True, "wall": 1, "count": 1, "by": "here", "retired": 0,
           "guest_instructions": 1, "host_bytes": 1, "blocks": 1}  # fmt: skip
    data = {"title": title, "samples": samples, "installed": [row]}
    text = timeline.page(data)
    page = Page(text)
    assert page.data == data and title in page.words
    assert text.count("</script>") == 2 and "<b onclick" not in text
