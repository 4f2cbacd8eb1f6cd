"""Facts that lowering is given: the host, where things are, what is said to the monitor; and what it gives back.

Owns: the records, and arithmetic on the host's floating-point control register that `dbt.native` needs as well.
Must not know: IR.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ir.records import field, record

# Ways out that no exit slot stands for: the value of %via. Slot displacements are larger.
LATE, SIDE, CALLOUT, MISS, HOT = 1, 2, 3, 4, 5
# %via = SIDE | reason << 3. The last two are of instructions that are illegal, for the one or the other cause.
SIDE_REASONS = ("memory", "rounding", "conversion", "trap", "misaligned", "monitor", "illegal", "refused")


@record(frozen=True)
class Host:
    """What lowering needs to know of a host: assembly templates and its floating-point control register.

    `loads` and `stores` map (size, signed) and size to a template with $0, $1 in AT&T order, those of floats map a
    width in bits; `exchanges` map the size of a compare-and-exchange to its own, with $0 what is found and was
    expected, $1 the memory and $3 what is new. The lowering appends the line of the fault table, with the number of
    the operand where a fault goes. Control register: `read_control` and `write_control` are LLVM calls on a
    pointer; flag bit i of `ir.fp` is control bit `flag_bits[i]`; `rounding_codes[mode]` goes to bit
    `rounding_shift`; `control` is the register's value with all exceptions masked and no flags.
    """

    name: str
    triple: str
    pinned: int
    loads: Mapping[tuple[int, bool], str]
    stores: Mapping[int, str]
    exchanges: Mapping[int, str]
    float_loads: Mapping[int, str]
    float_stores: Mapping[int, str]
    load_constraint: str
    store_constraint: str
    exchange_constraint: str  # %s: more inputs
    float_load_constraint: str
    float_store_constraint: str
    fault_entry: str
    read_control: str
    write_control: str
    control: int
    flag_bits: tuple[int, ...]
    rounding_codes: tuple[int, ...]
    rounding_shift: int
    to_int: Mapping[int, str]
    to_int_constraint: str
    native_call: str  # from a stencil, of the native function of a name, with an address, size | kind << 4, and %s;
    native_at: str  # from a region, of one at an address;
    native_constraint: str
    native_entry: str  # assembly that makes such a function `name` of a `function` of (%s, address, size, kind)
    fused: bool
    carryless: str  # LLVM's call for a carry-less product of halves of two vectors; "" where the CPU has none


@record(frozen=True)
class Translations:
    """Where a machine's translations of addresses are: byte offsets of entries in a set, and how many there are.

    An entry for data is a tag and what is added to an address; one for fetches a tag and the page's table of code. The
    tag is the first address of a page.
    """

    loads: int
    stores: int
    fetches: int
    entry_bits: int
    fetch_bits: int
    found: int  # offsets in the CPU state: of the word that leads to the native function which finds an address;
    changed: int  # of the word that says that a region has changed what addresses mean;
    raised: int  # of two words: the cause of a trap that code leaves for, plus one, and its value
    recent: int  # of pairs of words, entries that accesses found last: so many for loads, as many for stores
    recent_most: int


@record(frozen=True)
class Target:
    """Where things are: byte offsets in the CPU state and facts of the memory model.

    With `translations` the guest is a machine: its addresses are looked up at each access, and `highest` is the offset
    of the word that holds the host address of the current set. Without, they are offsets from one place, and checked.
    """

    host: Host
    slot: Callable[[int], int]
    pc: int
    inline: int
    limit: int
    scratch: int
    soft_flags: int
    leave: int
    nan: Mapping[int, int]  # width -> offset of its canonical NaN
    jump_cache: int
    jump_bits: int
    rounding_slot: int
    stack_slot: int  # of the register that points to the stack: a number, as ops have it
    floats: range  # slots of registers that may be variables as floats, at most 32, which lie one behind the other
    budget_shift: int
    space_bits: int
    guard: int  # bytes below and above the guest's addresses where nothing is mapped
    highest: int  # offset of the word that holds the highest guest address
    translations: Translations | None = None
    pinned: tuple[int, ...] = ()
    shares: int | None = None  # of the word that says that other processes may write to memory; a machine has none
    log: tuple[int, int] | None = None  # offsets of the store log's length and of the log, if stores are logged
    directory: tuple[int, int] = (0, 0)  # offsets of the table of guest pages, and of their tables of entries
    # For measuring what each costs: False leaves it out.
    checks: bool = True  # the base-register check
    counts: bool = True  # exact counts; cycles count one instruction each then
    fp_flags: bool = True  # accrued exceptions
    probes: bool = True  # the jump cache


@record
class Lowered:
    """A region's text, and the exits that need a slot: symbol -> (guest target, is a boundary).

    One more symbol, `counter`, is a word of its own that the function adds to what it retires. `gates` are functions
    that enter the region elsewhere, each with the guest address of its block.

    In a machine `away` are the exits that lead to another page of addresses than the one they leave, and `pages` the
    symbols of words which say where a page is that the region goes on in: symbol -> number of the page.
    """

    name: str
    text: str
    exits: dict[str, tuple[int, bool]] = field(default_factory=dict)
    gates: list[tuple[str, int]] = field(default_factory=list)
    away: list[str] = field(default_factory=list)
    pages: dict[str, int] = field(default_factory=dict)

    @property
    def counter(self) -> str:
        return f"{self.name}.n"


def flag_lines(host: Host, control: str, let: Callable[..., str]) -> list[str]:
    """Operands that together are the `ir.fp` flags of a 64-bit control-register value."""
    parts = []
    for bit, source in enumerate(host.flag_bits):
        shift = source - bit
        moved = let(f"lshr i64 {control}, {shift}") if shift >= 0 else let(f"shl i64 {control}, {-shift}")
        parts.append(let(f"and i64 {moved}, {1 << bit}"))
    return parts


def rounding_code(host: Host, mode: str, let: Callable[..., str]) -> str:
    """The control-register bits (i32) of a rounding mode; modes that the host has not give nearest."""
    table = sum(code << 2 * mode for mode, code in enumerate(host.rounding_codes))
    known = let(f"icmp ult i64 {mode}, 4", "c")
    twice = let(f"shl i64 {mode}, 1")
    place = let(f"and i64 {twice}, 63")
    shifted = let(f"lshr i64 {table}, {place}")
    code = let(f"and i64 {shifted}, 3")
    chosen = let(f"select i1 {known}, i64 {code}, i64 {host.rounding_codes[0]}")
    narrow = let(f"trunc i64 {chosen} to i32")
    return let(f"shl i32 {narrow}, {host.rounding_shift}")


def fetch_row(let: Callable[..., str], current: str, pc: str, found: Translations) -> str:
    """A pointer to the entry of a guest address for fetches, in the `current` set of translations."""
    place = let(f"and i64 {let(f'lshr i64 {pc}, 7')}, {((1 << found.fetch_bits) - 1) << 5}")
    first = let(f"inttoptr i64 {current} to ptr", "a")
    row = let(f"getelementptr i8, ptr {first}, i64 {place}", "a")
    return let(f"getelementptr i8, ptr {row}, i64 {found.fetches}", "a")


ODDS = 12  # branch weights are told as powers of two up to this one
_FIRST = 10  # number of the first of them


def branch_weights(odds: tuple[int, int] | None) -> str:
    """The metadata that says how often a branch is taken and not; "" where that is not known."""
    if odds is None:
        return ""
    taken, not_taken = odds
    power = (taken + 1).bit_length() - (not_taken + 1).bit_length()
    return f", !prof !{_FIRST + ODDS + max(-ODDS, min(power, ODDS))}"


def weight_lines() -> list[str]:
    """The definitions of that metadata."""
    return [
        f'!{_FIRST + ODDS + power} = !{{!"branch_weights", i32 {1 << max(power, 0)}, i32 {1 << max(-power, 0)}}}'
        for power in range(-ODDS, ODDS + 1)
    ]
