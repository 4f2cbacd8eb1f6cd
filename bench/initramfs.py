"""A file system for a Linux kernel to begin with: an archive in cpio's "newc" form (Linux, buffer-format.rst)."""

from __future__ import annotations

import gzip
import stat
from collections.abc import Mapping

FOLDER, LINK, FILE = stat.S_IFDIR | 0o755, stat.S_IFLNK | 0o777, stat.S_IFREG | 0o755
CONSOLE = stat.S_IFCHR | 0o600, 5, 1  # the node /dev/console: its mode and numbers


def archive(folders: tuple[str, ...], links: Mapping[str, str], files: Mapping[str, bytes]) -> bytes:
    """A compressed archive of these and of /dev/console; `dev` must be among the folders."""
    rows = [(name, FOLDER, b"", 0, 0) for name in folders]
    rows += [(name, LINK, to.encode(), 0, 0) for name, to in links.items()]
    rows += [(name, FILE, data, 0, 0) for name, data in files.items()]
    rows += [("dev/console", CONSOLE[0], b"", *CONSOLE[1:]), ("TRAILER!!!", 0, b"", 0, 0)]
    out = bytearray()
    for number, (name, mode, data, major, minor) in enumerate(rows, 1):
        path = name.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(path), 0)
        for part in (b"070701" + b"".join(b"%08X" % field for field in fields) + path, data):
            out += part
            out += bytes(-len(out) % 4)
    return gzip.compress(bytes(out), 1)
