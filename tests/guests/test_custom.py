"""Instructions of the user's own: they run in both engines, show everywhere by name, and wrong ones are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from support.riscv import GUEST, MASK, Rig, asm, random_integer, words_to_bytes
from support.tiny import A0, A1, ECALL, call, li, program

import dragoman
import guests
from dbt import cli
from dbt.lockstep import ReproducerError, reproduce
from guests.decode import encode
from guests.riscv.table import Extension
from guests.spec import BadExtension, Treat
from ir import llvm

SOURCE = '''
import dragoman
from guests.riscv.zba import ZBA
from guests.spec import Treat

X = dragoman.Extension("xsum", "our manual")
ALIAS = X

@X.insn("x.addu", "0000000 rs2 rs1 000 rd 0001011", "rd, rs1, rs2")
def addu(m, o):
    """The sum, or ones if there is a carry."""
    total = m.add(m.x[o.rs1], m.x[o.rs2])
    m.x[o.rd] = m.select(m.ltu(total, m.x[o.rs1]), (1 << 64) - 1, total)

@X.insn("x.slow", "uimm[11:0] rs1 001 rd 0001011", "rd, rs1, imm", treat=Treat.CALLOUT)
def slow(m, o):
    """The monitor's."""
    m.x[o.rd] = m.xor(m.x[o.rs1], o.imm)
'''


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "xsum.py"
    path.write_text(SOURCE)
    return path


def words(extension: Extension) -> list[int]:
    """A loop that is translated (a0 saturates in the end), one of the monitor's, and exit with a0 modulo 128."""
    addu, slow = extension.rows
    return [
        li(A1, 1), asm("slli", rd=A1, rs1=A1, imm=57), li(A0, 1), li(5, 200),
        encode(addu, rd=A0, rs1=A0, rs2=A1), asm("addi", rd=5, rs1=5, imm=-1), asm("bne", rs1=5, rs2=0, imm=-8),
        encode(slow, rd=A0, rs1=A0, imm=0x155), asm("andi", rd=A0, rs1=A0, imm=127), *call(94),
    ]  # fmt: skip


STATUS = (MASK ^ 0x155) & 127


@pytest.fixture
def extension(file: Path) -> Extension:
    (found,) = guests.extensions_of(file)
    return found


@pytest.fixture
def guest_program(extension: Extension, tmp_path: Path) -> Path:
    return program(tmp_path / "sums", words(extension))


@pytest.mark.parametrize("engine", ["reference", "translated"])
def test_it_runs_in_both_engines(engine: str, extension: Extension, guest_program: Path) -> None:
    result = dragoman.run(guest_program, engine=engine, extensions=[extension])
    assert (result.status, result.instructions) == (STATUS, 4 + 3 * 200 + 2 + 1)
    assert result.stats["callout"] == 2  # x.slow and the system call
    without = dragoman.run(guest_program, engine=engine)
    assert without.signal == 4 and "illegal instruction" in without.reason


def test_the_engines_agree_on_it(extension: Extension, guest_program: Path) -> None:
    assert dragoman.compare(guest_program, extensions=[extension]).equal
    report = dragoman.lockstep(guest_program, extensions=[extension])
    assert report.difference is None and report.status == STATUS


def test_every_operand_gives_what_python_gives(extension: Extension) -> None:
    """An independent meaning, in both engines; x0 and equal registers among the operands."""
    guest = guests.load("riscv64", extensions=[extension])
    rng = Random(1)
    for translated in (False, True):
        rig = Rig([(0x1_0000, 0x1000, 7)], translated=translated, guest=guest)
        for _ in range(60):
            rd, rs1, rs2 = (rng.choice((0, 5, 10, 31)) for _ in range(3))
            rig.space.poke(0x1_0000, words_to_bytes([encode(extension.rows[0], rd=rd, rs1=rs1, rs2=rs2), ECALL]))
            for number in (5, 10, 31):
                rig.state.slots[number] = random_integer(rng)
            before = list(rig.state.slots[:32])
            rig.state.pc, rig.state.mid_block = 0x1_0000, False
            assert rig.run(rig.state.count + 1).cause == guest.syscall_cause
            expected = min(before[rs1] + before[rs2], MASK) if rd else 0
            assert rig.state.slots[rd] == expected, (translated, rd, rs1, rs2)
        rig.close()


def test_it_shows_by_name(file: Path, guest_program: Path, capfd: pytest.CaptureFixture[str]) -> None:
    own = f"--extension={file}"
    for command, where in (
        (["run", own, "--dump=decode", str(guest_program)], "ident    x.addu a0, a0, a1"),
        (["run", own, "--trace", str(guest_program)], "x.slow a0, a0, 341"),
        (["info", own, str(guest_program)], "xsum 2"),
        (["info", own, "--coverage"], "xsum            2 done"),
    ):
        assert cli.main(command) == (STATUS if command[0] == "run" else 0)
        shown = capfd.readouterr()
        assert where in shown.out + shown.err, command
    assert cli.main(["compare", own, str(guest_program)]) == 0
    assert cli.main(["lockstep", own, str(guest_program)]) == 0
    assert cli.main(["run", own, own.replace("xsum.py", "none.py"), str(guest_program)]) == 2


def test_a_reproducer_needs_the_extension(
    file: Path, guest_program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(llvm.Lowering, "do_add", lambda self, inst: self.binary(inst, "sub"))
    assert cli.main(["lockstep", f"--extension={file}", str(guest_program)]) == 3
    (saved,) = tmp_path.glob("lockstep-*.json")
    assert f"`dragoman lockstep --extension={file} --reproduce={saved.name}`" in capfd.readouterr().err
    assert json.loads(saved.read_text())["extensions"] == ["xsum"]
    assert cli.main(["lockstep", f"--reproduce={saved}"]) == 126
    assert "needs the extension xsum" in capfd.readouterr().err
    assert cli.main(["lockstep", f"--extension={file}", f"--reproduce={saved}"]) == 3
    monkeypatch.undo()
    assert reproduce(saved, extensions=guests.extensions_of(file)) == []
    with pytest.raises(ReproducerError, match="xsum"):
        reproduce(saved)


def test_the_same_file_makes_no_other_guest_of_the_standard_one(extension: Extension) -> None:
    guest = guests.load("riscv64", extensions=[extension])
    assert guest.own == ("xsum",) and "xsum" in guest.features
    assert guests.load("riscv64").own == () and len(guest.rows) == len(GUEST.rows) + 2


def test_a_special_case_of_a_standard_instruction_wins() -> None:
    """Hints that the manual leaves to custom use are such: slti to x0."""
    hints = Extension("xhint", "")

    @hints.insn("x.mark", "imm[11:0] rs1 010 00000 0010011", "rs1, imm")
    def mark(m, o):
        m.x[31] = m.add(m.x[o.rs1], o.imm)

    guest = guests.load("riscv64", extensions=[hints])
    for rd, name in ((0, "x.mark"), (1, "slti")):
        decoded = guest.decode(asm("slti", rd=rd, rs1=2, imm=3))
        assert decoded is not None and decoded.row.name == name


# --- what is refused ---------------------------------------------------------------------------------


def nothing(m, o) -> None:
    """A body without any effect."""


def one(name: str = "xown", insn: str = "x.own", pattern: str = "0000000 rs2 rs1 000 rd 0001011",
        syntax: str = "rd, rs1, rs2", body: Callable[..., None] = nothing, **how: object) -> Extension:  # fmt: skip
    """An extension of one instruction."""
    made = Extension(name, "")
    made.insn(insn, pattern, syntax, **how)(body)  # type: ignore[arg-type]
    return made


def assign(value: Callable[..., object]) -> Callable[..., None]:
    def body(m, o) -> None:
        m.x[o.rd] = value(m, o)

    return body


def chooses(m, o) -> None:
    if m.x[o.rs1]:
        m.x[o.rd] = 1


@pytest.mark.parametrize(
    ("extensions", "says"),
    [
        ([one("mine")], "extension 'mine': the name must be an x"),
        ([one("x")], "extension 'x': the name must be an x"),
        ([one("zba")], "extension 'zba': the name must be an x"),
        ([one("xMine")], "extension 'xMine': the name must be an x"),
        ([Extension("xown", "")], "extension 'xown' has no instructions"),
        ([one(), one(insn="x.other")], "extension 'xown' is given twice"),
        ([one(), one("xother", pattern="0000001 rs2 rs1 000 rd 0001011")], "'xown' has an instruction of this name"),
        ([one(insn="addi")], "'xown', instruction 'addi': the extension 'i' has an instruction of this name"),
        ([one(insn="x own")], "instruction 'x own': the name must be small letters"),
        ([one(pattern="0000000 rs2 rs1 000 rd 0110011")], "'x.own': some of its words are those of 'add' too"),
        ([one(), one("xb", "x.b", "000000 uimm[5:0] rs1 000 rd 0001011", "rd, rs1, imm")], "those of 'x.b' too"),
        ([one(pattern="0000000 00101 rs1 000 rd 0110011", syntax="rd, rs1")], "those of 'add' too"),
        ([one(pattern="0000000 00101 rs1 000 00000 0000011", syntax="rs1")], "those of 'lb' too"),
        ([one(pattern="0000000 rs2 rs1 rm rd 0110011")], "those of 'add' too"),
        ([one(pattern="0000000 rs2 rs1 000 rd 00010")], "'x.own': pattern '0000000 rs2 rs1 000 rd 00010': 30 bits"),
        ([one(pattern="0000000 rs2 rs9 000 rd 0001011")], "unknown field 'rs9'"),
        ([one(pattern="name[6:0] rs2 rs1 000 rd 0001011")], "unknown field 'name'"),
        ([one(syntax="rd, frs3")], "'x.own': AttributeError"),
        ([one(body=chooses)], "a guest value (getreg) has no truth at translation: use m.select or m.branch"),
        ([one(body=assign(lambda m, o: m.x[o.rs1] + 1))], "'x.own': TypeError"),
        ([one(body=assign(lambda m, o: m.plus(m.x[o.rs1], 1)))], "has no attribute 'plus'"),
        ([one(body=assign(lambda m, o: m.eq(m.x[o.rs1], 1)))], "has type i1, not i64"),
        ([one(body=assign(lambda m, o: m.add(m.x[o.rs1], -1)))], "constant -1 is no unsigned 64-bit value"),
        ([one(body=assign(lambda m, o: m.x[o.rs3]))], "'x.own': AttributeError"),
    ],
)  # fmt: skip
def test_a_wrong_extension_is_refused_in_a_sentence(extensions: list[Extension], says: str) -> None:
    with pytest.raises(BadExtension) as caught:
        guests.load("riscv64", extensions=extensions)
    message = str(caught.value)
    assert says in message and message.startswith("extension '")
    assert "\n" not in message
    with pytest.raises(dragoman.BadExtension):
        dragoman.load("@hello", extensions=extensions)


def test_a_body_of_the_monitor_is_not_built() -> None:
    """It may ask what a value is, as the reference interpreter executes it."""
    guest = guests.load("riscv64", extensions=[one(body=chooses, treat=Treat.CALLOUT)])
    assert guest.own == ("xown",)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (None, "cannot read {file}: no such file or directory"),
        ("", "{file}: there is no dragoman.Extension in this file"),
        ("from guests.riscv.zba import ZBA", "{file}: there is no dragoman.Extension in this file"),
        ("x = 1\ny = (", "{file}, line 2: SyntaxError: '(' was never closed"),
        ("import dragoman\n\n1 / 0", "{file}, line 3: ZeroDivisionError: division by zero"),
        ("open('/nowhere')", "{file}, line 1: FileNotFoundError: [Errno 2] No such file or directory: '/nowhere'"),
        ("import sys\nsys.exit(3)", "{file}, line 2: SystemExit: 3"),
        ("import dragoman\ndragoman.Extension()", "{file}, line 2: TypeError: "),
        ("\0", "{file}"),
    ],
)
def test_a_wrong_file_is_refused_with_status_2(
    source: str | None, says: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.py"
    if source is not None:
        file.write_text(source)
    assert cli.main(["run", f"--extension={file}", "@hello"]) == 2
    shown = capfd.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1
    assert shown.err.startswith("dragoman: " + says.format(file=file))
