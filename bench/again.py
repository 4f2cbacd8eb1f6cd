"""A bundled program that can be run again in the same process, with all its translations kept: a warm run."""

from __future__ import annotations

import os
from typing import Any, Self

import dragoman
from dbt.memory import WRITE
from guests.programs import find


class Again:
    """A loaded program; `restart` puts registers and memory back to where it began."""

    def __init__(self, name: str, **settings: Any) -> None:
        known = find(name)
        self._expected = known.small_output.encode()
        self._output = os.memfd_create("output")
        self.process = dragoman.load(f"@{name}", known.small, seed=0, stdout=self._output, **settings)
        space, state = self.process.space, self.process.state
        self._registers, self._pc = state.snapshot(), state.pc
        self._memory = [(region.start, space.peek(region.start, region.end - region.start))
                        for region in space.regions() if region.protection & WRITE]  # fmt: skip

    def restart(self) -> None:
        process = self.process
        process.state.restore(self._registers)
        process.set_register("pc", self._pc)
        for address, data in self._memory:
            process.write(address, data)
        process.status = None
        os.ftruncate(self._output, 0)
        os.lseek(self._output, 0, os.SEEK_SET)

    def run(self) -> None:
        """Run to the end; what it prints must be right."""
        assert self.process.run() == 0
        assert os.pread(self._output, len(self._expected) + 1, 0) == self._expected

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.close()
        os.close(self._output)
