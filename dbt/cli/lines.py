"""Where the serial port and the monitor of `dragoman boot` lead: -serial and -monitor, in QEMU's words.

Owns: these words. Must not know: what goes through a line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from dbt.cli.errors import USAGE, Fail, why

if TYPE_CHECKING:
    from dbt.machine.channels import Channel
    from dbt.machine.terminal import Terminal

KINDS = "mon:stdio, stdio, none, file:FILE, unix:PATH,server=on,wait=off"
SERVER = {"server", "server=on", "nowait", "wait=off"}  # properties of a socket that hold anyway


class Lines(NamedTuple):
    """The terminal, where the serial port leads if not there, and where a monitor leads besides the terminal's."""

    terminal: Terminal
    serial: Channel | None
    monitor: Channel | None


def lines(options: Any) -> Lines:
    """The lines that are asked for. Raises Fail."""
    from dbt.machine.terminal import Terminal

    serial, monitor = options.serial, options.monitor
    if monitor == "mon:stdio":
        monitor = "stdio"
    if monitor == "stdio" and serial in (None, "stdio", "mon:stdio"):
        raise Fail(USAGE, "-monitor stdio: the serial port has the terminal: send it elsewhere, as with -serial "
                   "file:FILE, or share the terminal with -serial mon:stdio")  # fmt: skip
    if serial == "mon:stdio" and options.deterministic and not Terminal.is_interactive():
        raise Fail(USAGE, "-serial mon:stdio: with --deterministic, input that is no terminal is read before the "
                   "machine starts, and cannot have commands in it")  # fmt: skip
    shared = serial == "mon:stdio" or (serial is None and Terminal.is_interactive())
    return Lines(
        Terminal(escapes=shared, monitored=monitor == "stdio"),
        None if shared or serial is None else _channel("-serial", serial),
        None if monitor in (None, "none", "null") else _channel("-monitor", monitor),
    )  # fmt: skip


def _channel(option: str, text: str) -> Channel | None:
    from dbt.machine.channels import File, Nowhere, Socket

    kind, _, rest = text.partition(":")
    path, *properties = rest.split(",")
    try:
        match kind:
            case "stdio" if not rest:
                return None
            case "none" | "null" if not rest:
                return Nowhere()
            case "file" if rest:
                return File(rest)
            case "unix" if path and "server" in text and set(properties) <= SERVER:
                return Socket(path)
    except OSError as error:
        raise Fail(USAGE, f"{option} {text}: {why(error)}") from None
    raise Fail(USAGE, f"{option}: {text!r} is not understood (there are: {KINDS})")
