"""Backtraces of faults: C programs with known chains of calls, and memory and tables that hold anything."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from support import cross
from support.riscv import GUEST, scaled

import dragoman
from dbt import report
from dbt.cfi import Row, Unusable, row_at
from dbt.elf import open_image
from dbt.unwind import MOST, Unwinder
from guests.riscv import linux
from ir.records import replace

ENGINES = ("reference", "translated")
BUILDS = {
    "tables": ("-fasynchronous-unwind-tables",),
    "plain": ("-fno-asynchronous-unwind-tables",),
    "pointers": ("-fno-omit-frame-pointer", "-fno-asynchronous-unwind-tables", "-static", "-Wl,--no-eh-frame-hdr"),
}
CHAINS = {
    "chain": "leaf saves chain main",
    "handler": "leaf saves handler SIGUSR1 raise interrupted main",
    "fault": "leaf saves handler SIGSEGV leaf elsewhere main",
    "qsort": "leaf compare qsort_r sorts main",
    "abort": "raise abort gives_up main",
    "null": "calls_nothing main",
}


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("backtrace")
    return {name: cross.build(folder / name, "backtrace", *flags) for name, flags in BUILDS.items()}


def told(program: Path, *arguments: str, engine: str = "reference") -> tuple[list[str], str]:
    """The lines of the backtrace of a run that ends by a signal, and why there are no more."""
    command = [sys.executable, "-m", "dragoman", "run", f"--engine={engine}", "-L", str(cross.ROOT), str(program)]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode < 0, done
    lines = done.stderr.splitlines()
    assert lines[0].startswith("dragoman: guest killed by"), lines
    found = [line for line in lines if line.startswith("#")]
    assert lines[-len(found) - 1 : -1] == found and lines[-1].startswith("the backtrace ends: ")
    return found, lines[-1].removeprefix("the backtrace ends: ")


def names(lines: list[str]) -> list[str]:
    found = (re.search(r"<([\w.]+?)(\.constprop\.0)?(\+0x\w+)?>|handler of (\w+)", line) for line in lines)
    return [match[1] or match[4] for match in found if match]


def is_within(wanted: list[str], found: list[str]) -> bool:
    """Whether the names come in this order; there may be others of the library's between them."""
    rest = iter(found)
    return all(name in rest for name in wanted)


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("what", CHAINS)
def test_the_calls_that_led_to_a_fault(builds: dict[str, Path], build: str, what: str) -> None:
    lines, why = told(builds[build], what)
    own = [name for name in names(lines) if not name.startswith("_")]
    assert is_within(CHAINS[what].split(), own), lines
    ours = {"leaf", "saves", "chain", "compare", "sorts", "handler", "interrupted", "elsewhere", "calls_nothing",
            "gives_up", "main"}  # fmt: skip
    assert [name for name in own if name in ours] == [name for name in CHAINS[what].split() if name in ours]
    assert why == f"_start is where {builds[build]} begins" and "_start" in lines[-1]
    assert all(f"in {builds[build]}" in line for line in lines if names([line])[:1] == ["main"])
    if build != "pointers":
        assert any(line.endswith("in /lib/libc.so.6") for line in lines)


@pytest.mark.parametrize("engine", ENGINES)
def test_children_that_die_are_told_of_like_the_first_process(builds: dict[str, Path], engine: str) -> None:
    """Each in one piece, though they die at the same moment, and not the one that SIGPIPE ends."""
    command = [sys.executable, "-m", "dragoman", "run", f"--engine={engine}", "-L", str(cross.ROOT)]
    done = subprocess.run([*command, str(builds["plain"]), "children"], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "6 by SIGSEGV, 1 by SIGPIPE\n0\n")
    before, *deaths = done.stderr.split("dragoman: guest process ")
    assert (before, len(deaths)) == ("", 6), done.stderr
    assert len({death.split()[0] for death in deaths}) == 6
    for death in deaths:
        first, *registers = death.splitlines()
        frames = [line for line in registers if line.startswith("#")]
        assert re.fullmatch(r"\d+ \(backtrace\) killed by SIGSEGV: load page fault at 0x0, pc \S+ <leaf.*", first)
        assert len(registers) == 8 + len(frames) + 1 and registers[-1].startswith("the backtrace ends: _start is where")
        assert all(re.fullmatch(r"( *\w+ [0-9a-f]{16}){4}", line) for line in registers[:8])
        assert is_within(["leaf", "saves", "in_children", "main", "_start"], names(frames)), death


def test_who_runs_a_guest_is_called_in_a_child_that_dies(builds: dict[str, Path]) -> None:
    reading, writing = os.pipe()
    settings = {"engine": "reference", "sysroot": cross.ROOT, "stdout": -1}
    with dragoman.load(builds["plain"], ["children"], **settings) as process:
        process.child_killed = lambda: os.write(writing, f"{process.kernel.pid} {process.signal}\n".encode())
        assert process.run() == 0
    os.close(writing)
    with open(reading) as source:
        pids, numbers = zip(*map(str.split, source), strict=True)
    assert len(set(pids)) == 7 and sorted(numbers) == ["11"] * 6 + ["13"]


def test_both_engines_tell_the_same(builds: dict[str, Path]) -> None:
    first, second = (told(builds["plain"], "handler", engine=engine) for engine in ENGINES)
    assert first == second


@pytest.mark.parametrize("what", ["chain", "abort"])
def test_the_frames_of_a_process(builds: dict[str, Path], what: str) -> None:
    with dragoman.load(str(builds["plain"]), [what], engine="reference", sysroot=cross.ROOT) as process:
        process.run()
        frames, _why = Unwinder(process).frames()
    assert is_within(CHAINS[what].split(), [frame.function for frame in frames])
    assert frames[0].exact and not any(frame.exact for frame in frames[1:])


def test_without_symbols_the_frame_pointer_leads_on(builds: dict[str, Path], tmp_path: Path) -> None:
    whole, bare = builds["pointers"], tmp_path / "bare"
    subprocess.run(["riscv64-linux-gnu-strip", "-o", str(bare), str(whole)], check=True)
    expected = [line.split()[1] for line in told(whole, "chain")[0]]
    lines, _why = told(bare, "chain")
    addresses = [line.split()[1] for line in lines]
    assert len(addresses) >= 4 and addresses == expected[: len(addresses)]
    assert not names(lines)


def test_a_bundled_program() -> None:
    process = dragoman.load("@recurse", ["small"], engine="reference")
    with process:
        while not process.ended:
            process.step(997)
            frames, _why = Unwinder(process).frames()
            functions = [frame.function for frame in frames]
            if functions.count("fibonacci") > 3:
                break
        start = functions.index("main")
        assert frames[-1].function == "_start" and set(functions[:start]) == {"fibonacci"}
        text = report.backtrace(process)
        assert len(text.splitlines()) == len(frames) + 1 and "_start is where" in text


# --- what no compiler has written -------------------------------------------------------------------------


def test_any_stack_and_any_registers_have_a_backtrace(builds: dict[str, Path]) -> None:
    rng = Random(7)
    with dragoman.load(str(builds["pointers"]), ["chain"], engine="reference") as process:
        process.run()
        assert process.signal == 11 and process.kernel.loaded is not None
        code = [s.address for s in process.image.symbols() if s.size]
        top = process.registers["x2"]
        room = process.space.region_at(top)
        assert room is not None
        most = 0

        def word() -> int:
            return rng.choice((rng.getrandbits(64), top + rng.randrange(-64, 4096), top + 8 * rng.randrange(256),
                               rng.choice(code) + 2 * rng.randrange(20), process.kernel.sigreturn, 0))

        for _ in range(scaled(400)):
            size = min(2048, room.end - top)
            process.write(top, b"".join(word().to_bytes(8, "little") for _ in range(size // 8)))
            for name in ("x1", "x2", "x8", "pc"):
                process.set_register(name, word())
            frames, why = Unwinder(process).frames()
            assert 1 <= len(frames) <= MOST and why
            assert report.backtrace(process).count("\n") == len(frames)
            most = max(most, len(frames))
        assert most > 2  # some led somewhere


def test_a_stack_that_turns_in_a_circle_ends(builds: dict[str, Path], tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    subprocess.run(["riscv64-linux-gnu-strip", "-o", str(bare), str(builds["pointers"])], check=True)
    with dragoman.load(str(bare), ["chain"], engine="reference") as process:
        process.run()
        at = process.registers["x2"] + 64
        code = process.pc + 8
        for pointer in (at, at + 16):  # each frame's record leads to the other's
            process.write(pointer - 16, (2 * at + 16 - pointer).to_bytes(8, "little") + code.to_bytes(8, "little"))
        process.set_register("x8", at)
        frames, why = Unwinder(process).frames()
        assert len(frames) <= 4 and "nothing tells" in why


def test_damaged_tables_are_refused_by_a_clause(builds: dict[str, Path]) -> None:
    rng = Random(11)
    image = open_image(cross.ROOT / "lib/libc.so.6", linux)
    assert image.frame_header
    addresses = [symbol.address + 4 for symbol in image.symbols() if symbol.size > 8]
    good = [address for address in addresses if isinstance(row_at(image, address), Row)]
    assert len(good) > 100
    start, length = image.frame_header, 64 << 10
    refused = 0
    for _ in range(scaled(60)):
        data = bytearray(image.data)
        for _ in range(rng.choice((1, 20, 3000))):
            data[start + rng.randrange(length)] = rng.choice((0, 0xFF, rng.randrange(256)))
        broken = replace(image, data=bytes(data))
        for address in rng.sample(good, 8):
            try:
                row_at(broken, address)
            except Unusable as why:
                refused += 1
                assert re.fullmatch(r"(its|the) frame information [^\n]+[^.]", str(why))
    assert refused > 10


def test_a_table_that_is_not_searched_is_walked(builds: dict[str, Path]) -> None:
    image = open_image(cross.ROOT / "lib/libc.so.6", linux)
    data = bytearray(image.data)
    data[image.frame_header + 3] = 0xFF  # no table
    walked = replace(image, data=bytes(data))
    addresses = [symbol.address + 4 for symbol in image.symbols() if symbol.size > 8][::150]
    found = [row_at(image, address) for address in addresses]
    assert [row_at(walked, address) for address in addresses] == found and any(found) and not all(found)


def test_rows_are_those_of_readelf(builds: dict[str, Path]) -> None:
    """The CFA and where ra is, at every row that binutils prints for a program and for the C library."""
    compared = 0
    registers = {r.slot: r.aliases[0] for r in GUEST.registers if r.kind == "x"}
    for path in (builds["tables"], cross.ROOT / "lib/libc.so.6"):
        image = open_image(path, linux)
        text = subprocess.run(["riscv64-linux-gnu-readelf", "--debug-dump=frames-interp", str(path)],
                              capture_output=True, text=True, check=True).stdout  # fmt: skip
        columns: list[str] = []
        inside = False
        for line in text.splitlines():
            words = line.split()
            if "FDE" in words or "CIE" in words:
                inside = "FDE" in words
            elif words[:1] == ["LOC"]:
                columns = words
            elif inside and len(words) == len(columns) and re.fullmatch("[0-9a-f]{16}", line[:16]):
                values = dict(zip(columns, words, strict=True))
                row = row_at(image, int(values["LOC"], 16))
                assert row is not None and row.cfa is not None
                assert values["CFA"] == f"{registers[row.cfa[0]]}+{row.cfa[1]}", line
                rule = row.rules.get(1)
                ra = values.get("ra", "u")
                if ra.startswith("c"):
                    assert rule is not None and rule.kind == "offset" and ra == f"c{rule.value:+}", line
                else:
                    assert rule is None or rule.kind in ("undefined", "same"), line
                compared += 1
    assert compared > 500
