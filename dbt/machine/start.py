"""What a machine starts from: firmware, a kernel, its file system and command line, a device tree; and where they go.

Owns: the places in memory, and what they are told of each other. Must not know: options, how the machine runs on.
"""

from __future__ import annotations

from typing import NamedTuple

from dbt.machine import fdt, images
from dbt.machine.boards import VIRT, Board

OWN = "own"
INITRD_AWAY = 128 << 20  # from the kernel, or half of RAM, as in QEMU: what takes memory behind itself is common
KERNEL_ALIGNMENT = 2 << 20  # of a kernel behind firmware, and of what comes behind a kernel
TREE_BELOW = 3 << 30  # firmware reads the device tree below this distance from the begin of RAM
TREE_ROOM = 2 << 20


class Files(NamedTuple):
    """Paths of what is started; None for what there is not. Firmware of our own is no file: OWN."""

    bios: str | None
    kernel: str | None
    initrd: str | None
    arguments: str = ""  # the kernel's command line
    dtb: str | None = None  # a device tree in place of the board's


def place(board: Board, files: Files) -> bytes:
    """Put everything into memory and the hart at the beginning: firmware, the kernel behind it, the file system behind
    that, the device tree at the end. Returns the tree.

    A kernel that is linked for the very begin of RAM, where firmware is elsewhere, has none of ours and begins in
    machine mode.

    FileNotFoundError, or NotRunnable for what cannot be read or has no room.
    """
    base = VIRT["ram"].base
    memory, guest = board.vm.memory, board.guest
    firmware = None if files.bios in (None, OWN) else images.place(memory, guest, files.bios, base)
    kernel = None
    if files.kernel is not None:
        at = base if files.bios is None else _up(base + 1 if firmware is None else firmware.end)
        kernel = images.place(memory, guest, files.kernel, at)
    at_tree = base + min(board.ram, TREE_BELOW) - TREE_ROOM
    behind = max((each.end for each in (firmware, kernel) if each is not None), default=base)
    initrd = None
    if files.initrd is not None:
        data = images.read(files.initrd)
        start = _up(behind)
        away = _up((base if kernel is None else kernel.start) + min(board.ram // 2, INITRD_AWAY))
        if away + len(data) <= at_tree:
            start = max(start, away)
        images.put(memory, data, files.initrd, start)
        behind = start + len(data)
        initrd = start, behind
    if behind > at_tree:
        raise images.NotRunnable(
            f"{files.kernel or files.bios}: leaves no room in {board.ram >> 20} MiB of RAM: more with -m"
        )
    tree = board.tree(files.arguments, initrd, None if files.dtb is None else _tree(files.dtb))
    images.put(memory, tree, files.dtb or "the device tree", at_tree)
    first = firmware or kernel
    if first is not None:
        board.add_htif(first.symbols)
    if files.bios == OWN and kernel is not None and kernel.start > base:
        board.start_supervisor(kernel.entry, at_tree)
        return tree
    next_stage = kernel.entry if firmware is not None and kernel is not None else 0
    board.reset(base if first is None else first.entry, at_tree, next_stage)
    return tree


def _tree(path: str) -> fdt.Node:
    try:
        return fdt.parse(images.read(path))
    except ValueError as error:
        raise images.NotRunnable(f"{path}: is no device tree: {error}") from None


def _up(address: int) -> int:
    return (address + KERNEL_ALIGNMENT - 1) & -KERNEL_ALIGNMENT
