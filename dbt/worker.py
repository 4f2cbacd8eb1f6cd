"""The compile worker: a process of its own that turns requests for regions into translations.

It isolates the guest from an abort of LLVM, and works while the guest runs. It is told once which guest and options
there are, and then one request after the other; messages are a length and a marshalled tuple, over standard input and
output. It ends when its input does, or when one request takes longer than it may.
Owns: the worker's side and the form of messages. Must not know: what is done with translations.
"""

from __future__ import annotations

import marshal
import os
import signal
import struct
import sys
from typing import Any, BinaryIO

from dbt.options import Options
from dbt.regions import Bytes, Request
from guests.spec import Guest
from ir.records import names

LENGTH = struct.Struct("<I")
MOST_SECONDS = 30  # for one request
LATE_BOUND = 200  # requests after which it should be replaced, since LLVM's pass managers never free all they take
SHAPING = ("max_instructions", "region", "return_prediction", "optimisation", "passes", "pinned", "log_stores", "chain",
           "sensitive", "cache_off", "checks", "counts", "fp_flags", "jump_cache")  # fmt: skip


def message(*parts: Any) -> bytes:
    """These parts as they are sent."""
    data = marshal.dumps(parts)
    return LENGTH.pack(len(data)) + data


def introduction(guest: Guest, options: Options) -> bytes:
    """The first message to a worker."""
    return message(guest.name, guest.isa, guest.privileged is not None, _chosen(options))


def shaping(options: Options) -> Options:
    """Those that a worker knows, the others as they are by default."""
    return Options(**_chosen(options))


def _chosen(options: Options) -> dict[str, Any]:
    return {name: getattr(options, name) for name in SHAPING}


def request_message(request: Request) -> bytes:
    return message(*request)


def main() -> None:
    """In a new process: learn who is served, and serve."""
    source = os.fdopen(0, "rb")
    first = _receive(source)
    if first is None:
        return
    guest_name, isa, machine, chosen = first
    import guests

    serve(guests.load_machine(guest_name, isa) if machine else guests.load(guest_name, isa), Options(**chosen), source)


def serve(guest: Guest, options: Options, source: BinaryIO | None = None) -> None:
    """Answer requests until the input ends. `source` is that of standard input, if something was read already."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    source, sink = source or os.fdopen(0, "rb"), os.fdopen(1, "wb")
    from dbt.backend import Workshop
    from dbt.cache.record import pack_made
    from dbt.code import CodegenError
    from dbt.lift import Lifter
    from dbt.translate import TIMED, make

    shop = Workshop(guest, options)
    while (received := _receive(source)) is not None:
        request = Request(*received)
        signal.alarm(MOST_SECONDS)
        seconds = dict.fromkeys(TIMED, 0.0)
        try:
            made = make(request, Lifter(guest, options, Bytes(request.source)), shop.target, shop.compile, seconds)
            answer = message(request.key, pack_made(made), "", seconds)
        except CodegenError as error:
            answer = message(request.key, b"", str(error), seconds)
        signal.alarm(0)
        try:
            sink.write(answer)
            sink.flush()
        except BrokenPipeError:
            return


def _receive(source: Any) -> Any:
    head = source.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    data = source.read(LENGTH.unpack(head)[0])
    return marshal.loads(data)


def command() -> list[str]:
    """How the worker is started."""
    return [sys.executable, "-P", "-c", "from dbt.worker import main; main()"]


assert set(SHAPING) <= set(names(Options))
