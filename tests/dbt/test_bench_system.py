"""The benches of whole machines: their programs do what they are for, the same in both engines; their tables."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from bench import linux, system
from bench.system import DATA, OPERATIONS, RAM, Operation
from dbt.machine.boards import Board
from dbt.machine.devices.console import Console
from dbt.machine.digest import digest
from dbt.machine.exits import SystemEvent
from dbt.machine.vm import ENGINES
from dbt.options import Options
from dbt.runs import spent
from guests.riscv import privileged as p

TURNS = 40
TAKEN = {"call": (8, p.USER), "fault": (13, p.SUPERVISOR), "interrupt": (1 << 63 | 1, p.SUPERVISOR)}  # traps a turn


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_each_loop_does_what_it_is_for(operation: Operation) -> None:
    digests = set()
    for engine in ENGINES:
        board = Board(system.GUEST, 16 << 20, Console(lambda data: None), engine, Options(patience=0))
        board.vm.memory.poke(RAM, system.image(operation._replace(times=TURNS)))
        board.reset(RAM, 0)
        assert board.vm.run() == SystemEvent(1)
        wanted = {TAKEN[operation.name]: TURNS} if operation.name in TAKEN else {}
        assert board.vcpu.taken == wanted
        assert board.vcpu.retired > TURNS * (len(operation.body) + 2)
        digests.add(digest(board))
        board.vm.close()
    assert len(digests) == 1


def test_many_pages_are_one() -> None:
    image = system.image(next(each for each in OPERATIONS if each.name == "pages"))
    leaf = (DATA >> 2 | system.LEAF).to_bytes(8, "little")
    assert image.count(leaf) == system.MANY


@pytest.mark.parametrize("words", [["--runs=0"], ["nonsense"]])
def test_what_cannot_be_measured_gets_a_sentence(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for main, more in ((system.main, []), (linux.main, ["/boot/vmlinux"])):
        with pytest.raises(SystemExit) as end:
            main([*more, *words])
        sentence = capsys.readouterr().err
        assert end.value.code == 2 and ("at least one run" if words == ["--runs=0"] else "nonsense") in sentence


def test_the_table_of_linux_tells_kinds_apart() -> None:
    times = {"qemu": (2.0, 2.0), "cold": (1.0, 3.0), "warm": (0.5, 1.0)}
    slow = {**times, "cold": (4.0, 4.0)}
    *lines, last = linux.table({"boot": times, "queens": times, "matmul": slow, "hello": slow}).splitlines()
    assert [line.split()[-4:] for line in lines[1:]] == [
        ["0.50", "0.25", "1.50", "0.50"], ["0.50", "0.25", "1.50", "0.50"], ["2.00", "0.25", "2.00", "0.50"],
        ["2.00", "0.25", "2.00", "0.50"], ["0.50", "0.25", "1.50", "0.50"], ["2.00", "0.25", "2.00", "0.50"],
    ]  # fmt: skip
    assert lines[5].startswith("geometric mean, integer (1)") and lines[6].startswith("geometric mean, floating point")
    assert last == "Not in the means, since they are too short: @hello."


def test_a_process_s_time_is_that_of_all_below_it() -> None:
    burn = "while __import__('time').process_time() < 0.6: pass"  # a kernel that rounds to ticks tells of less
    wait = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', sys.argv[1]]); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", wait, burn], stdin=subprocess.PIPE) as parent:
        deadline = time.monotonic() + 60
        while spent(parent.pid) < 0.3 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert 0.3 <= spent(parent.pid) < 30
        parent.communicate()
    assert spent(parent.pid) == 0
