"""A folder in which pages of the documents are followed: with `dragoman` and `python` as commands, and the tree's code.

Owns: the folder, the environment, running a command there. Must not know: what a page says.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from support.forked import Forks

ROOT = Path(__file__).resolve().parents[2]


class Desk:
    """A new folder `desk` inside `folder`; `tree`, or the desk itself, is where our packages are imported from. What
    `dragoman` is in a shell may be given: `forks`.
    """

    def __init__(self, folder: Path, tree: Path | None = ROOT, forks: Forks | None = None) -> None:
        self.folder = folder / "desk"
        self.folder.mkdir()
        commands = folder / "commands"
        commands.mkdir()
        ours = forks.line if forks else f'"{sys.executable}" -m dragoman "$@"'
        for name, line in (("python", f'"{sys.executable}" "$@"'), ("dragoman", ours)):
            (commands / name).write_text(f"#!/bin/sh\nexec {line}\n")
            (commands / name).chmod(0o755)
        path = f"{commands}{os.pathsep}{os.environ['PATH']}"
        python = str(tree or self.folder)
        self.environment = {**os.environ, "PATH": path, "PYTHONPATH": python, "PYTHONDONTWRITEBYTECODE": "1"}

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """A shell's command; what it prints is in `stdout`, errors among it."""
        return subprocess.run(
            command, shell=True, cwd=self.folder, env=self.environment, text=True, timeout=600,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
