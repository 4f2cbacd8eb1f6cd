"""What LLVM makes of a text is made once in a run of the tests, and shared by all of its processes that run tests.

They ask for the same again and again: stencils, the runtime, blocks of a C library. An object depends on its text, the
passes and the compiler, which are the key here; texts are made, objects read and code run by each test for itself. So a
defect that is planted in what makes texts has texts of its own, and where one is planted in the compiler nothing is
kept. What is made in processes that tests start, and what a test asks of a compiler of its own, is not shared.
Owns: the folder's files. Must not know: what is in a text.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from hashlib import sha256
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def keep(folder: Path) -> None:
    """Have every compiler that this process makes for its engines keep objects here, and take them from here."""
    spec = find_spec("dbt.codegen")
    assert spec is not None
    if spec.cached is None:  # `support.planted` has another text for it
        return
    from dbt import backend

    make = backend.compiler

    def compiler(triple: str, optimisation: int) -> Any:
        made = make(triple, optimisation)
        if "object" not in vars(made):
            llvm = (version("llvmlite"), triple, optimisation, made.cpu, made.features.flatten())
            made.object = _kept(folder, made.object, *llvm)
            made.stencil_object = _kept(folder, made.stencil_object, *llvm, "stencils")
        return made

    folder.mkdir(exist_ok=True)
    backend.compiler = compiler


def _kept(folder: Path, make: Callable[..., bytes], *assumed: object) -> Callable[..., bytes]:
    """The same function, asked once for the same arguments in all processes that have this folder."""

    def kept(*arguments: object) -> bytes:
        path = folder / sha256(repr((assumed, arguments)).encode()).hexdigest()
        if path.exists():
            return path.read_bytes()
        data = make(*arguments)
        descriptor, name = tempfile.mkstemp(dir=folder)
        with open(descriptor, "wb") as file:
            file.write(data)
        os.replace(name, path)
        return data

    return kept
