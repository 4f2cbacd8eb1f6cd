"""Why translations go: each that does is told of with its reason, by looking at the calls in which they do.

Owns: these reasons in words. Must not know: who is told, or why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dbt.block import Translation


class Departures:
    """Calls `told` with each translation of an engine that goes, and why, before it does. `more`: other calls in which
    translations go: who has it, its name, why.
    """

    def __init__(
        self, engine: Any, told: Callable[[Translation, str], None], more: Iterable[tuple[Any, str, str]] = ()
    ) -> None:
        self._why = ""
        cache, dropped = engine.cache, engine.cache.dropped

        def gone(way: Translation) -> None:
            if way.of is None:
                told(way, self._why)
            dropped(way)

        cache.dropped = gone
        for owner, name, why in (
            (cache, "evict", "evicted: the cache was full"),
            (cache, "invalidate", "its guest code was written, or its mapping changed"),
            (cache, "drop", "found stale, or flushed"),
            (cache, "insert", "replaced by a new translation"),
            (engine.coherence, "fence", "found stale at a fence"),
            *more,
        ):
            setattr(owner, name, self._because(why, getattr(owner, name)))

    def _because(self, why: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """What goes meanwhile goes for this reason, if there is none further out."""

        def within(*arguments: Any) -> Any:
            before = self._why
            self._why = before or why
            try:
                return call(*arguments)
            finally:
                self._why = before

        return within
