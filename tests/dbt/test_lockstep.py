"""Lockstep finds what differs, says where, and leaves a file that reproduces it."""

from __future__ import annotations

import contextlib
import re
from dataclasses import replace

import pytest

from dbt import cli
from dbt import lockstep as lockstep_module
from dbt.lockstep import ReproducerError, lockstep, reproduce, save
from dbt.options import Options
from dbt.process import LimitReached, Process, Settings
from guests import programs
from ir import llvm


@pytest.fixture
def quiet(tmp_path):
    """Settings that send the guest's output to a file."""
    with open(tmp_path / "out", "wb") as out:
        yield Settings(stdout=out.fileno())


def half_stores(translator) -> None:
    """A defect that corrupts only memory: stores of 8 bytes, as bytes beside each other become, write 4 of them."""
    backend = translator.backend
    target = backend.target
    stores = {**target.host.stores, 8: target.host.stores[4]}
    backend.shop.target = replace(target, host=replace(target.host, stores=stores))


@pytest.mark.parametrize("name", ["hello", "json", "nbody", "atomic", "ray"])
def test_bundled_programs_agree(name, quiet):
    report = lockstep(programs.path(name), (), quiet)
    print(f"{name}: {report.instructions} instructions, {report.boundaries} boundaries, {report.pages} pages compared")
    assert report.difference is None
    assert report.status == 0
    assert report.instructions > 500
    assert report.pages > 0


@pytest.mark.parametrize("name", ["hello", "json", "nbody", "atomic", "ray", "recurse", "dispatch", "queens"])
def test_with_strides_regions_are_compared(name, quiet):
    """After each of random numbers of instructions, with stencils and regions; most in regions of several blocks."""
    report = lockstep(programs.path(name), programs.find(name).small, quiet, stride=3000, max_instructions=400_000)
    print(f"{name}: {report.instructions} instructions, {report.in_regions} in regions, {report.boundaries} stops")
    assert report.difference is None
    assert report.boundaries * 1000 < report.instructions or name == "hello"
    assert report.in_regions > report.instructions // (4 if name == "hello" else 2)


def test_a_defect_in_a_region_is_found_and_reproduced(quiet, tmp_path, monkeypatch):
    """Only where one block leads to another inside: the step that is kept holds several blocks."""
    follow = llvm.Lowering.follow

    def wrong(self, pc, budget):
        if pc in self.region.edges[self.block.pc] and 10 in self.written and len(self.region.blocks) > 3:
            self.write_slot(10, "i64", self.let(f"xor i64 {self.read_slot(10)}, 64"))
        follow(self, pc, budget)

    monkeypatch.setattr(llvm.Lowering, "follow", wrong)
    assert lockstep(programs.path("json"), (), quiet).difference is None, "block by block it does not show"
    report = lockstep(programs.path("json"), (), quiet, stride=2000)
    assert report.difference is not None and report.difference.reproducer["step"] > 1
    file = tmp_path / "repro.json"
    save(report.difference, file)
    assert reproduce(file) != []
    monkeypatch.undo()
    assert reproduce(file) == []


@pytest.mark.parametrize("stride", [0, -1, 4001])
def test_a_stride_that_the_log_cannot_hold_is_refused(stride, quiet):
    with pytest.raises(ValueError, match="a stride is from 1 to 4,000 instructions"):
        lockstep(programs.path("hello"), (), quiet, stride=stride)


def test_a_defect_that_corrupts_only_memory_is_found_and_reproduced(quiet, tmp_path):
    report = lockstep(programs.path("json"), (), quiet, mutate=lambda p: half_stores(p.engine.translator))
    difference = report.difference
    assert difference is not None
    *shown, more = (line.split() for line in difference.what)
    assert shown and {line[0] for line in shown} == {"memory"} and more[0] in ("memory", "...")
    assert any(re.search(r"\bs[bd] ", line) for line in difference.block)
    assert "store" in difference.ir
    assert "reference" in difference.text()
    file = tmp_path / "repro.json"
    save(difference, file)
    assert reproduce(file, lambda engine: half_stores(engine.translator)) != []
    assert reproduce(file) == []  # without the defect the engines agree on that very block


def test_the_command_leaves_a_file_that_reproduces_the_difference(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(llvm.Lowering, "do_sub", lambda self, inst: self.binary(inst, "add"))
    assert cli.main(["lockstep", "@collatz"]) == 3
    (file,) = tmp_path.glob("lockstep-collatz-*.json")
    shown = capfd.readouterr()
    assert f"dragoman lockstep --reproduce={file.name}" in shown.err
    assert "the engines differ" in shown.out
    assert cli.main(["lockstep", f"--reproduce={file.name}"]) == 3
    monkeypatch.undo()
    assert cli.main(["lockstep", f"--reproduce={file}"]) == 0


def test_a_wrong_address_is_found(quiet, monkeypatch):
    """The store goes to another page than the reference's: only the log of pointers can tell."""
    original = llvm.Lowering.address

    def astray(self, inst, offset, size, writing):
        pointer = original(self, inst, offset, size, writing)
        if self.block.guest[inst.at].text.startswith(("sb", "c.sb")):
            return self.let(f"getelementptr i8, ptr {pointer}, i64 -64", "a")
        return pointer

    monkeypatch.setattr(llvm.Lowering, "address", astray)
    report = lockstep(programs.path("json"), (), quiet)
    assert report.difference is not None
    assert any("memory" in line for line in report.difference.what)


def test_a_second_store_to_another_page_is_found(quiet, monkeypatch):
    """The store is right, and so is all that the reference wrote: only the leader's log has the other page."""
    original = llvm.Lowering.access_store
    far = 1 << 20  # from the top of the stack into the middle of its region

    def twice(self, pointer, value, size, at):
        original(self, pointer, value, size, at)
        if self.block.guest[at].text.startswith("c.sdsp"):
            original(self, self.let(f"getelementptr i8, ptr {pointer}, i64 {-far}", "a"), value, size, at)

    monkeypatch.setattr(llvm.Lowering, "access_store", twice)
    monkeypatch.setattr(lockstep_module._Pair, "_compare_all", lambda self: [])
    report = lockstep(programs.path("json"), (), quiet, max_instructions=2000)
    assert report.difference is not None
    assert {line.split()[0] for line in report.difference.what} == {"memory"}


def test_a_wrong_count_of_blocks_is_found(quiet, monkeypatch):
    spent = llvm.Lowering.spent
    monkeypatch.setattr(llvm.Lowering, "spent", lambda self, instructions, blocks=0: spent(self, instructions))
    report = lockstep(programs.path("hello"), (), quiet)
    assert report.difference is not None
    assert [line.split()[0] for line in report.difference.what] == ["blocks"]


def test_memory_that_nobody_is_known_to_have_written_is_compared_too(quiet):
    """A byte changes behind everybody's back; the program never touches that page."""
    def corrupt(process):
        region = next(r for r in process.space.regions() if r.name == "[stack]")
        process.space.poke(region.start + 4096, b"x")

    report = lockstep(programs.path("hello"), (), quiet, mutate=corrupt)
    assert report.difference is not None
    assert [line.split()[0] for line in report.difference.what] == ["memory"]


def test_a_register_defect_names_the_register(quiet, monkeypatch):
    monkeypatch.setattr(llvm.Lowering, "do_sub", lambda self, inst: self.binary(inst, "add"))
    report = lockstep(programs.path("collatz"), (), quiet)
    assert report.difference is not None
    assert any(line.strip().startswith("x") for line in report.difference.what)


def test_the_limit_ends_the_comparison(quiet):
    report = lockstep(programs.path("json"), (), quiet, max_instructions=10_000)
    assert report.limited
    assert 10_000 <= report.instructions < 10_100


def test_the_caller_sees_progress(quiet):
    seen = []
    lockstep(programs.path("json"), (), quiet, max_instructions=60_000, progress=lambda r: seen.append(r.instructions))
    assert seen == sorted(seen)
    assert len(seen) > 3


@pytest.mark.parametrize(
    "text", ["", "{}", '{"dragoman": "x"}', "\xff", "[1]", '{"dragoman": "lockstep reproducer 1"}']
)
def test_bad_reproducers_are_refused_in_one_sentence(text, tmp_path):
    file = tmp_path / "bad.json"
    file.write_text(text)
    with pytest.raises(ReproducerError, match="is not a lockstep reproducer"):
        reproduce(file)


@pytest.mark.parametrize("seed", range(4))
def test_chaos_changes_nothing(seed, tmp_path):
    """Leaving, flushing, interpreting and write-protecting at random: same output, counts and blocks."""
    results = []
    for options in (Options(), Options(chaos=seed, hot=seed % 3)):
        with open(tmp_path / "out", "wb") as out:
            process = Process(programs.path("json"), ["1"], Settings(stdout=out.fileno(), seed=1, options=options))
            with contextlib.suppress(LimitReached):
                process.run(60_000)
            results.append(
                (process.status, process.instructions, process.state.blocks, process.registers, process.engine.classes)
            )
            process.close()
        results[-1] += ((tmp_path / "out").read_bytes(),)
    assert results[0] == results[1]
