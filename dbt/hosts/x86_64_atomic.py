"""x86-64: the machine code of a compare-and-exchange and of a fence, as C functions.

Owns: the code (AT&T syntax in TEXT, of which CODE is what an assembler makes). Must not know: who calls it.
"""

from __future__ import annotations

TEXT = """
exchange4:
    mov %esi, %eax
    lock cmpxchgl %edx, (%rdi)
    ret
exchange8:
    mov %rsi, %rax
    lock cmpxchgq %rdx, (%rdi)
    ret
fence:
    mfence
    ret
"""
CODE = bytes.fromhex("89f0f00fb117c3 4889f0f0480fb117c3 0faef0c3")
EXCHANGE, FENCE = {4: 0, 8: 7}, 16  # byte offsets in CODE; by size
