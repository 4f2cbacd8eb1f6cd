"""Why an instruction is of its class, and why a block ends: in words, from what its row and its body say.

Owns: these sentences. Must not know: how they are laid out.
"""

from __future__ import annotations

from collections.abc import Iterable

from guests.spec import Decoded, Guest, Treat
from ir.block import Block, Branch, Callout, Continue, Indirect, Inst, Jump


def register_names(guest: Guest) -> dict[int, str]:
    """The name that assembly has for the register of each slot."""
    return {register.slot: register.aliases[0] if register.aliases else register.name for register in guest.registers}


def times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"


def of_class(guest: Guest, decoded: Decoded, insts: Iterable[Inst]) -> str:
    """Of an instruction that was lifted to these instructions of IR."""
    names = register_names(guest)
    reads: dict[str, None] = {}
    writes: dict[str, None] = {}
    memory: dict[str, None] = {}
    leaves: dict[str, None] = {}
    raises: list[str] = []
    others = flags = orders = False
    for inst in insts:
        if inst.op.name in ("getreg", "setreg"):
            name = names.get(int(str(inst.attrs[0])))
            if name is not None:  # else the sink of writes to the zero register
                (reads if inst.op.name == "getreg" else writes)[name] = None
        elif {"load", "store"} & inst.op.effects:
            what = " and ".join(sorted({"load": "loads", "store": "stores"}[e] for e in inst.op.effects - {"exit"}))
            size = inst.attrs[inst.op.attrs.index("size")]
            memory[f"{what} {size} byte{'' if size == 1 else 's'}"] = None
        elif inst.op.name == "leave_if":
            leaves[str(inst.attrs[0])] = None
        flags = flags or "flags" in inst.op.effects
        orders = orders or "order" in inst.op.effects
        others = others or bool({"host", "time", "remap"} & inst.op.effects)
        raises += [_trap(guest, inst)] if inst.op.name == "raise" else []
    parts = [f"reads {', '.join(reads)}"] if reads else []
    parts += [f"writes {', '.join(writes)}"] if writes else []
    parts += list(memory)
    parts += ["orders accesses as other processors see them"] if orders else []
    parts += ["accrues floating-point flags"] if flags else []
    parts += ["works on the host's own state, or on time"] if others else []
    parts += raises or ([f"leaves to the monitor for: {', '.join(leaves)}"] if leaves else [])
    said = "; ".join(parts) or "changes nothing"
    if decoded.treat is Treat.INLINE:
        return f"other state of the CPU is edited in place: {said}"
    return f"touches registers and memory alone: {said}"


def _trap(guest: Guest, inst: Inst) -> str:
    name = guest.trap_names.get(int(str(inst.attrs[0])), f"cause {inst.attrs[0]}")
    return f"raises a trap ({name.partition(' from ')[0]}), which a handler of the guest's takes"


def of_callout(decoded: Decoded | None, callouts: frozenset[Treat]) -> str:
    """Of an instruction that ends its block because the monitor executes it."""
    if decoded is None:
        return "no instruction of this processor: the monitor gives the guest its trap"
    if decoded.treat in callouts:
        traps = ", and it traps" if decoded.row.may_trap and decoded.row.ends_block else ""
        where = "its row says so" if decoded.treat is Treat.CALLOUT else "--sensitive=callout says so"
        return f"the monitor executes it by the reference body: {where}{traps}"
    return "the monitor executes it by the reference body: its body asked for that, with these operands"


def of_end(block: Block, most: int) -> str:
    """Why a block is not longer."""
    last = block.guest[-1].text if block.guest else ""
    match block.exit:
        case Callout(pc):
            return f"the monitor executes the instruction at {pc:#x}"
        case Continue(pc):
            return f"it was cut after {most} instructions; the guest's own block goes on at {pc:#x}"
        case Jump() if any(inst.op.name == "raise" and inst.at == len(block.guest) - 1 for inst in block.insts):
            return f"`{last}` traps"
        case Jump(pc) if not block.ends_by_jump:
            return f"the instruction behind it, at {pc:#x}, is in another page, or `{last}` may change what follows"
        case Jump(pc):
            return f"`{last}` jumps to {pc:#x}"
        case Branch(_, taken, otherwise):
            return f"`{last}` goes to {taken:#x} or to {otherwise:#x}"
        case Indirect():
            return f"`{last}` jumps to an address that is known when it runs"
    return ""
