"""Random guest code for differential tests: operand states, straight-line blocks, small programs with control flow."""

from __future__ import annotations

from random import Random

from support.riscv import (
    BY_NAME,
    GUEST,
    MASK,
    Rig,
    asm,
    boxed,
    decode,
    draw,
    is_float,
    label,
    random_float,
    random_float_register,
    random_integer,
    register_fields,
)

from guests.riscv.registers import FFLAGS, FRM, RESERVED_ADDRESS, RESERVED_SIZE, F
from guests.spec import Row

CODE, CODE_SIZE = 0x1_0000, 0x4_0000
DATA, DATA_SIZE = 0x10_0000, 0x3000
READ_ONLY = DATA + DATA_SIZE  # one page; the next one is not mapped
REGIONS = ((CODE, CODE_SIZE, 7), (DATA, DATA_SIZE, 3), (READ_ONLY, 0x1000, 1))
LIMIT = 1 << 38  # the end of the address space

POINTERS = (2, 8, 9)  # registers that hold data addresses in random blocks: sp, s0, s1
CONTROL = tuple(row for row in GUEST.rows if row.ends_block and row.name not in ("ecall", "fence.i"))
STRAIGHT = tuple(row for row in GUEST.rows if row not in CONTROL and row.name != "ecall")


def float_width(row: Row) -> int:
    """The width of the floating-point operands of a row."""
    if row.name in ("fsh", "fsw"):
        return 16 if row.name == "fsh" else 32
    return {"h": 16, "s": 32, "w": 32}.get(row.name.split(".")[-1], 64)


def memory_size(row: Row) -> int:
    """Bytes that a row accesses in memory, or 0."""
    if row.extension in ("zicbom", "zicboz"):
        return 64
    if row.name == "jalr" or row.extension == "zicbop" or not ("(rs1)" in row.syntax or "(sp)" in row.syntax):
        return 0
    name = row.name.removeprefix("c.").removesuffix("sp")
    if row.extension == "a":
        return 4 if name.endswith(".w") else 8
    return {"b": 1, "h": 2, "w": 4, "d": 8}[name.rstrip("u")[-1]]


def random_address(rng: Random, size: int) -> int:
    """An address for an access: mostly in memory and aligned, at times misaligned, or where an access faults."""
    kind = rng.randrange(10)
    if kind < 5:
        return DATA + rng.randrange(0, DATA_SIZE - 16, size)
    if kind < 7:
        return DATA + rng.randrange(DATA_SIZE - 16)
    return rng.choice((
        DATA + rng.choice((0x1000, 0x2000)) - rng.randrange(8), DATA - rng.randrange(1, 9),
        READ_ONLY - rng.randrange(9), READ_ONLY + rng.randrange(0x1000), READ_ONLY + 0x1000 - rng.randrange(9),
        LIMIT + rng.randrange(-9, 9),
        -rng.randrange(1, 20) & MASK, rng.randrange(16), 1 << 63 | rng.getrandbits(38), rng.getrandbits(64),
    ))  # fmt: skip


def randomise(rig: Rig, seed: int) -> None:
    """Random registers, modes and data, the same for the same seed."""
    rng = Random(seed)
    slots = rig.state.slots
    for i in range(1, 32):
        slots[i] = random_integer(rng)
    for i in range(32):
        slots[F + i] = random_float_register(rng)
    for number in POINTERS:
        slots[number] = DATA + rng.randrange(0x800, DATA_SIZE - 0x800, 8)
    slots[FFLAGS] = rng.choice((0, 0, 31, rng.getrandbits(5)))
    slots[FRM] = rng.randrange(5) if rng.randrange(20) else rng.randrange(8)
    slots[RESERVED_SIZE] = rng.choice((0, 0, 4, 8))
    slots[RESERVED_ADDRESS] = DATA + rng.randrange(0, 64, 8)
    rig.space.poke(DATA, rng.randbytes(DATA_SIZE))
    rig.space.poke(READ_ONLY, rng.randbytes(0x1000))


def set_operands(rig: Rig, row: Row, word: int, rng: Random) -> None:
    """Operands that suit the row: corners, addresses for memory, near-equal ones, boxed singles."""
    o, slots = decode(word).operands, rig.state.slots
    width = float_width(row)
    last: int | None = None
    for field in ("rs1", "rs2", "rs3"):
        number = getattr(o, field, None)
        if number is None:
            continue
        if is_float(row, field):
            value = random_float(rng, width)
            if width < 64:
                value = boxed(value, width) if rng.randrange(12) else rng.getrandbits(64 - width) << width | value
            slots[F + number] = value
        elif number:
            slots[number] = last if last is not None and not rng.randrange(4) else random_integer(rng)
            last = slots[number]
    slots[FFLAGS] = rng.choice((0, 31, rng.getrandbits(5)))
    slots[FRM] = rng.choice((0, 0, 1, 2, 3, 4, rng.randrange(8)))
    size = memory_size(row)
    if size and o.rs1:
        slots[o.rs1] = (random_address(rng, size) - getattr(o, "imm", 0)) & MASK
        if row.name.startswith("sc.") and rng.getrandbits(1):
            slots[RESERVED_ADDRESS], slots[RESERVED_SIZE] = slots[o.rs1], size


def row_words(row: Row, rng: Random, count: int) -> list[int]:
    """Random words of a row; x0 (or f0) in every register position, and all register fields alike."""
    fields = register_fields(row)
    variants: list[dict[str, int]] = [dict.fromkeys(fields, rng.randrange(8, 16))]
    variants += [{field: 0} for field in sorted(fields)]
    variants += [dict.fromkeys(fields, 0)]
    found = []
    for variant in variants:
        try:
            found.append(draw(row, rng, **variant))
        except AssertionError:
            assert 0 in variant.values() or len(fields) > 1, label(row)
    return found + [draw(row, rng) for _ in range(count)]


def random_instruction(rng: Random, rows: tuple[Row, ...] = STRAIGHT, kept: tuple[int, ...] = POINTERS) -> int:
    """A random word. Memory goes through a pointer mostly; `kept` registers are not written, mostly."""
    row = rng.choice(rows)
    while True:
        chosen: dict[str, int | tuple[int, ...]] = {}
        fields = register_fields(row)
        if memory_size(row) and "rs1" in fields:
            chosen["rs1"] = tuple(n for n in POINTERS if n >= 8)
        word = draw(row, rng, **chosen)
        decoded = decode(word)
        writes = getattr(decoded.operands, "rd", None) if row.writes == "x" else None
        if writes not in kept or not rng.randrange(40):
            return word


def random_block(rng: Random, length: int) -> list[int]:
    """`length` random instructions, control flow among them at times; whatever follows is the caller's."""
    words = []
    for _ in range(length):
        rows = CONTROL if not rng.randrange(60) else STRAIGHT
        words.append(random_instruction(rng, rows))
    return words


# --- programs with control flow --------------------------------------------------------------------------

COUNTER, LINK = 20, 1  # s4 counts down; ra
QUIET = tuple(
    row for row in STRAIGHT if not memory_size(row) and row.name not in ("fence.i", "c.addi16sp", "c.lui", "c.addi4spn")
)
BRANCHES = ("beq", "bne", "blt", "bge", "bltu", "bgeu")


def random_program(rng: Random, base: int) -> list[int]:
    """A program of 4 to 12 blocks that jump, branch, call and return at random, and ends with an ecall.

    Each block counts s4 down and goes to the end when it is used up, so that every program stops. Indirect jumps
    go through registers that `start_program` sets to block addresses.
    """
    blocks: list[list[object]] = []
    count = rng.randrange(4, 13)
    kept = (COUNTER, LINK, *POINTERS, *TARGETS)
    for number in range(count):
        body: list[object] = [asm("addi", rd=COUNTER, rs1=COUNTER, imm=-1), ("blt", COUNTER, 0, count)]
        for _ in range(rng.randrange(5)):
            rows = MEMORY if not rng.randrange(4) else QUIET
            body.append(_harmless(rng, rows, kept))
        target = rng.randrange(count)
        match rng.randrange(8):
            case 0:
                body.append(("jal", 0, target))
            case 1:
                body.append(("jal", LINK, target))
            case 2:
                body.append(asm("jalr", rd=0, rs1=LINK, imm=0))
            case 3:
                body.append(asm("c.jr", rs1=LINK))
            case 4:
                body.append(asm("jalr", rd=LINK, rs1=rng.choice(TARGETS), imm=0))
            case 5:
                body.append(("c.bnez", rng.randrange(8, 16), number + 1 if number + 1 < count else count))
            case _:
                body.append((rng.choice(BRANCHES), rng.randrange(32), rng.randrange(32), target))
        blocks.append(body)
    blocks.append([asm("ecall")])
    return _assemble(blocks, base)


TARGETS = (21, 22)  # s5, s6: addresses of blocks, for indirect calls
MEMORY = tuple(row for row in STRAIGHT if memory_size(row) and row.extension != "a")


def _harmless(rng: Random, rows: tuple[Row, ...], kept: tuple[int, ...]) -> int:
    """A random instruction that does not write a kept register, and whose memory operand is there."""
    while True:
        word = random_instruction(rng, rows, kept)
        decoded = decode(word)
        written = getattr(decoded.operands, "rd", None) if decoded.row.writes == "x" else None
        # sp, s0 and s1 point 0x800 bytes or more into the data, so that every offset is there
        if written not in kept and getattr(decoded.operands, "rm", 0) != 4:
            return word


def _length(item: object) -> int:
    if isinstance(item, tuple):
        return 2 if item[0].startswith("c.") else 4
    assert isinstance(item, int)
    return 4 if item & 3 == 3 else 2


def _assemble(blocks: list[list[object]], base: int) -> list[int]:
    """Words of the blocks, with (name, registers..., block) resolved to a displacement."""
    starts, at = [], base
    for block in blocks:
        starts.append(at)
        at += sum(map(_length, block))
    words, at = [], base
    for block in blocks:
        for item in block:
            if isinstance(item, tuple):
                name, *registers, target = item
                fields = ("rd",) if name == "jal" else ("rs1",) if name.startswith("c.") else ("rs1", "rs2")
                words.append(asm(name, imm=starts[target] - at, **dict(zip(fields, registers, strict=True))))
            else:
                assert isinstance(item, int)
                words.append(item)
            at += _length(item)
    return words


def block_starts(words: list[int], base: int) -> list[int]:
    """Addresses of the blocks of a random program: where s4 is counted down."""
    countdown = asm("addi", rd=COUNTER, rs1=COUNTER, imm=-1)
    starts, at = [], base
    for word in words:
        if word == countdown:
            starts.append(at)
        at += _length(word)
    return starts


def start_program(rig: Rig, words: list[int], base: int, seed: int, loops: int) -> None:
    """Registers for a random program: the loop counter, ra, and the targets of indirect calls."""
    randomise(rig, seed)
    rng = Random(seed)
    slots = rig.state.slots
    starts = block_starts(words, base) or [base]
    slots[COUNTER] = loops
    for number in (LINK, *TARGETS):
        slots[number] = rng.choice(starts)
    slots[FRM] = rng.randrange(5)
    rig.state.pc, rig.state.mid_block = base, False


assert {"beq", "jal", "ecall"} <= set(BY_NAME)
