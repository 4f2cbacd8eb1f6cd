"""Text of host code and of instruction traces: with the lab, the only place that imports capstone.

Owns: how things look. Must not know: how they came about.
"""

from __future__ import annotations


def host_text(code: bytes, address: int) -> str:
    """Host machine code as assembly, a line an instruction."""
    return "\n".join(f"{at:16x}  {text}" for at, _, text in host_lines(code, address))


def host_lines(code: bytes, address: int) -> list[tuple[int, bytes, str]]:
    """The same: address, bytes and assembly of each instruction."""
    import capstone

    md = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    return [
        (at, code[at - address : at - address + size], f"{name} {operands}".rstrip())
        for at, size, name, operands in md.disasm_lite(code, address)
    ]
