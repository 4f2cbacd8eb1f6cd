"""A guest's console: what it writes by calls of SBI, for a user of `Vcpu.run`.

Owns: how these calls are answered. Must not know: where the text goes.
"""

from __future__ import annotations

from collections.abc import Callable

from dbt.kvm.errors import NoSuchRegion
from dbt.kvm.vcpu import Vcpu
from dbt.machine.exits import Exit, RiscvSbi

PUT, DEBUG_CONSOLE = 0x01, 0x4442434E  # extensions
WRITE, WRITE_BYTE = 0, 2  # functions of the second one
INVALID_PARAM = -3
MOST = 1 << 20  # bytes of one call; a guest is told how many there were


def answers(vcpu: Vcpu, exit: Exit, write: Callable[[bytes], object]) -> bool:
    """Whether this exit was a call to write, which has been answered."""
    if not isinstance(exit, RiscvSbi):
        return False
    call, args = (exit.extension, exit.function), exit.args
    if exit.extension == PUT or call == (DEBUG_CONSOLE, WRITE_BYTE):
        write(bytes([args[0] & 0xFF]))
        vcpu.reply(0, 0)
    elif call == (DEBUG_CONSOLE, WRITE):
        length = min(args[0], MOST)
        try:
            write(vcpu.vm.read(args[1], length))
        except NoSuchRegion:
            vcpu.reply(INVALID_PARAM, 0)
        else:
            vcpu.reply(0, length)
    else:
        return False
    return True
