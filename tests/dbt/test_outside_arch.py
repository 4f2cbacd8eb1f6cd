"""The RISC-V architectural tests on a machine, for `make test-outside RISCV_ARCH_TEST=DIR`, and Spike as their witness.

A test writes what its instructions made, a signature, which is compared byte by byte with that of Spike for the same
program. Which tests are for a machine of ours is read from the tests: RVTEST_ISA names the extensions that each needs,
RVTEST_CASE the conditions of its parts.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from support import harts, outside, peers

from bench.spike import missing

CHECKOUT = os.environ.get("RISCV_ARCH_TEST", "")
OURS = Path(outside.__file__).parent / "arch"
ISA = harts.ISA + "_sstc"
REGIONS = 32 << 10  # bytes of the longest test of which regions are made: LLVM takes 12 s for 300,000
IMPLIED = {"zicsr", "zifencei", "zca", "zcd"}  # by G and C
ORDER = "imafdqlcbkjtpvh"  # letters of ISA strings, which are the second ones of names with Z too
ZFHMIN = ("flh", "fsh", "fmv.x.h", "fmv.h.x")  # what tests of Zfh test that Zfhmin has as well


def suites() -> list[str]:
    """The folders of a checkout that have tests."""
    root = Path(CHECKOUT) / "riscv-test-suite"
    found = {str(path.parent.relative_to(root)) for path in root.glob("rv*i_m/*/src/**/*.S")} if CHECKOUT else set()
    return sorted(found, reverse=True)


def needs(text: str) -> list[set[str]]:
    """The sets of extensions of which a test needs one: rv64's."""
    named = re.search(r'RVTEST_ISA\("(.*)"\)', text)
    assert named, "a test without RVTEST_ISA"
    found = [re.fullmatch(r"RV64([A-Z]*?)((?:_?Z[a-z]+)*)", isa.strip()) for isa in named[1].split(",")]
    return [{*isa[1].lower(), *(name.lower() for name in re.findall("Z[a-z]+", isa[2]))} for isa in found if isa]


def isa_string(claims: set[str]) -> str:
    """As the tests' conditions want it. Without Zfhmin, which a pattern would take for Zfh."""
    names = sorted((name for name in claims - {"zfhmin"} if name[0] == "z"), key=lambda n: (ORDER.index(n[1]), n))
    others = sorted(name for name in claims if name[0] == "s" and name[1:])
    letters = "".join(letter.upper() for letter in ORDER if letter in claims)
    return f"RV64{letters}SU{'_'.join(name.capitalize() for name in (*names, *others))}"


def macros(text: str, isa: str) -> list[str]:
    """What the parts of a test that are for this machine want to be defined; nothing if no part is."""
    found = []
    for case in re.findall(r'RVTEST_CASE\(\s*\d+\s*,\s*"(.*?)"', text):
        words = [word.strip().removeprefix("//").split(maxsplit=1) for word in case.split(";") if word.strip()]
        checks = [word[1].split(":=") for word in words if word[0] == "check"]
        if all(holds(name, value, isa) for name, value in checks):
            found += [word[1] for word in words if word[0] == "def"]
    return sorted(set(found))


def holds(name: str, value: str, isa: str) -> bool:
    if name == "hw_data_misaligned_support":
        return value == "True"  # as here
    assert name == "ISA", f"a condition that is not known: {name}"
    return re.match(value.removeprefix("regex(").removesuffix(")"), isa) is not None


def signature(program: Path) -> bytes:
    """What Spike's machine makes of it."""
    out = program.parent / "signature"
    words = [sys.executable, "-m", "riscv", f"--isa={ISA}", "--priv=msu", f"--instructions={outside.MOST}",
             f"+signature={out}", "+signature-granularity=8", str(program)]  # fmt: skip
    subprocess.run(words, capture_output=True, check=True, timeout=60)
    return b"".join(int(line, 16).to_bytes(8, "little") for line in out.read_text().split())


def difference(ours: bytes, spikes: bytes) -> str:
    """Where signatures differ first, or nothing."""
    for at in range(0, max(len(ours), len(spikes)), 8):
        mine, theirs = (int.from_bytes(all[at : at + 8], "little") for all in (ours, spikes))
        if mine != theirs:
            return f"signature + {at:#x}: {mine:#x}, Spike {theirs:#x}"
    return "" if len(ours) == len(spikes) else f"a signature of {len(ours):,} bytes, Spike {len(spikes):,}"


@pytest.mark.long
@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize("suite", suites() or [""])
def test_architectural_tests(suite: str, tmp_path: Path) -> None:
    """Every test of a folder that is for what is claimed: in the reference engine and in stencils; short ones, or
    else the shortest, in regions as well. One that cannot be built has failed."""
    if not suite:
        pytest.skip("RISCV_ARCH_TEST names no checkout of riscv-non-isa/riscv-arch-test")
    reason = missing()
    if reason is not None:
        peers.missing(reason)
    root = Path(CHECKOUT) / "riscv-test-suite"
    claims = outside.claimed() | IMPLIED
    passed, others, executed = Counter[str](), Counter[str](), Counter[str]()
    failed = []
    sources = sorted((root / suite).glob("*.S"))
    short = max(REGIONS, min(source.stat().st_size for source in sources))
    for source in sources:
        text = source.read_text()
        if not needs(text):
            others["for rv32"] += 1
            continue
        has = claims | {"zfh"} if re.split("_b|-", source.stem)[0] in ZFHMIN else claims
        wanting = min((isa - has for isa in needs(text)), key=lambda names: (len(names), sorted(names)))
        defined = macros(text, isa_string(has))
        if wanting or not defined:
            others[f"not claimed: {' '.join(sorted(wanting))}" if wanting else "conditions do not hold"] += 1
            continue
        isa = next(isa for isa in needs(text) if isa <= has)
        flags = [f"-I{OURS}", f"-I{root}/env", "-DXLEN=64", "-DFLEN=64", *(f"-D{name}" for name in defined)]
        more = sorted(isa - {*"imafd", "zicsr", "zifencei"}, key=lambda name: (len(name) > 1, name))
        program = outside.build(source, tmp_path, "rvtest_entry_point", more, flags)
        if isinstance(program, str):
            failed.append(f"{source.stem} is not built: {program}")
            continue
        wanted = signature(program)
        for engine in outside.ENGINES:
            if engine != "regions" or source.stat().st_size <= short:
                stopped, blank, found = outside.run(program, engine, executed)
                wrong = stopped or difference(found, wanted) or ("" if found != blank else "nothing was written")
                passed[engine] += not wrong
                failed += [f"{source.stem}, {engine}: {wrong}"] if wrong else []
        for left in tmp_path.glob("*"):
            left.unlink()
    print(f"\n{suite}: passed {dict(passed)}, {len(failed)} failed, left out {dict(others)}; {dict(executed)}")
    assert not failed, "\n".join(failed)
    assert passed or others
    assert executed["stencils"] or not passed, "no native code was executed"
