"""Debian's Linux for riscv64 on a machine of ours, with busybox. LINUX names the kernel; its modules are beside it."""

from __future__ import annotations

import lzma
import os
import subprocess
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from support import boot, peers
from support.qemu_system import Console

from bench import initramfs

NETWORK = ("failover", "net_failover", "virtio_net")  # modules, each behind what it needs
DISK = ("virtio_blk", "crc16", "crc32c_generic", "mbcache", "jbd2", "ext4")
PROMPT = "~ # "


def kernel() -> Path:
    """The kernel that LINUX names, such as /boot/vmlinux-VERSION of Debian's linux-image for riscv64."""
    name = os.environ.get("LINUX")
    if not name:
        pytest.skip("LINUX names no kernel for riscv64")
    return Path(name)


def modules(*names: str) -> dict[str, bytes]:
    """Modules of the kernel by name, from the folder where its package has them beside /boot."""
    root, version = kernel().parent.parent, kernel().name.partition("-")[2]
    folders = [root / lib / "modules" / version for lib in ("lib", "usr/lib")]
    found = {}
    for name in ("virtio_mmio", *names):
        path = next((path for folder in folders for path in folder.rglob(f"{name}.ko*")), None)
        if path is None:
            pytest.skip(f"{root} has no module {name} of {version}: unpack all of the package linux-image there")
        found[name] = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
    return found


def initrd(path: Path, init: str, drivers: Mapping[str, bytes], files: Mapping[str, bytes] | None = None) -> Path:
    """A file system with busybox and these modules, whose first process loads them and goes on with a script."""
    busybox = peers.debian_program("usr/bin/busybox").read_bytes()
    names = subprocess.run([peers.need("qemu-riscv64", "qemu-user"), peers.debian_program("usr/bin/busybox"), "--list"],
                           capture_output=True, text=True, check=True).stdout.split()  # fmt: skip
    load = "".join(f"insmod /modules/{name}.ko\n" for name in drivers)
    begin = f"#!/bin/sh\nmount -t proc proc /proc\nmount -t sysfs sys /sys\nmount -t devtmpfs dev /dev\n{load}{init}"
    path.write_bytes(initramfs.archive(
        ("bin", "dev", "proc", "sys", "modules", "root", "etc", "new"),
        {f"bin/{name}": "busybox" for name in names if name != "busybox"},
        {"bin/busybox": busybox, "init": begin.encode(), **(files or {}),
         **{f"modules/{name}.ko": data for name, data in drivers.items()}},
    ))  # fmt: skip
    return path


def booted(seconds: float, *words: str) -> AbstractContextManager[Console]:
    """The console of a machine with the kernel, which ends with the block."""
    return boot.booted(seconds, "-no-reboot", "-m", "256", "-kernel", str(kernel()), *words, "-append",
                       "console=ttyS0 loglevel=3 panic=-1")  # fmt: skip


def do(console: Console, line: str) -> str:
    """What a command prints at the prompt."""
    console.type(f"{line}\n")
    return console.expect(PROMPT).removesuffix(PROMPT).partition("\n")[2]
