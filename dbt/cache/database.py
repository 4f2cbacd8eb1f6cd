"""The file of translations on disk: an SQLite database in a folder of the user's alone.

    place     what was assumed, a guest page's address and all its bytes, as one hash; when it was last used
    code      the records of each place, by number: of the translations that begin in that page

Code from disk is code execution, so the folder must belong to the user and be closed to others. The file is a cache:
it is not synced, since what a crash of the machine damages is found by its checksum and made again.
Owns: the file, its form, its bound. Must not know: what a record says, what an engine does with it. Raises
`ERRORS` and `Refused`; this is the only module that imports sqlite3.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from dbt.cache.record import Damaged, unseal

if TYPE_CHECKING:
    from pathlib import Path

FILE = "translations.sqlite3"
FORM = 2  # of the tables; a file of another one is made anew
BOUND = 256 << 20  # bytes in use
WAIT = 0.25  # seconds for another process that writes
STALE = 3600  # seconds: times of use are noted no finer, so that most runs write nothing
BLOCKED = {  # SQLite's codes for what is wrong with the world and not with the file: the user's words, or none
    sqlite3.SQLITE_BUSY: "",
    sqlite3.SQLITE_LOCKED: "",
    sqlite3.SQLITE_NOMEM: "",
    sqlite3.SQLITE_PERM: "it may not be read",
    sqlite3.SQLITE_READONLY: "it cannot be written",
    sqlite3.SQLITE_IOERR: "reading or writing it failed",
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened",
}

ERRORS = (sqlite3.Error, UnicodeError)  # what SQLite says of a damaged file may be no text

Row = tuple[bytes, int, int, bytes]  # place, number of the guest page (-1: none), number in it, record


class Refused(Exception):
    """The folder is not one to take code from; the message is one sentence."""


class Info(NamedTuple):
    """What there is."""

    places: int
    records: int
    bytes: int  # of the records
    file: int  # bytes of the file
    oldest: int  # when the places were last used: seconds since 1970; 0 if there is none
    newest: int


def check_folder(path: str | Path) -> None:
    """Make it if it is not there. Raises Refused if others could have put something there."""
    try:
        if not os.path.isdir(path):
            os.makedirs(path, mode=0o700, exist_ok=True)
        found = os.stat(path)
    except OSError as error:
        raise Refused(f"{path}: {(error.strerror or str(error)).lower()}") from error
    if found.st_uid != os.geteuid():
        raise Refused(f"{path} belongs to somebody else")
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise Refused(f"{path} is open to others (chmod 700 closes it)")


def discard(folder: str | Path) -> None:
    """Delete the file, whatever it is; its journal first, which must not be applied to another one."""
    for name in (f"{FILE}-journal", FILE):
        with suppress(OSError):
            os.unlink(os.path.join(folder, name))


class Database:
    """The open file; made if it is not there. Raises Refused and sqlite3.Error."""

    def __init__(self, folder: str | Path) -> None:
        check_folder(folder)
        self.path = os.path.join(folder, FILE)
        self.bound = BOUND
        self._db = sqlite3.connect(self.path, timeout=WAIT, isolation_level=None)
        self._db.text_factory = bytes
        try:
            self._file = self._identity()
            for setting in ("synchronous = OFF", "trusted_schema = OFF", "cell_size_check = ON"):
                self._db.execute(f"PRAGMA {setting}")
            if self._number("user_version") != FORM:
                self._create()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._db.close()

    # --- reading ------------------------------------------------------------------------------------

    def records(self, place: bytes, number: int | None = None) -> list[tuple[object, object]]:
        """Numbers and records of a place, or the one of this number; a damaged file may hold anything there."""
        if number is None:
            return self._db.execute("SELECT number, record FROM code WHERE place = ?", (place,)).fetchall()
        return self._db.execute(
            "SELECT number, record FROM code WHERE place = ? AND number = ?", (place, number)
        ).fetchall()

    def places(self, first: int, last: int, most: int) -> dict[object, int] | None:
        """The places of the guest pages from `first` to `last`, and their pages; None if there are more than `most`."""
        query = "SELECT id, page FROM place WHERE page BETWEEN ? AND ? LIMIT ?"
        found = self._db.execute(query, (first, last, most + 1)).fetchall()
        return None if len(found) > most else dict(found)

    def numbers(self, shift: int) -> set[int]:
        """Of all guest pages that have places, the numbers >> `shift`; each is a step through an index."""
        query = (
            "WITH RECURSIVE near(n) AS (SELECT (SELECT min(page) >> ?1 FROM place WHERE page >= 0) UNION "
            "SELECT (SELECT min(page) >> ?1 FROM place WHERE page >= (n + 1) << ?1) FROM near WHERE n NOTNULL) "
            "SELECT n FROM near WHERE n NOTNULL"
        )
        return {number for (number,) in self._db.execute(query, (shift,))}

    def used(self, place: bytes) -> int | None:
        """When it was last used, as far as it was noted."""
        row = self._db.execute("SELECT used FROM place WHERE id = ?", (place,)).fetchone()
        return row[0] if row and isinstance(row[0], int) else None

    def lines(self) -> list[tuple[int, int, int, int]]:
        """Of each place: number of the guest page (-1: code that is no guest's), records, their bytes, last use."""
        query = (
            "SELECT page, count(*), total(length(record)), used FROM place JOIN code "
            "ON place.id = code.place GROUP BY place.id"
        )
        return [(page, records, int(size), used) for page, records, size, used in self._db.execute(query)]

    def verify(self) -> tuple[int, int]:
        """How many records are what was written, and how many are not."""
        good = bad = 0
        for place, number, record in self._db.execute("SELECT place, number, record FROM code"):
            try:
                unseal(record, place, number)
                good += 1
            except Damaged:
                bad += 1
        return good, bad

    def info(self) -> Info:
        places, oldest, newest = self._db.execute("SELECT count(*), min(used), max(used) FROM place").fetchone()
        records, size = self._db.execute("SELECT count(*), total(length(record)) FROM code").fetchone()
        return Info(places, records, int(size), os.stat(self.path).st_size, oldest or 0, newest or 0)

    def sound(self) -> bool:
        """Whether SQLite finds its own structures in order."""
        return self._db.execute("PRAGMA integrity_check").fetchone() == (b"ok",)

    # --- writing ------------------------------------------------------------------------------------

    def write(
        self, rows: Iterable[Row], used: Collection[bytes], damaged: Collection[tuple[bytes, object]]
    ) -> list[Row]:
        """Add records, note which places were used, remove what is damaged: all or nothing. Returns what was added.

        What was not used for longest goes if there is no room; more than a quarter of the bound at once is left out.
        """
        now, size, taken = int(time.time()), 0, []
        for row in rows:
            size += len(row[3])
            if size > self.bound // 4:
                break
            taken.append(row)
        with self._transaction():
            self._db.executemany("DELETE FROM code WHERE place = ? AND number IS ?", damaged)
            self._db.executemany("UPDATE place SET used = ? WHERE id = ?", [(now, place) for place in used])
            self._make_room(self.bound, size)
            self._db.executemany(
                "INSERT OR REPLACE INTO code VALUES (?, ?, ?)",
                [(place, number, record) for place, _, number, record in taken],
            )
            places = {place: page for place, page, _, _ in taken}
            self._db.executemany(
                "INSERT OR REPLACE INTO place VALUES (?, ?, ?)", [(place, page, now) for place, page in places.items()]
            )
        return taken

    def shrink(self, bound: int) -> None:
        """Drop what was not used for longest until this many bytes are in use, and give room back to the system."""
        with self._transaction():
            self._make_room(bound, 0)
        self._db.execute("VACUUM")

    def remove(self) -> None:
        """Close, and delete the file, unless another one has its name by now."""
        self.close()
        with suppress(OSError):
            if self._identity() == self._file:
                discard(os.path.dirname(self.path))

    def _make_room(self, bound: int, size: int) -> None:
        """Before so many bytes come: a full file is emptied to three quarters, so that this is rare."""
        if self._in_use() + size <= bound:
            return
        oldest = self._db.execute("SELECT id FROM place ORDER BY used, id").fetchall()
        few = len(oldest) // 64 + 1
        for at in range(0, len(oldest), few):
            if self._in_use() + size <= bound * 3 // 4:
                break
            self._db.executemany("DELETE FROM code WHERE place = ?", oldest[at : at + few])
            self._db.executemany("DELETE FROM place WHERE id = ?", oldest[at : at + few])

    def _in_use(self) -> int:
        return (self._number("page_count") - self._number("freelist_count")) * self._number("page_size")

    def _number(self, name: str) -> int:
        return int(self._db.execute(f"PRAGMA {name}").fetchone()[0])

    def _create(self) -> None:
        """Make the tables. If there are some, of another form, that is an error as if the file were damaged."""
        with self._transaction():
            if self._number("user_version") == FORM:  # another process was first
                return
            self._db.execute("CREATE TABLE place (id BLOB PRIMARY KEY, page INTEGER, used INTEGER) WITHOUT ROWID")
            self._db.execute("CREATE INDEX by_use ON place (used, id)")
            self._db.execute("CREATE INDEX by_page ON place (page, id)")
            self._db.execute(
                "CREATE TABLE code (place BLOB, number INTEGER, record BLOB, PRIMARY KEY (place, number)) WITHOUT ROWID"
            )
            self._db.execute(f"PRAGMA user_version = {FORM}")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            with suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def _identity(self) -> tuple[int, int]:
        found = os.stat(self.path)
        return found.st_dev, found.st_ino
