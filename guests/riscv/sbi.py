"""Firmware that is the host's own code: what a supervisor asks for by `ecall` (RISC-V SBI Specification, 2.0).

A program in machine mode answers these calls on other machines. Here the machine does, at the call's trap: no
instruction is executed, no register but a0 and a1 changes. Owns: how a supervisor finds a hart when it begins, what
each call does and answers, which harts are stopped. Must not know: devices, how a hart runs; what it needs of them is
`Platform`.

Not there: counters of events (PMU), since a hart has none; suspension that loses registers. What is remembered of
translations and of code is never stale here, so fences on other harts have nothing to do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from guests.riscv import privileged as p
from guests.riscv import traps
from guests.riscv.firmware import A0, A1
from guests.spec import Absent, Trap

SUCCESS, NOT_SUPPORTED, INVALID_PARAM, INVALID_ADDRESS, ALREADY_AVAILABLE = 0, -2, -3, -5, -6
VERSION = 2 << 24  # of the specification
IMPLEMENTATION = 0x44474D4E  # in no list: no supervisor is to think of us as of another one
ALL = p.ALL
A6, A7 = 16, 17
STARTED = 0  # a hart's state, where it is none of
STATES = {p.STOPPED: 1, p.SUSPENDED: 4}
RETENTIVE = 0  # the kind of suspension that keeps everything
SHUTDOWN, COLD_REBOOT, WARM_REBOOT = range(3)
NO_REASON, FAILURE = range(2)
FENCES, GUEST_FENCES = 2, 6  # the last function of remote fences: of a supervisor's own, of its guests'

EXCEPTIONS = (
    *range(8),  # but for calls from supervisor mode, all that may be delegated
    traps.USER_ECALL, 12, 13, 15,
)  # fmt: skip


class Platform(Protocol):
    """What firmware wants of a machine. Addresses are physical; memory that is not there raises Absent."""

    def put(self, data: bytes) -> None:
        """Write to the console."""

    def get(self) -> int | None:
        """The next byte of the console's input, or None."""

    def read(self, address: int, length: int) -> bytes: ...

    def write(self, address: int, data: bytes) -> None: ...

    def load(self, address: int, size: int) -> int:
        """From an address of the supervisor's. Raises Trap."""

    def go_to(self, address: int) -> None:
        """Have the hart go on there, where it is another one than that which calls."""

    def shut_down(self, failed: bool) -> None: ...

    def restart(self) -> None: ...


class Failed(Exception):
    """A call answers with an error."""

    def __init__(self, error: int) -> None:
        super().__init__(error)
        self.error = error


class Firmware:
    """Of one hart, whose state is `slots`. `harts` has that of every hart, by number, and gets this one."""

    timer, software = p.STIMECMP, p.SSI  # the slot of the supervisor's timer; its interrupt from other harts, in mip
    guests = True  # it may be a hypervisor, where its hart has the extension

    def __init__(self, slots: Any, platform: Platform, harts: list[Firmware]) -> None:
        self._slots = slots
        self._platform = platform
        self._harts = harts
        harts.append(self)
        self._calls: dict[int, Callable[[int, list[int]], int]] = {
            0x10: self._base, 0x54494D45: self._time, 0x735049: self._ipi, 0x52464E43: self._fence,
            0x48534D: self._hart, 0x53525354: self._reset, 0x4442434E: self._console,
        }  # fmt: skip

    def begin(self, argument: int) -> None:
        """The hart is a supervisor that begins: its number is in a0, in a1 the device tree's address or what it was
        started with.
        """
        s = self._slots
        s[p.PRIVILEGE] = p.SUPERVISOR
        s[p.WAITING] = s[p.MIP] = s[p.MIE] = s[p.SATP] = 0
        s[p.MSTATUS] = p.RESET["mstatus"]
        s[p.MEDELEG] = sum(1 << cause for cause in EXCEPTIONS)
        s[p.MIDELEG] = p.SUPERVISOR_INTERRUPTS
        if len(s) > p.SLOTS:  # it has the hypervisor extension
            for slot in range(p.SLOTS, p.TOLD):  # what the machine wants to be told of stays
                s[slot] = p.reset(True).get(slot, 0)
            s[p.MEDELEG] |= p.GUEST_EXCEPTIONS
            s[p.MIDELEG] |= p.GUEST_INTERRUPTS
        s[p.MCOUNTEREN] = (1 << 32) - 1
        s[p.SCOUNTEREN] = 7  # OpenSBI's: a kernel without a driver for counters leaves users the clock that it finds
        s[p.MENVCFG] = p.STCE | p.PBMTE | p.ADUE | p.CBIE | p.CBCFE | p.CBZE
        s[p.PMPCFG0] = 0x1F  # all addresses may be read, written and executed
        s[p.PMPADDR0] = (1 << 54) - 1
        s[p.STIMECMP] = ALL
        s[A0], s[A1] = s[p.SLOT["mhartid"]], argument

    def stop(self) -> None:
        """The hart waits until it is started: no interrupt wakes it."""
        s = self._slots
        s[p.WAITING] = p.STOPPED
        s[p.MIE], s[self.timer] = 0, ALL

    @staticmethod
    def causes(mode: int) -> int:
        """Causes, as bits, of traps from this mode that are calls."""
        return 1 << traps.USER_ECALL if mode == p.SUPERVISOR else 0

    def is_called(self, cause: int) -> bool:
        """Whether a trap that the hart is about to take is a call: of the supervisor, and not of a guest's."""
        s = self._slots
        inside = len(s) > p.SLOTS and s[p.VIRTUAL]
        return cause == traps.USER_ECALL and s[p.PRIVILEGE] == p.SUPERVISOR and not inside

    def answers(self, cause: int) -> bool:
        """Whether this trap was a call, which has been answered: the hart goes on behind it."""
        if not self.is_called(cause):
            return False
        s = self._slots
        extension, arguments = s[A7], list(s[A0:A7])
        if extension <= 8:
            s[A0] = self._legacy(extension, arguments[0]) & ALL
            return True
        call = self._calls.get(extension)
        error, value = SUCCESS, 0
        try:
            if call is None:
                raise Failed(NOT_SUPPORTED)
            value = call(s[A6], arguments)
        except Failed as failed:
            error = failed.error
        s[A0], s[A1] = error & ALL, value & ALL
        return True

    # --- extensions, by function and arguments ------------------------------------------------------------------------

    def _base(self, function: int, a: list[int]) -> int:
        match function:
            case 0:
                return VERSION
            case 1:
                return IMPLEMENTATION
            case 3:
                return int(a[0] in self._calls or a[0] <= 8)
            case 2 | 4 | 5 | 6:  # our version, the vendor, the architecture, the implementation of the hart
                return 0
        raise Failed(NOT_SUPPORTED)

    def _time(self, function: int, a: list[int]) -> int:
        _only(function, 0)
        self._slots[self.timer] = a[0]
        return 0

    def _ipi(self, function: int, a: list[int]) -> int:
        _only(function, 0)
        self._interrupt(self._selected(a[0], a[1]))
        return 0

    def _fence(self, function: int, a: list[int]) -> int:
        if function > (GUEST_FENCES if self.guests and len(self._slots) > p.SLOTS else FENCES):
            raise Failed(NOT_SUPPORTED)
        self._selected(a[0], a[1])
        return 0

    def _hart(self, function: int, a: list[int]) -> int:
        match function:
            case 0:
                return self._start(*a[:3])
            case 1:
                self.stop()
                return 0
            case 2:
                return STATES.get(self._known(a[0])._slots[p.WAITING], STARTED)
            case 3:
                if a[0] != RETENTIVE:
                    raise Failed(NOT_SUPPORTED if a[0] == 1 << 31 else INVALID_PARAM)
                self._slots[p.WAITING] = p.SUSPENDED
                return 0
        raise Failed(NOT_SUPPORTED)

    def _start(self, hart: int, address: int, argument: int) -> int:
        other = self._known(hart)
        if other._slots[p.WAITING] != p.STOPPED:
            raise Failed(ALREADY_AVAILABLE)
        try:
            self._platform.read(address, 2)
        except Absent:
            raise Failed(INVALID_ADDRESS) from None
        other.begin(argument)
        other._platform.go_to(address)
        return 0

    def _known(self, hart: int) -> Firmware:
        if hart >= len(self._harts):
            raise Failed(INVALID_PARAM)
        return self._harts[hart]

    def _reset(self, function: int, a: list[int]) -> int:
        _only(function, 0)
        kind, reason = a[0], a[1]
        if kind > WARM_REBOOT or reason > FAILURE:
            raise Failed(INVALID_PARAM)
        if kind == SHUTDOWN:
            self._platform.shut_down(reason == FAILURE)
        else:
            self._platform.restart()
        return 0

    def _console(self, function: int, a: list[int]) -> int:
        platform = self._platform
        try:
            match function:
                case 0:
                    _low(a[2])
                    platform.put(platform.read(a[1], a[0]))
                    return a[0]
                case 1:
                    _low(a[2])
                    platform.write(a[1], platform.read(a[1], a[0]))  # all of it must be there
                    count = 0
                    while count < a[0] and (byte := platform.get()) is not None:
                        platform.write(a[1] + count, bytes([byte]))
                        count += 1
                    return count
                case 2:
                    platform.put(bytes([a[0] & 0xFF]))
                    return 0
        except Absent:
            raise Failed(INVALID_PARAM) from None
        raise Failed(NOT_SUPPORTED)

    # --- the calls of version 0.1, each an extension ----------------------------------------------------------------

    def _legacy(self, number: int, argument: int) -> int:
        platform, s = self._platform, self._slots
        match number:
            case 0:
                s[self.timer] = argument
            case 1:
                platform.put(bytes([argument & 0xFF]))
            case 2:
                byte = platform.get()
                return -1 if byte is None else byte
            case 3:
                s[p.MIP] &= ~self.software & ALL
            case 4:  # where a set of harts is, or 0 for all of them
                try:
                    harts = ALL if argument == 0 else platform.load(argument, 8)
                except Trap:
                    return INVALID_ADDRESS
                self._interrupt([each for i, each in enumerate(self._harts) if harts >> i & 1])
            case 8:
                platform.shut_down(False)
        return SUCCESS

    def _interrupt(self, harts: list[Firmware]) -> None:
        for each in harts:
            each._slots[p.MIP] |= self.software

    def _selected(self, harts: int, base: int) -> list[Firmware]:
        """Those of a set, all of which there must be: `base` is the first one's number, or -1 for all."""
        if base == ALL:
            return self._harts
        return [self._known(base + i) for i in range(64) if harts >> i & 1]


def _only(function: int, there: int) -> None:
    if function != there:
        raise Failed(NOT_SUPPORTED)


def _low(high: int) -> None:
    """The upper half of an address, where nothing is."""
    if high:
        raise Failed(INVALID_PARAM)
