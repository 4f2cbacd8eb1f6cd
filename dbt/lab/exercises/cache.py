"""`cache`: a translation cache with a bound, whose translations are linked to each other.

Wanted: four functions of a cache, which is whatever the reader's `new(bound)` returns. add(cache, key, size, leads)
keeps a translation of so many bytes, whose branches lead to the keys `leads`; has(cache, key) says whether one is kept;
links(cache) are pairs of keys: a translation, and one to which it jumps directly. Any policy will do: what holds for
all of them is looked at behind each step.
"""

from __future__ import annotations

from random import Random

from dbt.lab.exercises.reading import function, require

STEPS, KEYS, BOUND = 300, 40, 4096
SIZES = (64, 1024)


def check(file: str) -> str:
    new, add, has, links = (function(file, name) for name in ("new", "add", "has", "links"))
    rng, dropped = Random(), 0
    keys = [0x10000 + 0x40 * number for number in range(KEYS)]
    cache, added, before = new(BOUND), dict[int, tuple[int, set[int]]](), set[int]()
    for step in range(STEPS):
        key, size, leads = rng.choice(keys), rng.randint(*SIZES), set(rng.sample(keys, 2))
        if step % 50 == 49:
            size = BOUND + 1
        if key not in before:
            add(cache, key, size, set(leads))
            added[key] = size, leads
        kept = {each for each in keys if has(cache, each)}
        name = f"a translation of {size} bytes, {key:#x}"
        require(kept <= before | {key}, f"behind {name}, others are kept that had been dropped")
        require(key in kept or size > BOUND, f"{name}, has been added, and is not kept")
        total = sum(added[each][0] for each in kept)
        require(total <= BOUND, f"behind {name}, {total} bytes are kept; the bound is {BOUND}")
        gone = before - kept
        needed = sum(added[each][0] for each in before) + size > BOUND >= size
        require(not gone or needed, f"{name}: others were dropped for it, and did not have to be")
        wanted = {(one, other) for one in kept for other in added[one][1] if other in kept}
        found = set(links(cache))
        for one, other in sorted(found - wanted):
            require(other in kept and one in kept, f"{one:#x} still jumps to {other:#x}, which is not kept any more")
            require(False, f"{one:#x} jumps to {other:#x}, where it does not lead")
        for one, other in sorted(wanted - found):
            require(False, f"{one:#x} leads to {other:#x}, both are kept, and they are not linked")
        before, dropped = kept, dropped + len(gone)
    require(dropped > 0, "nothing was ever dropped")
    return f"{STEPS} steps, {dropped} translations dropped, and no jump to one of them"
