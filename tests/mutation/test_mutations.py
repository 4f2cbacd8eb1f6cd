"""The tests bite: each defect of the table, planted, makes its named test fail; without a defect every one passes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mutation.mutations import DOCUMENT, MUTATIONS, Mutation, table
from support.planted import Defect, Server

# What a defect that is no proper program raises: then the table is wrong, and nothing has been found.
NO_PROGRAM = {"ImportError", "ModuleNotFoundError", "NameError", "UnboundLocalError", "SyntaxError"}
MANDATORY = ("decode", "bodies", "a pass", "lowering", "chaining", "unlinking", "invalidation", "boundary", "flags")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: f"{m.kind}: {m.name}")
def test_a_planted_defect_is_found(mutation: Mutation, server: Server) -> None:
    """Exactly the named test runs, and it fails by itself: nothing was wrong with importing or collecting."""
    defect = Defect(mutation.file, mutation.old, mutation.new)
    outcome = server.run([mutation.caught_by], defect, mutation.scale)
    assert outcome.status in (0, 1) and not outcome.broken, outcome.output
    assert list(outcome.tests) == [mutation.caught_by], outcome.output
    raised = outcome.tests[mutation.caught_by].get("call", "nothing, it was not called")
    if raised == "Skipped":
        pytest.skip(f"{mutation.caught_by} is skipped here")
    assert outcome.planted, f"{mutation.caught_by} does not import {mutation.file}"
    assert raised != "passed", f"the defect survives {mutation.caught_by}: {mutation.why}"
    assert outcome.status == 1 and raised not in NO_PROGRAM, outcome.output
    print(f"{mutation.kind}: {mutation.name}: {raised} in {mutation.caught_by}, {outcome.seconds:.1f} s")


@pytest.mark.parametrize(("file", "scale"), sorted({(m.file_of_test, m.scale) for m in MUTATIONS}))
def test_the_named_tests_pass_without_a_defect(file: str, scale: float, server: Server) -> None:
    """File by file, so that processes that run tests share them."""
    named = sorted({m.caught_by for m in MUTATIONS if (m.file_of_test, m.scale) == (file, scale)})
    outcome = server.run(named, None, scale)
    assert outcome.status == 0 and not outcome.broken, outcome.output
    assert set(outcome.tests) == set(named)
    assert {raised for phases in outcome.tests.values() for raised in phases.values()} <= {"passed", "Skipped"}


def test_a_defect_that_nothing_finds_is_not_called_found(server: Server) -> None:
    """The judgement bites: a test that does not look at the place passes, planted or not."""
    defect = Defect("ir/ops.py", "return (a + b) & MASK", "return (a - b) & MASK")
    blind, seeing = "tests/ir/test_verify.py::test_types", "tests/ir/test_passes.py::test_file[fold-constants]"
    outcome = server.run([blind, seeing], defect)
    assert outcome.planted and outcome.status == 1
    assert (outcome.tests[blind]["call"], outcome.tests[seeing]["call"]) == ("passed", "AssertionError")
    broken = server.run([blind], Defect("ir/ops.py", "SIGN = 1 << 63\n", "SIGN = nowhere\n"))
    assert broken.broken and broken.status not in (0, 1) and not broken.tests


def test_the_table_is_wide_enough() -> None:
    kinds = [m.kind for m in MUTATIONS]
    assert len(MUTATIONS) >= 50 and all(kinds.count(kind) >= 3 for kind in MANDATORY)
    assert len({(m.kind, m.name) for m in MUTATIONS}) == len({(m.file, m.old, m.new) for m in MUTATIONS}) == len(kinds)
    assert all(m.old != m.new for m in MUTATIONS)


def test_every_defect_has_its_place() -> None:
    """The text is there, once, and what comes of it is a program: all of the table at once, in a second or two."""
    for each in MUTATIONS:
        compile(Defect(each.file, each.old, each.new).source(), each.file, "exec")


def test_the_document_shows_the_table() -> None:
    root = Path(__file__).resolve().parents[2]
    assert (root / DOCUMENT).read_text(encoding="utf-8") == table()
