VALID, READ, LEAF, USER = 0x1, 0x2, 0xE, 0x10
PAGE_FAULT, GUEST_PAGE_FAULT = 13, 21


class Fault(Exception):
    """A cause, and an address."""


def walk(read, table, address, first, allowed):
    """Where an entry leads, by tables of three levels; None where there is none, or it does not allow a load."""
    for level, bits in ((2, first), (1, 9), (0, 9)):
        size = 4096 << 9 * level
        entry = read(table + 8 * (address // size % (1 << bits)))
        to = entry >> 10 << 12
        if not entry & VALID:
            return None
        if entry & LEAF:
            return to + address % size if allowed(entry) else None
        table = to
    return None


def translate(read, table, root, address):
    def second(gpa):
        found = walk(read, root, gpa, 11, lambda entry: entry & READ and entry & USER)
        if found is None:
            raise Fault(GUEST_PAGE_FAULT, gpa)
        return found

    try:
        gpa = walk(lambda at: read(second(at)), table, address, 9, lambda entry: entry & READ and not entry & USER)
        return (PAGE_FAULT, address) if gpa is None else (0, second(gpa))
    except Fault as fault:
        return fault.args
