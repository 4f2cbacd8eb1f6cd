"""`dragoman cache`: what is kept on disk for later runs. Owns: its words. Must not know: what is in the file."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dbt.cli.errors import FAILURE, USAGE, Fail
from dbt.cli.options import Parser, amount

if TYPE_CHECKING:
    from pathlib import Path

    from dbt.cache.database import Database

DESCRIPTION = """\
Look after the translations that runs leave on disk for later ones.

  info      where they are, and how many
  list      the guest pages that they belong to
  gc        drop what was not used for longest, down to --size, and make the file smaller
  verify    check every record; what is damaged would be found and replaced by the next run that meets it
  clear     delete all

They are in DRAGOMAN_CACHE_DIR, or in XDG_CACHE_HOME/dragoman, or in ~/.cache/dragoman: a folder of yours that is
closed to others. An empty DRAGOMAN_CACHE_DIR means that nothing is kept."""


def command(words: Sequence[str]) -> int:
    parser = Parser("cache", DESCRIPTION, "info | list | gc | verify | clear")
    parser.option(
        "--size", metavar="N[K|M]", type=amount, help="for gc: how many bytes may stay in use (default: 256M)"
    )
    if words and not words[0].startswith("-"):  # options may stand behind the word, too
        words = [*words[1:], words[0]]
    options, rest = parser.split(words)
    if len(rest) != 1 or rest[0] not in ("info", "list", "gc", "verify", "clear"):
        parser.error("one of info, list, gc, verify and clear is wanted")
    if options.size is not None and rest[0] != "gc":
        parser.error("--size is for gc")
    from dbt.cache.disk import user_folder

    folder = user_folder()
    if folder is None:
        raise Fail(USAGE, "nothing is kept on disk: DRAGOMAN_CACHE_DIR is empty, or there is no home folder")
    return _do(rest[0], folder, options.size)


def _do(what: str, folder: Path, size: int | None) -> int:
    from dbt.cache.database import BOUND, ERRORS, FILE, Database, Refused, discard

    if not os.path.lexists(folder / FILE):
        print(f"{folder}: nothing is kept there")
        return 0
    if what == "clear":
        discard(folder)
        if os.path.lexists(folder / FILE):
            raise Fail(FAILURE, f"{folder / FILE}: it cannot be deleted")
        print(f"{folder}: cleared")
        return 0
    try:
        database = Database(folder)
        try:
            if what == "gc":
                database.shrink(BOUND if size is None else size)
            if what == "list":
                _list(database)
            elif what == "verify":
                return _verify(database)
            else:
                _info(database)
        finally:
            database.close()
    except Refused as error:
        raise Fail(FAILURE, str(error)) from None
    except ERRORS as error:
        raise Fail(FAILURE, f"{folder / FILE}: {error} (`dragoman cache clear` deletes it)") from None
    return 0


def _info(database: Database) -> None:
    info = database.info()
    print(f"file      {database.path}, {info.file:,} bytes")
    print(f"records   {info.records:,} with {info.bytes:,} bytes, of {info.places:,} places")
    if info.places:
        print(f"used      from {_day(info.oldest)} to {_day(info.newest)}")


def _day(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _list(database: Database) -> None:
    """A line for each place: the guest page, or that it is no guest's code; translations, bytes, when it was used."""
    for line in sorted(database.lines()):
        page, records, size, used = line
        where = "runtime" if page < 0 else f"{page << 12:#x}"
        print(f"{where:>14}  {records:>6,} records  {size:>10,} bytes  {_day(used)}")


def _verify(database: Database) -> int:
    good, bad = database.verify()
    sound = database.sound()
    print(f"{good:,} records are sound, {bad:,} are damaged; the file is {'sound' if sound else 'damaged'}")
    return 0 if sound and not bad else FAILURE
