"""RAM of a pool of host pages: contiguous for a machine, in any order in the pool, and no page that of two machines."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dbt.cli import main
from dbt.machine import pool as pools
from dbt.machine.memory import Memory
from dbt.machine.pool import Pool, runs

PAGE, RAM = 4096, 0x8000_0000
DRAGOMAN = [sys.executable, "-m", "dragoman", "boot", "-kernel", "@kernel", "-m", "32"]
SCATTER = "--hpa-layout=scatter"


def boot(*words: str, feed: bytes = b"shutdown\n") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*DRAGOMAN, *words], input=feed, capture_output=True, timeout=120)


def test_pages_are_those_of_the_pool_and_of_one_taker() -> None:
    pool = Pool(64 * PAGE, seed=1)
    memories = [Memory(pool) for _ in range(2)]
    for number, memory in enumerate(memories):
        memory.add_ram(RAM, 32 * PAGE)
        for i in range(32):
            memory.poke(RAM + i * PAGE, bytes([number, i]) * (PAGE // 2))
    first, second = (list(memory.pooled[RAM]) for memory in memories)
    assert sorted(first + second) == list(range(64)) and first != sorted(first)
    for number, pages in enumerate((first, second)):
        for i, page in enumerate(pages):
            assert pool.read(page) == bytes([number, i]) * (PAGE // 2)
    with pytest.raises(ValueError, match="the pool has 0 pages left, of 1 that are wanted"):
        memories[0].add_ram(0, PAGE)


def test_without_a_seed_a_pool_is_taken_in_its_order() -> None:
    pool = Pool(8 * PAGE)
    assert [list(pool.take(4 * PAGE)[1]) for _ in range(2)] == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_runs() -> None:
    assert list(runs([4, 5, 6, 2, 3, 9])) == [(0, 4, 3), (3, 2, 2), (5, 9, 1)]
    assert list(runs([])) == []


def test_a_closed_pool_gives_its_pages_back() -> None:
    pool = Pool(4 * PAGE, seed=2)
    memory = Memory(pool)
    memory.add_ram(RAM, 4 * PAGE)
    memory.poke(RAM, b"content")
    pool.close()
    assert memory.peek(RAM, 4 * PAGE) == bytes(4 * PAGE)
    assert "dragoman-pool" not in Path("/proc/self/maps").read_text().partition(hex(memory.slots[0].host)[2:])[2][:200]


def test_a_guest_sees_no_difference() -> None:
    lines = set()
    for words in ((), ("--hpa-layout=identity",), (SCATTER, "--seed=7"), (SCATTER, "--engine=reference")):
        done = boot("--deterministic", "--events=1000000000", *words)
        assert done.returncode == 0, done.stderr
        lines.add(done.stderr)
    assert len(lines) == 1 and len(lines.pop().split()) == 3


def test_both_engines_agree_over_scattered_pages() -> None:
    done = boot("--lockstep=4000", "-m", "16", SCATTER)
    assert done.returncode == 0 and b"the engines agree at all of" in done.stderr


def test_the_monitor_shows_the_map_of_each_start() -> None:
    """What a reset builds anew has the pages that there were before."""
    feed = b"info memmap\nsystem_reset\ninfo memmap\nquit\n"
    done = boot("-serial", "none", "-monitor", "stdio", "-S", SCATTER, "--seed=7", feed=feed)
    assert done.returncode == 0 and not done.stderr
    answers = [each for each in done.stdout.decode().split("(dragoman) ") if each.startswith("guest-physical")]
    assert len(answers) == 2 and answers[0] == answers[1]
    first = [int(line.partition("-")[0], 16) for line in answers[0].splitlines()[1:]]
    places = [int(line.split()[1], 16) for line in answers[0].splitlines()[1:]]
    assert first == sorted(first) and places != sorted(places) and len(set(places)) == len(places) > 8000
    other = boot("-serial", "none", "-monitor", "stdio", "-S", feed=b"info memmap\nquit\n").stdout
    assert b"RAM is of no pool" in other


def test_what_the_host_does_not_allow_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "most").write_text("6000\n")
    monkeypatch.setattr(pools, "MOST_MAPPINGS", str(tmp_path / "most"))
    assert main(["boot", "-kernel", "@kernel", SCATTER]) == 2
    error = capsys.readouterr().err
    assert error.startswith("dragoman: --hpa-layout=scatter: 32,769 pages, a mapping each, are more than the ")
    assert error.endswith("that are left of the host's 6,000 (vm.max_map_count)\n") and error.count("\n") == 1
    assert main(["boot", "-kernel", "@kernel", "--seed=3"]) == 2
    assert "--seed is for --hpa-layout=scatter" in capsys.readouterr().err
