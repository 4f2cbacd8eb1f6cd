"""A clock of the day: Goldfish's, as on QEMU's board (Android's goldfish virtual hardware, "RTC").

Its time is that of the machine, in nanoseconds since 1970, from where it began. Owns: its registers, the alarm.
Must not know: the host's clock.
"""

from __future__ import annotations

from collections.abc import Callable

from dbt.events import Event, Events
from dbt.machine.clock import Clock

HALF = 0xFFFF_FFFF


class Register:
    """Offsets of words. Reading the low half of the time keeps the high one for the read that follows."""

    TIME_LOW, TIME_HIGH, ALARM_LOW, ALARM_HIGH, ENABLED, CLEAR_ALARM, ALARM_SET, CLEAR_INTERRUPT = range(0, 0x20, 4)


class Rtc:
    """`start`: nanoseconds since 1970 when the machine begins. `raise_irq` is its interrupt line."""

    name = "rtc"
    size = 0x1000

    def __init__(self, clock: Clock, events: Events, raise_irq: Callable[[bool], None], start: int) -> None:
        self._clock = clock
        self._events = events
        self._raise_irq = raise_irq
        self._offset = start  # from the machine's clock, whose unit is a nanosecond
        self._high = 0  # of the time whose low half was read
        self._alarm = self._pending = self._enabled = 0
        self._event: Event | None = None  # the alarm that is set

    def read(self, offset: int, size: int) -> int:
        match offset:
            case Register.TIME_LOW:
                now = self._now
                self._high = now >> 32 & HALF
                return now & HALF
            case Register.TIME_HIGH:
                return self._high
            case Register.ALARM_LOW:
                return self._alarm & HALF
            case Register.ALARM_HIGH:
                return self._alarm >> 32
            case Register.ENABLED:
                return self._enabled
            case Register.ALARM_SET:
                return int(self._event is not None)
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        value &= HALF
        match offset:
            case Register.TIME_LOW:
                self._offset += value - (self._now & HALF)
            case Register.TIME_HIGH:
                self._offset += (value << 32) - (self._now & ~HALF)
            case Register.ALARM_LOW:
                self._alarm = self._alarm & ~HALF | value
                self._set_alarm()
            case Register.ALARM_HIGH:
                self._alarm = self._alarm & HALF | value << 32
            case Register.ENABLED:
                self._enabled = value & 1
            case Register.CLEAR_ALARM:
                self._clear_alarm()
            case Register.CLEAR_INTERRUPT:
                self._pending = 0
        self._raise_irq(bool(self._pending & self._enabled))

    @property
    def _now(self) -> int:
        return self._clock.count + self._offset

    def _set_alarm(self) -> None:
        """The low half is written last, and sets it."""
        self._clear_alarm()
        if self._alarm <= self._now:
            self._pending = 1
        else:
            self._event = self._events.at(self._alarm - self._offset, self._ring)

    def _clear_alarm(self) -> None:
        if self._event is not None:
            self._events.cancel(self._event)
            self._event = None

    def _ring(self) -> None:
        self._event = None
        self._pending = 1
        self._raise_irq(bool(self._enabled))
