"""What is mapped where: runs of pages that are alike, in order.

Owns: the list and its cutting and joining. Must not know: what is in memory, who may do what with it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple


class Region(NamedTuple):
    """A run of pages mapped alike, as one line of /proc/self/maps."""

    start: int
    end: int
    protection: int
    name: str = ""
    shared: bool = False
    file: bool = False
    offset: int = 0  # of `start` in the file


class Mappings:
    """Regions that do not overlap. Alike neighbours are one."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._regions: list[Region] = []

    def __iter__(self) -> Iterator[Region]:
        return iter(self._regions)

    def __reversed__(self) -> Iterator[Region]:
        return reversed(self._regions)

    def at(self, address: int) -> Region | None:
        """The one with this address."""
        index = bisect_right(self._starts, address) - 1
        if index >= 0 and address < self._regions[index].end:
            return self._regions[index]
        return None

    def is_free(self, start: int, end: int) -> bool:
        """Whether no page of the range is mapped."""
        index = bisect_right(self._starts, start) - 1
        if index >= 0 and self._regions[index].end > start:
            return False
        return index + 1 >= len(self._starts) or self._starts[index + 1] >= end

    def highest_free(self, length: int, low: int, high: int) -> int | None:
        """Where the highest free range of this length between two addresses begins."""
        top = high
        for region in reversed(self):
            if region.start >= top:
                continue
            if top - region.end >= length and region.end >= low:
                break
            top = min(top, region.start)
        return top - length if top - length >= low else None

    def overlapping(self, start: int, end: int) -> list[Region]:
        """Those with a page in the range."""
        first = max(bisect_right(self._starts, start) - 1, 0)
        found = []
        for region in self._regions[first:]:
            if region.start >= end:
                break
            if region.end > start:
                found.append(region)
        return found

    def carve(self, start: int, end: int) -> None:
        """Take a range out of the list, splitting what reaches beyond it."""
        if end <= start:
            return
        found = self.overlapping(start, end)
        if not found:
            return
        low = bisect_right(self._starts, found[0].start) - 1
        rest = [cut(region, *bounds) for region in found
                for bounds in ((region.start, start), (end, region.end)) if bounds[0] < bounds[1]]
        self._regions[low:low + len(found)] = rest
        self._starts[low:low + len(found)] = [region.start for region in rest]

    def insert(self, region: Region) -> None:
        """Add a region where none is, joining it with neighbours that are alike."""
        low = high = bisect_right(self._starts, region.start)
        if low and _alike(self._regions[low - 1], region):
            low -= 1
            before = self._regions[low]
            region = region._replace(start=before.start, offset=before.offset)
        if high < len(self._regions) and _alike(region, self._regions[high]):
            region = region._replace(end=self._regions[high].end)
            high += 1
        self._regions[low:high] = [region]
        self._starts[low:high] = [region.start]


def cut(region: Region, start: int, end: int) -> Region:
    """The part of a region between two addresses; `start` below the region's own means its own."""
    start, end = max(start, region.start), min(end, region.end)
    offset = region.offset + (start - region.start) if region.file else 0
    return region._replace(start=start, end=end, offset=offset)


def _alike(low: Region, high: Region) -> bool:
    return (low.end == high.start and low.protection == high.protection and low.name == high.name
            and low.shared == high.shared and not low.shared and low.file == high.file
            and (not low.file or low.offset + (low.end - low.start) == high.offset))
