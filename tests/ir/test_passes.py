"""The passes: file tests (`*.ir`), folding against the ops' meanings, and meaning preserved on random blocks.

A file test is a comment line `# pass: NAME`, a block, a line `---`, and the block that must come out. NAME is a
pass of the pipeline, several with commas, or `all`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest
from support.riscv import INTEGERS, scaled

from ir import fp, passes
from ir.block import Block, Branch, GuestInsn, Indirect, Inst, Jump, Value, type_of
from ir.builder import Builder
from ir.ops import AMO, MASK, OPS, Op
from ir.passes.fold import fold
from ir.text import parse, show
from ir.verify import InvalidIR, verify

FILES = sorted(Path(__file__).parent.glob("*.ir"))
PASSES = dict(passes.PIPELINE)

# --- file tests --------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_file(file: Path) -> None:
    head, _, rest = file.read_text().partition("\n")
    assert head.startswith("# pass: "), f"{file.name} does not name its pass"
    names = head.removeprefix("# pass: ").split()[0]
    given, _, wanted = rest.partition("\n---\n")
    block = verify(parse("\n".join(line for line in given.splitlines() if not line.startswith("#"))))
    for name in PASSES if names == "all" else names.split(","):
        block = verify(PASSES[name](block))
    assert show(block) == wanted.strip("\n")


def test_every_pass_has_file_tests() -> None:
    named = {n for f in FILES for n in f.read_text().split("\n")[0].removeprefix("# pass: ").split()[0].split(",")}
    assert set(PASSES) | {"all"} == named


def test_the_verifier_runs_after_each_pass() -> None:
    def breaks(block: Block) -> Block:
        block.exit = None
        return block

    with pytest.raises(InvalidIR):
        passes.optimise(parse("block 0x0\n  callout 0x0"), (("breaks", breaks),))


# --- folding against the meanings --------------------------------------------------------------------

PURE = [op for op in OPS.values() if op.meaning is not None]
DIVISIONS = ("divu", "remu", "divs", "rems")


def attributes(op: Op, rng: Random) -> tuple[object, ...]:
    return tuple(rng.choice((8, 16, 32)) for _ in op.attrs)


def constant(kind: str, rng: Random) -> int:
    if kind == "i1":
        return rng.random() < 0.5
    return rng.choice(INTEGERS) if rng.random() < 0.5 else rng.getrandbits(64)


@pytest.mark.parametrize("op", PURE, ids=lambda op: op.name)
def test_constants_fold_to_the_meaning(op: Op) -> None:
    """The value and its type are the table's; a division is folded only where it is defined."""
    rng = Random(op.name)
    for _ in range(scaled(300)):
        args = tuple(constant(kind, rng) for kind in op.args)
        inst = Inst(op, args, attributes(op, rng), 0)
        folded = fold(inst)
        if op.name in DIVISIONS and (args[1] == 0 or folded is inst):
            assert folded is inst and args[1] in (0, MASK)
            continue
        assert op.meaning is not None and folded == op.meaning(*args, *inst.attrs)
        assert folded is not None and type_of(folded) == op.result
        assert isinstance(folded, int) and 0 <= folded <= MASK


@pytest.mark.parametrize("op", PURE, ids=lambda op: op.name)
def test_identities_hold(op: Op) -> None:
    """With one operand known or two the same: whatever fold answers equals the op for random unknowns."""
    rng = Random("identity " + op.name)
    words = (0, 1, 2, 31, 32, 63, 64, MASK, MASK - 1, 1 << 63, 0xFFFFFFFF, MASK ^ 0xFFFFFFFF)
    simple: dict[str, tuple[int, ...]] = {"i64": words, "i1": (False, True)}
    answered = 0
    for _ in range(scaled(400)):
        unknown = {kind: Inst(OPS["getreg" if kind == "i64" else "eq"], (), (), 0) for kind in ("i64", "i1")}
        other = Inst(OPS["getreg"], (), (1,), 0)
        args: list[Value] = []
        for kind in op.args:
            choices = [unknown[kind], unknown[kind], rng.choice(simple[kind])] + ([other] if kind == "i64" else [])
            args.append(rng.choice(choices))
        if all(isinstance(a, int) for a in args):
            continue
        inst = Inst(op, tuple(args), attributes(op, rng), 0)
        folded = fold(inst)
        assert folded is not None
        if folded is inst:
            continue
        answered += 1
        for _ in range(8):
            values = {id(unknown["i64"]): constant("i64", rng), id(unknown["i1"]): constant("i1", rng),
                      id(other): constant("i64", rng)}  # fmt: skip

            def value(v: Value, values: dict[int, int] = values) -> int:
                return v if isinstance(v, int) else values[id(v)]

            assert op.meaning is not None
            expected = op.meaning(*map(value, args), *inst.attrs)
            assert value(folded) == expected, f"{op.name} {args} -> {folded!r}"
    if op.name in ("add", "sub", "and", "or", "xor", "mul", "shl", "shr", "sar", "select", "both", "either", "eq"):
        assert answered, "no identity was tried"


# --- random blocks: meaning before and after ---------------------------------------------------------

FLOAT = {"fadd": fp.add, "fsub": fp.sub, "fmul": fp.mul}
Outcome = tuple[object, ...]


class Machine:
    """Evaluates a block: slots, byte memory that reads as a hash of its address, and a log of effects."""

    def __init__(self, slots: Sequence[int]) -> None:
        self.slots = list(slots)
        self.memory: dict[int, int] = {}
        self.log: list[object] = []

    def read(self, address: int, size: int, signed: object) -> int:
        cells = (address + i & MASK for i in range(size))
        raw = int.from_bytes(bytes(self.memory.get(a, a * 0x9E3779B97F4A7C15 >> 32 & 0xFF) for a in cells), "little")
        return raw | MASK >> size * 8 << size * 8 if signed and raw >> (size * 8 - 1) and size < 8 else raw

    def write(self, address: int, value: int, size: int) -> None:
        for i in range(size):
            self.memory[address + i & MASK] = value >> 8 * i & 0xFF

    def run(self, block: Block) -> Outcome:
        values: dict[Inst, int] = {}

        def use(value: Value) -> int:
            return value if isinstance(value, int) else values[value]

        def end(kind: object) -> Outcome:
            return kind, self.slots, self.memory, self.log

        for inst in block.insts:
            args = [use(a) for a in inst.args]
            name, attrs = inst.op.name, inst.attrs
            result: int | None = None
            match name:
                case "getreg":
                    result = self.slots[attrs[0]]  # type: ignore[call-overload]
                case "setreg":
                    self.slots[attrs[0]] = args[0]  # type: ignore[call-overload]
                case "load":
                    result = self.read(args[0] + attrs[0] & MASK, attrs[1], attrs[2])  # type: ignore[operator, arg-type]
                    self.log.append(("load", args[0] + attrs[0] & MASK))  # type: ignore[operator]
                case "store":
                    self.write(args[0] + attrs[0] & MASK, args[1], attrs[1])  # type: ignore[operator, arg-type]
                case "amo":
                    result = self.read(args[0], 8, False)
                    self.write(args[0], AMO[attrs[0]](result, args[1]), 8)  # type: ignore[index]
                case "leave_if":
                    if args[0]:
                        return end(("left at", inst.at))
                case "instret":
                    result = 1000 + inst.at
                case "fadd" | "fsub" | "fmul":
                    width: int = attrs[0]  # type: ignore[assignment]
                    low = (1 << width) - 1
                    result, flags = FLOAT[name](fp.FORMATS[width], args[0] & low, args[1] & low, 0)
                    self.log.append(("flags", flags))
                case _:
                    try:
                        assert inst.op.meaning is not None
                        result = inst.op.meaning(*args, *attrs)
                    except ZeroDivisionError:
                        result = 0  # not defined, and not folded
            if result is not None:
                values[inst] = result
        match block.exit:
            case Branch(condition, taken, otherwise):
                return end(taken if use(condition) else otherwise)
            case Indirect(target):
                return end(use(target))
            case Jump(target):
                return end(target)
        return end(block.exit)


SLOTS = 6
_PAIRS = [op for op in PURE if op.args == ("i64", "i64")]
_BINARY = [op.name for op in _PAIRS if op.result == "i64" and op.name not in ("divs", "rems")]
_COMPARE = [op.name for op in _PAIRS if op.result == "i1"]
BOX = MASK ^ 0xFFFFFFFF


def random_block(rng: Random) -> Block:
    """A block as bodies write them: register traffic, arithmetic, boxes, side exits before effects."""
    b = Builder(0x1000)
    numbers: list[Value] = []
    truths: list[Value] = []

    def number() -> Value:
        if numbers and rng.random() < 0.75:
            return rng.choice(numbers[-6:])
        return rng.choice((0, 1, 2, 32, 63, MASK, BOX, 0xFFFFFFFF, rng.getrandbits(64)))

    def truth() -> Value:
        return rng.choice(truths[-3:]) if truths and rng.random() < 0.8 else rng.random() < 0.5

    def i64(name: str, *args: Value, attrs: tuple[object, ...] = ()) -> None:
        numbers.append(b.emit(name, args, attrs))

    length = rng.randrange(1, 9)
    for k in range(length):
        b.begin(GuestInsn(0x1000 + 4 * k, 4, "random", "ident"))
        for _ in range(rng.randrange(1, 5)):
            match rng.randrange(13):
                case 0 | 1:
                    i64("getreg", attrs=(rng.randrange(SLOTS),))
                case 2 | 3 | 4:
                    name = rng.choice(_BINARY)
                    second = number()
                    if name in DIVISIONS:
                        second = b.emit("or", (b.emit("and", (second, 0xFFFF), ()), 1), ())
                    i64(name, number(), second)
                case 5:
                    truths.append(b.emit(rng.choice(_COMPARE), (number(), number()), ()))
                case 6:
                    truths.append(b.emit(rng.choice(("both", "either")), (truth(), truth()), ()))
                    truths.append(b.emit("not", (truth(),), ()))
                case 7:
                    i64("select", truth(), number(), number())
                    i64("bit", truth())
                case 8:
                    i64(rng.choice(("sext", "zext")), number(), attrs=(rng.choice((8, 16, 32)),))
                case 9:  # a single boxed, then unboxed: what floating-point bodies do
                    if rng.random() < 0.5:
                        i64("fadd", number(), number(), attrs=(32, 0))
                    else:
                        i64("zext", number(), attrs=(32,))
                    i64("or", numbers[-1], BOX)
                    boxed = numbers[-1]
                    good = b.emit("eq", (b.emit("shr", (boxed, 32), ()), 0xFFFFFFFF), ())
                    i64("select", good, b.emit("zext", (boxed,), (32,)), 0x7FC00000)
                case 10:
                    offset, size = rng.choice((0, 8, MASK - 7)), rng.choice((1, 2, 4, 8))
                    i64("load", number(), attrs=(offset, size, rng.random() < 0.5))
                case 11:
                    test = b.emit("eq", (number(), number()), ()) if rng.random() < 0.7 else truth()
                    b.emit("leave_if", (test,), ("trap",))
                case 12:
                    i64("instret")
        if rng.random() < 0.2:
            b.emit("store", (number(), number()), (rng.choice((0, 16)), rng.choice((1, 2, 4, 8))))
        elif rng.random() < 0.1:
            i64("amo", number(), number(), attrs=(rng.choice(sorted(AMO)), 8))
        for _ in range(rng.randrange(3)):
            b.emit("setreg", (number(),), (rng.randrange(SLOTS),))
    exits = (Branch(truth(), 0x2000, 0x1000 + 4 * length), Indirect(number()), Jump(0x2000))
    return verify(b.finish(rng.choice(exits)))


@pytest.mark.parametrize("which", [*dict(passes.MACHINE), "all"])
def test_meaning_is_preserved(which: str) -> None:
    """Exit, registers, memory, loads in order and flags are the same, at side exits too.

    `wide` changes loads, and has a comparison of its own: `test_wide.py`.
    """
    rng = Random(which)
    changed = left = 0
    for case in range(scaled(1500)):
        block = random_block(rng)
        after = passes.optimise(block) if which == "all" else verify(PASSES[which](block))
        changed += show(after) != show(block)
        for _ in range(3):
            slots = [constant("i64", rng) for _ in range(SLOTS)]
            before, now = Machine(slots).run(block), Machine(slots).run(after)
            left += isinstance(before[0], tuple)
            assert now == before, f"case {case}\n{show(block)}\n-- {which} -->\n{show(after)}"
    print(f"\n{which}: {scaled(1500)} blocks, {changed} changed, {left} runs ended in a side exit")
    assert changed and left


def test_a_wrong_identity_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison bites: let x - x be x."""
    from ir.passes import fold as module

    right = module._identity

    def wrong(inst: Inst) -> Value:
        return inst.args[0] if inst.op.name == "sub" and inst.args[0] is inst.args[1] else right(inst)

    monkeypatch.setattr(module, "_identity", wrong)
    with pytest.raises(AssertionError):
        for seed in range(20):
            block = parse(f"block 0x0\n  guest 0x0 4 ident x\n  at 0\n  %0 = getreg {seed % 5}\n  %1 = sub %0, %0\n"
                          "  setreg %1, 5\n  jump 0x4")  # fmt: skip
            slots = [seed + 1] * SLOTS
            assert Machine(slots).run(module.run(block)) == Machine(slots).run(block)


def test_passes_leave_their_input_alone() -> None:
    rng = Random(5)
    for _ in range(scaled(100)):
        block = random_block(rng)
        text = show(block)
        passes.optimise(block)
        assert show(block) == text


def test_a_second_run_changes_nothing_more() -> None:
    """Real pipelines reach what they reach in one run, but for values that folding exposes to cse and back."""
    rng = Random(6)
    again = 0
    for _ in range(scaled(300)):
        once = passes.optimise(random_block(rng))
        again += show(passes.optimise(once)) != show(once)
    print(f"\n{again} of {scaled(300)} random blocks improve in a second run")


def test_every_read_of_a_slot_is_the_only_one() -> None:
    """What the lowering relies on: after getset no slot is read twice, nor after it was written."""
    rng = Random(8)
    for _ in range(scaled(300)):
        seen: set[object] = set()
        for inst in PASSES["getset"](random_block(rng)).insts:
            if inst.op.name == "getreg":
                assert inst.attrs[0] not in seen
            if inst.op.name in ("getreg", "setreg"):
                seen.add(inst.attrs[0])
