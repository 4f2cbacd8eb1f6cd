"""The F extension: single precision (Unprivileged ISA). Rows and bodies come from `fp.extension`."""

from guests.riscv.fp import S, extension

F = extension(S)
