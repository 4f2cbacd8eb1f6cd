"""A 16550A: the serial port of the board (National Semiconductor's data sheet; what drivers use of it).

A byte written is sent at once, so the transmitter is always empty. Owns: its registers. Must not know: terminals.
"""

from __future__ import annotations

from collections.abc import Callable

from dbt.machine.devices.console import Console

DLAB = 0x80  # of LCR: the first two registers are the divisor
RECEIVED, SENT = 1, 2  # of IER
NONE, SENT_ID, RECEIVED_ID = 1, 2, 4  # of IIR
FIFOS = 0xC0  # of IIR, where FCR turned them on
DATA_READY, EMPTY = 1, 0x60  # of LSR: the transmitter and its holding register
LOOP = 0x10  # of MCR
PRESENT = 0xB0  # of MSR: carrier, ready, clear to send


class Register:
    """Offsets. IIR is read and FCR written at the same one; the first two are the divisor's while DLAB is set."""

    DATA, IER, IIR_FCR, LCR, MCR, LSR, MSR, SCR = range(8)


class Uart:
    """`raise_irq` is its interrupt line."""

    name = "serial"
    size = 0x100

    def __init__(self, console: Console, raise_irq: Callable[[bool], None]) -> None:
        self._console = console
        self._raise_irq = raise_irq
        self._ier = self._fcr = self._lcr = self._mcr = self._scratch = self._divisor = 0
        self._sent = False  # an interrupt for an empty transmitter is due
        console.arrived = self._update

    def read(self, offset: int, size: int) -> int:
        if self._lcr & DLAB and offset in (Register.DATA, Register.IER):
            return self._divisor >> 8 * offset & 0xFF
        match offset:
            case Register.DATA:
                byte = self._console.get()
                self._update()
                return byte or 0
            case Register.IER:
                return self._ier
            case Register.IIR_FCR:
                found = self._interrupt()
                if found == SENT_ID:
                    self._sent = False
                    self._update()
                return found | (FIFOS if self._fcr & 1 else 0)
            case Register.LCR:
                return self._lcr
            case Register.MCR:
                return self._mcr
            case Register.LSR:
                return EMPTY | (DATA_READY if len(self._console) else 0)
            case Register.MSR:
                return self._looped() if self._mcr & LOOP else PRESENT
            case Register.SCR:
                return self._scratch
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        value &= 0xFF
        if self._lcr & DLAB and offset in (Register.DATA, Register.IER):
            self._divisor = self._divisor & ~(0xFF << 8 * offset) | value << 8 * offset
            return
        match offset:
            case Register.DATA:
                if not self._mcr & LOOP:
                    self._console.write(bytes([value]))
                self._sent = True
            case Register.IER:
                self._sent = self._sent or bool(value & SENT & ~self._ier)
                self._ier = value & 0xF
            case Register.IIR_FCR:
                self._fcr = value
            case Register.LCR:
                self._lcr = value
            case Register.MCR:
                self._mcr = value & 0x1F
            case Register.SCR:
                self._scratch = value
        self._update()

    def _looped(self) -> int:
        """MSR from what MCR drives: clear to send, ready, ring, carrier."""
        return (self._mcr & 2) << 3 | (self._mcr & 1) << 5 | (self._mcr & 12) << 4

    def _interrupt(self) -> int:
        """What asks for an interrupt, as IIR says it."""
        if self._ier & RECEIVED and len(self._console):
            return RECEIVED_ID
        return SENT_ID if self._ier & SENT and self._sent else NONE

    def _update(self) -> None:
        self._raise_irq(self._interrupt() != NONE)
