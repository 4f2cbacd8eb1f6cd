"""Events: where they are delivered, in which order, and that every engine delivers the same in the same place."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from support.regions import Watch
from support.riscv import Rig, asm, words_to_bytes

import dragoman
from dbt import cli
from dbt.digest import digest
from dbt.events import NEVER, Events
from dbt.options import Options
from dbt.process import Process, Settings
from dbt.reference import Reference, Stop
from guests import programs

CODE, DATA = 0x10000, 0x20000
REGIONS = ((CODE, 0x4000, 7), (DATA, 0x2000, 3))
NOP = asm("addi", rd=0, rs1=0, imm=0)
LINE = 20  # straight-line instructions in each turn of `LOOP`
# t0 counts down; blocks of LINE + 2 instructions, one boundary a turn
LOOP = [*[NOP] * LINE, asm("addi", rd=5, rs1=5, imm=-1), asm("bne", rs1=5, rs2=0, imm=-4 * (LINE + 1)), asm("ecall")]
BLOCK = LINE + 2
ENGINES = ("reference", "insn", "translated", "blocks", "unchained", "short", "chaos")


def rig(engine: str, words: list[int] = LOOP, **registers: int) -> Rig:
    """A rig with code in place; "insn" is the reference interpreter that may be interrupted anywhere."""
    options = {"blocks": Options(hot=0, region=0), "unchained": Options(hot=0, chain=False),
               "short": Options(hot=0, max_instructions=3), "chaos": Options(hot=2, chaos=5)}.get(engine)  # fmt: skip
    made = Rig(REGIONS, options, translated=engine not in ("reference", "insn"))
    if engine == "insn":
        made.engine = Reference(made.state, made.space, lambda: 0, "insn")
    made.space.poke(CODE, words_to_bytes(words))
    made.state.pc = CODE
    for name, value in registers.items():
        made.state.slots[made.state.slot(name)] = value
    return made


def run(made: Rig, events: Events, until: int = NEVER) -> Stop:
    return events.run(made.engine, until)


# --- where ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("deadline", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 7 * BLOCK, 7 * BLOCK + 5])
def test_an_event_comes_at_the_first_boundary_at_or_after_its_deadline(engine: str, deadline: int) -> None:
    made, seen = rig(engine, t0=9), []
    events = Events(made.state)
    events.at(deadline, lambda: seen.append((made.state.count, made.state.pc)))
    assert run(made, events).trap
    if engine == "insn":
        assert seen == [(deadline, CODE + 4 * (deadline % BLOCK))]
    else:
        assert seen == [(-(-deadline // BLOCK) * BLOCK, CODE)]
    assert made.state.count == 9 * BLOCK
    made.close()


def test_an_event_comes_at_a_boundary_inside_a_translation() -> None:
    """Three branches forward that are not taken and one back, in one translation: a boundary behind each."""
    words = [*[NOP, asm("beq", rs1=5, rs2=0, imm=48)] * 3, asm("addi", rd=7, rs1=7, imm=-1),
             asm("bne", rs1=7, rs2=0, imm=-28), asm("ecall")]  # fmt: skip
    for deadline in (*range(1, 9), *range(96, 106)):
        made, seen = rig("translated", words, t0=1, t2=20), []
        watch = Watch(made.engine)
        events = Events(made.state)
        events.at(deadline, lambda m=made, s=seen: s.append((m.state.count, m.state.blocks, m.state.pc)))
        assert run(made, events).trap
        count = deadline + 1 & -2
        assert seen == [(count, count // 2, CODE + 4 * (count % 8))]
        assert made.state.count == 160 and watch.retired > 100
        made.close()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_trap_is_a_boundary_and_is_handled_first(engine: str) -> None:
    """The event is due in the block that ends at an ecall; it is delivered once the caller has dealt with that."""
    made, seen = rig(engine, [NOP, NOP, asm("ecall"), NOP, asm("ecall")]), []
    events = Events(made.state)
    events.at(1, lambda: seen.append((made.state.count, made.state.pc)))
    stop = run(made, events)
    if engine == "insn":
        assert (stop.trap, seen) == (True, [(1, CODE + 4)])
    else:
        assert (stop.trap, seen) == (True, [])
        made.state.pc += 4
        assert run(made, events).trap
        assert seen == [(2, CODE + 12)]
    made.close()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_run_that_begins_inside_a_block_delivers_at_its_end(engine: str) -> None:
    made, seen = rig(engine, t0=3), []
    events = Events(made.state)
    for _ in range(3):
        made.engine.step()
    events.at(2, lambda: seen.append((made.state.count, made.state.pc)))
    assert run(made, events).trap
    assert seen == [(3, CODE + 12) if engine == "insn" else (BLOCK, CODE)]
    made.close()


@pytest.mark.parametrize("engine", ENGINES)
def test_order(engine: str) -> None:
    made, seen = rig(engine, t0=5), []
    events = Events(made.state)
    for name, deadline in (("c", 3), ("a", 1), ("b", 1), ("late", 2 * BLOCK), ("d", 3)):
        events.at(deadline, lambda name=name: seen.append(name))
    assert run(made, events).trap
    assert seen == ["a", "b", "c", "d", "late"]
    made.close()


def test_periodic_events_come_once_for_all_the_multiples_that_a_block_passes() -> None:
    made, seen = rig("reference", t0=4), []
    events = Events(made.state)
    events.every(5, lambda: seen.append(made.state.count))
    run(made, events)
    assert seen == [BLOCK, 2 * BLOCK, 3 * BLOCK, 4 * BLOCK]
    made.close()


def test_a_period_is_at_least_one_instruction() -> None:
    made = rig("reference")
    with pytest.raises(ValueError, match="at least one instruction"):
        Events(made.state).every(0, lambda: None)
    made.close()


@pytest.mark.parametrize("engine", ENGINES)
def test_cancelled_events_never_come(engine: str) -> None:
    made, seen = rig(engine, t0=5), []
    events = Events(made.state)
    second = events.at(3 * BLOCK, lambda: seen.append("second"))
    events.at(BLOCK, lambda: events.cancel(second))
    ticking = events.every(BLOCK, lambda: seen.append("tick"))
    events.at(2 * BLOCK, lambda: events.cancel(ticking))
    run(made, events)
    assert seen == ["tick", "tick"]
    made.close()


@pytest.mark.parametrize("engine", ENGINES)
def test_an_event_may_register_others_change_the_guest_and_end_the_run(engine: str) -> None:
    made, seen = rig(engine, t0=1_000_000), []
    events, state = Events(made.state), made.state

    def first() -> None:
        events.at(state.count, lambda: seen.append(("at once", state.count)))
        events.at(state.count + 1, second)

    def second() -> bool:
        seen.append(("second", state.count))
        state.slots[state.slot("t0")] = 2
        return True

    events.at(10 * BLOCK, first)
    assert not run(made, events).trap, "a callback that returns true ends the run"
    later = state.count
    assert [what for what, _ in seen] == ["at once", "second"]
    assert run(made, events).trap
    assert state.count == (10 * BLOCK + 2 * BLOCK if engine == "insn" else later + 2 * BLOCK)
    made.close()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_limit_and_an_event_at_one_boundary(engine: str) -> None:
    """What is due at the boundary where a run ends is delivered, once."""
    made, seen = rig(engine, t0=9), []
    events = Events(made.state)
    events.at(2 * BLOCK, lambda: seen.append(made.state.count))
    assert not run(made, events, 2 * BLOCK).trap
    assert (made.state.count, seen) == (2 * BLOCK, [2 * BLOCK])
    assert not run(made, events, 2 * BLOCK).trap
    assert run(made, events).trap
    assert seen == [2 * BLOCK]
    made.close()


def test_an_endless_chained_loop_is_interrupted() -> None:
    made, seen = rig("translated", [asm("jal", rd=0, imm=0)]), []
    events = Events(made.state)
    events.at(50_000_001, lambda: seen.append(made.state.count) or True)
    run(made, events)
    assert seen == [50_000_001]
    made.close()


# --- every instruction of a run ---------------------------------------------------------------------------------


def latencies(engine: str) -> list[int]:
    """Instructions by which an event comes late, for each deadline in a run of some 200 instructions."""
    late = []
    ends = set()
    for deadline in range(9 * BLOCK):
        made = rig(engine, t0=9)
        events = Events(made.state)
        events.at(deadline, lambda d=deadline, m=made: late.append(m.state.count - d))
        stop = run(made, events)
        ends.add((made.state.count, made.state.pc, stop))
        made.close()
    assert len(ends) == 1, "an event that changes nothing changes no end"
    return late


def test_latency_is_zero_in_instruction_mode_and_bounded_by_a_block_else() -> None:
    exact, block, translated = latencies("insn"), latencies("reference"), latencies("translated")
    assert exact == [0] * (9 * BLOCK)
    assert block == translated
    assert sorted(set(block)) == list(range(BLOCK))


# --- traces -----------------------------------------------------------------------------------------------------


def trace(name: str, period: int, engine: str = "translated", options: Options | None = None) -> list[str]:
    lines: list[str] = []
    settings = Settings(engine=engine, argv0=name, env={}, seed=0, stdout=2, options=options)
    with open("/dev/null", "wb") as nothing:
        settings.stdout = nothing.fileno()
        with Process(programs.path(name), programs.find(name).small, settings) as process:
            process.trace_events(period, lines.append)
            process.run()
    return lines


@pytest.mark.parametrize("name, period", [("hello", 1), ("sort", 997), ("nbody", 4999), ("atomic", 1013), ("vm", 6007)])
def test_traces_are_the_same_in_every_engine(name: str, period: int) -> None:
    wanted = trace(name, period, "reference")
    assert len(wanted) > 50
    short, long = Options(chain=False, max_instructions=5), Options(region=2000, max_instructions=300)
    for options in (Options(), short, long, Options(chaos=period), Options(cache_size=4096)):
        assert trace(name, period, options=options) == wanted


def test_a_digest_sees_a_register_a_byte_and_a_mapping() -> None:
    made = rig("reference")
    state, space = made.state, made.space
    seen = [digest(state, space)]

    def differs() -> None:
        seen.append(digest(state, space))
        assert len(set(seen)) == len(seen)

    for register in state.guest.registers:
        state.slots[register.slot] ^= 1
        differs()
    for value in (1, 2):
        space.store(DATA + 0x1FFF, 1, value)
        differs()
    space.map(0x40000, 0x1000, 3, fixed=True)
    differs()
    state.pc += 2
    differs()
    now = seen[-1]
    space.write(0x40000, bytes(0x1000))  # touched, and still zero
    assert digest(state, space) == now
    made.close()


# --- the public face and the command ----------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["reference", "translated"])
def test_a_process_calls_back(engine: str) -> None:
    seen: list[tuple[int, bool]] = []

    def look(process: dragoman.Process) -> None:
        seen.append((process.instructions, process.registers["x0"] == 0))

    with open("/dev/null", "wb") as nothing:
        with dragoman.load("@sieve", ["small"], engine=engine, seed=0, stdout=nothing.fileno()) as process:
            process.at(1000, look)
            process.every(100_000, look)
            process.step(1200)
            assert len(seen) == 1 and 1000 <= seen[0][0] < 1100
            process.run()
    assert len(seen) == 8 and all(ok for _, ok in seen)


def test_translated_code_has_no_finer_granularity() -> None:
    with pytest.raises(ValueError, match="block boundaries only"):
        dragoman.load("@hello", granularity="insn")
    with pytest.raises(ValueError, match="no granularity 'page'"):
        dragoman.load("@hello", engine="reference", granularity="page")


def written(capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, list[str]]:
    status = cli.main(["run", "--deterministic", "--events=100", *words])
    return status, capfd.readouterr().err.splitlines()


def test_the_command_writes_the_same_lines_in_both_engines(capfd: pytest.CaptureFixture[str]) -> None:
    translated, reference = written(capfd, "@hello"), written(capfd, "--engine=reference", "@hello")
    assert translated == reference
    status, lines = translated
    assert status == 0 and len(lines) == 5
    assert [int(line.split()[0]) // 100 for line in lines] == [1, 2, 3, 4, 5]
    exact = written(capfd, "--engine=reference", "--granularity=insn", "@hello")[1]
    assert [line.split()[0] for line in exact] == ["100", "200", "300", "400", "500"]


def test_compare_compares_digests_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    result = dragoman.compare("@hello", events=10)
    assert result.equal and len(result.reference.compared.events) > 30
    assert "compared at" in result.text() and result.as_dict()["runs"][0]["compared"]["events"]["number"] > 30

    make: Callable[..., Any] = Process._engine
    rng = random.Random(1)

    def disturbed(self: Process) -> Any:
        """A translator that leaves a byte below the stack pointer different, for a while."""
        engine = make(self)
        if engine.name == "translated":
            self.at(200, lambda p: p.write(p.registers["x2"] - 4096, rng.randbytes(1)))
            self.at(250, lambda p: p.write(p.registers["x2"] - 4096, b"\0"))
        return engine

    monkeypatch.setattr(Process, "_engine", disturbed)
    differing = dragoman.compare("@hello", events=10)
    assert [text.split(":")[0] for text in differing.differences] == ["events"]
