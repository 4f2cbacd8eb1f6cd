"""C46 and C53: mechanism and policy are apart: what runs a guest has no devices; what has devices uses it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import dbt
from dbt.lab.report import Report

ROOT = Path(dbt.__file__).parent
MECHANISM = ("kvm", "machine/vm.py", "machine/exits.py", "machine/memory.py", "machine/space.py", "engine.py")
POLICY = ("dbt.machine.devices", "dbt.machine.boards", "dbt.cli", "dbt.machine.session", "dbt.machine.net")
PARTS = (  # here; with QEMU and KVM
    ("dbt/kvm/vcpu.py", "KVM: kvm_arch_vcpu_ioctl_run, and the first switch over exits"),
    ("dbt/kvm/memory.py", "KVM: memory slots, dirty log"),
    ("dbt/kvm/ioctl.py", "KVM: /dev/kvm"),
    ("dbt/machine/vm.py", "the processor; KVM's timer and interrupts"),
    ("dbt/engine.py", "QEMU: accel/tcg, binary translation"),
    ("dbt/machine/devices/", "QEMU: hw/, devices"),
    ("dbt/machine/boards.py", "QEMU: hw/riscv/virt.c"),
    ("dbt/cli/boot.py", "QEMU: the command line"),
)


def imports(path: Path) -> Iterator[str]:
    """Modules that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield from (node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names))
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def files(part: str) -> list[Path]:
    path = ROOT / part
    return sorted(path.glob("*.py")) if path.is_dir() else [path]


def run(report: Report) -> None:
    for ours, theirs in PARTS:
        report.show(f"{ours:24} {theirs}")
        report.check((ROOT.parent / ours).exists(), f"{ours} is there")
    read = 0
    for path in [path for part in MECHANISM for path in files(part)]:
        found = [module for module in imports(path) if module.startswith(POLICY)]
        read += 1
        name = path.relative_to(ROOT.parent)
        report.check(not found, f"{name} imports no device and no policy{': ' + ', '.join(found) if found else ''}")
    report.figure("files of the mechanism", read)
    users = [module for module in imports(ROOT / "machine/boards.py") if module.startswith("dbt.machine.vm")]
    report.check(bool(users), "boards, with their devices, stand on the same machine")
