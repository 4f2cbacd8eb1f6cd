"""One guest of a virtual machine under each method of `dbt.kvm`: what each did, counted, and what it would cost.

    compare(file, methods, engines) -> Comparison: a Row for each method and engine  .text() .as_dict() .page()

Owns: what a comparison is. Must not know: how a method works.
"""

from __future__ import annotations

from dbt.methods.report import Comparison, compare
from dbt.methods.run import Counts, Row

__all__ = ["Comparison", "Counts", "Row", "compare"]
