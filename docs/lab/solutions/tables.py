PAGE = 4096
VALID, LEAF = 0x1, 0xCF  # a pointer to a table; all rights but user mode's, accessed, dirty


def tables(write, root, pages):
    free = root + PAGE
    below = {}  # (table, index): the table that the entry leads to
    for virtual, physical in pages.items():
        table = root
        for level in (2, 1):
            index = virtual >> 12 + 9 * level & 511
            if (table, index) not in below:
                below[table, index] = free
                write(table + 8 * index, free >> 12 << 10 | VALID)
                free += PAGE
            table = below[table, index]
        write(table + 8 * (virtual >> 12 & 511), physical >> 12 << 10 | LEAF)
