class Cache:
    def __init__(self, bound):
        self.bound = bound
        self.kept = {}  # by key, the oldest first: size, and where it leads
        self.linked = set()

    def used(self):
        return sum(size for size, _ in self.kept.values())


def new(bound):
    return Cache(bound)


def has(cache, key):
    return key in cache.kept


def links(cache):
    return cache.linked


def add(cache, key, size, leads):
    if size > cache.bound:
        return
    while cache.used() + size > cache.bound:  # first in, first out
        oldest = next(iter(cache.kept))
        del cache.kept[oldest]
        cache.linked -= {pair for pair in cache.linked if oldest in pair}
    cache.kept[key] = size, leads
    cache.linked |= {(key, other) for other in leads if other in cache.kept}
    cache.linked |= {(other, key) for other in cache.kept if key in cache.kept[other][1]}
