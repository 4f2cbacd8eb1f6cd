"""Explanations of a machine's code: where it is, in which mode it ran, who wrote over it, which devices it reached."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.fed import fed
from support.page import drawn_page
from support.riscv import MASK, asm, csrr, words_to_bytes
from support.small import A0, A1, A2, A3, CODE, ECALL, MEPC, MRET, RA, S2, S3, T0, T1, T2, end
from support.tiny import li

from dbt import cli
from dbt.explain import page
from dbt.machine.boards import Board
from dbt.machine.devices.console import Console
from guests.programs import SYSTEMS, system_file
from guests.riscv import machine

MSTATUS, MTVEC, MSCRATCH, PMPCFG0, PMPADDR0 = 0x300, 0x305, 0x340, 0x3A0, 0x3B0
UART = 0x1000_0000
TURNS = 600
SOON = ("--promote=100",)


def explained(capfd: pytest.CaptureFixture[str], *words: str) -> Any:
    """What `dragoman explain --json` prints."""
    assert cli.main(["explain", "--json", *words]) == 0
    out, err = capfd.readouterr()
    assert not err
    return json.loads(out)


def csrw(csr: int, register: int) -> int:
    return csr << 20 | register << 15 | 1 << 12 | 0x73


class Program:
    """Words for a machine that begins with them, in machine mode, and ends: a loop that has a body, and its address."""

    def __init__(
        self, folder: Path, body: Sequence[int], before: Sequence[int] = (), behind: Sequence[int] = ()
    ) -> None:
        first = [li(S2, TURNS), *before]
        size = len(words_to_bytes(body))
        back = [asm("addi", rd=S2, rs1=S2, imm=-1), asm("bne", rs1=S2, rs2=0, imm=-size - 4)]
        self.words = [*first, *body, *back, *end(), *behind]
        self.loop = CODE + 4 * len(first)
        self.behind = self.loop + size + 4 * len([*back, *end()])
        path = folder / "image"
        path.write_bytes(words_to_bytes(self.words))
        self.boot = ("-bios", "none", "-kernel", str(path))

    def explained(self, capfd: pytest.CaptureFixture[str], *options: str, at: int | None = None) -> Any:
        """At its loop, or elsewhere. The bytes of all instructions that are shown are the program's."""
        found = explained(capfd, *options, "boot", hex(self.loop if at is None else at), *self.boot)
        code = words_to_bytes(self.words)
        for row in found["guest"]:
            raw = bytes.fromhex(row["bytes"])
            assert code[row["pc"] - CODE : row["pc"] - CODE + len(raw)] == raw
        assert (found["run"]["ended"], found["physical"]) == ("status 0", found["address"])
        return found

    def executed(self) -> Counter[int]:
        """How often each instruction was executed, by the reference interpreter."""
        board = Board(machine.guest(), 16 << 20, Console(lambda data: None), "reference")
        board.vm.memory.poke(CODE, words_to_bytes(self.words))
        board.reset(CODE, 0)
        counts: Counter[int] = Counter()
        board.vcpu.engine.watch = lambda pc, decoded: counts.update([pc])
        board.vm.run()
        return counts


def rows(found: Any) -> dict[int, Any]:
    return {row["pc"]: row for row in found["guest"]}


ADD = asm("addi", rd=A0, rs1=A0, imm=3)


@pytest.fixture(autouse=True)
def _no_input(monkeypatch: pytest.MonkeyPatch) -> None:
    fed(monkeypatch)


def test_a_loop(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    program = Program(tmp_path, [ADD])
    found = program.explained(capfd)
    assert found["symbol"] == "" and list(found["modes"]) == ["M"] and found["hart"] == 0
    (block,) = found["blocks"]
    assert sum(block["entered"].values()) == program.executed()[program.loop] - 1 == TURNS - 1
    assert [piece["of"] for piece in found["stencils"][0]["pieces"]] == [0, 1, 2, 3]
    assert explained(capfd, "boot", "-", *program.boot)["address"] == program.loop
    assert explained(capfd, "boot", f"phys:{program.loop:#x}", *program.boot)["address"] == program.loop
    assert explained(capfd, "boot", *program.boot)["address"] == program.loop


def test_a_loop_that_became_a_region(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Compiled again it gives the same bytes; how often its blocks ran inside is what they have retired."""
    skip = asm("bne", rs1=T0, rs2=0, imm=8)
    program = Program(tmp_path, [asm("andi", rd=T0, rs1=S2, imm=1), skip, ADD, ADD])
    found = program.explained(capfd, *SOON, "--recount")
    assert (found["kind"], found["translation"], found["same_code"]) == ("region", "made", True)
    counts = program.executed()
    entered = {block["address"]: sum(block["entered"].values()) for block in found["blocks"]}
    once = {program.loop, program.loop + 4}  # the first time they are a part of the block before
    for pc in {row["pc"] for row in found["guest"]}:
        ran = sum(entered[row["block"]] for row in found["guest"] if row["pc"] == pc)
        assert ran == counts[pc] - (pc in once)
    assert sum(block["entered"]["regions"] * block["instructions"] for block in found["blocks"]) == found["retired"] > 0
    plain = program.explained(capfd, *SOON)
    assert all(block["entered"].keys() == {"reference", "tier0"} for block in plain["blocks"])


def test_a_call(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    program = Program(tmp_path, [asm("jal", rd=RA, imm=4 * 8)], behind=[ADD, asm("jalr", rd=0, rs1=RA, imm=0)])
    found = program.explained(capfd)
    assert {(link["address"], link["how"]) for link in found["links"]["out"]} == {
        (program.behind, "jump"), (program.loop + 4, "behind the call")}  # fmt: skip
    called = program.explained(capfd, at=program.behind)
    assert program.loop in {link["address"] for link in called["links"]["in"]}
    assert sum(called["blocks"][0]["entered"].values()) == TURNS


def trap(*body: int) -> tuple[list[int], list[int]]:
    """What sets up a handler that steps over the instruction; and the handler."""
    setup = [asm("auipc", rd=T0, imm=0), asm("addi", rd=T0, rs1=T0, imm=4 * (3 + len(body) + 2 + 5)), csrw(MTVEC, T0)]
    return setup, [csrr(T1, MEPC), asm("addi", rd=T1, rs1=T1, imm=4), csrw(MEPC, T1), MRET]


def test_a_trap(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    setup, handler = trap(ADD, ECALL)
    program = Program(tmp_path, [ADD, ECALL], setup, handler)
    found = program.explained(capfd)
    shown = rows(found)
    assert [(row["class"], row["n"]) for row in shown.values()] == [("ident", 1), ("inline", 2)]
    assert "raises a trap (environment call), which a handler of the guest's takes" in shown[program.loop + 4]["why"]
    (block,) = found["blocks"]
    assert block["ended"] == "`ecall` traps" and sum(block["entered"].values()) == TURNS
    handled = program.explained(capfd, at=program.behind)
    assert sum(handled["blocks"][0]["entered"].values()) == TURNS
    back = program.explained(capfd, at=program.behind + 12)
    assert [row["text"] for row in back["guest"]] == ["mret"]
    leading = {link["address"] for link in back["links"]["in"]}
    assert program.behind in leading


def test_csrs(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    program = Program(tmp_path, [csrw(MSCRATCH, S2), csrr(A1, MSCRATCH), csrr(A2, MSTATUS)])
    shown = rows(program.explained(capfd))
    assert shown[program.loop]["class"] in ("inline", "callout") and "mscratch" in shown[program.loop]["text"]
    out = rows(program.explained(capfd, "--sensitive=callout"))
    assert out[program.loop]["class"] == "callout" and out[program.loop]["monitor"] > TURNS // 2


def test_floating_point(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    on = [asm("lui", rd=T0, imm=0x6000), csrw(MSTATUS, T0)]
    program = Program(tmp_path, [asm("fadd.d", rd=1, rs1=1, rs2=2, rm=7)], on)
    found = program.explained(capfd, *SOON)
    add = rows(found)[program.loop]
    assert "accrues floating-point flags" in add["why"]
    assert any("addsd" in line["text"] for line in found["host"] if line["of"] == add["n"])
    assert found["same_code"] is True


def test_code_that_is_written_over(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Who wrote, in which mode, what went for it."""
    other = asm("addi", rd=A0, rs1=A0, imm=5)
    write = [asm("lw", rd=T1, rs1=S3, imm=0), asm("sw", rs1=S3, rs2=T1, imm=-4 * 20), *end()]
    body = [ADD]
    base = [asm("auipc", rd=S3, imm=0), asm("addi", rd=S3, rs1=S3, imm=0)]
    program = Program(tmp_path, body, base, [*write, other])
    target = program.loop
    where = program.behind + 4 * len(write)
    program.words[2] = asm("addi", rd=S3, rs1=S3, imm=where - (CODE + 4))
    at = program.words.index(write[1])
    program.words[at] = asm("sw", rs1=S3, rs2=T1, imm=target - where)
    leave = program.words.index(end()[0])
    program.words[leave] = asm("jal", rd=0, imm=program.behind - (CODE + 4 * leave))
    Path(program.boot[3]).write_bytes(words_to_bytes(program.words))
    found = explained(capfd, *SOON, "boot", hex(target), *program.boot)
    assert bytes.fromhex(found["guest"][0]["bytes"]) == other.to_bytes(4, "little")
    (change,) = found["written"]
    assert (change["start"], change["end"], change["translations"]) == (target, target + 4, 1)
    assert (change["pc"], change["by"]) == (CODE + 4 * at, "hart 0 in M-mode")
    assert found["translation"] == "dropped" and found["gone"][0]["pc"] == CODE + 4 * at


def test_accesses_of_a_device(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out, look = asm("sb", rs1=T2, rs2=A0, imm=0), asm("lbu", rd=A1, rs1=T2, imm=5)
    program = Program(tmp_path, [out, look, look], [asm("lui", rd=T2, imm=UART)])
    shown = rows(program.explained(capfd))
    at = program.loop
    assert shown[at]["devices"] == [{"device": "serial", "read": 0, "write": TURNS}]
    assert shown[at + 4]["devices"] == [{"device": "serial", "read": TURNS, "write": 0}] == shown[at + 8]["devices"]
    assert shown[at + 12]["devices"] == [] and shown[at]["class"] == "ident"
    assert shown[at]["monitor"] > TURNS // 2  # not the first times, when blocks were interpreted


def test_compressed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pair = [asm("c.addi", rd=A0, imm=3), asm("c.addi", rd=A2, imm=1)]
    found = Program(tmp_path, [*pair, *pair]).explained(capfd)
    assert [len(row["bytes"]) for row in found["guest"]] == [4, 4, 4, 4, 8, 8]
    assert [row["extension"] for row in found["guest"]][:4] == ["c"] * 4


# --- systems ----------------------------------------------------------------------------------------------------------


def test_a_process_of_a_kernel(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Two processes have other code at one address; each is where its pages are, and the kernel has symbols."""
    fed(monkeypatch, "ls\nprimes 100\nshutdown\n")
    found = explained(capfd, "boot", "0x10000", "@kernel")
    assert list(found["modes"]) == ["U"] and found["physical"] > CODE
    (other,) = found["elsewhere"]
    assert other["address"] == 0x10000 and other["physical"] not in (0x10000, found["physical"])
    fed(monkeypatch, "ls\nprimes 100\nshutdown\n")
    again = explained(capfd, "boot", f"phys:{other['physical']:#x}", "@kernel")
    assert (again["address"], again["physical"]) == (0x10000, other["physical"])
    assert [row["bytes"] for row in again["guest"]] != [row["bytes"] for row in found["guest"]]
    fed(monkeypatch, "ls\nprimes 100\nshutdown\n")
    kernel = explained(capfd, "--promote=300", "boot", "memset+0x3a", "@kernel")
    assert kernel["symbol"] == "memset+0x3a" and "S" in kernel["modes"] and kernel["same_code"] is True


def test_a_guest_of_a_hypervisor(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Code behind two stages of tables: its bytes are those of the memory that they lead to."""
    fed(monkeypatch, SYSTEMS["hypervisor"].input)
    found = explained(capfd, "--promote=300", "boot", "0x80200000", "@hypervisor", "-cpu", "rv64,h=true")
    assert list(found["modes"]) == ["VS"]
    kernel = Path(system_file("@hypervisor")).read_bytes()
    assert b"".join(bytes.fromhex(row["bytes"]) for row in found["guest"] if row["n"]) in kernel
    fed(monkeypatch, SYSTEMS["hypervisor"].input)
    process = explained(capfd, "boot", "0x10000", "@hypervisor", "-cpu", "rv64,h=true")
    assert list(process["modes"]) == ["VU"] and process["physical"] > CODE
    fed(monkeypatch, SYSTEMS["hypervisor"].input)
    hot = explained(capfd, "--promote=300", "boot", "-", "@hypervisor", "-cpu", "rv64,h=true")
    assert hot["same_code"] is True and hot["retired"] > 1000


def test_an_instruction_of_a_hypervisor(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    hlv = 0x6C00_4073 | A3 << 15 | A1 << 7  # hlv.d a1, (a3)
    open_all = [li(T0, -1), csrw(PMPADDR0, T0), li(T0, 0x1F), csrw(PMPCFG0, T0)]
    program = Program(tmp_path, [hlv], [asm("auipc", rd=A3, imm=0), *open_all])
    program.boot = (*program.boot, "-cpu", "rv64,h=true")
    row = rows(program.explained(capfd))[program.loop]
    assert row["text"].startswith("hlv.d a1") and row["class"] == "inline" and row["monitor"] < TURNS // 2
    without = explained(capfd, "boot", hex(program.loop), *program.boot[:4])
    assert "no instruction of this processor" in without["guest"][0]["why"]


# --- how it is asked for ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("words", "said"), [
    (["boot", "nowhere", "@kernel"], "there is no symbol 'nowhere' in the machine"),
    (["boot", "0x40000000", "@kernel"], "0x40000000 is in no code of the machine"),
    (["boot", "phys:0x10", "@kernel"], "phys:0x10 is in no code of the machine"),
    (["boot"], "-kernel or -bios is wanted"),
    (["boot", "-", "@kernel", "--engine=reference"], "the machine is to be translated"),
    (["--argv0=x", "boot", "-", "@kernel"], "--argv0 is for programs"),
    (["--symbols=/dev/null", "@hello"], "--symbols is for machines"),
])  # fmt: skip
def test_what_is_wrong_is_said(
    words: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    fed(monkeypatch, "shutdown\n")
    assert cli.main(["explain", *words]) == 2
    out, err = capfd.readouterr()
    assert err.startswith("dragoman: ") and err.count("\n") == 1 and said in err and not out


def test_names_from_a_list(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    program = Program(tmp_path, [ADD])
    names = tmp_path / "System.map"
    names.write_text(f"{CODE:016x} T begin\n{program.loop:016x} t round\n")
    found = explained(capfd, f"--symbols={names}", "boot", "round", *program.boot)
    assert (found["address"], found["symbol"]) == (program.loop, "round")
    assert {link["symbol"] for link in found["links"]["in"]} == {"begin", "round"}


def test_looking_changes_nothing(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    fed(monkeypatch, SYSTEMS["kernel"].input)
    found = explained(capfd, "--promote=300", "boot", "-", "@kernel")
    fed(monkeypatch, SYSTEMS["kernel"].input)
    assert cli.main(["boot", "@kernel", "--deterministic", "--events=1000000000"]) == 0
    last = capfd.readouterr().err.splitlines()[-1]
    assert found["run"]["instructions"] == int(last.split()[0])
    assert sum(found["run"]["retired"].values()) == found["run"]["instructions"]


def test_harts_of_a_machine(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Code of the hart that executed it most; counts of the run are of all."""
    fed(monkeypatch, "shutdown\n")
    found = explained(capfd, "--promote=500", "--recount", "boot", "-", "@kernel", "-smp", "2")
    assert found["hart"] in (0, 1) and sum(found["run"]["retired"].values()) == found["run"]["instructions"]
    inside = sum(block["entered"]["regions"] * block["instructions"] for block in found["blocks"])
    assert inside == found["retired"] > 0


def test_the_text_says_where_it_is(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    program = Program(tmp_path, [asm("sb", rs1=T2, rs2=A0, imm=0)], [asm("lui", rd=T2, imm=UART)])
    assert cli.main(["explain", "--parts=counts", "boot", hex(program.loop), *program.boot]) == 0
    text = capfd.readouterr().out
    assert f"on hart 0, at {program.loop:#x} of memory" in text and "in modes: M (" in text
    assert f"the instruction at {program.loop:#x} read serial 0 times, and wrote it {TURNS} times" in text


def test_the_page_keeps_high_addresses(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """As they are where a kernel runs, which a script's numbers do not hold; what looks like one in a text stays."""
    program = Program(tmp_path, [ADD])
    text = json.dumps(program.explained(capfd)).replace(str(program.loop), str(program.loop | -1 << 32 & MASK))
    found = json.loads(text) | {"program": "[1234567890123456789,\"]"}
    path = tmp_path / "page.html"
    path.write_text(page.page(found))
    drawn = drawn_page(path, "#2")
    high = f"{program.loop | -1 << 32 & MASK:x}"
    assert high.startswith("ffffffff8") and f'<span class="at">{high}</span>' in drawn
    assert f'[1234567890123456789,"]: block at 0x{high}</h1>' in drawn
    assert "of memory; Python saw its page in modes: M (" in drawn
