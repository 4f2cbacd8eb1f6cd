"""The D extension: double precision (Unprivileged ISA). Rows and bodies come from `fp.extension`."""

from guests.riscv.fp import D as DOUBLE
from guests.riscv.fp import S, conversion, extension

D = extension(DOUBLE)
conversion(D, S, DOUBLE)
conversion(D, DOUBLE, S)
