"""Rows that are not done are visible: they decode to illegal instruction, and are named where one is met."""

from __future__ import annotations

import pytest
from support.riscv import GUEST
from support.tiny import program

import dragoman
from guests.decode import layout, overlaps, planned


def test_planned_rows_overlap_nothing() -> None:
    assert overlaps([*GUEST.rows, *GUEST.planned]) == []


@pytest.mark.parametrize("row", GUEST.planned, ids=lambda r: r.name)
def test_a_planned_row_is_an_illegal_instruction(row) -> None:
    word = layout(row.pattern).match
    assert row.body is None
    assert GUEST.decode(word) is None
    assert planned(GUEST.planned, word) is row


@pytest.mark.parametrize("engine", ["reference", "translated"])
def test_meeting_one_says_its_name(tmp_path, engine: str) -> None:
    result = dragoman.run(program(tmp_path / "x", [0x28C5252F]), engine=engine)  # amocas.w a0, a2, (a0)
    assert result.signal == 4
    assert "amocas.w of the extension zacas, which is not done yet" in (result.reason or "")
