"""Translations on disk: a later run takes them and needs no compiler, and whatever has become of them, it is right."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from support.riscv import Rig, asm, words_to_bytes
from support.tiny import A0, A1, A2, EBREAK, ECALL, call, kill_self, li
from support.tiny import program as tiny_program

import dragoman
import guests
from dbt.cache import assumed, database, disk
from dbt.cache.database import FILE, Database
from dbt.cache.record import Damaged, pack_made, unpack_made, unseal
from dbt.memory import EXEC, READ, WRITE
from dbt.options import Options
from dbt.process import DEADLY as DEADLY_SIGNALS
from dbt.process import GRACE

ROOT = Path(__file__).resolve().parents[2]
PROGRAM, ARGUMENTS = "@sieve", ["small"]
CODE, DATA, PAGE = 0x10000, 0x20000, 4096

PROBE = """
import json, sys
import dragoman
out = []
with dragoman.load(sys.argv[1], sys.argv[2:], seed=0, options=dragoman.Options(disk=True, tiers=(1,))) as process:
    process.trace_events(50_000, out.append)
    status = process.run()
    registers, stats, note = process.registers, process.stats(), process.engine.disk.note
with open("/proc/self/maps") as maps:
    mapped = "llvm" in maps.read().lower()
print(json.dumps({"status": status, "registers": registers, "stats": stats, "events": out, "note": note,
                  "imported": "llvmlite" in sys.modules, "mapped": mapped}), file=sys.stderr)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this test keeps translations."""
    made = tmp_path / "kept"
    monkeypatch.setenv("DRAGOMAN_CACHE_DIR", str(made))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return made


def probe(*words: str, **how: Any) -> dict[str, Any]:
    """A run in a process of its own, and what it says of itself."""
    done = subprocess.run([sys.executable, "-c", PROBE, *words], capture_output=True, text=True, timeout=120, **how)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stderr) | {"stdout": done.stdout}


def seen(told: dict[str, Any]) -> tuple[Any, ...]:
    """What a program sees, and the counts."""
    names = ("instructions", "blocks", "ident", "inline", "callout", "syscalls")
    counts = {name: told["stats"][name] for name in names}
    return told["stdout"], told["status"], told["registers"], told["events"], counts


class Outcome(dict[str, Any]):
    """What a run in this process did."""


def run(program: str | Path = PROGRAM, arguments: list[str] = ARGUMENTS, **options: Any) -> Outcome:
    events: list[str] = []
    with tempfile.TemporaryFile() as out:
        chosen = Options(disk=True, **{"tiers": (1,)} | options)
        with dragoman.load(program, arguments, seed=0, stdout=out.fileno(), options=chosen) as process:
            process.trace_events(100_000, events.append)
            status = process.run()
            stats = process.stats()
            told = Outcome(status=status, registers=process.registers, stats=stats, events=events,
                           signal=process.signal, note=process.engine.disk.note)  # fmt: skip
        out.seek(0)
        return Outcome(told | {"stdout": out.read()})


def found(outcome: dict[str, Any]) -> tuple[int, int]:
    """Translations taken from disk, and made."""
    return outcome["stats"]["disk"]["found"], outcome["stats"]["translations"]


# --- what it is for -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words", [("@json", "small"), ("@nbody", "small"), ("@smc",), ("@atomic",)], ids=lambda words: words[0]
)
def test_a_second_run_finds_what_the_first_made_and_loads_no_compiler(words: tuple[str, ...]) -> None:
    cold, warm = probe(*words), probe(*words)
    assert cold["imported"] and cold["mapped"] and found(cold)[0] == 0 < found(cold)[1]
    assert not warm["imported"] and not warm["mapped"]
    assert found(warm)[0] > 0 == found(warm)[1]
    assert seen(warm) == seen(cold) and (len(cold["events"]) > 2 or words[0] in ("@smc", "@atomic"))
    assert warm["stats"]["disk"]["written"] == 0 and cold["stats"]["disk"]["written"] == found(cold)[1]


def test_a_run_without_it_leaves_and_takes_nothing(folder: Path) -> None:
    plain = Options(tiers=(1,))
    assert dragoman.run(PROGRAM, ARGUMENTS, options=plain).stats["disk"]["pages"] == 0
    assert not folder.exists()
    run()
    assert dragoman.run(PROGRAM, ARGUMENTS, options=plain).stats["translations"] > 0


def test_a_program_that_is_over_at_once_opens_nothing(folder: Path) -> None:
    run("@hello", [])
    assert not folder.exists()


def test_the_command(folder: Path) -> None:
    def command(*words: str) -> tuple[int, str, str]:
        line = [sys.executable, "-m", "dragoman", *words]
        done = subprocess.run(line, capture_output=True, text=True, timeout=120)
        return done.returncode, done.stdout, done.stderr

    def stats(*words: str) -> dict[str, Any]:
        status, _, told = command("run", "--tiers=1", *words, "--stats=json", PROGRAM, *ARGUMENTS)
        assert status == 0
        return json.loads(told)

    assert "nothing is kept" in command("cache", "info")[1]
    assert stats("--no-disk-cache")["translations"] > 0 and not folder.exists()
    made = stats()["translations"]
    again = stats()
    assert (again["disk"]["found"], again["translations"]) == (made, 0)
    assert stats("--no-disk-cache")["translations"] == made
    assert f"records   {made + 3} with" in command("cache", "info")[1]
    assert f"{made:,} records" in command("cache", "list")[1]
    assert command("cache", "verify")[:2] == (0, f"{made + 3} records are sound, 0 are damaged; the file is sound\n")
    with sqlite3.connect(folder / FILE) as db:
        db.execute("UPDATE code SET record = zeroblob(100) WHERE number = (SELECT max(number) FROM code)")
    db.close()
    status, told, _ = command("cache", "verify")
    assert status == 125 and "1 are damaged" in told
    assert command("cache", "gc", "--size=0")[0] == 0 and "records   0 with" in command("cache", "info")[1]
    assert stats()["translations"] == made
    assert command("cache", "clear")[0] == 0 and not (folder / FILE).exists()
    assert command("cache", "gc", "now")[0] == command("cache", "list", "--size=1")[0] == 2


@pytest.mark.parametrize("word", ["compare", "lockstep"])
def test_translations_from_disk_compared_with_the_reference(word: str) -> None:
    if word == "compare":
        options = Options(disk=True, tiers=(1,))
        results = [dragoman.compare("@json", ["small"], events=20_000, options=options) for _ in range(2)]
        assert all(result.equal and result.translated.compared.events for result in results)
        assert results[1].translated.translate == 0 < results[0].translated.translate
        return
    reports = []
    with open(os.devnull, "w") as nowhere:
        for _ in range(2):
            begin = time.process_time()
            reports.append(dragoman.lockstep("@trees", stdout=nowhere.fileno(), max_instructions=30_000,
                                             options=Options(disk=True)))  # fmt: skip
            print(f"{time.process_time() - begin:.2f} s")
    assert reports[0] == reports[1] and reports[0].difference is None and reports[0].boundaries > 1000


# --- what is assumed ----------------------------------------------------------------------------------------------

SHAPING = {
    "max_instructions": 7, "region": 0, "optimisation": 1, "pinned": 2, "log_stores": True, "sensitive": "callout",
    "checks": False, "chain": False, "return_prediction": False, "passes": (), "counts": False, "fp_flags": False,
    "jump_cache": False,
}  # fmt: skip
OTHERS = {
    "hot": 10, "background": True, "cache_size": 1 << 20, "cache_policy": "fifo", "smc": "fencei", "chaos": 1,
    "tiers": (0, 1), "promote": 9, "patience": 0,
}  # fmt: skip


def test_every_option_is_one_or_the_other() -> None:
    names = {field.name for field in fields(Options)}
    assert {*SHAPING, *OTHERS, "cache_off", "dump", "write", "disk"} == names
    assert names - set(SHAPING) == assumed.NOT_IN_CODE


@pytest.mark.parametrize("name", SHAPING)
def test_an_option_that_shapes_code_has_translations_of_its_own(name: str) -> None:
    plain = run()
    other = run(**{name: SHAPING[name]})
    assert found(other)[0] == 0 < found(other)[1]
    assert found(run())[1] == found(run(**{name: SHAPING[name]}))[1] == 0
    assert other["stdout"] == plain["stdout"]
    assert (other["stats"]["instructions"] == plain["stats"]["instructions"]) == (name != "counts")


@pytest.mark.parametrize("name", OTHERS)
def test_an_option_that_does_not_shares_them(name: str) -> None:
    first = run()
    assert found(run(**{name: OTHERS[name]}))[0] >= found(first)[1] // 2


def test_an_instruction_set_has_translations_of_its_own() -> None:
    isas = [assumed.assumed(guests.load("riscv64", isa), Options()) for isa in (None, "rv64gc", "rv64gc_zicntr")]
    assert len({*isas, assumed.assumed(guests.load("toy"), Options())}) == 4


@pytest.mark.parametrize("name", ["_compiler", "_processor"])
def test_another_compiler_or_processor(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run()
    monkeypatch.setattr(assumed, name, lambda: b"another")
    assert found(run())[0] == 0
    monkeypatch.undo()


def test_another_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One byte more in any of the files, and everything is made anew; not so in those that make no code."""
    for name in assumed.SOURCES:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(assumed, "ROOT", tmp_path)
    guest = guests.load("riscv64")
    before = assumed.assumed(guest, Options())
    counted = 0
    for file in sorted(tmp_path.rglob("*.py")):
        text = file.read_bytes()
        file.write_bytes(text + b"#")
        matters = not {"programs", "cli", "lab", "linux"} & set(file.relative_to(tmp_path).parts)
        assert (assumed.assumed(guest, Options()) != before) == matters, file
        counted += matters
        file.write_bytes(text)
    assert counted > 60 and assumed.assumed(guest, Options()) == before


def test_what_the_sources_hash_to_is_kept_while_they_are_as_they_were(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Reading all of them is the slowest part of opening the cache, so it is done once; an edited file is seen."""
    for name in assumed.SOURCES:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(assumed, "ROOT", tmp_path)
    opened: list[str] = []
    read = assumed._read
    monkeypatch.setattr(assumed, "_read", lambda path: (opened.append(path), read(path))[1])

    def sources() -> int:
        opened.clear()
        run()
        return sum(path.endswith(".py") and "llvmlite" not in path for path in opened)

    assert sources() > 60
    assert sources() == 0
    edited = tmp_path / "ir" / "ops.py"
    edited.write_bytes(edited.read_bytes().replace(b"a", b"b", 1))
    assert sources() > 60
    assert sources() == 0


def test_instructions_of_ones_own_are_not_kept(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(
        "from dragoman import Extension\nX = Extension('xown', 'my own')\n"
        "@X.insn('own', '0000000 rs2 rs1 000 rd 0001011', 'rd, rs1, rs2')\n"
        "def own(m, o):\n    m.x[o.rd] = m.add(m.x[o.rs1], m.x[o.rs2])\n"
    )
    result = dragoman.run(PROGRAM, ARGUMENTS, extensions=guests.extensions_of(file),
                          options=Options(disk=True, tiers=(1,)))  # fmt: skip
    assert result.status == 0 and result.stats["translations"] > 0 and not folder.exists()


# --- the guest's code ---------------------------------------------------------------------------------------------


def counting(step: int, turns: int = 400, last: list[int] | None = None) -> list[int]:
    """A program that adds `step` so many times, and leaves with the sum's low byte."""
    return [
        li(A0, 0), li(A1, turns), asm("addi", rd=A0, rs1=A0, imm=step), asm("addi", rd=A1, rs1=A1, imm=-1),
        asm("bne", rs1=A1, rs2=0, imm=-8), *(last or [asm("andi", rd=A0, rs1=A0, imm=127), *call(94)]),
    ]  # fmt: skip


def test_a_changed_byte_of_the_program_is_a_miss(tmp_path: Path) -> None:
    path = tmp_path / "program"
    for step in (3, 5, 3):
        outcome = run(tiny_program(path, counting(step)), [])
        assert outcome["status"] == step * 400 & 127
    assert found(outcome)[0] > 0 == found(outcome)[1]
    tiny_program(path, [*counting(3), 0x13])  # one instruction more in the page, which is never executed
    assert found(run(path, []))[0] == 0


class Bench(Rig):
    """An engine with the disk, and code of two pages; the first instruction of all blocks finds it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(((CODE, 0x3000, 7), (DATA, 0x1000, 3)), Options(hot=0, disk=True, **options), translated=True)

    def call(self, pc: int) -> int:
        self.state.pc, self.state.mid_block = pc, False
        assert self.run(1 << 60).trap
        return self.state.slots[5]

    @property
    def found(self) -> int:
        return self.engine.disk.stats.found


@pytest.fixture
def bench() -> Iterator[Callable[[], Bench]]:
    made: list[Bench] = []

    def make() -> Bench:
        made.append(Bench())
        return made[-1]

    yield make
    for one in made:
        one.close()


def returns(value: int) -> bytes:
    return words_to_bytes([asm("addi", rd=5, rs1=0, imm=value), asm("ecall")])


def test_code_on_two_pages_is_compared_on_both(bench: Callable[[], Bench]) -> None:
    """An instruction that lies across the border: only its first half is in the page that is looked up."""
    first = CODE + PAGE - 2

    def load(value: int) -> Bench:
        made = bench()
        made.space.poke(first, returns(value))
        return made

    def ended(made: Bench) -> tuple[int, int]:
        value = made.call(first)
        made.engine.save()
        return value, made.found

    value, _ = ended(load(0x111))
    assert value == 0x111
    same = load(0x111)
    assert ended(same) == (0x111, 2) and same.engine.translator.stats.translations == 0
    assert ended(load(0x222))[0] == 0x222  # the bytes of the first page are the same: the low half of the word


def test_a_page_that_may_not_be_executed_gets_no_code(bench: Callable[[], Bench]) -> None:
    one = bench()
    one.space.poke(CODE, returns(7))
    assert one.call(CODE) == 7
    one.engine.save()
    two = bench()
    two.space.poke(CODE, returns(7))
    two.space.protect(CODE, PAGE, READ | WRITE)
    two.state.pc, two.state.mid_block = CODE, False
    stop = two.run(1 << 60)
    assert stop.trap and two.found == 0 and two.state.count == 0
    three = bench()
    three.space.poke(CODE, returns(7))
    three.space.protect(CODE, PAGE, READ | EXEC)
    assert three.call(CODE) == 7 and three.found == 1


def test_code_that_is_written_over_goes_though_it_came_from_disk(bench: Callable[[], Bench]) -> None:
    one = bench()
    one.space.poke(CODE, returns(1))
    assert one.call(CODE) == 1
    one.engine.save()
    two = bench()
    two.space.poke(CODE, returns(1))
    assert two.call(CODE) == 1 and two.found == 1
    two.space.write(CODE, returns(2))
    assert two.call(CODE) == 2 and two.engine.cache.stats.invalidations == 1


def test_records_hold_no_address_of_their_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes, whose mappings lie elsewhere, write the same bytes."""
    contents = []
    for name in ("one", "two"):
        monkeypatch.setenv("DRAGOMAN_CACHE_DIR", str(tmp_path / name))
        probe("@json", "small")
        with closing(sqlite3.connect(tmp_path / name / FILE)) as db:
            contents.append(db.execute("SELECT place, number, record FROM code ORDER BY 1, 2").fetchall())
    assert contents[0] == contents[1] and len(contents[0]) > 20


def test_a_small_memory_cache_takes_from_disk_what_it_dropped() -> None:
    """Small caches make other entries hot; whatever one run has translated, the next one need not."""
    first = run("@json", ["small"], cache_size=8 << 10)
    assert first["stats"]["cache_evictions"] > 100 and first["stats"]["disk"]["found"] > 100  # its own, again
    again = run("@json", ["small"], cache_size=8 << 10)
    assert again["stats"]["translations"] < 30 and again["stats"]["cache_evictions"] > 100
    assert seen(again) == seen(first)


# --- damage -------------------------------------------------------------------------------------------------------


def content(folder: Path) -> list[tuple[bytes, int, bytes]]:
    with closing(sqlite3.connect(folder / FILE)) as db:
        return db.execute("SELECT place, number, record FROM code ORDER BY place, number").fetchall()


KINDS = ("flips", "flip in a record", "cut", "zeroed", "overwritten", "header", "swapped", "moved", "text")


def damage(path: Path, rng: random.Random) -> str:
    """Do one thing to the file that must not happen to it; says which."""
    data = bytearray(path.read_bytes())
    kind = rng.choice(KINDS)
    if kind in ("swapped", "moved", "text"):
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            rows = db.execute("SELECT place, number, record FROM code").fetchall()
            (place, number, record), (_, _, other) = rng.sample(rows, 2)
            if kind == "moved":
                db.execute("UPDATE code SET number = number + 2 WHERE place = ? AND number = ?", (place, number))
            else:
                value = other if kind == "swapped" else "\ud7ff text"
                db.execute("UPDATE code SET record = ? WHERE place = ? AND number = ?", (value, place, number))
        return kind
    at = rng.randrange(len(data))
    if kind == "flips":
        for _ in range(rng.choice((1, 10, 1000))):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == "flip in a record":
        record = rng.choice(content(path.parent))[2]
        at = data.find(record[16:48])
        data[max(at, 0) + rng.randrange(32)] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del data[at:]
    elif kind == "zeroed":
        end = min(at + rng.choice((16, 512, 4096)), len(data))
        data[at:end] = bytes(end - at)
    elif kind == "overwritten":
        data[at : at + 64] = rng.randbytes(64)
    else:
        data[rng.randrange(100)] ^= rng.randrange(1, 256)
    path.write_bytes(data)
    return kind


def campaign(folder: Path, cases: int) -> None:
    wanted = run()
    path = folder / FILE
    whole = path.read_bytes()
    misses = wrong = 0
    for seed in range(cases):
        path.write_bytes(whole)
        for journal in folder.glob("*-journal"):
            journal.unlink()
        kind = damage(path, random.Random(seed))
        outcome = run()
        misses += found(outcome)[1] > 0
        wrong += seen(outcome) != seen(wanted)
        assert not outcome["note"], f"seed {seed}, {kind}: {outcome['note']}"
        assert seen(outcome) == seen(wanted), f"seed {seed}: {kind}"
    print(f"{cases} damaged files: {misses} runs missed something, {wrong} were wrong")
    assert misses > cases // 4
    run()
    assert found(run())[1] == 0


def test_damage(folder: Path) -> None:
    campaign(folder, 60)


@pytest.mark.long
def test_much_damage(folder: Path) -> None:
    campaign(folder, 1000)


def test_a_record_in_the_place_of_another_is_not_taken(folder: Path) -> None:
    """Two routines at one address in pages of one run each: valid records, each of the other's place."""
    path = folder / FILE
    for value in (1, 2):
        one = Bench()
        one.space.poke(CODE, returns(value))
        assert one.call(CODE) == value
        one.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        rows = db.execute("SELECT place, record FROM code WHERE number = 1 ORDER BY place").fetchall()
        (a, first), (b, second) = rows
        db.execute("UPDATE code SET record = ? WHERE number = 1 AND place = ?", (second, a))
        db.execute("UPDATE code SET record = ? WHERE number = 1 AND place = ?", (first, b))
    for value in (1, 2):
        one = Bench()
        one.space.poke(CODE, returns(value))
        assert one.call(CODE) == value and one.found == 0 and one.engine.disk.stats.damaged > 0
        one.close()


def test_records_that_are_cut_or_changed_are_damaged(folder: Path) -> None:
    run()
    rows = [(place, number, unseal(record, place, number)) for place, number, record in content(folder) if number]
    made = [unpack_made(data) for _, _, data in rows]
    assert [unpack_made(pack_made(one)) for one in made] == made
    for (place, number, data), _ in zip(rows, range(5)):
        for end in range(len(data)):
            with pytest.raises(Damaged):
                unpack_made(data[:end])
        with pytest.raises(Damaged):
            unpack_made(data + b"\0")
        for record in (b"", b"short", "text", None, 5, bytes(16) + data):
            with pytest.raises(Damaged):
                unseal(record, place, number)


# --- what stands in the way ---------------------------------------------------------------------------------------


def test_not_a_database(folder: Path) -> None:
    wanted = run()
    (folder / FILE).write_bytes(b"A letter to my aunt.\n" * 500)
    outcome = run()
    assert seen(outcome) == seen(wanted) and not outcome["note"] and found(outcome)[1] > 0
    assert found(run())[1] == 0


@pytest.mark.parametrize(
    "statement", ["PRAGMA user_version = 7", "DROP TABLE code", "ALTER TABLE place RENAME page TO leaf"]
)
def test_tables_of_another_form(folder: Path, statement: str) -> None:
    wanted = run()
    with closing(sqlite3.connect(folder / FILE, isolation_level=None)) as db:
        db.execute(statement)
    outcome = run()
    assert seen(outcome) == seen(wanted) and not outcome["note"]
    run()
    assert found(run())[1] == 0


def test_a_folder_in_the_place_of_the_file(folder: Path) -> None:
    folder.mkdir(0o700)
    (folder / FILE).mkdir()
    outcome = run()
    assert outcome["status"] == 0 and str(folder) in outcome["note"]


def test_a_folder_that_cannot_be_made(folder: Path) -> None:
    folder.write_bytes(b"")
    assert str(folder) in run()["note"]


@pytest.mark.parametrize("mode", [0o755, 0o777, 0o770])
def test_a_folder_that_is_open_to_others_is_refused(folder: Path, mode: int) -> None:
    run()
    folder.chmod(mode)
    outcome = run()
    assert found(outcome)[0] == 0 < found(outcome)[1] and "open to others" in outcome["note"]
    line = [sys.executable, "-m", "dragoman", "run", PROGRAM, *ARGUMENTS]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stderr == f"dragoman: {outcome['note']}\n"


def test_a_folder_of_somebody_else_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run()
    monkeypatch.setattr(database.os, "geteuid", lambda: os.getuid() + 1)
    assert "belongs to somebody else" in run()["note"]


def test_a_file_that_is_locked(folder: Path) -> None:
    wanted = run()
    with closing(sqlite3.connect(folder / FILE, isolation_level=None)) as db:
        db.execute("BEGIN EXCLUSIVE")
        outcome = run()
        assert seen(outcome) == seen(wanted) and found(outcome)[0] == 0 and not outcome["note"]
    assert found(run())[1] == 0


def test_a_folder_that_cannot_be_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there is used; that nothing new can be kept is told once."""
    run()
    (folder / FILE).chmod(0o400)
    folder.chmod(0o500)
    if os.geteuid() == 0:  # to whom permissions are nothing
        connect = sqlite3.connect
        monkeypatch.setattr(
            database.sqlite3, "connect", lambda path, **how: connect(f"file:{path}?mode=ro", uri=True, **how)
        )
    warm = run()
    assert found(warm)[1] == 0 and not warm["note"]
    other = run("@queens")
    assert other["status"] == 0 and found(other)[1] > 0 and "it cannot be written" in other["note"]
    folder.chmod(0o700)


def test_a_disk_that_is_full(folder: Path) -> None:
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
    outcome = probe("@json", "small", preexec_fn=limit)
    assert outcome["status"] == 0 and str(folder) in outcome["note"]
    assert found(probe("@json", "small"))[1] > 0


def test_no_folder_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAGOMAN_CACHE_DIR", "")
    assert disk.user_folder() is None
    monkeypatch.delenv("DRAGOMAN_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", "/some/where")
    assert disk.user_folder() == Path("/some/where/dragoman")
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    monkeypatch.setenv("HOME", "/home/me")
    assert disk.user_folder() == Path("/home/me/.cache/dragoman")


# --- several processes, and ends that come early ------------------------------------------------------------------


def test_ten_processes_share_it(folder: Path) -> None:
    words = [("@sieve", "small"), ("@queens", "small"), ("@sort", "small")]
    started = [
        subprocess.Popen([sys.executable, "-c", PROBE, *words[i % 3]], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for i in range(10)
    ]
    told = []
    for process in started:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        told.append(json.loads(err) | {"stdout": out.decode()})
    for i in range(3):
        assert all(seen(one) == seen(told[i]) for one in told[i::3])
        warm = probe(*words[i])
        assert seen(warm) == seen(told[i]) and not warm["note"]
    with closing(Database(folder)) as kept:
        good, bad = kept.verify()
        assert good > 30 and not bad and kept.sound()


WRITER = """
import os, sys
from pathlib import Path
from dbt.cache.database import Database
from dbt.cache.record import seal
database = Database(Path(sys.argv[1]))
print("ready", flush=True)
for i in range(1 << 30):
    place = os.urandom(16)
    database.write([(place, i, n, seal(bytes(3000), place, n)) for n in range(50)], [], [])
"""


def test_killed_in_the_middle_of_a_write(folder: Path) -> None:
    wanted = run()
    rng = random.Random(1)
    for _ in range(8):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None and writer.stdout.readline() == b"ready\n"
            time.sleep(rng.uniform(0.01, 0.1))
            writer.kill()
        with closing(Database(folder)) as kept:
            good, bad = kept.verify()
            assert not bad and kept.sound() and (good - found(wanted)[1] - 3) % 50 == 0
        outcome = run()
        assert seen(outcome) == seen(wanted) and found(outcome)[1] == 0
    assert good > 1000


def test_what_a_run_made_is_kept_however_it_ends(tmp_path: Path) -> None:
    crash = tiny_program(tmp_path / "crash", counting(3, last=[asm("lw", rd=A2, rs1=0, imm=0), ECALL]))
    killed = tiny_program(tmp_path / "killed", counting(5, last=kill_self(signal.SIGTERM)))
    for path in (crash, killed):
        line = [sys.executable, "-m", "dragoman", "run", "--tiers=1", "--stats=json", str(path)]
        for translations in (True, False):
            done = subprocess.run(line, capture_output=True, text=True, timeout=60)
            assert done.returncode == -(signal.SIGSEGV if path == crash else signal.SIGTERM)
            stats = next(json.loads(text) for text in done.stderr.splitlines() if text.startswith("{"))
            assert (stats["translations"] > 0) == translations == (stats["disk"]["found"] == 0)
    endless = tiny_program(tmp_path / "endless", counting(7, last=[asm("jal", rd=0, imm=0)]))
    line = [sys.executable, "-m", "dragoman", "run", "--tiers=1", "--stats=json", str(endless)]
    for translations in (True, False):
        with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as process:
            time.sleep(4)
            process.send_signal(signal.SIGINT)
            told = process.communicate(timeout=60)[1]
        assert process.returncode == 130
        stats = next(json.loads(text) for text in told.splitlines() if text.startswith("{"))
        assert (stats["translations"] > 0) == translations


def say_so(last: list[int]) -> list[int]:
    """A program that gets hot, writes a byte, and goes on with `last`."""
    told = [asm("auipc", rd=A1, imm=0), li(A0, 1), li(A2, 1), *call(64)]
    return counting(7, last=[*told, *last])


LOOP = [asm("jal", rd=0, imm=0)]
READ_FOR_EVER = [li(A0, 0), asm("auipc", rd=A1, imm=0), li(A2, 1), *call(63), EBREAK]
DEADLY = pytest.mark.parametrize("number", DEADLY_SIGNALS, ids=lambda number: number.name)
SOME_DEADLY = pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1], ids=lambda number: number.name
)


def until_it_says_so(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None and process.stdout.read(1)
    time.sleep(0.2)


@SOME_DEADLY
@pytest.mark.parametrize("last", [LOOP, READ_FOR_EVER], ids=["running", "waiting"])
def test_a_signal_that_ends_us_lets_us_write_first(
    number: signal.Signals, last: list[int], tmp_path: Path, folder: Path
) -> None:
    path = tiny_program(tmp_path / "endless", say_so(last))
    line = [sys.executable, "-m", "dragoman", "run", "--tiers=1", str(path)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        until_it_says_so(process)
        assert not folder.exists() or not content(folder)
        process.send_signal(number)
        assert process.wait(timeout=60) == -number
        assert process.stderr is not None and process.stderr.read() == b""
    assert content(folder)
    with dragoman.load(path, options=Options(disk=True, tiers=(1,)), stdout=os.open(os.devnull, os.O_WRONLY)) as later:
        with pytest.raises(dragoman.LimitReached):
            later.run(1200)
        assert later.stats()["disk"]["found"] > 0 == later.stats()["translations"]


@SOME_DEADLY
def test_it_ends_us_soon_even_if_writing_does_not(number: signal.Signals, tmp_path: Path) -> None:
    path = tiny_program(tmp_path / "endless", say_so(LOOP))
    script = (
        "import sys, time, dragoman\n"
        "from dbt.cache.disk import Disk\n"
        "Disk.save = lambda disk: time.sleep(600)\n"
        "dragoman.main(['run', '--tiers=1', sys.argv[1]])"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE) as process:
        until_it_says_so(process)
        begin = time.monotonic()
        process.send_signal(number)
        assert process.wait(timeout=60) == -number
        assert GRACE * 0.9 < time.monotonic() - begin < GRACE + 20


@SOME_DEADLY
def test_a_second_one_ends_us_at_once(number: signal.Signals, tmp_path: Path) -> None:
    path = tiny_program(tmp_path / "endless", say_so(LOOP))
    script = (
        "import sys, time, dragoman, dbt.process\n"
        "from dbt.cache.disk import Disk\n"
        "dbt.process.GRACE = 600\n"
        "Disk.save = lambda disk: (print(flush=True), time.sleep(600))\n"
        "dragoman.main(['run', '--tiers=1', sys.argv[1]])"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE) as process:
        until_it_says_so(process)
        process.send_signal(number)
        until_it_says_so(process)  # it is writing
        assert process.poll() is None
        process.send_signal(number)
        assert process.wait(timeout=60) == -number


@DEADLY
def test_a_signal_that_is_ignored_or_has_a_handler_stays_so(number: signal.Signals, tmp_path: Path) -> None:
    path = tiny_program(tmp_path / "endless", counting(7, last=LOOP))
    came: list[int] = []
    before = signal.signal(number, lambda number, frame: came.append(number))
    try:
        for handler in (signal.getsignal(number), signal.SIG_IGN):
            signal.signal(number, handler)
            with dragoman.load(path, options=Options(disk=True)) as process:
                process.at(100_000, lambda process: os.kill(os.getpid(), number))
                with pytest.raises(dragoman.LimitReached):
                    process.run(200_000)
            assert signal.getsignal(number) is handler and came == [number]
        signal.signal(number, signal.SIG_DFL)
        during: list[object] = []
        with dragoman.load(path, options=Options(disk=True)) as process:
            process.at(100_000, lambda process: during.append(signal.getsignal(number)))
            with pytest.raises(dragoman.LimitReached):
                process.run(200_000)
        assert callable(during[0]) and signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)


def test_a_long_run_writes_before_it_ends(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "LONG", 0.0)
    path = tiny_program(tmp_path / "endless", counting(7, last=[asm("jal", rd=0, imm=0)]))
    with dragoman.load(path, options=Options(disk=True)) as process:
        monkeypatch.setattr(type(process.engine), "save", lambda engine, last: None)
        with pytest.raises(dragoman.LimitReached):
            process.run(100_000_000)
        assert process.stats()["disk"]["written"] > 0 and content(folder)


# --- how much -----------------------------------------------------------------------------------------------------


def test_what_was_not_used_for_longest_goes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir(0o700)
    now = 1_000_000
    monkeypatch.setattr(database.time, "time", lambda: now)
    with closing(Database(folder)) as kept:
        kept.bound = 1 << 20
        for i in range(100):
            now += 1
            kept.write([(bytes([i]) * 16, i, 1, bytes(30_000))], [bytes(16)] if i else [], [])
            assert kept._in_use() <= kept.bound
        places = [page for page, _, _, _ in kept.lines()]
        assert 0 in places and 1 not in places and 99 in places  # the first was used every time
        assert places[1:] == list(range(places[1], 100)) and 15 < len(places) < 35
        assert kept.info().file <= kept.bound * 1.1
        kept.shrink(200_000)
        assert kept.info().file <= 250_000 and 0 < kept.info().places < 7
        huge = [(bytes([i]) * 16, i, 1, bytes(200_000)) for i in range(9)]
        assert len(kept.write(huge, [], [])) == 1  # a quarter of the bound


def test_pages_with_nothing_on_disk_are_asked_for_together(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program has many pages, and most have nothing there; where too many places may be meant, each is asked for."""
    first = run()
    with closing(Database(folder)) as kept:
        pages = {page for page, _, _, _ in kept.lines() if page >= 0}
        low, high = min(pages), max(pages)
        near = kept.places(low, high, len(pages))
        assert near is not None and len(near) == len(pages) and kept.places(low, high, len(pages) - 1) is None
        assert kept.places(high + 1, high + 9, 1) == {} and set(near.values()) == pages
        assert kept.numbers(disk.NEAR) == {page >> disk.NEAR for page in pages} and kept.numbers(0) == pages
        counted = sum(low + i >> disk.NEAR in kept.numbers(disk.NEAR) for i in range(500))
    assert found(run()) == (found(first)[1], 0)
    asked: list[bytes] = []
    records = Database.records

    def noted(self: Database, place: bytes, number: int | None = None) -> list[tuple[object, object]]:
        asked.append(place)
        return records(self, place, number)

    monkeypatch.setattr(Database, "records", noted)
    for most, times in ((disk.MOST_NEAR, 1), (-1, 1 + counted)):  # one is for what the sources hash to
        monkeypatch.setattr(disk, "MOST_NEAR", most)
        one = disk.disk_of(guests.load("riscv64"), Options(disk=True))
        assert one is not None
        with closing(one):
            asked.clear()
            assert not any(one.find(low + i, bytes(4096)) for i in range(500)) and len(asked) == times


def test_a_forked_child_knows_what_is_not_there_without_the_file(folder: Path) -> None:
    run()
    with closing(Database(folder)) as kept:
        pages = {page for page, _, _, _ in kept.lines() if page >= 0}
    page = min(pages)
    beside = next(p for p in range(page, page + 1000) if p not in pages)
    elsewhere = (max(pages) >> disk.NEAR) + 1 << disk.NEAR
    one = disk.disk_of(guests.load("riscv64"), Options(disk=True))
    assert one is not None
    with closing(one):
        assert not one.lacks(range(elsewhere, elsewhere + 9))  # the file was not asked yet
        one.find(page, bytes(4096))
        one.forget()
        assert one._database is None
        assert one.lacks(range(elsewhere, elsewhere + 9)) and one.lacks(range(beside, beside + 1))
        assert not one.lacks(range(page, page + 1)) and not one.lacks(range(min(page, beside), max(page, beside) + 1))
        one._add(bytes(16), beside, 0, b"made in this run")
        assert not one.lacks(range(elsewhere, elsewhere + 9))
        one.forget()


def test_the_time_of_use_is_noted_now_and_then(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run()
    with closing(Database(folder)) as kept:
        before = {line[3] for line in kept.lines()}
    now = time.time() + 2 * database.STALE
    monkeypatch.setattr(database.time, "time", lambda: now)
    assert found(run())[1] == 0
    with closing(Database(folder)) as kept:
        assert min(line[3] for line in kept.lines()) > max(before) + database.STALE
