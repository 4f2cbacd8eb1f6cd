"""Options in the hands of argparse, for help and for what is wrong with them; importing it takes 5 ms.

Owns: how `--help` looks, what `-E` and `-U` leave behind. Must not know: any option.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn


class _Help(argparse.HelpFormatter):
    """An optional value is shown as it must be written: --stats[=json]."""

    def _format_args(self, action: argparse.Action, default_metavar: str) -> str:
        if action.nargs == "?":
            return f"[={action.metavar}]"
        return super()._format_args(action, default_metavar)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        return super()._format_action_invocation(action).replace(" [=", "[=")

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "".join(indent + line for line in text.splitlines(keepends=True))


class _Unasked(_Help):
    """While options are added, each makes a formatter to check itself: the terminal is not asked how wide it is."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=80)


class _Edit(argparse.Action):
    """-E and -U, in the order given."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option: str | None = None) -> None:
        edits = getattr(namespace, self.dest) or []
        setattr(namespace, self.dest, [*edits, values if isinstance(values, tuple) else (values, None)])


class _Arguments(argparse.ArgumentParser):
    """Says what is wrong in the caller's way. What stands behind the options is made when it is asked for."""

    failed: Callable[[str], NoReturn]

    def format_help(self) -> str:
        if callable(self.epilog):
            self.epilog = self.epilog()
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        self.failed(message)


def arguments(
    prog: str,
    texts: Mapping[str, Any],
    options: Iterable[tuple[tuple[str, ...], Mapping[str, Any]]],
    failed: Callable[[str], NoReturn],
) -> argparse.ArgumentParser:
    """The parser of a command with these options."""
    parser = _Arguments(prog=prog, allow_abbrev=False, formatter_class=_Unasked, **texts)
    parser.failed = failed
    parser.register("action", "edit", _Edit)
    for names, how in options:
        parser.add_argument(*names, **how)
    parser.formatter_class = _Help
    return parser
