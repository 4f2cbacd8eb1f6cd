"""Images of format qcow2, made and checked from the format's description alone (QEMU, docs/interop/qcow2)."""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from collections.abc import Mapping

COPIED, COMPRESSED, ZERO, OFFSET = 1 << 63, 1 << 62, 1, (1 << 56) - (1 << 9)


def make(
    size: int, clusters: Mapping[int, bytes | None] = {}, *, bits: int = 16, version: int = 3, order: int = 4,
    packed: frozenset[int] = frozenset(), backing: tuple[str, str] | None = None, shared: bool = False,
) -> bytearray:  # fmt: skip
    """An image of a disk of `size` bytes with the content of some clusters; None is one of zeros.

    `packed` clusters are compressed. `shared`: a snapshot has them all too.
    """
    cluster, per_table = 1 << bits, (1 << bits) // 8
    tables = -(-size // (cluster * per_table))
    l1_clusters = max(1, -(-tables * 8 // cluster))
    file: list[bytes] = []  # clusters behind those of fixed places
    first = 2 + l1_clusters * (1 + shared)  # header, table of counts, first tables; the blocks of counts come last

    def place(content: bytes) -> int:
        file.append(content.ljust(cluster, b"\0"))
        return (first + len(file) - 1) << bits

    flag = 0 if shared else COPIED
    seconds = [[0] * per_table for _ in range(tables)]
    for number, content in clusters.items():
        if content is None:
            entry = ZERO
        elif number in packed:
            data = zlib.compressobj(9, zlib.DEFLATED, -12)
            code = data.compress(content.ljust(cluster, b"\0")) + data.flush()
            code = code if len(code) < cluster else code[:cluster]
            entry = COMPRESSED | place(code) | (-(-len(code) // 512) - 1) << 62 - (bits - 8)
        else:
            entry = place(content) | flag
        seconds[number // per_table][number % per_table] = entry
    l1 = [place(struct.pack(f">{per_table}Q", *table)) | flag if any(table) else 0 for table in seconds]
    counts = Counter(dict.fromkeys(range(2 + l1_clusters), 1))
    counts.update(dict.fromkeys(range(first, first + len(file)), 2 if shared else 1))
    counts.update(dict.fromkeys(range(2 + l1_clusters, first), 1))
    per_block = cluster * 8 >> order
    used = first + len(file)
    blocks = 1
    while blocks * per_block < used + blocks:
        blocks += 1
    counts.update(dict.fromkeys(range(used, used + blocks), 1))
    assert blocks <= per_table and order >= 3
    width = 1 << order - 3
    block_data = b"".join(counts[i].to_bytes(width, "big") for i in range(blocks * per_block))
    extensions, name = b"", b""
    if backing is not None:
        extensions = struct.pack(">II", 0xE2792ACA, len(backing[1])) + backing[1].encode().ljust(8, b"\0") + bytes(8)
        name = backing[0].encode()
    length = 104 if version == 3 else 72
    first_table = 2 << bits
    header = struct.pack(
        ">4sIQIIQIIQQIIQ", b"QFI\xfb", version, length + len(extensions) if name else 0, len(name), bits, size, 0,
        tables, first_table, 1 << bits, 1, int(shared), 0,
    )  # fmt: skip
    if version == 3:
        header += struct.pack(">QQQII", 0, 0, 0, order, length)
    if shared:  # the list of snapshots itself is of no interest here: it is behind the counts
        header = header[:64] + struct.pack(">Q", (used + blocks) << bits) + header[72:]
    image = bytearray((header + extensions + name).ljust(cluster, b"\0"))
    image += struct.pack(f">{blocks}Q", *((used + i) << bits for i in range(blocks))).ljust(cluster, b"\0")
    image += struct.pack(f">{tables}Q", *l1).ljust(l1_clusters * cluster, b"\0") * (1 + shared)
    return image + b"".join(file) + block_data


def check(image: bytes, snapshot: int | None = None) -> dict[int, bytes | None]:
    """The clusters of an image, as `make` takes them. AssertionError if a count of references is wrong, or a flag.

    `snapshot`: where a second first table of the same size is.
    """
    (magic, version, _, _, bits, size, _, tables, l1_at, counts_at, count_clusters) = struct.unpack_from(
        ">4sIQIIQIIQQI", image)  # fmt: skip
    assert magic == b"QFI\xfb"
    order = struct.unpack_from(">I", image, 96)[0] if version == 3 else 4
    cluster, width = 1 << bits, 1 << order - 3
    image = image.ljust(-(-len(image) // cluster) * cluster, b"\0")
    found: Counter[int] = Counter()

    def refer(place: int, length: int = 1) -> None:
        assert place > 0 and place + length <= len(image)
        found.update(range(place >> bits, (place + length - 1 >> bits) + 1))

    found[0] = 1
    refer(counts_at, count_clusters * cluster)
    blocks = struct.unpack_from(f">{count_clusters * cluster // 8}Q", image, counts_at)
    count = {}
    for i, block in enumerate(blocks):
        if block:
            refer(block)
            for j in range(cluster // width):
                value = int.from_bytes(image[block + j * width : block + (j + 1) * width], "big")
                if value:
                    count[i * (cluster // width) + j] = value
    contents: dict[int, bytes | None] = {}
    flags = []
    for at in (l1_at, *([] if snapshot is None else [snapshot])):
        refer(at, 8 * tables)
        for i, l1 in enumerate(struct.unpack_from(f">{tables}Q", image, at)):
            if not l1:
                continue
            refer(l1 & OFFSET)
            if at == l1_at:
                flags.append(l1)
            for j, entry in enumerate(struct.unpack_from(f">{cluster // 8}Q", image, l1 & OFFSET)):
                number = i * (cluster // 8) + j
                if entry & COMPRESSED:
                    shift = 62 - (bits - 8)
                    where = entry & (1 << shift) - 1
                    length = ((entry & COMPRESSED - 1) >> shift) * 512 + 512 - where % 512
                    refer(where, length)
                    content: bytes | None = zlib.decompressobj(-12).decompress(image[where : where + length], cluster)
                elif entry & ZERO:
                    content = None
                elif entry:
                    refer(entry & OFFSET)
                    content = image[entry & OFFSET : (entry & OFFSET) + cluster]
                else:
                    continue
                if at == l1_at:
                    contents[number] = content
                    if not entry & COMPRESSED and entry & OFFSET:
                        flags.append(entry)
    assert dict(found) == count, {i: (found[i], count.get(i)) for i in found.keys() | count if found[i] != count.get(i)}
    assert all(bool(each & COPIED) == (found[(each & OFFSET) >> bits] == 1) for each in flags)
    return contents
