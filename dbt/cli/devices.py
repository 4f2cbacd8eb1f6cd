"""The devices of `dragoman boot` that are asked for: -drive, -device, -rtc, in QEMU's words.

Owns: these words. Must not know: what a device does.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dbt.cli.errors import USAGE, Fail, opened

if TYPE_CHECKING:
    from dbt.machine.devices.block import Image
    from dbt.machine.devices.console import Console
    from dbt.machine.devices.virtio import Function
    from dbt.machine.outside import Inputs

DRIVE = ("file", "if", "id", "format", "readonly", "snapshot", "index", "media", "cache")
KINDS = ("virtio-blk-device", "virtio-net-device", "virtio-rng-device", "virtio-serial-device")
RTC = ("base", "clock", "driftfix")  # the last two are taken, and of no effect: there is one clock
ON, OFF = ("on", "yes", "true"), ("off", "no", "false")


def _properties(option: str, text: str, known: tuple[str, ...]) -> dict[str, str]:
    """name=value, with commas; a doubled comma is one of a value's."""
    found = {}
    for part in text.replace(",,", "\0").split(","):
        name, equals, value = part.replace("\0", ",").partition("=")
        if not equals or name not in known:
            raise Fail(USAGE, f"{option}: {part!r} is not understood (there are: {' '.join(known)})")
        found[name] = value
    return found


def functions(options: Any, console: Console, inputs: Inputs | None) -> dict[int, Function]:
    """Disks and other virtio devices by the number of their transport: the one of their bus, or the first that is free.

    Those without a bus are in the order of the command line, drives with an interface of their own first, networks with
    a device of their own last. `inputs` is for networks; None where there can be none.
    """
    from dbt.cli.networks import Networks
    from dbt.machine.devices.block import Block
    from dbt.machine.devices.entropy import Entropy
    from dbt.machine.devices.virtio_console import VirtioConsole

    found: list[tuple[str, Function]] = []  # with the bus
    waiting: dict[str, Image] = {}
    for text in options.drive:
        properties = _properties("-drive", text, DRIVE)
        image = _image(properties, options.snapshot)
        if properties.get("if") == "none":
            waiting[properties.get("id", "")] = image
        else:
            found.append(("", Block(image)))
    networks = Networks(options, inputs)
    for text in options.device:
        kind, _, rest = text.partition(",")
        properties = _properties("-device", rest, ("drive", "netdev", "mac", "bus", "id")) if rest else {}
        bus = properties.get("bus", "")
        match kind:
            case "virtio-blk-device":
                name = properties.get("drive", "")
                if name not in waiting:
                    raise Fail(USAGE, f"-device: there is no -drive with if=none,id={name}")
                found.append((bus, Block(waiting.pop(name))))
            case "virtio-net-device":
                found.append((bus, networks.card(properties)))
            case "virtio-rng-device":
                found.append((bus, Entropy(random.Random(0).randbytes if options.deterministic else os.urandom)))
            case "virtio-serial-device":
                found.append((bus, VirtioConsole(console)))
            case _:
                raise Fail(USAGE, f"-device: there is no {kind!r} (there are: {' '.join(KINDS)})")
    if waiting:
        raise Fail(USAGE, f"-drive: id={next(iter(waiting))} has no -device")
    networks.done()
    return _placed(found + networks.cards(options.nic))


def _placed(found: list[tuple[str, Function]]) -> dict[int, Function]:
    from dbt.machine.boards import VIRTIO

    buses = {f"virtio-mmio-bus.{number}": number for number in range(len(VIRTIO))}
    placed: dict[int, Function] = {}
    for bus, function in sorted(found, key=lambda each: not each[0]):  # who has a bus comes first
        number = buses.get(bus) if bus else next((each for each in buses.values() if each not in placed), None)
        if number is None:
            raise Fail(USAGE, f"-device: there is no bus {bus!r} (there are: {' '.join(buses)})" if bus else
                       f"the board has {len(VIRTIO)} virtio devices at most")  # fmt: skip
        if number in placed:
            raise Fail(USAGE, f"-device: {bus} has a device")
        placed[number] = function
    return placed


def _image(properties: dict[str, str], snapshot: bool) -> Image:
    from dbt.machine.disks import FORMATS, Overlay, begins_as_qcow2, open_image

    form = properties.get("format", "raw")
    if form not in FORMATS:
        raise Fail(USAGE, f"-drive: the format {form!r} is not done (there are: {' '.join(FORMATS)})")
    path = properties.get("file")
    if not path:
        raise Fail(USAGE, "-drive: file=FILE is wanted")
    if "format" not in properties and opened(lambda: begins_as_qcow2(path), path):
        raise Fail(USAGE, f"-drive: {path} begins as an image of format qcow2: say format=qcow2, or format=raw if its "
                   "bytes are the disk's")  # fmt: skip
    read_only = properties.get("readonly") in ON
    over = snapshot or properties.get("snapshot") in ON
    image: Image = opened(lambda: open_image(path, form, read_only or over), "")
    return Overlay(image) if over and not read_only else image


def epoch(options: Any) -> Callable[[], int]:
    """What the clock of the day shows when a machine begins, now: nanoseconds since 1970. Raises Fail."""
    import time
    from datetime import UTC, datetime

    from dbt.machine.boards import EPOCH

    repeats = options.deterministic or options.lockstep is not None
    base = _properties("-rtc", options.rtc, RTC).get("base") if options.rtc else None
    if base is None and repeats:
        return lambda: EPOCH
    if base in (None, "utc", "localtime"):
        if repeats:
            raise Fail(USAGE, f"-rtc: base={base} is another time in each run: with --deterministic and --lockstep it "
                       "is a date, such as base=2026-01-31T12:00:00")  # fmt: skip
        return lambda: time.time_ns() + (time.localtime().tm_gmtoff * 10**9 if base == "localtime" else 0)
    try:
        date = datetime.fromisoformat(str(base))
        seconds = int(date.replace(tzinfo=UTC).timestamp())
    except ValueError:
        seconds = -1
    if seconds < 0 or len(str(base)) not in (10, 19):
        raise Fail(USAGE, f"-rtc: base={base} is not utc, localtime, or a date from 1970 on, such as "
                   "2026-01-31T12:00:00")  # fmt: skip
    return lambda: seconds * 10**9
