"""The vDSO: its file as binutils and our own reader see it, and programs that look for its functions."""

from __future__ import annotations

import re
import struct
import subprocess
from pathlib import Path

import pytest
from support import cross
from support.peers import need
from support.riscv import asm, words_to_bytes

import dragoman
import guests.riscv.linux as abi
from dbt import elf
from dbt.cfi import Rule, row_at
from dbt.linux.vdso import vdso

NUMBERS = {name: number for number, name in abi.CALLS.items()}
FOUND = b"""\
object 1 machine 243 type 3
loaded as it lies 1
clock_gettime 0 1
clock_gettime 0 1
no such clock 1
clock_getres 0 1
gettimeofday 0 1
getcpu 0 1
flush_icache 0 1
rt_sigreturn 1
known to the C library 1
unwound through a handler 1
riscv_hwprobe 0 1
"""


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "vdso.so"
    path.write_bytes(vdso(abi).page)
    return path


def readelf(path: Path, *options: str) -> str:
    command = [need("riscv64-linux-gnu-readelf", "binutils-riscv64-linux-gnu"), "-W", *options, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not done.stderr, done.stderr
    return done.stdout


def test_the_functions_are_linuxs_and_make_its_calls(page: Path) -> None:
    """arch/riscv/kernel/vdso/vdso.lds.S names them; their code is what our own encoder makes."""
    symbols = re.findall(r" ([0-9a-f]{16}) +(\d+) FUNC +GLOBAL DEFAULT +\d+ (\w+)@@(\S+)", readelf(page, "--dyn-syms"))
    assert {name.removeprefix("__vdso_") for _, _, name, _ in symbols} == {
        "rt_sigreturn", "gettimeofday", "clock_gettime", "clock_getres", "getcpu", "flush_icache", "riscv_hwprobe"
    }  # fmt: skip
    for address, size, name, version in symbols:
        name = name.removeprefix("__vdso_")
        number = NUMBERS["riscv_flush_icache" if name == "flush_icache" else name]
        code = [asm("addi", rd=17, rs1=0, imm=number), asm("ecall"), asm("jalr", rd=0, rs1=1, imm=0)]
        at = int(address, 16)
        assert vdso(abi).page[at : at + int(size)] == words_to_bytes(code) and version == "LINUX_4.15"
    assert vdso(abi).sigreturn == next(int(a, 16) for a, _, name, _ in symbols if name == "__vdso_rt_sigreturn")


def test_binutils_find_nothing_wrong(page: Path) -> None:
    text = readelf(page, "-hlSdV")
    assert "Library soname: [linux-vdso.so.1]" in text and "Name: LINUX_4.15" in text and "RVC, double-float" in text
    assert "LOAD           0x000000 0x0000000000000000 0x0000000000000000 0x001000 0x001000 R E 0x1000" in text
    frames = readelf(page, "--debug-dump=frames")
    assert len(re.findall(" FDE cie=", frames)) == 2 and '"zRS"' in frames


def test_frames_by_our_own_reader() -> None:
    """In a function the return address is where the caller left it; what a handler returns to is a signal's frame."""
    image = elf.parse(vdso(abi).page, abi, "[vdso]")
    for symbol in image.symbols():
        row = row_at(image, symbol.address)
        assert row is not None and (row.cfa, row.rules.get(1, Rule("same"))) == ((2, 0), Rule("same"))
        assert row.signal == (symbol.name == "__vdso_rt_sigreturn")
    assert len(image.symbols()) == 7 and row_at(image, vdso(abi).sigreturn - 1) is None


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cross.build(tmp_path_factory.mktemp("vdso"), "vdso_probe", "-fasynchronous-unwind-tables")


@pytest.mark.parametrize("seed", [None, 1], ids=["real time", "virtual time"])
@pytest.mark.parametrize("engine", ["translated", "reference"])
def test_a_program_finds_its_functions(probe: Path, engine: str, seed: int | None) -> None:
    done = dragoman.run(probe, engine=engine, seed=seed, sysroot=cross.ROOT)
    assert (done.status, done.stdout, done.stderr) == (0, FOUND, b"")


def test_the_auxiliary_vector_says_where_it_is(probe: Path) -> None:
    with dragoman.load(probe, engine="reference", sysroot=cross.ROOT) as process:
        vector = dict(struct.iter_unpack("<QQ", process.kernel.auxiliary))
        place = vector[33]
        assert process.read(place, 4096) == vdso(abi).page
        assert process.kernel.sigreturn == place + vdso(abi).sigreturn
        region = process.space.region_at(place)
        assert region is not None and (region.name, region.end - region.start, region.protection) == ("[vdso]", 4096, 5)
