"""The folder that stands in front of absolute guest paths, as `-L` names it: a path that exists below it wins.

Symbolic links are followed inside: an absolute one means a guest path, so it is looked for below the folder first.
Owns: that walk, and the way back from a host path. Must not know: processes, descriptors, what a path is wanted for.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from dbt.linux.host import failure

if TYPE_CHECKING:
    from pathlib import Path

_SYSTEM = (b"proc", b"dev", b"sys")  # always the host's
_MOST_LINKS = 40  # as Linux


class Sysroot:
    """`folder`: None if there is none, and then every path is the host's."""

    def __init__(self, folder: str | Path | None) -> None:
        self._folder = b"" if folder is None else os.fsencode(os.path.realpath(folder)).rstrip(b"/")

    def host_path(self, path: bytes, follow: bool = True) -> bytes:
        """An absolute guest path as a host path. `follow`: a link at its end is followed, too. OSError ELOOP.

        What does not exist below the folder is returned as it is, or as the link says that led out of it.
        """
        if not self._folder:
            return path
        done: list[bytes] = []
        todo = path.split(b"/")[::-1]
        follow = follow or todo[0] in (b"", b".")
        links = 0
        outside = path
        while todo:
            name = todo.pop()
            if name in (b"", b"."):
                continue
            if name == b"..":
                del done[-1:]
                continue
            if not done and name in _SYSTEM:
                return outside
            done.append(name)
            here = b"/".join((self._folder, *done))
            if not any(todo) and not follow:
                return here if os.path.lexists(here) else outside
            try:
                target = os.readlink(here)
            except OSError as error:
                if error.errno == errno.EINVAL:  # there, and no link
                    continue
                return outside
            links += 1
            if links > _MOST_LINKS:
                raise failure(errno.ELOOP)
            done.pop()
            todo += target.split(b"/")[::-1]
            if target.startswith(b"/"):
                done.clear()
                outside = b"/" + b"/".join(part for part in reversed(todo) if part)
        return b"/".join((self._folder, *done, *([b""] if path.endswith(b"/") or not done else [])))

    def guest_path(self, path: bytes) -> bytes:
        """A host path as the guest calls it."""
        folder = self._folder
        if folder and path.startswith(folder) and path[len(folder):len(folder) + 1] in (b"/", b""):
            return path[len(folder):] or b"/"
        return path
