"""`dragoman trace`: events are those that happened, selected and bounded, in three forms; a walk shows what it read."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import cross, tiny
from support.fed import fed
from support.riscv import asm, words_to_bytes
from support.small import ECALL, GUEST, RAM, S2, end, mapped
from support.tiny import A0, A1, A7, li

import dragoman
from dbt import cli
from dbt.machine import images, views
from dbt.machine.boards import Board
from dbt.machine.devices.console import Console
from dbt.machine.exits import Intr
from dbt.machine.log import Log
from dbt.machine.monitor import Monitor
from dbt.machine.outside import Inputs
from dbt.machine.session import Session
from dbt.machine.vm import TURN
from dbt.methods.run import run
from dbt.options import Options
from dbt.report import Symbols
from dbt.tracing.events import KINDS, Event, Recorder
from dbt.tracing.formats import Chrome
from dbt.tracing.machine import MachineEvents
from dbt.tracing.process import ProcessEvents
from guests.programs import SYSTEMS, VIRTUALS, system_file, virtual_file
from guests.riscv import machine
from guests.riscv import privileged as p

HERE = ("--background=off", "--no-disk-cache", "--promote=1000", "--deterministic")


@pytest.fixture(autouse=True)
def _no_input(monkeypatch: pytest.MonkeyPatch) -> None:
    fed(monkeypatch)


def traced(folder: Path, *words: str, status: int = 0) -> list[Any]:
    """The events that `dragoman trace --format=json` writes."""
    path = folder / "events"
    assert cli.main(["trace", "--format=json", f"--output={path}", *words]) == status
    return [json.loads(line) for line in path.read_text().splitlines()]


def of(events: list[Any], kind: str) -> list[Any]:
    return [event for event in events if event["kind"] == kind]


# --- programs --------------------------------------------------------------------------------------------------------


def test_events_of_a_program_are_those_that_its_engine_counts() -> None:
    """Each way out of native code, each translation, each call, once."""
    events: list[Event] = []
    options = Options(promote=1000, disk=False)
    with dragoman.load("@sieve", ["small"], seed=0, stdout=2, options=options) as process:
        recorder = Recorder(events.append, lambda: None, KINDS)
        watch = ProcessEvents(process, recorder)
        process.run()
        watch.finish()
        engine = process.engine
        exits = Counter(event.name for event in events if event.kind == "exit")
        assert exits == {reason: count for reason, count in engine.exits.items() if count}
        assert sum(exits.values()) == engine.entries == recorder.counts["exit"]
        made = [event for event in events if event.name == "made"]
        assert len(made) == engine.translator.stats.translations > 0
        assert sum(event.what["guest"] for event in made) == engine.translator.stats.instructions
        linked = {(event.what["pc"], event.what["to"]) for event in events if event.name == "linked"}
        words = process.state.words
        there = {(t.key[0], key[0]) for t in engine.cache.translations() for slot, key in t.exits.items()
                 if engine.cache.get(key) is not None and words[slot >> 3] == engine.cache.get(key).entry}  # fmt: skip
        assert linked == there
        assert 0 < sum(event.name == "promoted" for event in events) <= engine.exits["hot"]  # some are to run more
        assert sum(event.kind == "syscall" for event in events) == process.syscalls


def test_calls_and_signals(tmp_path: Path) -> None:
    found = traced(tmp_path, *HERE, "@hello", "word")
    calls = of(found, "syscall")
    assert [call["name"] for call in calls][-1] == "exit_group" and calls[0]["name"] == "write"
    assert calls[0]["result"] == calls[0]["arguments"][2] and calls[0]["spent"] >= 0
    assert "result" not in calls[-1]


def test_each_thread_has_a_track(tmp_path: Path) -> None:
    """Seven threads wait for each other, and each ends by a call of its own."""
    probe = cross.build(tmp_path, "thread_probe", "-static", "-pthread")
    found = traced(tmp_path, *HERE, "--kinds=syscall,exit", str(probe), "conditions")
    tracks = {event["track"] for event in found}
    made = [call for call in of(found, "syscall") if call["name"].startswith("clone") and call["result"]]
    assert tracks == {"program", *(f"thread {call['result']}" for call in made)} and len(made) == 7
    assert {exit["track"] for exit in of(found, "exit")} == tracks
    assert {call["track"] for call in made} == {"program"} == {
        call["track"] for call in of(found, "syscall") if call["name"] == "exit_group"}  # fmt: skip
    ended = [call["track"] for call in of(found, "syscall") if call["name"] == "exit"]
    assert sorted(ended) == sorted(tracks - {"program"})


def test_why_a_translation_is_dropped_is_told() -> None:
    events: list[Event] = []
    with dragoman.load("@sieve", ["small"], seed=0, stdout=2, options=Options(promote=1000, disk=False)) as process:
        ProcessEvents(process, Recorder(events.append, lambda: None, {"translation"}))
        process.run()
        cache = process.engine.cache
        retired = {translation.key[0]: cache.retired(translation) for translation in cache.translations()}
        first, second, *_ = retired
        cache.evict()
        cache.invalidate(second, second + 4)
        process.engine.flush()
    gone = [(event.what["pc"], event.what["why"], event.what["retired"]) for event in events if event.name == "dropped"]
    reasons = ["evicted: the cache was full", "its guest code was written, or its mapping changed"]
    assert [why for _, why, _ in gone][:2] == reasons and {pc for pc, _, _ in gone} == set(retired)
    assert all(count == retired[pc] for pc, _, count in gone) and gone[1][0] == second


def test_what_is_wanted_and_no_more(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    every = traced(tmp_path, *HERE, "@sieve", "small")
    capfd.readouterr()
    some = traced(tmp_path, *HERE, "--kinds=exit", "--from=100000", "--until=400000", "@sieve", "small")
    counts = [event["instructions"] for event in some]
    assert counts == [e["instructions"] for e in of(every, "exit") if 100_000 <= e["instructions"] <= 400_000] != []
    capfd.readouterr()
    few = traced(tmp_path, *HERE, "--kinds=exit", "--most=2", "@sieve", "small")
    assert len(few) == 2
    err = capfd.readouterr().err
    told = re.search(r"events: exit (\d+); (\d+) left out \(--most\); the run took \d", err)
    assert told is not None and int(told[1]) == len(of(every, "exit")) == int(told[2]) + 2
    assert traced(tmp_path, "--kinds=none", "@sieve", "small") == []


def test_tracing_changes_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    traced(tmp_path, *HERE, "@sort", "small")
    out = capfd.readouterr().out
    assert cli.main(["run", "--deterministic", "@sort", "small"]) == 0
    assert capfd.readouterr().out == out != ""


def test_as_text(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["trace", *HERE, "--kinds=exit,translation", "@sieve", "small"]) == 0
    lines = capfd.readouterr().err.splitlines()
    assert all(re.match(r" +[\d,]+ +\d+\.\d{3} ms  program.* (exit|translation): \w", line) for line in lines[:-1])
    assert any("exit: hot (" in line and "pc=0x10014a0 main+0x188" in line for line in lines)
    assert lines[-1].startswith("dragoman: events: exit ")


# --- Chrome's trace format ------------------------------------------------------------------------------------------


def well_formed(document: Any) -> list[Any]:
    """What the format asks for: fields of each phase; slices of a thread that lie within one another, or apart."""
    rows = document["traceEvents"]
    threads = {row["tid"]: row["args"]["name"] for row in rows if row["name"] == "thread_name"}
    shown = [row for row in rows if row["ph"] != "M"]
    assert {row["ph"] for row in rows} <= {"M", "X", "i"} and {row["tid"] for row in shown} == set(threads)
    for row in shown:
        assert row["pid"] == 1 and row["ts"] >= 0 and row["cat"] in KINDS and isinstance(row["args"], dict)
        assert row["dur"] >= 0 if row["ph"] == "X" else row["s"] == "t"
    assert [row["ts"] for row in shown] == sorted(row["ts"] for row in shown)
    for thread in threads:
        open_until: list[float] = []
        slices = [row for row in shown if row["tid"] == thread and row["ph"] == "X"]
        for row in sorted(slices, key=lambda row: (row["ts"], -row["dur"])):
            while open_until and open_until[-1] <= row["ts"] + 0.002:
                open_until.pop()
            assert not open_until or row["ts"] + row["dur"] <= open_until[-1] + 0.002
            open_until.append(row["ts"] + row["dur"])
    return shown


def test_as_chrome_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    assert cli.main(["trace", *HERE, "--format=chrome", "-o", str(path), "@sieve", "small"]) == 0
    document = json.loads(path.read_text())
    shown = well_formed(document)
    counts = Counter(row["cat"] for row in shown)
    assert counts == document["otherData"]["events"] and document["otherData"]["left_out"] == 0
    names = [row["args"]["name"] for row in document["traceEvents"] if row["name"] == "process_name"]
    assert names == ["@sieve small"]


def test_numbers_that_a_script_cannot_hold_are_text() -> None:
    chrome = Chrome()
    chrome.add(Event(1.5, 7, "hart 0", "trap", "a fault", None, {"pc": 0xFFFF_FFFF_8000_1234, "value": 1 << 63}))
    (*_, row) = json.loads(chrome.document("boot", 2.0, {}))["traceEvents"]
    assert (row["args"]["pc"], row["args"]["value"]) == ("0xffffffff80001234", "0x8000000000000000")
    assert (row["ts"], row["args"]["instructions"]) == (1.5, 7)


# --- machines -------------------------------------------------------------------------------------------------------


def hypervisor(feed: str, engine: str) -> tuple[Board, bytearray]:
    """The bundled hypervisor at its begin, and what it will have printed."""
    printed = bytearray()
    guest = machine.guest(hypervisor=True)
    board = Board(guest, 64 << 20, Console(printed.extend), engine, Options())
    board.console.feed(feed.encode())
    placed, tree = images.place(board.vm.memory, guest, system_file("hypervisor"), RAM), RAM + (32 << 20)
    board.vm.memory.poke(tree, board.tree())
    board.reset(placed.entry, tree)
    return board, printed


def booted(engine: str, prepare: Callable[[Board], object]) -> None:
    """The hypervisor, run to its end."""
    system = SYSTEMS["hypervisor"]
    board, printed = hypervisor(system.input, engine)
    prepare(board)
    assert not isinstance(board.vm.run(most=2_000_000), Intr)
    assert printed.decode().replace("\r", "") == system.output


def test_traps_interrupts_and_world_switches_are_the_references() -> None:
    """Of a hypervisor and its guest: each trap as the reference interpreter takes it; a switch where its mode does."""
    events: list[Event] = []
    recorder = Recorder(events.append, lambda: None, {"trap", "interrupt", "switch"})
    booted("translated", lambda board: MachineEvents(board, recorder, Symbols()))
    traps: list[tuple[int, str, int]] = []
    entries: list[int] = []  # addresses of a guest's first instructions
    outside = [True]

    def look(board: Board) -> None:
        vcpu = board.vcpu
        inspection = vcpu.privileged.inspection

        def began(pc: int, guest: bool) -> None:
            if guest and outside[0]:
                entries.append(pc)
            outside[0] = not guest

        def trapped(cause: int, mode: int, pc: int, value: int) -> None:
            began(pc, mode & 4 != 0)
            traps.append((pc, *reversed(inspection.trap(cause, mode))))  # type: ignore[arg-type]

        modes = [vcpu.mode]

        def executed(pc: int, decoded: object) -> None:
            began(pc, modes[0] & 4 != 0)  # as it was before
            modes[0] = vcpu.mode

        vcpu.observe = trapped
        enter = vcpu.enter_trap

        def entered(cause: int, value: int) -> None:
            enter(cause, value)
            modes[0] = vcpu.mode
            outside[0] = outside[0] or vcpu.mode & 4 == 0

        vcpu.enter_trap = entered  # type: ignore[method-assign, assignment]
        vcpu.engine.watch = executed

    booted("reference", look)
    mine = [(event.what["pc"], event.name, event.what["cause"] | (event.kind == "interrupt") << 63)
            for event in events if event.kind != "switch"]  # fmt: skip
    assert mine == traps and len(traps) > 200
    found = [(event.what["pc"], event.name) for event in events if event.kind == "switch"]
    entered = [pc for pc, name in found if name == "guest entered"]
    assert entered == entries and len(entered) > 100
    assert [name for _, name in found] == ["guest entered", "guest left"] * len(entered)
    assert all(event.what["mode"] in ("VS", "VU") for event in events if event.name == "guest entered")


def test_a_guest_is_a_slice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fed(monkeypatch, "shutdown\n")
    path = tmp_path / "trace.json"
    words = ("--kinds=switch", "--format=chrome", "-o", str(path), "boot", "@hypervisor", "-cpu", "rv64,h=true")
    assert cli.main(["trace", *words]) == 0
    document = json.loads(path.read_text())
    shown = well_formed(document)
    slices = [row for row in shown if row["name"] == "guest"]
    assert len(slices) == sum(row["name"] == "guest entered" for row in shown) > 50


def test_devices_and_exits_of_a_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    fed(monkeypatch, "a line\n")
    found = traced(tmp_path, "--kinds=device", "boot", "@uart")
    printed = capfd.readouterr().out.replace("\r", "")
    assert printed == SYSTEMS["uart"].output
    sent = [chr(e["value"]) for e in of(found, "device") if e["name"] == "serial write" and e["address"] == 0x1000_0000]
    assert "".join(sent).replace("\r", "") == printed
    fed(monkeypatch, "shutdown\n")
    exits = of(traced(tmp_path, "--kinds=exit", "boot", "@kernel"), "exit")
    assert {event["mode"] for event in exits} >= {"S", "U"} and any(event["at"] for event in exits)


def test_turns_of_harts(tmp_path: Path) -> None:
    image = tmp_path / "image"
    spin = [asm("addi", rd=S2, rs1=S2, imm=-1), asm("bne", rs1=S2, rs2=0, imm=-4)]
    image.write_bytes(words_to_bytes([asm("lui", rd=S2, imm=0x40000), *spin, *end()]))
    found = traced(tmp_path, "--kinds=switch", "boot", "-bios", "none", "-kernel", str(image), "-smp", "2")
    assert {event["name"] for event in found} == {"turn"} and len(found) > 8
    assert [event["track"] for event in found] == [f"hart {1 - n % 2}" for n in range(len(found))]
    assert all(event["instructions"] >= TURN for event in found)


def test_a_call_of_firmware_is_answered_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """One byte for the console, by a kernel that firmware of ours is below."""
    image = tmp_path / "image"
    image.write_bytes(words_to_bytes([li(A0, ord("x")), li(A7, 1), ECALL, *end()]))
    calls = of(traced(tmp_path, "--kinds=trap", "boot", "-kernel", str(image)), "trap")
    assert [(event["from"], event["to"]) for event in calls] == [("S", "firmware")]
    assert capfd.readouterr().out == "x"


@pytest.mark.parametrize("method", ["bt", "hw", "te"])
def test_exits_of_a_guest_of_a_virtual_machine(
    method: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each exit that the method counts, by its name, and a time in the guest before each."""
    found = traced(tmp_path, f"--method={method}", "@quad")
    assert capfd.readouterr().out == VIRTUALS["quad"].output
    row = run(virtual_file("quad"), method, "dbt", Options())
    exits = of(found, "vmexit")
    named = Counter(event["name"] for event in exits)
    named["environment call from VS-mode"] -= len(row.phases)  # each begins by a call, which is in no count
    assert named == row.total.reasons and sum(named.values()) == row.total.exits > 90
    inside = of(found, "switch")
    assert len(inside) == len(exits) and [e["instructions"] for e in inside] == [e["instructions"] for e in exits]
    assert all(event["spent"] >= 0 for event in found)


# --- a walk, step by step -------------------------------------------------------------------------------------------


def test_a_walk_shows_each_entry() -> None:
    board = Board(GUEST, 16 << 20, Console(lambda data: None))
    mapped(board, RAM + 0x10_0000, {0x4000_0000: (RAM + 0x5000, 0xCF)})
    slots = board.vcpu.state.slots
    slots[p.SATP], slots[p.PRIVILEGE] = 8 << 60 | RAM + 0x10_0000 >> 12, p.SUPERVISOR
    slots[p.PMPADDR0], slots[p.PMPCFG0] = (1 << 54) - 1, 0x1F
    lines = views.walk(board.vcpu, 0x4000_0123, "load").splitlines()
    read = [(int(m[1]), int(m[2], 16), int(m[3], 16)) for line in lines
            if (m := re.match(r" *level (\d): entry at (0x[0-9a-f]+) = (0x[0-9a-f]+) ", line))]  # fmt: skip
    assert [level for level, _, _ in read] == [2, 1, 0]
    assert all(board.vm.memory.read(at, 8) == entry for _, at, entry in read)
    assert lines[-2:] == [f"S-stage: 0x40000123 is {RAM + 0x5123:#x}",
                          f"a load of hart 0 in S-mode: 0x40000123 is {RAM + 0x5123:#x}"]  # fmt: skip
    monitor = Monitor(Session(lambda: board, Inputs()), Log(lambda text: None), lambda data: None)
    assert monitor.answer("walk 0x40000123").splitlines() == lines
    assert monitor.answer("walk $pc+0x40001000 store") == views.walk(board.vcpu, 0x4000_1000, "store")
    assert monitor.answer("walk") == "walk: an address is wanted\n"
    assert views.walk(board.vcpu, 0x4000_1000, "store").endswith(
        "a store of hart 0 in S-mode: 0x40001000 traps: store/AMO page fault\n")  # fmt: skip


def test_a_walk_in_two_stages_is_the_translation() -> None:
    """Every level of the guest's tables, each behind a walk of the second stage; nothing of the hart is changed."""
    board, _ = hypervisor("shutdown\n", "reference")
    board.vm.run(most=450_000)
    while board.vcpu.mode & 4 == 0 or not board.vcpu.state.slots[p.VSATP]:
        board.vm.step()
    vcpu = board.vcpu
    slots = bytes(vcpu.state.slots)
    pc = vcpu.state.pc
    read = views._doubleword(vcpu)
    steps = vcpu.privileged.inspection.walk(vcpu.state.slots, read, pc, 2, "fetch")
    assert bytes(vcpu.state.slots) == slots
    assert steps[-1].what == "end" and steps[-1].value == vcpu.space.mmu.translate(pc, 2, "fetch")
    assert all(read(step.address) == step.value for step in steps if step.what == "read")
    first = [step for step in steps if step.stage == "VS-stage" and step.what == "read"]
    begins = [step for step in steps if step.stage == "G-stage" and step.what == "begin"]
    assert [step.level for step in first] == [2, 1, 0]
    assert [step.depth for step in begins] == [1, 1, 1, 0] and [step.depth for step in first] == [0, 0, 0]
    text = views.walk(vcpu, pc, "fetch")
    assert text.count("VS-stage:") == 2 and text.count("G-stage:") == 8


# --- how it is asked for --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("words", "said"), [
    (["--format=chrome", "@hello"], "--format=chrome is a file: -o FILE is wanted"),
    (["--kinds=all", "@hello"], "there is no kind 'all'"),
    (["--walk=0x1000", "@hello"], "--walk and --symbols are for machines"),
    (["--walk=0x1000,jump", "boot", "@kernel"], "there is no access 'jump'"),
    (["-o", "/nowhere/x", "@hello"], "cannot write /nowhere/x"),
    (["--method=none of them", "@quad"], "--method: there is no method 'none of them'"),
    (["@quad", "word"], "a guest of a virtual machine has no arguments: word"),
    (["boot"], "-kernel or -bios is wanted"),
    ([], "which program?"),
])  # fmt: skip
def test_what_is_wrong_is_said(words: list[str], said: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["trace", *words]) == 2
    err = capfd.readouterr().err
    assert err.startswith("dragoman: ") and err.count("\n") == 1 and said in err


def test_the_status_is_the_programs(tmp_path: Path) -> None:
    path = tiny.program(tmp_path / "three", [li(A0, 3), li(A1, 0), asm("addi", rd=A0, rs1=A0, imm=0), *tiny.leave(3)])
    assert cli.main(["trace", "--kinds=syscall", "-o", str(tmp_path / "x"), str(path)]) == 3
    assert traced(tmp_path, "--max-instructions=1000", "@sieve", "small", status=124)
