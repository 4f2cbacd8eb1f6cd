"""The disk cache as an engine uses it: what earlier runs made and counted is found by the content of a guest page.

A place is a hash of what was assumed, a guest page's address and its bytes. It is looked up when the engine first
executes in the page, before anything is compiled; what is found holds the guest's bytes that it was made from, which
the engine compares with memory. What is new is collected and written in one transaction when a run ends, and now and
then before.
What the file, the hashes and the records need is imported at the first use: a short run has none.
Nothing here fails a run. What is damaged is a miss, and goes; what stands in the way ends the use of the disk for this
run, and `note` says so where the user can do something about it.
Owns: places, what waits to be written, what went wrong. Must not know: the form of the file, how code is made or run.
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dbt.block import Key, Made
from dbt.code import Code
from dbt.memory import PAGE_SHIFT, PAGE_SIZE, MemoryFault
from dbt.options import Options
from guests.spec import Guest
from ir.records import record

if TYPE_CHECKING:
    from pathlib import Path

    from dbt.cache.database import Database, Row

OFTEN = 1 << 20  # bytes waiting, or
LONG = 10.0  # seconds since the last time, until what is new is written in the middle of a run
RAN = PAGE_SIZE << 1  # the number of the record in a place that is no translation, but how often blocks ran
RUNTIME = 1 << 64  # no page has this number: code that is no translation
NEAR = 8  # guest pages are asked for together, two to this power, since most have nothing there
MOST_NEAR = 4096  # places that may be there for these; with more, each page is asked for by itself


@record
class DiskStats:
    """What came from disk and went there."""

    pages: int = 0  # looked up
    found: int = 0  # translations installed
    written: int = 0
    bytes: int = 0  # written
    damaged: int = 0  # records that were not what they should be
    seconds: float = 0.0  # CPU: looking up and writing


class Disk:
    """The disk cache of one engine. The file is opened at the first use."""

    def __init__(self, folder: str, guest: Guest, options: Options) -> None:
        self.stats = DiskStats()
        self.note = ""  # one sentence, if something stands in the way that the user can remove
        self._folder = folder
        self._guest = guest
        self._options = options
        self._database: Database | None = None
        self._assumed = b""
        self._usable = True
        self._renewed = False  # the file was made anew, since it was damaged
        self._new: dict[bytes, dict[int, Row]] = {}  # records to be written, by place and number
        self._waiting = 0  # their bytes
        self._written = time.monotonic()
        self._seen: set[bytes] = set()  # places whose use is to be noted
        self._damaged: list[tuple[bytes, object]] = []
        self._numbers: set[int] | None = None  # of pages that have places, >> NEAR, once the file was asked
        self._near: dict[int, dict[object, int] | None] = {}  # places that were there and their pages, by these numbers
        self._paged: set[int] = set()  # all these pages
        _alive.add(self)

    # --- looking up -----------------------------------------------------------------------------------

    def find(self, page: int, content: bytes, key: Key | None = None) -> list[Made]:
        """The translations that begin in the guest page of this number, or that of one key, if these are its bytes.

        That of a key may be there since a moment ago: another process writes as well.
        """
        from dbt.cache.record import unpack_made

        found = []
        with self._measured() as database:
            if database is not None:
                self.stats.pages += 1
                if key is None and not self._new and self._near_page(database, page) == {}:
                    return []  # without a look at the content
                place = self._place(page, content)
                if key is not None or place in self._new or self._may_be_there(database, page, place):
                    found = self._records(database, place, unpack_made, None if key is None else _number(key))
        return found

    def ran(self, page: int, content: bytes) -> dict[int, int]:
        """How often blocks of the guest page ran in earlier runs, by their offsets, of those that were kept."""
        from dbt.cache.record import unpack_ran

        with self._measured() as database:
            if database is not None and self._near_page(database, page) != {}:
                place = self._place(page, content)
                if self._may_be_there(database, page, place):
                    for found in self._records(database, place, unpack_ran, RAN):
                        return dict(found)
        return {}

    def lacks(self, pages: range) -> bool:
        """Whether `find` would find nothing for any of these, which are near each other, without their content.

        False if it is not known. A forked child knows what its parent has learnt, and may never open the file.
        """
        if self._new or self._numbers is None:
            return False
        number = pages.start >> NEAR
        return number not in self._numbers or (self._near.get(number) is not None and self._paged.isdisjoint(pages))

    def code(self, name: str, make: Callable[[], Code]) -> Code:
        """Code that is no translation, by its name: from disk, or made now and kept."""
        from dbt.cache.record import pack_code, unpack_code

        place = b""
        with self._measured() as database:
            if database is not None:
                place = self._place(RUNTIME, name.encode())
                found = self._records(database, place, unpack_code, 0)
                if found:
                    return found[0]
        made = make()
        if place:
            self._add(place, -1, 0, pack_code(made))
        return made

    def _sources(self, stamp: bytes, make: Callable[[], bytes]) -> bytes:
        """What our sources hash to, by a stamp of their files: from disk, or worked out now and kept."""
        assert self._database is not None
        place = self._place(RUNTIME, stamp)
        for known in self._records(self._database, place, bytes, 0):
            return bytes(known)
        made = make()
        self._add(place, -1, 0, made)
        return made

    # --- keeping --------------------------------------------------------------------------------------

    def keep(self, made: Sequence[Made], peek: Callable[[int, int], bytes]) -> None:
        """Have these written with the next ones. Their guest pages, at which `peek` looks, are as they were then."""
        from dbt.cache.record import pack_made

        with self._measured() as database:
            if database is None:
                return
            for one in made:
                pc = one.key[0]
                try:
                    content = peek(pc & -PAGE_SIZE, PAGE_SIZE)
                except MemoryFault:  # code that cannot be fetched
                    continue
                if one.source:
                    place = self._place(pc >> PAGE_SHIFT, content)
                    self._add(place, pc >> PAGE_SHIFT, _number(one.key), pack_made(one))

    def keep_ran(self, page: int, content: bytes, ran: Mapping[int, int]) -> None:
        """Have written how often blocks of a guest page ran, in all runs, by their offsets."""
        from dbt.cache.record import pack_ran

        with self._measured() as database:
            if database is not None:
                self._add(self._place(page, content), page, RAN, pack_ran(ran))

    @property
    def due(self) -> bool:
        """Whether so much is new, or for so long, that it should be written before the run ends."""
        return self._waiting > OFTEN or (self._waiting > 0 and time.monotonic() - self._written > LONG)

    def save(self) -> None:
        """Write what is new."""
        if not (self._new or self._seen or self._damaged):
            return
        with self._measured() as database:
            if database is not None:
                rows = [row for numbered in self._new.values() for row in numbered.values()]
                written = database.write(rows, self._seen, self._damaged)
                self.stats.bytes += sum(len(record) for _, _, _, record in written)
                self.stats.written += sum(page >= 0 and number != RAN for _, page, number, _ in written)
        self._new.clear()
        self._seen.clear()
        self._damaged.clear()
        self._waiting = 0
        self._written = time.monotonic()

    def close(self) -> None:
        """Write what is new, and close the file."""
        self.save()
        if self._database is not None:
            self._database.close()
        self._database = None
        self._usable = False

    def forget(self) -> None:
        """In a forked child: the open file is the parent's, and what waits to be written, too."""
        if self._database is not None:
            _inherited.append(self._database)
            self._database = None
        self._new.clear()
        self._seen.clear()
        self._damaged.clear()
        self._waiting = 0

    # --- inside ---------------------------------------------------------------------------------------

    def _place(self, page: int, content: bytes) -> bytes:
        from dbt.blake2 import blake2b
        from dbt.cache.assumed import HASH

        return blake2b(content, digest_size=HASH, key=self._assumed, salt=page.to_bytes(16, "little")).digest()

    def _may_be_there(self, database: Database, page: int, place: bytes) -> bool:
        known = self._near_page(database, page)
        return known is None or place in known

    def _near_page(self, database: Database, page: int) -> dict[object, int] | None:
        """Places that are on disk of pages about this one, and their pages; None: there are many."""
        number = page >> NEAR
        if self._numbers is None:
            self._numbers = database.numbers(NEAR)
        if number not in self._near and number in self._numbers:
            found = self._near[number] = database.places(number << NEAR, (number + 1 << NEAR) - 1, MOST_NEAR)
            self._paged.update((found or {}).values())
        return self._near.get(number, {})

    def _records(
        self, database: Database, place: bytes, unpack: Callable[[bytes], Any], wanted: int | None
    ) -> list[Any]:
        """What is there, or waits to be written there: the record that is wanted, or all translations."""
        from dbt.cache.database import STALE
        from dbt.cache.record import SEAL, Damaged, unseal

        new = self._new.get(place, {})
        if wanted in new:
            return [unpack(new[wanted][3][SEAL:])]
        found = []
        for number, sealed in database.records(place, wanted):
            if wanted is None and number == RAN:
                continue
            try:
                found.append(unpack(unseal(sealed, place, number)))
            except Damaged:
                self.stats.damaged += 1
                self._damaged.append((place, number))
        if found and (database.used(place) or 0) < time.time() - STALE:
            self._seen.add(place)
        return found

    def _add(self, place: bytes, page: int, number: int, data: bytes) -> None:
        from dbt.cache.record import seal

        record = seal(data, place, number)
        self._new.setdefault(place, {})[number] = place, page, number, record
        self._waiting += len(record)

    @contextmanager
    def _measured(self) -> Iterator[Database | None]:
        """The open file, or None. What goes wrong with it inside ends here; the time is counted."""
        begin = time.process_time()
        try:
            database = self._open()
            if database is None:
                yield None
                return
            from dbt.cache.database import ERRORS

            try:
                yield database
            except ERRORS as error:
                self._failed(error)
        finally:
            self.stats.seconds += time.process_time() - begin

    def _open(self) -> Database | None:
        if self._database is None and self._usable:
            from dbt.cache.assumed import Unknown, assumed
            from dbt.cache.database import ERRORS, Database, Refused

            try:
                self._database = Database(self._folder)
                self._assumed = self._assumed or assumed(self._guest, self._options, self._sources)
            except (Refused, Unknown) as error:
                self._give_up(f"translations are not kept on disk: {error}")
            except ERRORS as error:
                self._failed(error)
            except OSError:  # somebody deleted it just now
                self._give_up("")
        return self._database

    def _failed(self, error: Exception) -> None:
        """A file that is damaged, or none of ours, goes, and there is one more try; else the disk is left alone."""
        from dbt.cache.database import BLOCKED, discard

        reason = BLOCKED.get((getattr(error, "sqlite_errorcode", None) or 0) & 0xFF)
        if reason is not None:
            self._give_up(reason and f"translations are not kept on disk: {self._folder}: {reason}")
        elif self._renewed:
            self._give_up("")
        else:
            self._renewed = True
            if self._database is not None:
                self._database.remove()
                self._database = None
            else:
                discard(self._folder)

    def _give_up(self, note: str) -> None:
        """Use the disk no more in this run."""
        self.note = note
        self._usable = False
        if self._database is not None:
            self._database.close()
            self._database = None


_alive: weakref.WeakSet[Disk] = weakref.WeakSet()
_inherited: list[Database] = []  # never to be closed here: SQLite would take its locks and its journal for ours


def _forked() -> None:
    for disk in list(_alive):
        disk.forget()


os.register_at_fork(after_in_child=_forked)


def _number(key: Key) -> int:
    """Of a translation among those that begin in its page."""
    pc, boundary = key
    return (pc & PAGE_SIZE - 1) << 1 | boundary


def disk_of(guest: Guest, options: Options) -> Disk | None:
    """The disk cache for a guest and options, if there is to be one.

    Instructions of the user's own may compute their meaning from anything, so what they become is not kept.
    """
    if not options.disk or options.cache_off or options.dump or guest.own:
        return None
    folder = _user_folder()
    return None if folder is None else Disk(folder, guest, options)


def user_folder() -> Path | None:
    """The user's own: DRAGOMAN_CACHE_DIR (empty: none), or a folder of ours where the system wants caches."""
    from pathlib import Path

    folder = _user_folder()
    return None if folder is None else Path(folder)


def _user_folder() -> str | None:
    given = os.environ.get("DRAGOMAN_CACHE_DIR")
    if given is not None:
        return os.path.abspath(given) if given else None
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        base = os.path.expanduser("~/.cache")
    return os.path.join(base, "dragoman") if os.path.isabs(base) else None
