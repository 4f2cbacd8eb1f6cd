"""The one place that says which host this is.

Owns: the choice. Must not know: what a host's data are used for.
"""

from __future__ import annotations

import os
import sys

from dbt.hosts import x86_64
from ir.llvm import Host


class UnsupportedHost(RuntimeError):
    """Translated code cannot run on this machine; the message says what can."""


def host() -> Host:
    """This machine's data; raises UnsupportedHost."""
    machine = os.uname().machine
    if not sys.platform.startswith("linux") or machine != "x86_64":
        raise UnsupportedHost(f"the translator supports Linux on x86-64, not {sys.platform} on {machine}")
    return x86_64.X86_64
