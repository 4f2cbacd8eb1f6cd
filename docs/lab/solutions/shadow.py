PAGE = 4096
VALID, READ, WRITE, EXECUTE, USER, USED, WRITTEN = 0x1, 0x2, 0x4, 0x8, 0x10, 0x40, 0x80


def leaves(read, table, level=2, base=0):
    """The guest's virtual pages, each with its guest physical page and its entry; a large leaf is many pages."""
    for index in range(512):
        entry = read(table + 8 * index)
        virtual = base + (index << 12 + 9 * level)
        gpa = entry >> 10 << 12
        if entry & (READ | WRITE | EXECUTE):
            for at in range(0, PAGE << 9 * level, PAGE):
                yield virtual + at, gpa + at, entry
        elif entry & VALID:
            yield from leaves(read, gpa, level - 1, virtual)


def shadow(read, table, place, write, root):
    free = root + PAGE
    below = {}  # (table, index): the table that the entry leads to
    for virtual, gpa, entry in leaves(read, table):
        there = place(gpa)
        if there is None or not entry & USED or entry & USER:
            continue
        rights = entry & (READ | EXECUTE) | (entry & WRITE if entry & WRITTEN else 0)
        to = root
        for level in (2, 1):
            index = virtual >> 12 + 9 * level & 511
            if (to, index) not in below:
                below[to, index] = free
                write(to + 8 * index, free >> 12 << 10 | VALID)
                free += PAGE
            to = below[to, index]
        write(to + 8 * (virtual >> 12 & 511), there >> 12 << 10 | rights | VALID | USER | USED | WRITTEN)
