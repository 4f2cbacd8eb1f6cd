"""getrandom: the host's, or a stream from the seed when the run is deterministic."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING

from dbt.linux.host import failure

if TYPE_CHECKING:
    from dbt.linux.kernel import Kernel

_KNOWN_FLAGS = 7  # NONBLOCK, RANDOM, INSECURE
_LARGEST = (1 << 25) - 1


def getrandom(kernel: Kernel, buffer: int, count: int, flags: int) -> int:
    if flags & ~_KNOWN_FLAGS or flags & 6 == 6:
        raise failure(errno.EINVAL)
    count = kernel.writable(buffer, min(count, _LARGEST))
    kernel.space.write(buffer, kernel.random_bytes(count))
    return count


CALLS: dict[str, Callable[..., int | None]] = {"getrandom": getrandom}
