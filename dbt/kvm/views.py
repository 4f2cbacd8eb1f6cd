"""What people are shown of a guest that has user mode alone: its registers beside its hart's, its tables beside those
that its hart has.

Owns: how it looks. Must not know: how either is made. Nothing here changes the guest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbt.kvm.errors import BadValue
from dbt.kvm.physical import Shadowed
from guests.spec import Mapped

if TYPE_CHECKING:
    from dbt.kvm.vcpu import Vcpu

SIZES = (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))


def registers(vcpu: Vcpu) -> str:
    """The guest's registers and mode, and what the hart's own held when it had its last trap, from user mode. BadValue
    for a method in which they are the same.
    """
    _physical(vcpu)
    real = vcpu.vm.world.real(vcpu.hart)
    modes = vcpu.hart.privileged.inspection.modes
    lines = [f"{'':<9}{'virtual':>18}  {'real':>18}", f"{'mode':<9}{modes[vcpu.get('mode')]:>18}  {modes[0]:>18}"]
    lines += [f"{name:<9}{vcpu.get(name):>#18x}  {value:>#18x}" for name, value in real.items()]
    return "\n".join(lines) + "\n"


def tables(vcpu: Vcpu) -> str:
    """The guest's tables, in its present context; where its monitor has put what they lead to; and the shadow tables. A
    line for each leaf of either. BadValue for a method that has none.
    """
    physical = _physical(vcpu)
    hart, view = vcpu.hart, physical.view_of(vcpu.hart)
    own = {leaf.virtual: leaf for leaf in view.leaves()}
    shadow = {leaf.virtual: leaf for leaf in physical.shadow.leaves(view)}
    places = physical.places()
    head = ("guest: virtual", "physical", "size", "rights", "monitor: machine", "shadow: physical", "size", "rights")
    lines = [head]
    for address in sorted({*own, *shadow}):
        mine, ours = own.get(address), shadow.get(address)
        gpa = hart.privileged.inspection.physical(hart.state.slots, physical.read, address)
        there = [place + gpa - low for low, size, place in places if gpa is not None and low <= gpa < low + size]
        lines.append((
            f"{address:#x}", "-" if gpa is None else f"{gpa:#x}", *_kind(mine),
            f"{there[0]:#x}" if there else "not granted",
            "-" if ours is None else f"{ours.physical:#x}", *_kind(ours),
        ))  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "".join("  ".join(cell.rjust(w) for cell, w in zip(line, widths)).rstrip() + "\n" for line in lines)


def _physical(vcpu: Vcpu) -> Shadowed:
    physical = vcpu.vm.physical
    if not isinstance(physical, Shadowed):
        raise BadValue("the guest's registers and tables are the hart's own: this is no method that emulates")
    return physical


def _kind(leaf: Mapped | None) -> tuple[str, str]:
    """Size and rights of a leaf."""
    if leaf is None:
        return "-", "-"
    return next(f"{leaf.size // unit} {name}" for name, unit in SIZES if leaf.size >= unit), leaf.rights
