"""Lines of LLVM text with fresh names, for functions that are written by hand. Owns: the names. Must not know: more."""

from __future__ import annotations


class Lines:
    """LLVM lines; `let` names the result of one."""

    limit = "%limit"  # what stencils carry: the highest address, or a set of translations

    def __init__(self) -> None:
        self.lines: list[str] = []

    def put(self, line: str) -> None:
        self.lines.append(" " + line)

    def let(self, expression: str, hint: str = "v") -> str:
        name = f"%{hint}{len(self.lines)}"
        self.put(f"{name} = {expression}")
        return name
