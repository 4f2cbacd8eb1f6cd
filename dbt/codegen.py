"""LLVM IR text in, code bytes out: the only module that imports llvmlite.

Owns: LLVM. Must not know: what the functions mean, how an object file is taken apart, where the code will live.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import llvmlite.binding as llvm

from dbt.code import Code, CodegenError
from dbt.object_file import read_lines, read_object

if TYPE_CHECKING:
    from dbt.line_table import LineTable
    from dbt.tier0.library import Stencil

OPTIONS = (  # of LLVM's code generation, for the whole process
    "-enable-tail-merge=false",  # every exit jumps for itself: better predicted
    "-disable-lsr",  # the guest's compiler has chosen induction variables; more of them cost registers and time
    "-disable-post-ra",  # a second scheduling, which gives nothing measurable
)


class Compiler:
    """One LLVM target machine. `optimisation` is its code-generation level, 0 to 3."""

    def __init__(self, triple: str, optimisation: int = 1) -> None:
        for option in OPTIONS:
            llvm.set_option("", option)
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        llvm.initialize_native_asmparser()
        self.cpu = llvm.get_host_cpu_name()
        self.features = llvm.get_host_cpu_features()
        # Of a choice between two floats LLVM makes a table; it must not be addressed absolutely.
        self.machine, self.stencil_machine = (
            llvm.Target.from_triple(triple).create_target_machine(
                cpu=self.cpu, features=self.features.flatten(), opt=optimisation, reloc=reloc, codemodel="small"
            )
            for reloc in ("pic", "static")
        )

        self._managers: dict[tuple[str, ...], Any] = {}

    def has(self, feature: str) -> bool:
        """Whether the host CPU has this feature, by LLVM's name."""
        return bool(self.features.get(feature))

    def compile(self, text: str, check: bool = False, passes: Sequence[str] | None = ()) -> Code:
        """Compile a module. `check` runs LLVM's verifier first. Raises CodegenError.

        `passes` are those of LLVM's, by llvmlite's names, that every function goes through; None: all of -O2.
        """
        return read_object(self.object(text, check, passes))

    def object(self, text: str, check: bool, passes: Sequence[str] | None) -> bytes:
        """The ELF object of this module."""
        return self.machine.emit_object(self._improved(text, check, passes))

    def traced(self, text: str, passes: Sequence[str] | None = ()) -> tuple[Code, LineTable, str]:
        """The same of a module with debug locations: the code, whose lines it is, and the text after the passes."""
        module = self._improved(text, True, passes)
        data = self.machine.emit_object(module)
        return read_object(data), read_lines(data), str(module)

    def _improved(self, text: str, check: bool, passes: Sequence[str] | None) -> Any:
        """LLVM's module of a text, after these passes. Raises CodegenError."""
        try:
            module = llvm.parse_assembly(text, llvm.create_context())
            if check:
                module.verify()
        except RuntimeError as error:
            raise CodegenError(str(error)) from error
        if passes is None:
            builder = llvm.create_pass_builder(self.machine, llvm.create_pipeline_tuning_options(speed_level=2))
            builder.getModulePassManager().run(module, builder)
        elif passes:
            # A builder keeps what each run registers with it, so each run has its own; a manager may be used again.
            builder = llvm.create_pass_builder(self.machine, llvm.create_pipeline_tuning_options(speed_level=2))
            manager = self._manager(tuple(passes))
            for function in module.functions:
                if not function.is_declaration:
                    manager.run(function, builder)
        return module

    def _manager(self, passes: tuple[str, ...]) -> Any:
        if passes not in self._managers:
            manager = self._managers[passes] = llvm.create_new_function_pass_manager()
            for name in passes:
                getattr(manager, f"add_{name}_pass")()
        return self._managers[passes]

    def stencils(self, text: str) -> dict[str, Stencil]:
        """Compile a module of stencils, each function by itself. Raises CodegenError."""
        from dbt.tier0.objects import read_stencils  # with all that makes stencils, which a worker never does

        return read_stencils(self.stencil_object(text))

    def stencil_object(self, text: str) -> bytes:
        """The ELF object of this module."""
        return self.stencil_machine.emit_object(self._improved(text, True, ()))
