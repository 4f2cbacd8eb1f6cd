"""How a process of the host that runs a guest's process ends: as the guest's did.

Owns: death by a signal, and the end of a forked child, which never returns to who started the first process.
Must not know: the guest, commands.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from dbt.process import Process

FAILURE, LIMIT = 125, 124  # statuses of ours, as in the documents


def die(number: int) -> int:
    """End by a signal, as the guest did, without a core dump of ours; 128 + number if we survive it."""
    import ctypes
    import resource

    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE: a core-dump program ignores the limit
    with suppress(OSError, ValueError):  # SIGKILL has no other action
        signal.signal(number, signal.SIG_DFL)
    with suppress(OSError, ValueError):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number} & signal.valid_signals())
        os.kill(os.getpid(), number)
    return 128 + number


def leave(process: Process, error: BaseException | None) -> NoReturn:
    """End a forked child: its guest has ended, or `error` has ended our work on it."""
    from dbt.process import LimitReached

    status = FAILURE
    try:
        process.flush()
        if error is None:
            if process.signal is not None:
                process.child_killed()
            process.kernel.end()
            status = die(process.signal) if process.signal is not None else process.status or 0
        elif isinstance(error, KeyboardInterrupt):
            status = die(signal.SIGINT)
        elif isinstance(error, LimitReached):
            status = LIMIT
            process.kernel.warn(str(error))
        elif os.environ.get("DRAGOMAN_DEBUG"):
            sys.excepthook(type(error), error, error.__traceback__)
        else:
            process.kernel.warn(f"internal error in a child: {type(error).__name__}: {error} "
                                f"(DRAGOMAN_DEBUG=1 shows where)")
    finally:
        os._exit(status)
