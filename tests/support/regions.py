"""What tests ask of regions: whether it was they that ran."""

from __future__ import annotations

from dbt.block import Translation
from dbt.engine import Translated


class Watch:
    """Counts the instructions that translations of several blocks retire in an engine, those that are gone too."""

    def __init__(self, engine: Translated) -> None:
        self._cache = cache = engine.cache
        self._gone = 0
        told = cache.dropped

        def dropped(translation: Translation) -> None:
            if len(translation.source) > 1:
                self._gone += cache.retired(translation)
            told(translation)

        cache.dropped = dropped

    @property
    def retired(self) -> int:
        return self._gone + sum(self._cache.retired(t) for t in self._cache.translations() if len(t.source) > 1)
