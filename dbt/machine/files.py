"""Opening a file of the host's that is to be a disk. Owns: what is said of one that cannot be."""

from __future__ import annotations

import errno
import os
import stat

from dbt.elf import NotRunnable


def open_disk(path: str, read_only: bool) -> int:
    """Its descriptor. FileNotFoundError if there is none, NotRunnable for what is no file or device, or not ours."""
    try:
        file = os.open(path, os.O_RDONLY if read_only else os.O_RDWR)
    except FileNotFoundError:
        raise
    except OSError as error:
        refused = error.errno in (errno.EACCES, errno.EROFS, errno.EPERM) and not read_only
        hint = ", and it is not opened for reading only (readonly=on)" if refused else ""
        raise NotRunnable(f"{path}: {(error.strerror or str(error)).lower()}{hint}") from error
    kind = os.fstat(file).st_mode
    if not (stat.S_ISREG(kind) or stat.S_ISBLK(kind)):
        os.close(file)
        raise NotRunnable(f"{path}: is no file that could be a disk")
    return file
