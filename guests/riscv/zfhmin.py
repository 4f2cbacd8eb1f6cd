"""Zfhmin: half precision as a storage format: loads, stores, moves and conversions (Unprivileged ISA).

Rows and bodies come from `fp`. Conversions are the monitor's, which computes them exactly: they are rare.
"""

from __future__ import annotations

from guests.riscv.fp import D, H, S, conversion, transfers
from guests.riscv.table import Extension
from guests.spec import Treat

ZFHMIN = Extension("zfhmin", H.manual)
transfers(ZFHMIN, H)
conversion(ZFHMIN, S, H, treat=Treat.CALLOUT)
conversion(ZFHMIN, H, S, treat=Treat.CALLOUT)
conversion(ZFHMIN, D, H, treat=Treat.CALLOUT, also="d")
conversion(ZFHMIN, H, D, treat=Treat.CALLOUT, also="d")
