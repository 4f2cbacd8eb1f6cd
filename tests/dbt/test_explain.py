"""Explanations: what is said of a block or region is what is there, whatever kind it is; how they are asked for."""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support import tiny
from support.fed import fed
from support.page import Page, drawn_page
from support.peers import need
from support.riscv import asm, csrr, words_to_bytes
from support.tiny import A0, A1, A2, A3, START, li

import dragoman
from dbt import cli
from dbt.explain import data
from dbt.explain.process import InProcess
from dbt.explain.subject import choose
from dbt.explain.watch import Watch
from dbt.options import Options

T0, T1 = 5, 6
C_NOP = 1
SOON = ("--promote=100",)  # regions in a short run


def explained(capfd: pytest.CaptureFixture[str], *words: str) -> Any:
    """What `dragoman explain --json` prints."""
    assert cli.main(["explain", "--json", *words]) == 0
    out, err = capfd.readouterr()
    assert not err
    return json.loads(out)


def of(found: Any, path: Path, words: Sequence[int], pc: int) -> dict[int, Any]:
    """The guest instructions of an explanation by address, their bytes checked against the program's."""
    code = words_to_bytes(words)
    rows = {row["pc"]: row for row in found["guest"]}
    for at, row in rows.items():
        raw = bytes.fromhex(row["bytes"])
        assert raw == code[at - START : at - START + len(raw)] and len(raw) in (2, 4)
    assert pc in rows
    return rows


def host_of(found: Any, n: int) -> list[str]:
    return [line["text"] for line in found["host"] if line["of"] == n]


def executed(path: Path) -> Counter[int]:
    """How often each instruction was executed, by the reference interpreter's own trace."""
    counts: Counter[int] = Counter()
    with dragoman.load(path, engine="reference", seed=0, trace=lambda line: counts.update([_pc(line)])) as process:
        process.run()
    return counts


def _pc(line: str) -> int:
    return int(line.split()[0], 16)


def counted(turns: int) -> list[int]:
    """A loop of three instructions, the third of which ends it."""
    return [
        li(T0, 0), li(T1, turns >> 4), asm("slli", rd=T1, rs1=T1, imm=4),
        asm("add", rd=A0, rs1=A0, rs2=T0), asm("addi", rd=T0, rs1=T0, imm=1), asm("bne", rs1=T0, rs2=T1, imm=-8),
        *tiny.leave(0),
    ]  # fmt: skip


LOOP = START + 12


# --- one block of each kind ------------------------------------------------------------------------------------------


def test_a_loop_in_stencils(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Every instruction has lines at every stage, and the counts are those of the reference interpreter."""
    words = counted(1008)
    path = tiny.program(tmp_path / "loop", words)
    found = explained(capfd, str(path))
    assert (found["address"], found["kind"], found["translation"]) == (LOOP, "block", "none")
    rows = of(found, path, words, LOOP)
    assert [row["class"] for row in rows.values()] == ["ident"] * 3
    assert [row["n"] for row in rows.values()] == [1, 2, 3]
    (block,) = found["blocks"]
    assert sum(block["entered"].values()) == executed(path)[LOOP] - 1 == 1007 and block["entered"]["tier0"] > 800
    assert [stage["name"] for stage in block["stages"]] == ["lifted", "getset", "fold", "cse", "wide", "dce"]
    for n in (1, 2, 3):
        for lines in (block["stages"][0]["lines"], block["stages"][-1]["lines"], found["llvm"], found["improved"]):
            assert [line for line in lines if line["of"] == n], n
        assert host_of(found, n), n
    assert block["stages"][0]["lines"][-1] == {"text": f"branch %7, {LOOP:#x}, {LOOP + 12:#x}", "of": 3, "note": ""}
    assert {(link["address"], link["how"]) for link in found["links"]["out"]} == {(LOOP + 12, "not taken")}
    assert found["same_code"] is None and found["retired"] == 0


def test_its_stencils_are_filled(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tiny.program(tmp_path / "loop", counted(1008))
    found = explained(capfd, str(path))
    ((head, first, second, third),) = [one["pieces"] for one in found["stencils"]]
    assert head["name"] == "head" and [piece["of"] for piece in (head, first, second, third)] == [0, 1, 2, 3]
    holes = [{(hole["kind"], hole["value"]) for hole in piece["holes"]} for piece in (first, second, third)]
    assert holes[0] == {("register", "a0"), ("register", "t0"), ("register written", "a0")}
    assert holes[1] == {("register", "t0"), ("immediate", "1"), ("register written", "t0")}
    assert {("register", "t0"), ("register", "t1"), ("branch taken", f"{head['lines'][0]['at']:#x}")} <= holes[2]
    ends = [piece["lines"][-1]["at"] + len(piece["lines"][-1]["bytes"]) // 2 for piece in (head, first, second)]
    assert ends == [piece["lines"][0]["at"] for piece in (first, second, third)]


def test_a_long_block_counts_for_more_and_is_counted_right(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = [
        li(A1, 1500), *[asm("addi", rd=A0, rs1=A0, imm=n) for n in range(120)], asm("addi", rd=A1, rs1=A1, imm=-1),
        asm("bne", rs1=A1, rs2=0, imm=-4 * 121), *tiny.leave(0),
    ]  # fmt: skip
    path = tiny.program(tmp_path / "long", words)
    for options in (), ("--promote=1000",):
        found = explained(capfd, *options, str(path), hex(START + 4))
        entered = found["blocks"][0]["entered"]
        assert sum(entered.values()) + found["retired"] // 122 == executed(path)[START + 4] - 1 == 1499
        assert (found["translation"] == "made") is bool(options) and found["retired"] % 122 == 0
    assert 0 < entered["tier0"] < 700, "three for each, and it is worth it a little later"


def test_a_loop_that_became_a_region(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = counted(20_000)
    path = tiny.program(tmp_path / "loop", words)
    found = explained(capfd, *SOON, str(path), "-")
    assert (found["address"], found["translation"], found["same_code"]) == (LOOP, "made", True)
    (block,) = found["blocks"]
    assert block["entered"]["tier0"] == 100  # what --promote says
    assert sum(block["entered"].values()) + found["retired"] // 3 == 19_999 and found["retired"] % 3 == 0
    assert found["retired"] == found["run"]["retired"]["regions"]
    assert all(host_of(found, n) for n in (1, 2, 3)) and not found["stencils"]


def test_a_region_of_several_blocks(capfd: pytest.CaptureFixture[str]) -> None:
    found = explained(capfd, "--promote=1000", "@sieve", "-", "small")
    assert found["kind"] == "region" and len(found["blocks"]) > 2 and found["same_code"] is True
    assert [row["n"] for row in found["guest"] if row["n"]] == list(range(1, 1 + sum(
        block["instructions"] for block in found["blocks"])))  # fmt: skip
    assert found["run"]["retired"]["regions"] >= found["retired"] > found["run"]["instructions"] // 2
    inside = {block["address"] for block in found["blocks"]}
    assert any(link["address"] in inside and link["state"] == "in this region" for link in found["links"]["in"])
    assert not inside & {link["address"] for link in found["links"]["out"]}
    assert any("a fault goes on at" in line["note"] for line in found["host"])
    assert [row["why"].rpartition("; ")[2] for row in found["guest"] if "lbu" in row["text"]] == ["loads 1 byte"]
    middle = found["guest"][2]["pc"]
    again = explained(capfd, "--promote=1000", "@sieve", hex(middle), "small")
    assert again["asked"] == middle and again["address"] == found["address"]


def test_blocks_inside_regions_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """By a second run from stencils: the counts are the reference interpreter's, and make up what was retired."""
    fed(monkeypatch)
    path = tiny.program(tmp_path / "loop", counted(20_000))
    entered = explained(capfd, *SOON, "--recount", str(path))["blocks"][0]["entered"]
    assert sum(entered.values()) == executed(path)[LOOP] - 1 and entered["regions"] > 19_000
    found = explained(capfd, "--promote=1000", "--recount", "@sieve", "-", "small")
    inside = sum(block["entered"]["regions"] * block["instructions"] for block in found["blocks"])
    assert inside == found["retired"] > 100_000
    assert cli.main(["explain", "--promote=1000", "--recount", "--parts=counts", "@sieve", "-", "small"]) == 0
    assert f"{found['blocks'][0]['entered']['regions']:,} times in regions" in capfd.readouterr().out


def test_a_call_and_what_is_behind_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = [
        li(A1, 500), asm("jal", rd=1, imm=16), asm("addi", rd=A1, rs1=A1, imm=-1), asm("bne", rs1=A1, rs2=0, imm=-8),
        asm("jal", rd=0, imm=12), asm("addi", rd=A0, rs1=A0, imm=1), asm("jalr", rd=0, rs1=1, imm=0), *tiny.leave(0),
    ]  # fmt: skip
    path = tiny.program(tmp_path / "call", words)
    call, function, behind = START + 4, START + 20, START + 8
    found = explained(capfd, str(path), hex(call))
    assert {(link["address"], link["how"]) for link in found["links"]["out"]} == {
        (function, "jump"), (behind, "behind the call")}  # fmt: skip
    assert sum(found["blocks"][0]["entered"].values()) == executed(path)[call] - 1  # once it is the end of a block
    called = explained(capfd, str(path), hex(function))
    assert {link["address"] for link in called["links"]["in"]} == {START, call}
    assert sum(called["blocks"][0]["entered"].values()) == 500
    assert "jumps to an address that is known when it runs" in called["blocks"][0]["ended"]


def test_a_trap_is_the_monitors(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = [
        li(A2, 300), li(tiny.A7, 172), tiny.ECALL, asm("addi", rd=A2, rs1=A2, imm=-1),
        asm("bne", rs1=A2, rs2=0, imm=-12), *tiny.leave(0),
    ]  # fmt: skip
    path = tiny.program(tmp_path / "trap", words)
    found = explained(capfd, str(path), hex(START + 4))
    rows = of(found, path, words, START + 8)
    assert [(row["class"], row["n"]) for row in rows.values()] == [("ident", 1), ("callout", 0)]
    assert "its row says so, and it traps" in rows[START + 8]["why"]
    assert rows[START + 8]["monitor"] + found["blocks"][0]["entered"]["reference"] == 299
    assert found["links"]["out"] == [
        {"address": START + 8, "symbol": "", "how": "the monitor executes it", "state": ""}]  # fmt: skip
    assert found["stencils"][0]["pieces"][-1]["name"] == "callout"
    alone = explained(capfd, "--static", str(path), hex(START + 8))
    assert alone["blocks"][0]["instructions"] == 0 and alone["run"] is None


def test_csrs_are_inline_or_the_monitors(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = [
        csrr(A0, 1), asm("csrrw", rd=A1, csr=2, rs1=A2), csrr(A3, 0xC01),
        *tiny.leave(0),
    ]  # fmt: skip
    path = tiny.program(tmp_path / "csr", words)
    rows = of(explained(capfd, str(path), hex(START)), path, words, START)
    assert [row["class"] for row in rows.values()] == ["inline", "inline", "callout"]
    assert "fflags" in rows[START]["why"] and "writes frm" in rows[START + 4]["why"]
    out = of(explained(capfd, "--sensitive=callout", str(path), hex(START)), path, words, START)
    assert [row["class"] for row in out.values()] == ["callout"] and "--sensitive=callout" in out[START]["why"]


def test_floating_point(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = [
        li(A1, 400), asm("fadd.d", rd=1, rs1=1, rs2=2, rm=7), asm("fmul.d", rd=2, rs1=2, rs2=3, rm=7),
        asm("addi", rd=A1, rs1=A1, imm=-1), asm("bne", rs1=A1, rs2=0, imm=-12), *tiny.leave(0),
    ]  # fmt: skip
    path = tiny.program(tmp_path / "fp", words)
    found = explained(capfd, *SOON, str(path), hex(START + 4))
    rows = of(found, path, words, START + 4)
    add, multiply = rows[START + 4], rows[START + 8]
    assert "accrues floating-point flags" in add["why"] and "ft1" in add["why"] and "frm" in add["why"]
    assert any("addsd" in text for text in host_of(found, add["n"]))
    assert any("mulsd" in text for text in host_of(found, multiply["n"]))
    assert not any("mulsd" in text for text in host_of(found, add["n"]))
    assert found["same_code"] is True


def test_code_that_is_written_over(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Who wrote, what, when, and what went for it."""
    first, second = asm("addi", rd=A0, rs1=A0, imm=1), asm("addi", rd=A0, rs1=A0, imm=2)
    words = [
        li(A1, 2000), asm("auipc", rd=T0, imm=0), asm("lw", rd=T1, rs1=T0, imm=36), li(A2, 2),
        first, asm("addi", rd=A1, rs1=A1, imm=-1), asm("bne", rs1=A1, rs2=0, imm=-8),
        asm("sw", rs1=T0, rs2=T1, imm=12), li(A1, 2000), second, asm("addi", rd=A2, rs1=A2, imm=-1),
        asm("bne", rs1=A2, rs2=0, imm=-28), *tiny.leave(0),
    ]  # fmt: skip
    path = tiny.program(tmp_path / "smc", words)
    target, writer = START + 16, START + 28
    assert words[(target - START) // 4] == first
    written = second.to_bytes(4, "little")
    words[2] = asm("lw", rd=T1, rs1=T0, imm=START + 36 - (START + 4))
    path = tiny.program(tmp_path / "smc", words)
    found = explained(capfd, *SOON, str(path), hex(target))
    assert bytes.fromhex(found["guest"][0]["bytes"]) == written
    (change, again) = found["written"]
    assert (change["start"], change["end"], change["pc"], change["translations"]) == (target, target + 4, writer, 1)
    assert again["pc"] == writer and again["instructions"] > change["instructions"] > 6000
    gone = found["gone"][0]
    assert gone["why"] == "its guest code was written, or its mapping changed"
    assert (gone["instructions"], gone["pc"]) == (change["instructions"], writer)
    assert sum(found["blocks"][0]["entered"].values()) < 4000


def test_compressed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = [
        li(A1, 400), asm("c.addi", rd=A0, imm=3), C_NOP, asm("c.addi", rd=A1, imm=-1),
        asm("c.bnez", rs1=A1, imm=-6), C_NOP, *tiny.leave(0),
    ]  # fmt: skip
    path = tiny.program(tmp_path / "c", words)
    found = explained(capfd, str(path))
    rows = of(found, path, words, START + 4)
    assert [len(row["bytes"]) for row in rows.values()] == [4] * 4 and found["address"] == START + 4
    assert [row["extension"] for row in rows.values()] == ["c"] * 4
    assert "changes nothing" in rows[START + 6]["why"]
    assert sum(found["blocks"][0]["entered"].values()) == executed(path)[START + 4] - 1


def test_atomics(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = [
        li(A1, 400), asm("addi", rd=T0, rs1=2, imm=-64), asm("amoadd.w", rd=A0, rs1=T0, rs2=A1, aq=0, rl=0),
        asm("lr.d", rd=A2, rs1=T0, aq=0, rl=0), asm("sc.d", rd=A3, rs1=T0, rs2=A2, aq=0, rl=0),
        asm("addi", rd=A1, rs1=A1, imm=-1), asm("bne", rs1=A1, rs2=0, imm=-16), *tiny.leave(0),
    ]  # fmt: skip
    path = tiny.program(tmp_path / "atomic", words)
    found = explained(capfd, *SOON, str(path), hex(START + 8))
    rows = of(found, path, words, START + 8)
    assert "loads and stores 4 bytes" in rows[START + 8]["why"]
    accesses = [line["of"] for line in found["host"] if "guest access" in line["note"]]
    assert {rows[START + 8]["n"], rows[START + 12]["n"]} <= set(accesses)


# --- what must hold of all of them -----------------------------------------------------------------------------------


@pytest.mark.parametrize("program", ["@mandel", "@strings", "@dispatch", "@atomic", "@recurse", "@bits"])
def test_origins_change_no_code(program: str) -> None:
    """Each translation of a run, made once more with locations, is byte for byte the one that ran."""
    options = Options(promote=40, disk=False)
    with dragoman.load(program, ["small"], seed=0, stdout=2, options=options) as process:
        where = InProcess(process)
        watch = Watch(where)
        watch.attach()
        process.run()
        translations = list(process.engine.cache.translations())
        assert translations
        for translation in translations[:12]:
            subject = choose([(where, watch)], hex(translation.key[0]), process.pc)
            if subject.translation is not translation:
                continue  # inside a block
            found = data.explain(subject, program, "")
            assert found["same_code"] is True
            count = sum(block["instructions"] for block in found["blocks"])
            numbers = {line["of"] for line in found["host"]}
            assert numbers <= set(range(count + 1)) and len(numbers) > count // 3
            assert [line["of"] for line in found["llvm"]].count(0) < len(found["llvm"])


@pytest.mark.parametrize("words", [
    (), ("--promote=300",), ("--tiers=1", "--hot=8"), ("--promote=300", "--cache-size=4K"),
])  # fmt: skip
def test_looking_changes_nothing(words: Sequence[str], capfd: pytest.CaptureFixture[str]) -> None:
    found = explained(capfd, *words, "@smc", "-", "small")
    assert cli.main(["run", "--stats=json", "--deterministic", "--background=off", "--no-disk-cache", *words, "@smc",
                     "small"]) == 0  # fmt: skip
    stats = json.loads(capfd.readouterr().err.splitlines()[-1])
    assert found["run"]["instructions"] == stats["instructions"]
    assert sum(found["run"]["retired"].values()) == stats["instructions"]


def test_lines_are_what_readelf_says(tmp_path: Path) -> None:
    """The table of lines, read by others."""
    from dbt.backend import compiler
    from dbt.object_file import read_lines

    shop = compiler("x86_64-unknown-linux-gnu", 2)
    import llvmlite.binding as llvm

    lines = "\n".join(f" store volatile i64 {3 * n + 1}, ptr %p, !dbg !{n + 9}" for n in range(1, 40))
    text = f"""define void @f(ptr %p) !dbg !4 {{\n{lines}\n ret void, !dbg !49\n}}
!llvm.dbg.cu = !{{!2}}
!llvm.module.flags = !{{!0, !1}}
!0 = !{{i32 2, !"Dwarf Version", i32 4}}
!1 = !{{i32 2, !"Debug Info Version", i32 3}}
!2 = distinct !DICompileUnit(language: DW_LANG_C, file: !3, isOptimized: true, runtimeVersion: 0,
 emissionKind: LineTablesOnly)
!3 = !DIFile(filename: "f", directory: "")
!4 = distinct !DISubprogram(name: "f", scope: !3, file: !3, line: 0, type: !5, spFlags: DISPFlagDefinition, unit: !2)
!5 = !DISubroutineType(types: !{{}})
""" + "\n".join(f"!{n + 9} = !DILocation(line: {n * 37 % 101}, scope: !4)" for n in range(1, 41))
    module = llvm.parse_assembly(text)
    object_file = shop.machine.emit_object(module)
    (tmp_path / "f.o").write_bytes(object_file)
    command = [need("readelf", "binutils"), "--debug-dump=decodedline", tmp_path / "f.o"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = [(int(m[2], 0), int(m[1])) for m in re.finditer(r"^f\s+(\d+)\s+(0x[0-9a-f]+|0)\s", said, re.MULTILINE)]
    table = read_lines(object_file)
    assert len(rows) > 20
    for address, line in rows:
        assert table.line(address) == line


# --- how it is asked for ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("words", "status", "said"), [
    (["@hello", "nowhere"], 2, "there is no symbol 'nowhere' in the program; to run @hello with the argument nowhere: "
     "dragoman explain @hello - nowhere"),
    (["@hello", "0x3"], 2, "0x3 is in no code of the program"),
    (["@hello", "0x1000000"], 2, "0x1000000 is in no code"),
    (["@hello", "0xffffffffffffffff"], 2, "is in no code"),
    (["@hello", "main+zz"], 2, "'main+zz' is no address"),
    (["@hello", "main+1"], 2, "main+1 is 0x"),
    (["--static", "@hello", "12x"], 2, "'12x' is no address"),
    (["no such file"], 127, "no such file: there is no such file"),
    (["/bin/sh"], 126, "is for x86-64"),
    ([], 2, "which program?"),
    (["--parts=guest,nothing", "@hello"], 2, "there is no part 'nothing'"),
    (["--html=/nowhere/page.html", "@hello"], 2, "cannot write /nowhere/page.html"),
    (["--disk-cache", "@hello"], 2, "--disk-cache: a translation from disk does not say"),
])  # fmt: skip
def test_what_is_wrong_is_said(
    words: list[str], status: int, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["explain", *words]) == status
    out, err = capfd.readouterr()
    assert err.startswith("dragoman: ") and err.count("\n") == 1 and said in err and not out


def test_programs_that_end_at_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tiny.program(tmp_path / "short", [tiny.ECALL])
    path.write_bytes(tiny.elf(words_to_bytes(tiny.leave(3))))
    found = explained(capfd, str(path))
    assert found["address"] == START and found["run"]["ended"] == "exit status 3"
    killed = tiny.program(tmp_path / "illegal", [0])
    found = explained(capfd, str(killed))
    assert "no instruction of this processor" in found["guest"][0]["why"] and "killed by" in found["run"]["ended"]
    found = explained(capfd, "--max-instructions=0", str(path))
    assert (found["address"], found["run"]["ended"]) == (START, "stopped by --max-instructions")
    away = tiny.program(tmp_path / "away", [asm("jalr", rd=0, rs1=0, imm=0)])
    assert explained(capfd, str(away))["address"] == START


def test_the_text_has_what_the_data_has(capfd: pytest.CaptureFixture[str]) -> None:
    words = ("--promote=1000", "@sieve", "-", "small")
    found = explained(capfd, *words)
    assert cli.main(["explain", *words]) == 0
    text = capfd.readouterr().out
    assert text.startswith(f"@sieve small: region at {found['address']:#x} <main+0x")
    for row in found["guest"]:
        assert re.search(rf"^ *{row['n']} +{row['pc']:x} +[0-9a-f]+ +{row['class']} +{re.escape(row['text'])}$", text,
                         re.MULTILINE)  # fmt: skip
    for part in ("llvm", "improved"):
        assert all(line["text"] in text for line in found[part])
    assert cli.main(["explain", "--parts=counts", *words]) == 0
    short = capfd.readouterr().out
    assert "LLVM IR" not in short and f"translations retired {found['retired']:,} instructions" in short


# --- as a page -------------------------------------------------------------------------------------------------------


def test_the_page_is_whole_and_needs_nothing_else(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ("--promote=1000", "@sieve", "-", "small")
    path = tmp_path / "page.html"
    assert cli.main(["explain", f"--html={path}", *words]) == 0
    assert capfd.readouterr() == ("", "")
    page = Page(path.read_text())
    page.needs_nothing_else()
    assert "@sieve small" in page.words
    found, shown = explained(capfd, *words), page.data
    for one in (found, shown):  # where the host has put them
        for name in ("host", "stencils"):
            del one[name]
    assert shown == found


def test_a_name_with_markup_is_no_markup(tmp_path: Path) -> None:
    path = tiny.program(tmp_path / "<!--<script><b>", tiny.leave(0))
    made = tmp_path / "page.html"
    assert cli.main(["explain", f"--html={made}", str(path)]) == 0
    assert Page(made.read_text()).data["program"] == str(path)


def test_its_script_draws_it(tmp_path: Path) -> None:
    """The lines of one instruction are lit in all panes, and every number of the data is on the page."""
    path = tmp_path / "page.html"
    assert cli.main(["explain", f"--html={path}", "--promote=1000", "@sieve", "-", "small"]) == 0
    drawn = drawn_page(path, "#2")
    found = Page(path.read_text()).data
    body = drawn[drawn.index("<h1") : drawn.index("<footer")]
    for name, lines in (("Guest", found["guest"]), ("IR", [
        line for block in found["blocks"] for line in block["stages"][-1]["lines"]
    ]), ("LLVM IR", found["improved"]), ("Host", found["host"])):  # fmt: skip
        pane = re.search(rf'<section class="pane" aria-label="{name}">.*?</section>', body, re.DOTALL)
        assert pane is not None
        numbers = Counter(line.get("of", line.get("n")) for line in lines)
        drawn_numbers = Counter(map(int, re.findall(r'data-of="(\d+)"', pane[0])))
        assert {n: count for n, count in numbers.items() if n} == dict(drawn_numbers), name
        lit = re.findall(r'<div class="of lit held" data-of="(\d+)"', pane[0])
        assert lit == ["2"] * numbers[2] and lit, name
    assert "is of class" in body and "Where its exits lead" in body


def test_an_error_of_its_script_is_seen(tmp_path: Path) -> None:
    """The witness of the test above sees an error at the script's start, and prints what a script has drawn."""
    path = tmp_path / "page.html"
    path.write_text("<!DOCTYPE html><p id=p></p><script>document.getElementById('p').append(location.hash)</script>")
    assert '<p id="p">#7</p>' in drawn_page(path, "#7")
    path.write_text("<!DOCTYPE html><script>throw new Error('at its start')</script><p>as it was</p>")
    with pytest.raises(AssertionError, match="at its start"):
        drawn_page(path)
