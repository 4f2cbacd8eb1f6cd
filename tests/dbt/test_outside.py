"""Programs from outside the tree on a machine, for `make test-outside`: the RISC-V project's tests, xv6, Linux."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from pathlib import Path

import pytest
from support import outside, peers
from support.boot import booted

from bench import initramfs
from guests.riscv import machine

FLAGS = ["-DENTROPY=0x1234567"]
# What a folder of tests asks for: the extension in its name, but for these. Ziccid is how instructions are fetched.
REQUIRES = {"rv64ui": "i", "rv64si": "S", "rv64mi": "M", "rv64ssvnapot": "svnapot", "rv64mzicbo": "zicboz",
            "rv64uziccid": "i", "rv64uzfh": "zfh", "rv64up": "p"}  # fmt: skip
MARCH = {"rv64mzicbo": ["zicboz"]}  # what assemblers are told, where the name of a folder does not say it


def test_what_is_claimed() -> None:
    """All that a machine has is claimed: nothing is left out so that a test of it would not count."""
    guest = machine.guest()
    assert outside.claimed() == guest.features - {"system", "zicsr", "zifencei"} | {"M", "S", "U"}


def built(source: Path, root: Path, kind: str, folder: Path) -> Path | str:
    """A test as a program for a machine, or what the compilers say."""
    environment, suite = root / "env" / kind, source.parent.name
    extension = suite.removeprefix("rv64u")
    more = MARCH.get(suite, [extension] if extension.startswith("z") and suite not in REQUIRES else [])
    flags = [*FLAGS, f"-I{environment}", f"-I{root}/isa/macros/scalar"]
    runtime = [str(environment / name) for name in ("entry.S", "vm.c", "string.c")] if kind == "v" else []
    return outside.build(source, folder, "_start", more, flags, runtime)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["p", "v"])
def test_riscv_tests(tmp_path: Path, kind: str) -> None:
    """Every test of every extension that is claimed, from a checkout with its environment that RISCV_TESTS names.

    Each in both engines. p: physical addresses; v: in user mode with page tables, for the folders of user mode. One
    that cannot be built has failed.
    """
    checkout = os.environ.get("RISCV_TESTS")
    if not checkout:
        pytest.skip("RISCV_TESTS names no checkout of riscv-software-src/riscv-tests")
    root, claims = Path(checkout), outside.claimed()
    passed, failed, others, executed = 0, [], [], Counter[str]()
    for folder in sorted((root / "isa").glob("rv64*")):
        needs = REQUIRES.get(folder.name, folder.name.removeprefix("rv64u"))
        if needs not in claims:
            others.append(f"{folder.name} ({needs})")
        elif kind == "p" or folder.name.startswith("rv64u"):
            for source in sorted(folder.glob("*.S")):
                program = built(source, root, kind, tmp_path)
                if isinstance(program, str):
                    failed.append(f"{folder.name}-{kind}-{source.stem} is not built: {program}")
                    continue
                for engine in outside.ENGINES:
                    result, *_ = outside.run(program, engine, executed)
                    passed += not result
                    failed += [f"{folder.name}-{kind}-{source.stem}, {engine}: {result}"] if result else []
    print(f"\nriscv-tests, {kind}: {passed} passed, {len(failed)} failed: {failed}; not claimed: {', '.join(others)}")
    print(dict(executed))
    assert not failed and passed > 100
    assert executed["regions"] > 9 * executed["regions, monitor"]


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("harts", [1, 2, 3])
def test_xv6(harts: int) -> None:
    """xv6-riscv comes to its prompt, lists its files and passes its own tests; XV6 names a checkout in which kernel and
    disk are made."""
    checkout = os.environ.get("XV6")
    if not checkout:
        pytest.skip("XV6 names no checkout of mit-pdos/xv6-riscv")
    words = ["-bios", "none", "-m", "128", "-smp", str(harts), "-global", "virtio-mmio.force-legacy=false", "-snapshot",
             "-kernel", f"{checkout}/kernel/kernel", "-drive", f"file={checkout}/fs.img,if=none,format=raw,id=x0",
             "-device", "virtio-blk-device,drive=x0,bus=virtio-mmio-bus.0"]  # fmt: skip
    with booted(3000, *words) as terminal:
        begin = terminal.expect("xv6 kernel is booting") + terminal.expect("init: starting sh\n$ ")
        assert begin.count("starting\n") == harts - 1
        terminal.type("ls\n")
        listing = terminal.expect("$ ")
        terminal.type("usertests -q\n")
        assert terminal.expect("ALL TESTS PASSED\n$ ").count(": OK\n") > 50
    names = {line.split()[0] for line in listing.splitlines() if line.split()[1:]}
    assert {"README", "cat", "ls", "sh", "usertests"} <= names, listing


INIT = b"""#!/bin/sh
mount -t proc proc /proc
echo "begun: $(uname -sm), $(grep -c ^processor /proc/cpuinfo) processor"
exec /bin/sh
"""
APPLETS = ("sh", "mount", "uname", "grep", "echo", "ls", "sha256sum", "poweroff")


@pytest.mark.long
@pytest.mark.parametrize(("harts", "bios"), [(1, "own"), (2, "own"), (8, "own"), (2, "default")])
def test_linux(harts: int, bios: str, tmp_path: Path) -> None:
    """A kernel boots on firmware of ours, or on OpenSBI, to the shell of Debian's busybox, runs commands and turns the
    machine off.

    LINUX names the kernel, such as /boot/vmlinux of Debian's linux-image for riscv64.
    """
    kernel = os.environ.get("LINUX")
    if not kernel:
        pytest.skip("LINUX names no kernel for riscv64")
    busybox = peers.debian_program("usr/bin/busybox").read_bytes()
    links = {f"bin/{name}": "busybox" for name in APPLETS}
    (tmp_path / "initrd").write_bytes(
        initramfs.archive(("bin", "dev", "proc"), links, {"bin/busybox": busybox, "init": INIT})
    )
    words = ["-m", "256", "-smp", str(harts), "-bios", bios, "-kernel", kernel, "-initrd",
             str(tmp_path / "initrd"), "-append", "console=ttyS0 earlycon=sbi"]  # fmt: skip
    with booted(300, *words) as terminal:
        terminal.expect(f"begun: Linux riscv64, {harts} processor")
        terminal.expect("~ # ")
        terminal.type("sha256sum /bin/busybox\n")
        terminal.expect(hashlib.sha256(busybox).hexdigest())
        terminal.expect("~ # ")
        terminal.type("ls /\n")
        assert {"bin", "dev", "init", "proc"} <= set(terminal.expect("~ # ").split())
        terminal.type("poweroff -f\n")
        assert terminal.process.wait(120) == 0
