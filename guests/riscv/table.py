"""How the extension files enter their rows: one decorator for a row and its body.

Owns: the `Extension` collector. Must not know: any instruction.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from guests.spec import Body, Operands, Row, Treat
from ir.records import replace


class Extension:
    """The rows of one extension, in the order of the manual."""

    def __init__(self, name: str, manual: str) -> None:
        self.name = name
        self.manual = manual
        self.rows: list[Row] = []

    def insn(
        self,
        name: str,
        pattern: str,
        syntax: str = "",
        *,
        treat: Treat = Treat.IDENT,
        ends_block: bool = False,
        may_trap: bool = False,
        treat_of: Callable[[Operands], Treat] | None = None,
        ends_block_of: Callable[[Operands], bool] | None = None,
        legal: Callable[[Operands], bool] | None = None,
        also: str = "",
    ) -> Callable[[Body], Row]:
        """Decorator: the function below is the meaning of this row; its name becomes the Row.

        `also` names another extension without which the row is not there.
        """

        def enter(body: Body) -> Row:
            requires = frozenset({self.name, also} - {""})
            row = Row(
                name, pattern, syntax, self.name, requires, body, treat, ends_block, may_trap,
                self.manual, _writes(syntax), (), treat_of, ends_block_of, legal,
            )  # fmt: skip
            self.rows.append(row)
            return row

        return enter

    def form(self, name: str, pattern: str, syntax: str, base: Row, **fixed: int | str) -> Row:
        """A compressed form of `base`: same meaning, with some operands fixed or copied from others."""
        row = replace(base, name=name, pattern=pattern, syntax=syntax, extension=self.name, manual=self.manual,
                      requires=base.requires | {self.name}, fixed=tuple(fixed.items()))  # fmt: skip
        self.rows.append(row)
        return row

    def todo(self, name: str, pattern: str, syntax: str = "") -> None:
        """A row that is known and not done: it decodes to illegal instruction and shows in the coverage."""
        self.rows.append(Row(name, pattern, syntax, self.name, frozenset({self.name}), None, manual=self.manual))

    def row(self, name: str) -> Row:
        """The row of this name; KeyError if there is none."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)


def _writes(syntax: str) -> str:
    words: list[Any] = re.findall(r"[a-z0-9]+", syntax)
    return "x" if "rd" in words else "f" if "frd" in words else ""
