"""Events of an engine that translates: native code that is left, and what becomes of translations.

Only calls that the engine makes anyway are looked at. Owns: these events. Must not know: who takes them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from dbt.departures import Departures
from dbt.engine import REASONS, UNLINKED
from dbt.state import EXIT, LEAVE

AGAIN = 1 << 16  # addresses whose names are remembered

if TYPE_CHECKING:
    from dbt.block import Key, Translation
    from dbt.tracing.events import Recorder


class EngineEvents:
    """Has a recorder told of one engine, which must not have run yet. `count` is virtual time, `at` names an address.

    `track` is who runs, or of several, whose engine it is, and `who` then says which of them; `mode` is added to exits,
    if there are modes.
    """

    def __init__(
        self, engine: Any, recorder: Recorder, count: Callable[[], int], at: Callable[[int], str], track: str,
        mode: Callable[[], str] = lambda: "", who: Callable[[], str] | None = None,
    ) -> None:  # fmt: skip
        self._engine = engine
        self._recorder = recorder
        self._count = count
        self._at = lru_cache(AGAIN)(at)
        self._track = track
        self._mode = mode
        self._who = who or (lambda: track)
        self._exits: dict[int, Translation] = {}  # whose each slot is, of those that were made
        self._left: tuple[float, str, str, dict[str, Any]] | None = None  # since when native code is left, why, by whom
        if "exit" in recorder.kinds:
            engine.translator.backend.enter = self._entering(engine.translator.backend.enter)
        if "translation" in recorder.kinds:
            Departures(engine, self._dropped)
            engine.cache.insert = self._inserting(engine.cache.insert)
            engine.promotion.promote = self._promoting(engine.promotion.promote)

    def finish(self) -> None:
        """The run has ended: nothing is entered again."""
        self._tell_left()

    # --- native code ----------------------------------------------------------------------------------

    def _entering(self, enter: Callable[[int, int], object]) -> Callable[[int, int], None]:
        words, state = self._engine.state.words, self._engine.state

        def noted(address: int, code: int) -> None:
            self._tell_left()
            enter(address, code)
            reason = REASONS.get(words[EXIT], UNLINKED)
            mode = self._mode()
            where = {"pc": state.pc, "at": self._at(state.pc)} | ({"mode": mode} if mode else {})
            self._left = self._recorder.now(), reason, self._who(), where

        return noted

    def _tell_left(self) -> None:
        if self._left is not None:
            since, reason, who, where = self._left
            self._recorder.note("exit", reason, self._count(), who, since, **where)
            self._left = None

    # --- translations -----------------------------------------------------------------------------------

    def _note(self, name: str, translation: Translation, **what: Any) -> None:
        pc = self._pc(translation.key)
        self._recorder.note("translation", name, self._count(), f"{self._track}: translations", None,
                            pc=pc, at=self._at(pc), **what)  # fmt: skip

    def _pc(self, key: Key) -> int:
        return int(self._engine.cache.guest_address(key[0]))

    def _inserting(self, insert: Callable[[Translation], None]) -> Callable[[Translation], None]:
        def noted(translation: Translation) -> None:
            insert(translation)
            self._note("made", translation, blocks=len(translation.source), guest=translation.instructions,
                       bytes=translation.size)  # fmt: skip
            words, cache = self._engine.state.words, self._engine.cache
            for slot, leads in translation.exits.items():
                self._exits[slot] = translation
                if words[slot >> 3] not in (0, words[LEAVE]):
                    self._note("linked", translation, to=self._pc(leads))
            for way in (translation, *translation.gates):
                for slot in cache.leading(way.key):
                    if slot not in translation.exits and words[slot >> 3] == way.entry:
                        self._note("linked", self._exits[slot], to=self._pc(way.key))

        return noted

    def _dropped(self, translation: Translation, why: str) -> None:
        self._note("dropped", translation, why=why, retired=self._engine.cache.retired(translation))

    def _promoting(self, promote: Callable[[int], None]) -> Callable[[int], None]:
        def noted(place: int) -> None:
            pc = int(self._engine.cache.guest_address(place))
            self._recorder.note("translation", "promoted", self._count(), f"{self._track}: translations", None,
                                pc=pc, at=self._at(pc))  # fmt: skip
            promote(place)

        return noted
