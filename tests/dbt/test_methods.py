"""One guest under each method: what each phase of @quad costs, by formulas; equal results; the command."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from support.page import Page, drawn_page
from support.riscv import asm, words_to_bytes

from dbt import elf
from dbt.cli import main
from dbt.kvm import METHODS, Kvm, RiscvSbi, errors
from dbt.methods import Comparison, Counts, Row, compare, report
from dbt.methods import run as methods
from dbt.methods.run import HARDWARE, NESTED, STEP, engines
from dbt.options import Options
from guests.programs import VIRTUALS, virtual_file

# What quad.c does in its phases.
PAIRS, SWITCHES, CALLS, READS, TICKS, WAITS, EDITS, ROUNDS, PATCHES = 1000, 100, 100, 50, 10, 10, 256, 250_000, 3
SPIN = 11  # instructions of the block in which it waits for ticks
PHASES = "abcdefghiz"
CALLED = len(VIRTUALS["quad"].output) + 1  # calls at the end: the console's, and that for the end
EACH = [each for name, how in METHODS.items() if how.emulates
        for each in ((name, NESTED) if name == HARDWARE else (name,))]  # fmt: skip
ALL = [(method, engine) for method in EACH for engine in engines(method)]
EXITS = {  # by method and phase; 0 elsewhere
    "interp": {"d": READS, "z": CALLED},
    "bt": {"d": READS, "z": CALLED},
    "hw": {"d": READS, "f": WAITS, "z": CALLED},
    "te": {  # each instruction on CPU state but reads of `time`; interrupts; pages that shadow tables have not yet
        "a": 2 * PAIRS + 1,
        "b": SWITCHES + 3,
        "c": (5 + 6 * (CALLS - 1) + 2) + CALLS + 1,
        "d": READS,
        "e": (4 + 2 * TICKS) + (TICKS + 1) + TICKS,
        "f": 2 * WAITS + 1 + WAITS,
        "g": EDITS + 2 * EDITS - 1,  # a fence forgets both pages that are used until the next one
        "z": CALLED,
    },
    "pv": {  # calls alone: an interrupt and what it leads to are two exits, or three
        "b": SWITCHES,
        "c": 1 + 2 * CALLS,  # the entry; a program's call and its return
        "d": 1,
        "e": 2 + 2 * TICKS,  # the entry, the first alarm; an interrupt, and the next alarm with its return
        "f": 2 * WAITS + 1,  # an alarm and the wait for it, the interrupt; no alarm
        "g": 1,
        "z": 2,
    },
}
LEVELS = EXITS["hw"], EXITS["bt"]  # of a nested guest, and of its hypervisor, whose own waits are nobody's affair
EXITS[NESTED] = {phase: sum(level.get(phase, 0) for level in LEVELS) for phase in PHASES}
NATIVE = [(method, engine) for method, engine in ALL if method != NESTED and METHODS[method].native]
OUTER = [NESTED + "-2", NESTED + "-1"]
# Instructions of the hypervisor, from the trap to sret: for a load, a wait, a call; a mark is a call as well.
LOAD, WAIT, CALL = 224, 120, 136
A0, A1, A6, A7, S2, S3, ECALL = 10, 11, 16, 17, 18, 19, 0x73
LEAF = 0xDF  # of the second stage: everything is allowed
INVALID_PARAM = (1 << 64) - 3
CSRS = {  # instructions on CPU state in each phase, of a native image: translated in place, or the monitor's
    "a": (2 * PAIRS + 1, 0),
    "b": (SWITCHES, 0),
    "c": (5 + 6 * (CALLS - 1) + 2, 0),  # to enter; a call and its return; the last one
    "d": (0, 0),
    "e": (4 + 3 * TICKS, TICKS + 1),  # what it sets up; time, scause, sret of each; stimecmp
    "f": (2 * WAITS, 2 * WAITS + 1),  # time, twice; stimecmp and wfi
    "g": (EDITS, 0),
    "h": (0, 0),
    "i": (PATCHES, 0),
}


def checksum() -> int:
    """What quad.c sums up, by what its phases are said to do."""
    mask, found = (1 << 64) - 1, 0xCBF2_9CE4_8422_2325

    def mix(*values: int) -> None:
        nonlocal found
        for value in values:
            found = (found ^ value) * 0x100_0000_01B3 & mask

    frames = [0x1111 * (i + 1) for i in range(4)]
    mix(*(frames[i % 2] for i in range(1, SWITCHES + 1)))
    mix(*(value ^ 8 for value in range(1, CALLS + 1)))
    mix(*(i * STEP & 0xFFFF_FFFF for i in range(1, READS + 1)))
    mix(*[1 << 63 | 5] * TICKS, *[1] * WAITS)
    mix(*[frames[0]] * EDITS, *(frames[i % 4] for i in range(1, EDITS + 1)))
    value = found
    for _ in range(ROUNDS):
        value ^= value << 1 & mask
    mix(value)
    mix(*(i for i in range(PATCHES + 1) for _ in range(8)))
    return found


@pytest.fixture(scope="module")
def compared() -> Comparison:
    """@quad under everything."""
    file, output = virtual_file("quad"), VIRTUALS["quad"].output
    second = virtual_file("quad", True)
    both = ["interp", "dbt"]
    methods = [method for method in EACH if method != NESTED]
    return compare("@quad", file, output, methods, both, Options(patience=0), paravirtual=second, nested=True)


def row(compared: Comparison, method: str, engine: str | None = None) -> Row:
    wanted = engines(method)[0] if engine is None else engine
    return next(row for row in compared.rows if (row.method, row.engine) == (method, wanted))


def test_the_checksum_is_that_of_what_the_phases_do() -> None:
    assert VIRTUALS["quad"].output == f"quad: {TICKS} ticks, checksum {checksum():016x}\n"


def test_every_method_prints_the_same(compared: Comparison) -> None:
    assert [(row.method, row.engine) for row in compared.rows] == ALL
    assert compared.equal and [compared.why(row) for row in compared.rows] == [""] * len(ALL)


@pytest.mark.parametrize(("method", "engine"), ALL)
def test_exits_of_each_phase(compared: Comparison, method: str, engine: str) -> None:
    phases = row(compared, method, engine).phases
    assert {phase: counts.exits for phase, counts in phases.items()} == dict.fromkeys(PHASES, 0) | EXITS[method]


@pytest.mark.parametrize(("method", "engine"), NATIVE)
def test_instructions_on_cpu_state(compared: Comparison, method: str, engine: str) -> None:
    found = {phase: (counts.classes["inline"], counts.classes["callout"], sum(counts.classes.values()))
             for phase, counts in row(compared, method, engine).phases.items() if phase in CSRS}  # fmt: skip
    assert found == {
        phase: (*CSRS[phase], row(compared, method, engine).phases[phase].instructions) for phase in CSRS
    }


@pytest.mark.parametrize(("method", "engine"), ALL)
def test_patches_and_computing(compared: Comparison, method: str, engine: str) -> None:
    phases = row(compared, method, engine).phases
    stale = {phase: counts.invalidations for phase, counts in phases.items() if counts.invalidations}
    assert stale == ({"i": PATCHES} if engine == "dbt" else {})
    if method == NESTED:  # marks are instructions of its hypervisor's
        phases = row(compared, method, engine).levels[0].phases
    assert 4 * ROUNDS <= phases["h"].instructions < 4 * ROUNDS + 30


def test_native_images_do_the_same_in_every_method(compared: Comparison) -> None:
    """To the instruction and to the byte of memory: also where interrupts enter."""
    rows = [row(compared, *each) for each in NATIVE]
    assert len({row.total.instructions for row in rows}) == len({row.total.blocks for row in rows}) == 1
    assert len({row.digest for row in rows}) == 1
    assert {row.latency for row in rows} == {rows[0].latency} and 0 < rows[0].latency < SPIN


def test_a_kernel_that_calls_its_monitor_has_no_state_of_its_own(compared: Comparison) -> None:
    """But for reads of `time` and fences of code; and its two engines do the same."""
    two = [row(compared, "pv", engine) for engine in METHODS["pv"].engines]
    for each in two:
        found = {phase: counts.classes["inline"] + counts.classes["callout"] for phase, counts in each.phases.items()}
        assert found == dict.fromkeys(PHASES, 0) | {"e": TICKS, "f": 2 * WAITS, "i": PATCHES}
        assert 0 < each.latency < SPIN
    assert two[0].digest == two[1].digest and two[0].total.instructions == two[1].total.instructions


@pytest.mark.parametrize("engine", engines(NESTED))
def test_a_nested_guest_is_left_for_its_hypervisor_and_that_for_its_monitor(compared: Comparison, engine: str) -> None:
    """The guest as under hw; the hypervisor for what it forwards, as any guest is for its device and its calls."""
    nested = row(compared, NESTED, engine)
    assert [level.name for level in nested.levels] == OUTER
    for level, exits in zip(nested.levels, LEVELS):
        found = {phase: counts.exits for phase, counts in level.phases.items()}
        assert found == dict.fromkeys(PHASES, 0) | exits
        assert level.total.exits == sum(exits.values()) == sum(level.total.reasons.values())
    inner, outer = (level.total for level in nested.levels)
    assert inner.reasons == row(compared, "hw").total.reasons and inner.to_user == 0
    assert outer.reasons == row(compared, "bt").total.reasons and outer.to_user == outer.exits
    assert nested.total == inner + outer and nested.total.exits == sum(sum(exits.values()) for exits in LEVELS)


@pytest.mark.parametrize("engine", engines(NESTED))
def test_a_nested_guest_does_what_it_does_under_hw(compared: Comparison, engine: str) -> None:
    """But for what its hypervisor does in its place, and for how often it looks for a tick: time passes outside, too.
    Of a wait it ends no block itself.
    """
    inner, other = row(compared, NESTED, engine).levels[0], row(compared, "hw", engine)
    replaced = {"d": READS, "f": WAITS}
    for phase, counts in other.phases.items():
        fewer = counts.instructions - inner.phases[phase].instructions
        assert fewer % SPIN == 0 if phase == "e" else fewer == replaced.get(phase, 0), phase
        waits = WAITS if phase == "f" else 0
        assert inner.phases[phase].classes["callout"] == counts.classes["callout"] - waits, phase
        assert inner.phases[phase].classes["inline"] == counts.classes["inline"], phase
        assert phase == "e" or counts.blocks - inner.phases[phase].blocks == waits, phase
    assert row(compared, NESTED, engine).digest == other.digest
    assert 0 < row(compared, NESTED, engine).latency < SPIN


def test_what_a_hypervisor_executes_for_an_exit_is_always_the_same(compared: Comparison) -> None:
    """Half of a mark is before a phase, and half of it behind; and both engines count the same."""
    two = [row(compared, NESTED, engine) for engine in engines(NESTED)]
    for mine, other in zip(*(each.levels for each in two)):
        for phase in PHASES:
            a, b = mine.phases[phase], other.phases[phase]
            assert (a.instructions, a.blocks, a.classes) == (b.instructions, b.blocks, b.classes), phase
    handled = {phase: counts.instructions for phase, counts in two[0].levels[1].phases.items()}
    last = handled.pop("z") - CALL * (CALLED - 1)  # the end is half of a call, behind half of a mark
    assert handled == dict.fromkeys(handled, CALL) | {"d": CALL + LOAD * READS, "f": CALL + WAIT * WAITS}
    assert 0 < last < CALL


@pytest.mark.parametrize("engine", engines(NESTED))
def test_a_device_that_a_hypervisor_hands_on_is_its_monitors(engine: str) -> None:
    """The guest is not left for it: what is mapped for it and is no memory is for whoever has the machine."""
    with methods.under_hypervisor(virtual_file("quad"), NESTED, engine, Options(patience=0)) as (vcpu, _):
        exit = vcpu.run()
        assert isinstance(exit, RiscvSbi) and (exit.extension, exit.function) == (methods.MARK, ord("a"))
        vcpu.reply(0, 0)
        vcpu.vm.write(in_hypervisor("root"), LEAF.to_bytes(8, "little"))  # the first GiB of addresses, where it is
        monitor = methods.Monitor(vcpu, methods.Inside(vcpu))
        assert monitor.run(10_000_000) == "" and monitor.console.decode() == VIRTUALS["quad"].output
        inner, outer = (level.phases["d"] for level in monitor.levels())
    assert (inner.exits, outer.exits, outer.reasons) == (0, READS, {"load guest-page fault": READS})


@pytest.mark.parametrize("engine", engines(NESTED))
def test_a_nested_guest_gets_at_nothing_behind_its_memory(tmp_path: Path, engine: str) -> None:
    """There its hypervisor has other memory, by the same addresses: loads give 0, stores and calls do nothing."""
    words = [
        asm("addi", rd=A1, rs1=0, imm=1), asm("slli", rd=A1, rs1=A1, imm=31), asm("lui", rd=A0, imm=0x800 << 12),
        asm("add", rd=A1, rs1=A1, rs2=A0),  # behind 8 MiB from 0x80000000 on
        asm("ld", rd=S2, rs1=A1, imm=0), asm("sd", rs2=A1, rs1=A1, imm=0x100), asm("ld", rd=S3, rs1=A1, imm=0x100),
        asm("lui", rd=A7, imm=0x44424 << 12), asm("addi", rd=A7, rs1=A7, imm=0x34E),  # the console: 16 bytes from there
        asm("addi", rd=A6, rs1=0, imm=0), asm("addi", rd=A0, rs1=0, imm=16), ECALL,
        asm("addi", rd=A7, rs1=0, imm=8), ECALL,
    ]  # fmt: skip
    (tmp_path / "guest").write_bytes(words_to_bytes(words))
    with methods.under_hypervisor(str(tmp_path / "guest"), NESTED, engine, Options(patience=0)) as (vcpu, gpa):
        before = vcpu.vm.read(gpa, methods.SIZE)
        monitor = methods.Monitor(vcpu, methods.Inside(vcpu))
        assert monitor.run(100_000) == "" and not monitor.console
        assert vcpu.vm.read(gpa, methods.SIZE) == before and any(before[:8])
        x = struct.unpack("<32Q", vcpu.vm.read(in_hypervisor("guest"), 8 * 32))
    assert (x[S2], x[S3], x[A0]) == (0, 0, INVALID_PARAM)
    assert monitor.levels()[0].total.reasons == {
        "load guest-page fault": 2, "store/AMO guest-page fault": 1, "environment call from VS-mode": 2,
    }  # fmt: skip


def in_hypervisor(name: str) -> int:
    """Where a variable of middle.c is."""
    file = virtual_file("middle", hypervisor=True)
    image = elf.parse(Path(file).read_bytes(), Kvm().guest.linux, file)
    return next(symbol.address for symbol in image.symbols() if symbol.name == name)


def test_where_a_nested_run_ends_otherwise(tmp_path: Path) -> None:
    """What its hypervisor has no answer to, which names where; at a limit, where the guest's own count is not lost; an
    end as a failure that the guest asks for.
    """
    lui = asm("lui", rd=A1, imm=0x10000 << 12)
    amo = asm("amoadd.w", rd=A0, rs1=A1, rs2=0, aq=0, rl=0)
    reset = [asm("lui", rd=A7, imm=0x53525 << 12), asm("addi", rd=A7, rs1=A7, imm=0x354),
             asm("addi", rd=A1, rs1=0, imm=1), ECALL]  # fmt: skip
    ends = {}
    for name, words in {"amo": [lui, amo], "spin": [asm("jal", rd=0, imm=0)], "reset": reset}.items():
        (tmp_path / name).write_bytes(words_to_bytes(words))
        ends[name] = methods.run(str(tmp_path / name), NESTED, "interp", Options(), 30_000)
    assert {name: row.failure for name, row in ends.items()} == {
        "amo": "its hypervisor has no answer to the store/AMO guest-page fault at 0x80000004",
        "spin": "it has not ended within 30,000 instructions",
        "reset": "it ended with SystemEvent(kind=3, code=1, reason=24)",
    }
    inner, outer = (level.total for level in ends["spin"].levels)
    assert inner.exits == 0 and inner.instructions + outer.instructions == 30_000 > 2 * inner.instructions > 0


def test_methods_in_order_of_their_exits(compared: Comparison) -> None:
    exits = [row(compared, method).total.exits for method in ("bt", "hw", "pv", "te")]
    assert exits == sorted(set(exits)), "each has more than the one before"
    assert row(compared, "te").total.rebuilds > 0 == row(compared, "hw").total.rebuilds


def test_exits_are_named_and_the_users_are_counted(compared: Comparison) -> None:
    total = row(compared, "hw").total
    assert total.reasons == {"load guest-page fault": READS, "virtual instruction": WAITS,
                             "environment call from VS-mode": CALLED}  # fmt: skip
    assert total.exits == sum(total.reasons.values()) and total.to_user == total.exits - WAITS


def test_modelled_cycles() -> None:
    counts = Counts(instructions=7, exits=5, to_user=2)
    assert report.Costs(light=10, user=100).cycles(counts) == 7 + 3 * 10 + 2 * 100


def test_a_guest_that_marks_nothing_and_one_that_fails() -> None:
    """@tasks has one phase; @skernel2 jumps to address 0, and the others' rows are there."""
    found = compare("@tasks", virtual_file("tasks"), None, ["bt"], ["dbt"], Options(patience=0))
    assert found.equal and list(found.rows[0].phases) == ["all"]
    assert found.rows[0].console == VIRTUALS["tasks"].output
    short = compare("@tasks", virtual_file("tasks"), None, ["bt"], ["dbt"], Options(patience=0), most=1000)
    assert short.why(short.rows[0]) == "it has not ended within 1,000 instructions"
    failed = compare("@skernel2", virtual_file("skernel2"), "", ["bt", "hw"], ["dbt"], Options(patience=0))
    assert not failed.equal and "executes at 0x0" in failed.why(failed.rows[1]) and "no  " in failed.text()


def test_the_text_of_nano_is_that_of_what_it_does() -> None:
    """And two engines of a method have the same exits in each phase, whichever of them the lab has counted."""
    assert VIRTUALS["nano"].output == (
        f"nano: 100 calls, 100 pages, 100 faults, device {sum(i * STEP for i in range(1, 101)):x}, entry 2\n"
    )
    found = compare("@nano", virtual_file("nano"), VIRTUALS["nano"].output, ["te"], ["interp", "dbt"], Options())
    assert found.equal and len({row.digest for row in found.rows}) == 1
    first, second = ({name: counts.reasons for name, counts in row.phases.items()} for row in found.rows)
    assert first == second and first["a"]["sret"] == 101


def test_another_text_is_a_difference(compared: Comparison) -> None:
    other = Comparison("@quad", "something\n", compared.rows)
    assert not other.equal and other.why(other.rows[0]).startswith("it printed 'quad: 10")


def test_the_tables(compared: Comparison) -> None:
    text = compared.text()
    lines = [line.split() for line in text.splitlines()]
    assert lines[0][:3] == ["method", "engine", "ok"]
    levels = {NESTED: OUTER}
    shown = [each for method, engine in ALL
             for each in ([method, engine, "yes"], *([name, engine] for name in levels.get(method, ())))]  # fmt: skip
    assert [line[: len(each)] for line, each in zip(lines[1:], shown, strict=False)] == shown
    exits = {phase: [f"{each.get(phase, 0):,}" for method, _ in ALL
                     for each in (LEVELS if method == NESTED else (EXITS[method],))] for phase in PHASES}  # fmt: skip
    assert [line for line in lines if line and line[0] in exits] == [[phase, *exits[phase]] for phase in PHASES]
    assert " ".join((report.HONESTY + report.LEVELS).split()) in " ".join(text.split())
    assert ["an", "exit", "that", "the", "monitor", "answers,", "cycles", "each", "1,000"] in lines


def test_the_page_has_all_of_it_and_draws_it(compared: Comparison, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(compared.page())
    page = Page(path.read_text())
    page.needs_nothing_else()
    assert page.data == json.loads(json.dumps(compared.as_dict()))
    drawn = Page(drawn_page(path))
    words = " ".join(drawn.words)
    assert f"@quad: one guest, {len(dict(ALL))} methods" in words
    assert " ".join((report.HONESTY + report.LEVELS).split()) in words
    for title in ("Exits, by reason", "Modelled cycles", "Instructions on CPU state, by class", "Wall time"):
        assert title in words
    assert drawn.text.count("<rect") >= 4 * len(ALL)
    for name in OUTER:
        assert f"{name} / dbt" in words
    assert f"<th>{OUTER[1]} / interp</th>" in drawn.text and 'id="tables" class="long"' in drawn.text
    assert f"<title>csr sstatus: {whole(compared)}</title>" in drawn.text and ">others</span>" in drawn.text


def whole(compared: Comparison) -> str:
    """How often te has emulated an access of sstatus, as the page writes numbers."""
    return f"{row(compared, 'te').total.reasons['csr sstatus']:,}"


def test_what_is_wrong_stands_on_the_page_as_text(compared: Comparison, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(Comparison("<b>@quad", "something\n", compared.rows).page())
    drawn = drawn_page(path)
    assert "interp / interp: it printed 'quad: 10 ticks" in drawn and "<h1 id=\"title\">&lt;b&gt;@quad" in drawn


def test_the_command_writes_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "page.html"
    assert main(["compare", "@tasks", "--methods=bt", f"--html={path}"]) == 0
    assert capsys.readouterr() == ("", "") and Page(path.read_text()).data["guest"] == "@tasks"
    assert main(["compare", "@tasks", "--methods=bt", "--html=/nowhere/page.html"]) == 2
    assert "cannot write /nowhere/page.html: no such file" in capsys.readouterr().err


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "@quad", "--methods", "bt,hw", "--engines", "dbt", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["equal"] and [(each["method"], each["ok"]) for each in found["rows"]] == [("bt", True), ("hw", True)]
    assert found["rows"][1]["phases"]["f"]["exits"] == WAITS
    assert found["rows"][1]["cycles"] == found["rows"][1]["total"]["instructions"] + 1000 * WAITS + 5000 * (
        READS + CALLED
    )


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (["@quad", "--methods", "bt,ht"], 2, "there is no method 'ht' (there are: interp, bt, hw"),
        (["@quad", "--methods=bt", "--engines=interp"], 2, "no method of bt has an engine interp"),
        (["@quad", "--methods=bt,te", "--nested"], 2, "to be nested is a way of hw, which is not among the methods bt"),
        (["@quad", "--methods=hw", "--nested", "--engines=native"], 2, "no method of hw has an engine native"),
        (["--nested", "@sieve"], 2, "--nested is for guests of a virtual machine, such as @quad"),
        (["@middle", "--nested"], 127, "@middle is a hypervisor for others: dragoman compare @quad --methods hw"),
        (["@quad", "more"], 2, "a guest of a virtual machine has no arguments: more"),
        (["--isa=rv64gc", "@quad"], 2, "--isa is for programs"),
        (["--methods=all", "/nowhere"], 127, "/nowhere: there is no such file"),
        (["--methods=all", "@nothing"], 127, "there is no bundled guest of a virtual machine @nothing"),
        (["--methods=all", "@sieve"], 127, "there is no bundled guest of a virtual machine @sieve"),
    ],
)
def test_what_cannot_be_compared_gets_a_sentence(
    capsys: pytest.CaptureFixture[str], words: list[str], status: int, sentence: str
) -> None:
    assert main(["compare", *words]) == status
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("dragoman: ") and sentence in err and err.count("\n") == 1


def test_methods_that_differ_are_status_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "@skernel2", "--methods=bt"]) == 3
    assert "the methods differ: bt: virtual CPU 0 executes at 0x0" in capsys.readouterr().err
    assert main(["compare", "@tasks", "--methods=pv,none"]) == 3
    out, err = capsys.readouterr()
    assert "the methods differ: pv: the guest is not para-virtualized: csrw stvec at PC 0x8020" in err
    assert "none/interp: illegal instruction csrw stvec at PC 0x8020" in out


def test_the_command_has_two_levels_of_a_nested_guest(capsys: pytest.CaptureFixture[str]) -> None:
    """As data: sums in the row, and each level with its own cycles; as text: the sentence on what that leaves out."""
    assert main(["compare", "@nano", "--methods", "hw", "--nested", "--engines", "dbt", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    hardware, nested = found["rows"]
    assert (hardware["levels"], [level["name"] for level in nested["levels"]]) == ([], OUTER)
    assert hardware["digest"] == nested["digest"] and nested["ok"] and nested["method"] == NESTED
    exits = {name: [level["phases"][name]["exits"] for level in nested["levels"]] for name in "abcdefg"}
    assert exits == {name: [0, 0] for name in "abcdefg"} | {"b": [100, 100], "f": [100, 0]}
    inner, outer = (level["total"] for level in nested["levels"])
    assert [level["cycles"] for level in nested["levels"]] == [
        inner["instructions"] + 1000 * inner["exits"], outer["instructions"] + 5000 * outer["exits"]
    ]  # fmt: skip
    assert nested["cycles"] == sum(level["cycles"] for level in nested["levels"])
    assert found["note"] == report.HONESTY + report.LEVELS


def test_who_may_have_a_hypervisor_as_a_guest() -> None:
    assert "h" in Kvm("bt", nests=True).features and "h" not in Kvm("bt").features
    for method in ("hw", "te", "pv"):
        with pytest.raises(errors.BadValue, match=f"a guest of the method '{method}' cannot be a hypervisor"):
            Kvm(method, nests=True)


def test_a_hart_that_is_started_tells_of_its_guests_as_before() -> None:
    """Firmware gives it registers as they begin; who looks at it is none of them."""
    with Kvm(nests=True).create_vm() as vm:
        vm.set_user_memory_region(0, methods.RAM, methods.SIZE)
        vcpu = vm.create_vcpu()
        vcpu.hart.crossed = lambda trap: None
        vcpu.hart.tell()
        vcpu.begin()
        told = vcpu.hart.privileged.told_slot
        assert told is not None and vcpu.hart.state.slots[told] == 1


def test_engines_of_a_method() -> None:
    assert [Kvm("hw", engine=engine).engine for engine in (None, "dbt", "interp")] == [
        "translated", "translated", "reference"
    ]  # fmt: skip
    with pytest.raises(errors.BadValue, match="the method 'bt' has no engine 'interp' \\(it has: dbt\\)"):
        Kvm("bt", engine="interp")
