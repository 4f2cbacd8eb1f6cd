"""Devices by themselves: what their registers do, and when their lines are up."""

from __future__ import annotations

from dbt.events import Events
from dbt.machine.clock import Clock
from dbt.machine.devices.aclint import MSIP, MTIME, MTIMECMP, Aclint
from dbt.machine.devices.console import Console
from dbt.machine.devices.finisher import Finisher
from dbt.machine.devices.htif import Htif
from dbt.machine.devices.plic import CONTEXT, ENABLE, PENDING, Plic
from dbt.machine.devices.rtc import Register, Rtc
from dbt.machine.devices.uart import Uart
from dbt.machine.exits import Exit, SystemEvent
from dbt.machine.memory import Memory


class Lines(dict):
    """Lines by name, as a hart would have them."""

    def set(self, name: str, level: bool) -> None:
        self[name] = level


# --- clock and ACLINT -----------------------------------------------------------------------------------------------


def aclint() -> tuple[Aclint, Clock, Events, Lines]:
    clock, lines = Clock(lambda: 0, 100), Lines()
    events = Events(clock)
    return Aclint(clock, events, [lines.set]), clock, events, lines


def test_the_timer_fires_at_its_time_and_is_quiet_when_it_is_moved() -> None:
    device, clock, events, lines = aclint()
    device.write(MTIMECMP, 8, 50)
    assert lines == {"timer": False} and events.due == 5000
    clock.wait_until(4999)
    events.deliver()
    assert not lines["timer"]
    clock.wait_until(5000)
    events.deliver()
    assert lines["timer"] and device.read(MTIME, 8) == 50
    device.write(MTIMECMP, 8, 60)
    assert not lines["timer"] and events.due == 6000


def test_each_hart_has_its_registers() -> None:
    clock, lines = Clock(lambda: 0, 100), [Lines() for _ in range(3)]
    events = Events(clock)
    device = Aclint(clock, events, [each.set for each in lines])
    device.write(MTIMECMP + 16, 8, 50)
    device.write(MTIMECMP + 8, 8, 70)
    device.write(MSIP + 4, 4, 3)
    assert lines == [{}, {"timer": False, "software": True}, {"timer": False}]
    assert [device.read(MSIP + 4 * hart, 4) for hart in range(4)] == [0, 1, 0, 0]
    assert [device.read(MTIMECMP + 8 * hart, 8) for hart in range(4)] == [(1 << 64) - 1, 70, 50, 0]
    clock.wait_until(5000)
    events.deliver()
    assert lines[2]["timer"] and not lines[1]["timer"] and events.due == 7000
    device.write(MTIME, 8, 70)
    assert lines[1]["timer"]
    device.write(MSIP + 12, 4, 1)  # of no hart
    device.write(MTIMECMP + 24, 8, 1)
    assert not lines[0].get("timer") and not lines[0].get("software")


def test_halves_of_mtimecmp_are_written_one_by_one() -> None:
    device, _, events, lines = aclint()
    device.write(MTIMECMP, 8, 50)
    device.write(MTIMECMP + 4, 4, 1)
    assert device.read(MTIMECMP, 8) == 1 << 32 | 50 and events.due == ((1 << 32) + 50) * 100
    assert device.read(MTIMECMP + 4, 4) == 1
    device.write(MTIMECMP, 8, 0)
    assert lines["timer"]


def test_mtime_can_be_set() -> None:
    device, clock, events, lines = aclint()
    device.write(MTIMECMP, 8, 1000)
    device.write(MTIME, 8, 900)
    assert clock.time == 900 and not lines["timer"] and events.due == 100 * 100
    device.write(MTIME, 8, 1000)
    assert lines["timer"]


def test_software_interrupts_have_one_bit() -> None:
    device, _, _, lines = aclint()
    device.write(MSIP, 4, 0xFFFF_FFFF)
    assert lines["software"] and device.read(MSIP, 4) == 1
    device.write(MSIP, 4, 2)
    assert not lines["software"] and device.read(MSIP + 4, 4) == 0


# --- the clock of the day --------------------------------------------------------------------------------------------

BEGAN = 1_700_000_000_123_456_789


def rtc() -> tuple[Rtc, Clock, Events, list[bool]]:
    clock, line = Clock(lambda: 0, 100), [False]
    events = Events(clock)

    def raise_irq(level: bool) -> None:
        line[0] = level

    return Rtc(clock, events, raise_irq, BEGAN), clock, events, line


def now(device: Rtc) -> int:
    """As drivers read it: the low half first."""
    low = device.read(Register.TIME_LOW, 4)
    return device.read(Register.TIME_HIGH, 4) << 32 | low


def set_alarm(device: Rtc, time: int) -> None:
    device.write(Register.ALARM_HIGH, 4, time >> 32)
    device.write(Register.ALARM_LOW, 4, time & 0xFFFF_FFFF)


def test_the_time_of_day_goes_on_with_the_machine_s_and_can_be_set() -> None:
    device, clock, _, _ = rtc()
    assert now(device) == BEGAN
    clock.wait_until(5_000_000_000)
    assert now(device) == BEGAN + 5_000_000_000
    device.write(Register.TIME_HIGH, 4, 7)
    device.write(Register.TIME_LOW, 4, 9)
    assert now(device) == 7 << 32 | 9
    clock.wait_until(5_000_000_001)
    assert now(device) == 7 << 32 | 10


def test_the_halves_of_a_time_belong_together() -> None:
    """The low half overflows between the two reads."""
    device, clock, _, _ = rtc()
    device.write(Register.TIME_HIGH, 4, 1)
    device.write(Register.TIME_LOW, 4, 0xFFFF_FFFF)
    assert device.read(Register.TIME_LOW, 4) == 0xFFFF_FFFF
    clock.wait_until(1)
    assert device.read(Register.TIME_HIGH, 4) == 1 and now(device) == 2 << 32


def test_an_alarm_rings_once_at_its_time_if_it_is_enabled() -> None:
    device, clock, events, line = rtc()
    device.write(Register.ENABLED, 4, 1)
    set_alarm(device, BEGAN + 1000)
    assert device.read(Register.ALARM_SET, 4) == 1 and events.due == 1000 and line == [False]
    assert device.read(Register.ALARM_HIGH, 4) << 32 | device.read(Register.ALARM_LOW, 4) == BEGAN + 1000
    clock.wait_until(1000)
    events.deliver()
    assert line == [True] and device.read(Register.ALARM_SET, 4) == 0
    device.write(Register.CLEAR_INTERRUPT, 4, 1)
    assert line == [False]
    set_alarm(device, BEGAN)  # it is past: it rings at once
    assert line == [True] and device.read(Register.ALARM_SET, 4) == 0
    device.write(Register.ENABLED, 4, 0)
    assert line == [False]
    device.write(Register.CLEAR_INTERRUPT, 4, 1)
    set_alarm(device, BEGAN + 2000)
    device.write(Register.CLEAR_ALARM, 4, 1)
    clock.wait_until(3000)
    events.deliver()
    device.write(Register.ENABLED, 4, 1)
    assert line == [False] and device.read(Register.ALARM_SET, 4) == 0


# --- PLIC ------------------------------------------------------------------------------------------------------------


def plic(*enabled: tuple[int, int, int]) -> tuple[Plic, Lines]:
    """With these (source, priority, bits of the contexts that it is enabled for)."""
    lines = Lines()
    device = Plic([lines.set])
    for source, priority, contexts in enabled:
        device.write(4 * source, 4, priority)
        for context in range(2):
            if contexts >> context & 1:
                at = ENABLE + 0x80 * context + source // 32 * 4
                device.write(at, 4, device.read(at, 4) | 1 << source % 32)
    return device, lines


def test_a_source_is_claimed_served_and_comes_again_when_its_device_says_so() -> None:
    device, lines = plic((10, 1, 2))
    device.raise_source(10, True)
    assert lines == {"external": False, "supervisor external": True}
    assert device.read(PENDING, 4) == 1 << 10
    claim = CONTEXT + 0x1000 + 4
    assert device.read(claim, 4) == 10 and not lines["supervisor external"]
    assert device.read(claim, 4) == 0
    device.raise_source(10, True)  # it is still up
    assert not lines["supervisor external"]
    device.write(claim, 4, 10)
    assert lines["supervisor external"] and device.read(claim, 4) == 10
    device.write(claim, 4, 10)  # its device has not said again that it is up
    assert not lines["supervisor external"]
    device.raise_source(10, True)
    assert lines["supervisor external"] and device.read(claim, 4) == 10
    device.raise_source(10, False)
    device.write(claim, 4, 10)
    assert not lines["supervisor external"] and device.read(PENDING, 4) == 0


def test_the_highest_priority_is_first_and_of_equals_the_lowest_number() -> None:
    device, _ = plic((3, 2, 1), (40, 5, 1), (7, 5, 1), (9, 1, 1))
    for source in (3, 40, 7, 9):
        device.raise_source(source, True)
    claim = CONTEXT + 4
    assert [device.read(claim, 4) for _ in range(5)] == [7, 40, 3, 9, 0]


def test_each_hart_has_two_contexts() -> None:
    """What one has enabled is raised there alone, and who claims it first has it."""
    lines = [Lines() for _ in range(3)]
    device = Plic([each.set for each in lines])
    device.write(4 * 3, 4, 1)
    for context in (2, 5):  # machine mode of hart 1, supervisor mode of hart 2
        device.write(ENABLE + 0x80 * context, 4, 1 << 3)
    device.raise_source(3, True)
    up = [(each["external"], each["supervisor external"]) for each in lines]
    assert up == [(False, False), (True, False), (False, True)]
    assert device.read(CONTEXT + 0x1000 * 5 + 4, 4) == 3 and not lines[1]["external"]
    assert device.read(CONTEXT + 0x1000 * 2 + 4, 4) == 0
    assert device.read(CONTEXT + 0x1000 * 6 + 4, 4) == 0 and device.read(ENABLE + 0x80 * 6, 4) == 0


def test_a_threshold_masks_what_is_not_above_it() -> None:
    device, lines = plic((3, 2, 1))
    device.write(CONTEXT, 4, 2)
    device.raise_source(3, True)
    assert not lines["external"] and device.read(CONTEXT + 4, 4) == 0
    device.write(CONTEXT, 4, 1)
    assert lines["external"] and device.read(CONTEXT + 4, 4) == 3


def test_who_has_not_enabled_a_source_cannot_complete_it() -> None:
    device, lines = plic((3, 2, 1))
    device.raise_source(3, True)
    assert device.read(CONTEXT + 4, 4) == 3
    device.raise_source(3, True)
    device.write(CONTEXT + 0x1000 + 4, 4, 3)
    assert not lines["external"]
    device.write(CONTEXT + 4, 4, 3)
    assert lines["external"]


def test_source_0_is_none_and_priorities_have_three_bits() -> None:
    device, lines = plic((0, 7, 3), (5, 0xFFFF_FFFF, 1))
    device.raise_source(0, True)
    assert not any(lines.values()) and device.read(0, 4) == 0 and device.read(20, 4) == 7


# --- UART ------------------------------------------------------------------------------------------------------------


def uart() -> tuple[Uart, Console, list[bytes], list[bool]]:
    sent: list[bytes] = []
    level: list[bool] = [False]
    console = Console(sent.append)

    def raise_irq(up: bool) -> None:
        level[0] = up

    return Uart(console, raise_irq), console, sent, level


def test_bytes_go_out_and_the_transmitter_is_always_empty() -> None:
    device, _, sent, _ = uart()
    for byte in b"ok\n":
        assert device.read(5, 1) & 0x60 == 0x60
        device.write(0, 1, byte)
    assert b"".join(sent) == b"ok\n"


def test_input_is_read_in_order_and_interrupts_while_there_is_any() -> None:
    device, console, _, level = uart()
    console.feed(b"a")
    assert not level[0]
    device.write(1, 1, 1)
    assert level[0] and device.read(2, 1) & 0xF == 4 and device.read(5, 1) & 1
    console.feed(b"b")
    assert device.read(0, 1) == ord("a") and level[0]
    assert device.read(0, 1) == ord("b") and not level[0]
    assert device.read(2, 1) & 0xF == 1 and device.read(5, 1) & 1 == 0 and device.read(0, 1) == 0


def test_an_empty_transmitter_interrupts_once() -> None:
    device, _, _, level = uart()
    device.write(1, 1, 2)
    assert level[0]
    assert device.read(2, 1) & 0xF == 2 and not level[0]
    device.write(0, 1, ord("x"))
    assert level[0]
    device.write(1, 1, 0)
    assert not level[0]


def test_registers_of_the_divisor_lie_behind_dlab() -> None:
    device, _, sent, _ = uart()
    device.write(3, 1, 0x83)
    device.write(0, 1, 0x12)
    device.write(1, 1, 0x34)
    assert (device.read(0, 1), device.read(1, 1)) == (0x12, 0x34) and not sent
    device.write(3, 1, 3)
    assert device.read(1, 1) == 0


def test_what_drivers_look_for() -> None:
    """The scratch register keeps its value, the FIFOs say that they are on, and a loop shows what is driven."""
    device, _, sent, _ = uart()
    device.write(7, 1, 0x5A)
    assert device.read(7, 1) == 0x5A
    device.write(2, 1, 1)
    assert device.read(2, 1) & 0xC0 == 0xC0
    device.write(4, 1, 0x10 | 0x0A)  # loop, OUT2 and RTS
    assert device.read(6, 1) == 0x90
    device.write(0, 1, ord("x"))
    assert not sent


# --- ends ------------------------------------------------------------------------------------------------------------


def test_the_finisher_ends_with_a_status() -> None:
    ends: list[Exit] = []
    device = Finisher(ends.append)
    for value in (0x5555, 7 << 16 | 0x3333, 0x7777, 0x1234):
        device.write(0, 4, value)
    device.write(4, 4, 0x5555)
    assert ends == [SystemEvent(1, 0), SystemEvent(3, 7), SystemEvent(2, 0)]


def htif() -> tuple[Htif, Memory, Console, list[bytes], list[Exit]]:
    memory, sent, ends = Memory(), [], []
    memory.add_ram(0x1000, 0x1000)
    console = Console(sent.append)
    return Htif(memory, console, ends.append), memory, console, sent, ends


def test_a_program_ends_by_one_store_or_by_its_low_half() -> None:
    device, _, _, _, ends = htif()
    device.tohost.write(0, 8, 1)
    device.tohost.write(0, 4, 5 << 1 | 1)
    assert ends == [SystemEvent(1, 0), SystemEvent(1, 5)] and device.tohost.value == 0


def test_a_console_of_bytes() -> None:
    device, _, console, sent, ends = htif()
    device.tohost.write(0, 8, 1 << 56 | 1 << 48 | ord("A"))
    device.tohost.write(0, 4, ord("B") & ~1)
    device.tohost.write(4, 4, 1 << 24 | 1 << 16)
    assert b"".join(sent) == b"AB" and not ends
    device.tohost.write(0, 8, 1 << 56)
    assert device.fromhost.value == 1 << 56 | 1 << 48
    console.feed(b"k")
    device.tohost.write(0, 8, 1 << 56)
    assert device.fromhost.value == 1 << 56 | ord("k")


def test_a_system_call_writes_and_says_what_came_of_it() -> None:
    device, memory, _, sent, _ = htif()
    memory.poke(0x1800, b"hello")

    def call(*numbers: int) -> int:
        memory.poke(0x1100, b"".join(number.to_bytes(8, "little") for number in numbers))
        device.tohost.write(0, 8, 0x1100)
        return int.from_bytes(memory.peek(0x1100, 8), "little", signed=True)

    assert call(64, 1, 0x1800, 5) == 5 and sent == [b"hello"]
    assert call(64, 1, 0x5000, 5) == -14 and call(64, 7, 0x1800, 5) == -9 and call(93, 0, 0, 0) == -38
    assert sent == [b"hello"] and device.fromhost.value == 1
    device.tohost.write(0, 8, 0x9000)  # not in memory: nothing to answer to
