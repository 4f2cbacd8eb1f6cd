"""IR as text, for dumps and file tests: print a block, parse it back.

    block 0x10074
      guest 0x10074 4 ident addi a0, a0, 1
      %0 = getreg 10
      %1 = add %0, 1
      setreg %1, 10
      branch %2, 0x10074, 0x1007c

Arguments first, then attributes. Owns: the format. Must not know: what ops do.
"""

from __future__ import annotations

from ir.block import Block, Branch, Callout, Continue, Exit, GuestInsn, Indirect, Inst, Jump, Value, numbered
from ir.ops import OPS


class ParseError(ValueError):
    """The text is no block; the message has the line."""


def show(block: Block) -> str:
    """The block as text."""
    return "\n".join(line for line, _ in lines(block))


def lines(block: Block) -> list[tuple[str, int | None]]:
    """The lines of that text, each with the index of the guest instruction that it is for."""
    names: dict[Inst, str] = {}
    found: list[tuple[str, int | None]] = [(f"block {block.pc:#x}" + ("" if block.boundary else " inside"), None)]
    found += [(f"  guest {g.pc:#x} {g.length} {g.treat} {g.text}", i) for i, g in enumerate(block.guest)]
    at = -1
    for number, inst in numbered(block):
        if inst.at != at:
            at = inst.at
            found.append((f"  at {at}", at))
        operands = [_operand(a, names) for a in inst.args] + [str(a) for a in inst.attrs]
        text = f"{inst.op.name} {', '.join(operands)}".rstrip()
        if number is not None:
            names[inst] = f"%{number}"
            text = f"%{number} = {text}"
        found.append(("  " + text, at))
    match block.exit:
        case Jump(target):
            end = f"jump {target:#x}"
        case Branch(condition, target, otherwise):
            end = f"branch {_operand(condition, names)}, {target:#x}, {otherwise:#x}"
        case Indirect(value):
            end = f"indirect {_operand(value, names)}"
        case Callout(pc):
            end = f"callout {pc:#x}"
        case Continue(target):
            end = f"continue {target:#x}"
        case None:
            return found
    return [*found, (f"  {end}", len(block.guest) - 1 if block.ends_by_jump else None)]


def _operand(value: Value, names: dict[Inst, str]) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return hex(value) if value > 9 else str(value)
    return names[value]


def parse(text: str) -> Block:
    """The block that `show` printed; raises ParseError."""
    values: dict[str, Inst] = {}
    block: Block | None = None
    at = 0
    for number, line in enumerate(text.splitlines(), 1):
        words = line.replace(",", " ").split()
        if not words:
            continue
        try:
            if words[0] == "block":
                block = Block(int(words[1], 0), boundary="inside" not in words)
            elif block is None:
                raise ValueError("no block line before it")
            elif words[0] == "guest":
                block.guest.append(GuestInsn(int(words[1], 0), int(words[2]), line.split(None, 4)[4], words[3]))
            elif words[0] == "at":
                at = int(words[1])
            elif words[0] in _EXITS:
                block.exit = _exit(words, values)
            else:
                _instruction(block, words, values, at)
        except (ValueError, IndexError, KeyError) as error:
            raise ParseError(f"line {number}: {line.strip()!r}: {error}") from error
    if block is None:
        raise ParseError("no block")
    return block


_EXITS = ("jump", "branch", "indirect", "callout", "continue")


def _exit(words: list[str], values: dict[str, Inst]) -> Exit:
    match words[0]:
        case "jump":
            return Jump(int(words[1], 0))
        case "branch":
            return Branch(_value(words[1], values), int(words[2], 0), int(words[3], 0))
        case "indirect":
            return Indirect(_value(words[1], values))
        case "callout":
            return Callout(int(words[1], 0))
    return Continue(int(words[1], 0))


def _instruction(block: Block, words: list[str], values: dict[str, Inst], at: int) -> None:
    name = None
    if len(words) > 1 and words[1] == "=":
        name, words = words[0], words[2:]
    op = OPS[words[0]]
    count = len(op.args)
    if len(words) != 1 + count + len(op.attrs):
        raise ValueError(f"{op.name} takes {count} arguments and {len(op.attrs)} attributes")
    args = tuple(_value(w, values) for w in words[1 : 1 + count])
    inst = Inst(op, args, tuple(_attribute(w) for w in words[1 + count :]), at)
    block.insts.append(inst)
    if name is not None:
        values[name] = inst


def _value(word: str, values: dict[str, Inst]) -> Value:
    if word in ("true", "false"):
        return word == "true"
    return values[word] if word.startswith("%") else int(word, 0)


def _attribute(word: str) -> object:
    if word in ("True", "False"):
        return word == "True"
    try:
        return int(word, 0)
    except ValueError:
        return word
