"""The data of an explanation for a terminal: guest code, then IR, LLVM IR and host code, each line with its number.

Owns: how it looks. Must not know: where the data comes from.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dbt.explain.why import times

PARTS = ("guest", "counts", "links", "ir", "llvm", "host", "stencils")
STANDING = {
    "made": "a translation of LLVM's that is in the cache, as it lies there",
    "dropped": "there was a translation, which is gone (see below); this one was made for this page",
    "none": "the run made no translation of it; this one was made for this page",
}
_TIERS = (("reference", "interpreted"), ("tier0", "stencils"), ("regions", "regions"), ("monitor", "monitor"))


def text(data: dict[str, Any], parts: tuple[str, ...] = PARTS) -> str:
    """The parts that are asked for, in their order."""
    writers = {
        "guest": _guest, "counts": _counts, "links": _links, "ir": _ir, "llvm": _llvm, "host": _host,
        "stencils": _stencils,
    }  # fmt: skip
    lines = list(_head(data))
    for part in PARTS:
        if part in parts:
            lines += ["", *writers[part](data)]
    return "\n".join(lines)


def place(address: int, symbol: str) -> str:
    return f"{address:#x}" + (f" <{symbol}>" if symbol else "")


def _several(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _head(data: dict[str, Any]) -> Iterator[str]:
    inside = "" if data["boundary"] else ", entered inside a block of the guest's"
    yield f"{data['program']}: {data['kind']} at {place(data['address'], data['symbol'])}{inside}"
    if data["asked"] not in (None, data["address"]):
        yield f"{data['asked']:#x} is a part of it"
    if "physical" in data:
        modes = ", ".join(f"{mode} ({times(count)})" for mode, count in data["modes"].items()) or "none"
        yield f"on hart {data['hart']}, at {data['physical']:#x} of memory; Python saw its page in modes: {modes}"
        for other in data["elsewhere"]:
            what = "the same bytes" if other["physical"] == data["physical"] else "other code"
            yield f"{what} ran at {other['address']:#x}, at {other['physical']:#x} of memory"
    run = data["run"]
    if run is None:
        yield "there was no run: there are no counts, and nothing is known of where indirect jumps go"
        return
    shares = ", ".join(f"{run['retired'][name]:,} {word}" for name, word in _TIERS)
    yield f"the run: {run['ended']} after {run['instructions']:,} instructions ({shares})"


def _number(number: int) -> str:
    return f"{number:4}" if number else "   ."


def _note(line: dict[str, Any]) -> str:
    return f"  ; {line['note']}" if line["note"] else ""


def _guest(data: dict[str, Any]) -> Iterator[str]:
    yield "guest code; the numbers are those of the lines below (.: several instructions, or none)"
    for block in data["blocks"]:
        yield f"  block {place(block['address'], block['symbol'])}"
        for row in data["guest"]:
            if row["block"] == block["address"]:
                word = bytes.fromhex(row["bytes"])[::-1].hex()
                yield f"{_number(row['n'])} {row['pc']:10x}  {word:>8}  {row['class']:7}  {row['text']}"
                yield f"{'':34}{row['why']}"
        yield f"       ended: {block['ended']}"


def _counts(data: dict[str, Any]) -> Iterator[str]:
    yield "counts"
    for block in data["blocks"]:
        entered = block["entered"]
        yield (
            f"  block {block['address']:#x} ({_several(block['instructions'], 'instruction')}) was entered "
            f"{times(entered['reference'])} in the interpreter, {times(entered['tier0'])} in stencils"
            + (f", {times(entered['regions'])} in regions" if "regions" in entered else "")
        )
    yield f"  translations retired {data['retired']:,} instructions"
    for row in data["guest"]:
        if row["monitor"]:
            yield f"  the monitor executed the instruction at {row['pc']:#x} {times(row['monitor'])}"
        for device in row["devices"]:
            yield (f"  the instruction at {row['pc']:#x} read {device['device']} {times(device['read'])}, and wrote it "
                   f"{times(device['write'])}")  # fmt: skip
    if data["retired"] and "regions" not in data["blocks"][0]["entered"]:
        yield "  how often each block ran inside regions, a second run would tell (--recount)"
    if data["run"] is not None and not data["retired"]:
        often = times(data["run"]["promote"])
        yield f"  what runs {often} from stencils, or less if it is long, is translated (--promote=N)"


def _links(data: dict[str, Any]) -> Iterator[str]:
    for way, head in (("in", "what leads here"), ("out", "where its exits lead")):
        yield head
        for link in data["links"][way]:
            state = f": {link['state']}" if link["state"] else ""
            yield f"  {place(link['address'], link['symbol'])}  ({link['how']}){state}"
        if not data["links"][way]:
            yield "  nothing that is known" if way == "in" else "  nowhere else"
    if data["left_out"]:
        yield f"blocks that were wanted, and to which nothing in the region leads: {_listed(data['left_out'])}"
    yield "what became of it"
    for gone in data["gone"]:
        yield (
            f"  a translation went after {gone['instructions']:,} instructions, the guest at "
            f"{place(gone['pc'], gone['symbol'])}: {gone['why']}"
        )
    for w in data["written"]:
        by = f" ({w['by']})" if w["by"] else ""
        what = _several(w["translations"], "translation") + (" and its page's stencils" if w["stencils"] else "")
        yield (
            f"  {w['end'] - w['start']} bytes at {w['start']:#x} were written after {w['instructions']:,} "
            f"instructions by {place(w['pc'], w['symbol'])}{by}: {what} went"
        )
    if data["writes"] > len(data["written"]):
        yield f"  and {data['writes'] - len(data['written']):,} writes more"
    if data["writes_beside"]:
        yield f"  {data['writes_beside']:,} writes hit its page beside it, and the page's stencils were dropped"
    if not (data["gone"] or data["writes"] or data["writes_beside"]):
        yield "  nothing was dropped or written over"


def _listed(addresses: list[int]) -> str:
    return ", ".join(f"{address:#x}" for address in addresses)


def _ir(data: dict[str, Any]) -> Iterator[str]:
    for block in data["blocks"]:
        before: list[Any] = []
        for stage in block["stages"]:
            title = f"IR of {block['address']:#x}, {'as it was lifted' if not before else 'after ' + stage['name']}"
            if stage["lines"] == before:
                yield f"{title}: the same"
                continue
            before = stage["lines"]
            yield title
            for line in before:
                yield f"{_number(line['of'])}  {line['text']}{_note(line)}"


def _llvm(data: dict[str, Any]) -> Iterator[str]:
    for name, head in (("llvm", "LLVM IR"), ("improved", "LLVM IR after LLVM's passes")):
        if data[name]:
            yield head
            yield from (f"{_number(line['of'])}  {line['text']}" for line in data[name])


def _host(data: dict[str, Any]) -> Iterator[str]:
    if data["refused"]:
        yield f"no host code: {data['refused']}"
        return
    yield f"host code, {data['host_bytes']} bytes: {STANDING[data['translation']]}"
    if data["same_code"] is False:
        yield "the numbers are of a second compilation, which gave other bytes: they may not fit"
    for line in data["host"]:
        yield f"{_number(line['of'])} {line['at']:16x}  {line['text']}{_note(line)}"


def _stencils(data: dict[str, Any]) -> Iterator[str]:
    for one in data["stencils"]:
        yield f"stencils of {one['block']:#x}, as they were copied and filled"
        for piece in one["pieces"]:
            holes = ", ".join(f"{hole['kind']} {hole['value']}" for hole in piece["holes"])
            yield f"{_number(piece['of'])}  {piece['name'] or 'instruction'}{f': {holes}' if holes else ''}"
            yield from (f"     {line['at']:16x}  {line['text']}" for line in piece["lines"])
    if not data["stencils"]:
        yield "there are no stencils of it: they were led into a translation, dropped, or never made"
