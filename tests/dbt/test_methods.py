"""One guest under each method: what each phase of @quad costs, by formulas; equal results; the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.page import Page, drawn_page

from dbt.cli import main
from dbt.kvm import METHODS, Kvm, errors
from dbt.methods import Comparison, Counts, Row, compare, report
from dbt.methods.run import STEP
from dbt.options import Options
from guests.programs import VIRTUALS, virtual_file

# What quad.c does in its phases.
PAIRS, SWITCHES, CALLS, READS, TICKS, WAITS, EDITS, ROUNDS, PATCHES = 1000, 100, 100, 50, 10, 10, 256, 250_000, 3
SPIN = 11  # instructions of the block in which it waits for ticks
PHASES = "abcdefghiz"
CALLED = len(VIRTUALS["quad"].output) + 1  # calls at the end: the console's, and that for the end
ALL = [(method, engine) for method, how in METHODS.items() if how.emulates for engine in how.engines]
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
NATIVE = [(method, engine) for method, engine in ALL if METHODS[method].native]
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
    return compare("@quad", file, output, list(dict(ALL)), ["interp", "dbt"], Options(patience=0), paravirtual=second)


def row(compared: Comparison, method: str, engine: str | None = None) -> Row:
    wanted = METHODS[method].engines[0] if engine is None else engine
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
    assert [line[:3] for line in lines[1 : len(ALL) + 1]] == [[method, engine, "yes"] for method, engine in ALL]
    exits = {phase: [f"{EXITS[method].get(phase, 0):,}" for method, _ in ALL] for phase in PHASES}
    assert [line for line in lines if line and line[0] in exits] == [[phase, *exits[phase]] for phase in PHASES]
    assert " ".join(report.HONESTY.split()) in " ".join(text.split())
    assert ["an", "exit", "that", "the", "monitor", "answers,", "cycles", "each", "1,000"] in lines


def test_the_page_has_all_of_it_and_draws_it(compared: Comparison, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(compared.page())
    page = Page(path.read_text())
    page.needs_nothing_else()
    assert page.data == json.loads(json.dumps(compared.as_dict()))
    drawn = Page(drawn_page(path))
    words = " ".join(drawn.words)
    assert f"@quad: one guest, {len(dict(ALL))} methods" in words and " ".join(report.HONESTY.split()) in words
    for title in ("Exits, by reason", "Modelled cycles", "Instructions on CPU state, by class", "Wall time"):
        assert title in words
    assert drawn.text.count("<rect") >= 4 * len(ALL)
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


def test_engines_of_a_method() -> None:
    assert [Kvm("hw", engine=engine).engine for engine in (None, "dbt", "interp")] == [
        "translated", "translated", "reference"
    ]  # fmt: skip
    with pytest.raises(errors.BadValue, match="the method 'bt' has no engine 'interp' \\(it has: dbt\\)"):
        Kvm("bt", engine="interp")
