"""KVM's own interface, numbers, structures and ioctls, ours and the host's own."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import virtual
from support.riscv import asm
from support.virtual import A0, A1, OFF, PAGE, SPIN, call, code, li

from dbt import lab
from dbt.kvm import abi, errors, ioctl, live
from dbt.kvm import mmap as map_vcpu
from dbt.kvm import open as open_kvm
from guests.riscv import kvm, sbi
from guests.riscv import privileged as p

ROOT = Path(__file__).resolve().parents[2]
method = virtual.method  # of each test, under each of them


# --- KVM's own interface -----------------------------------------------------------------------------------------


STRUCTURES = {
    "kvm_run": (abi.Run, "immediate_exit exit_reason mmio.phys_addr mmio.data mmio.len mmio.is_write "
                         "riscv_sbi.extension_id riscv_sbi.function_id riscv_sbi.args riscv_sbi.ret "
                         "system_event.type system_event.ndata system_event.data internal.suberror internal.data "
                         "fail_entry.cpu io.port io.data_offset"),
    "kvm_userspace_memory_region": (abi.UserspaceMemoryRegion, "slot flags guest_phys_addr memory_size userspace_addr"),
    "kvm_dirty_log": (abi.DirtyLog, "slot dirty_bitmap"),
    "kvm_one_reg": (abi.OneReg, "id addr"),
    "kvm_mp_state": (abi.MpState, "mp_state"),
    "kvm_interrupt": (abi.Interrupt, "irq"),
    "kvm_reg_list": (abi.RegList, "n"),
}  # fmt: skip


def offset(structure: type[ctypes.Structure], path: str) -> int:
    at = 0
    for name in path.split("."):
        holder = structure
        if not hasattr(holder, name):
            raise AssertionError(name)
        at += getattr(holder, name).offset
        structure = dict(_fields(holder)).get(name, holder)
    return at


def _fields(structure: type[ctypes.Structure]) -> Iterator[tuple[str, type[ctypes.Structure]]]:
    for name, kind, *_ in structure._fields_:
        yield name, kind  # type: ignore[misc]
        if name in getattr(structure, "_anonymous_", ()):
            yield from _fields(kind)  # type: ignore[arg-type]


def test_numbers_and_layouts_are_those_of_the_kernels_headers(tmp_path: Path) -> None:
    """A C program, compiled with the headers for RISC-V, has them in its data."""
    names = [name for name in vars(abi) if name.startswith("KVM_") and name not in ("KVM_REG_RISCV",)]
    wanted = [f"{name}" for name in names]
    expected = [getattr(abi, name) for name in names]
    for structure, (layout, fields) in STRUCTURES.items():
        for field in fields.split():
            wanted.append(f"__builtin_offsetof(struct {structure}, {field})")
            expected.append(offset(layout, field))
        if structure != "kvm_run":
            wanted.append(f"sizeof(struct {structure})")
            expected.append(ctypes.sizeof(layout))
    for kind, names_of in (("ISA_EXT", kvm.EXTENSIONS),):
        wanted += [f"KVM_RISCV_{kind}_{name.upper()}" for name in names_of]
        expected += range(len(names_of))
    source = tmp_path / "numbers.c"
    values = ",\n".join(f"(unsigned long long)({name})" for name in wanted)
    source.write_text(f"#include <linux/kvm.h>\nunsigned long long numbers[] = {{{values}}};")
    done = subprocess.run(
        [sys.executable, "-m", "ziglang", "cc", "-target", "riscv64-linux-musl", "-c", str(source), "-o",
         str(tmp_path / "numbers.o")], capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    raw = (tmp_path / "numbers.o").read_bytes()
    found = b"".join((value & p.ALL).to_bytes(8, "little") for value in expected)
    first = raw.find(found[:64])
    data = [int.from_bytes(raw[at : at + 8], "little") for at in range(first, first + 8 * len(wanted), 8)]
    assert first > 0 and [f"{n} {v}" for n, v in zip(wanted, data)] == [f"{n} {v}" for n, v in zip(wanted, expected)]


def test_the_loop_of_the_lecture(method: str) -> None:
    done = subprocess.run([sys.executable, str(ROOT / "docs/examples/kvm_loop.py"), "--method", method],
                          capture_output=True, text=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)})  # fmt: skip
    assert (done.stdout, done.stderr) == (f"Hello through KVM's interface!\n64 exits, method {method}\n", "")


def test_requests_that_are_refused() -> None:
    system = open_kvm(method=virtual.METHOD)
    vm = ioctl(system, abi.KVM_CREATE_VM)
    vcpu = ioctl(vm, abi.KVM_CREATE_VCPU, 0)
    assert ioctl(system, abi.KVM_CHECK_EXTENSION, 3) == 1 and ioctl(vm, abi.KVM_CHECK_EXTENSION, 12345) == 0
    region = abi.UserspaceMemoryRegion
    memory = mmap.mmap(-1, 2 * PAGE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    refused: list[tuple[type[Exception], object, int, object]] = [
        (errors.UnknownRequest, system, abi.KVM_RUN, 0), (errors.UnknownRequest, vm, 0x1234, 0),
        (errors.BadMemory, vm, abi.KVM_SET_USER_MEMORY_REGION, region(0, 0, 0, PAGE, 0x1000)),
        (errors.BadMemory, vm, abi.KVM_SET_USER_MEMORY_REGION, region(0, 0, 0, 1 << 40, address)),
        (errors.BadRegion, vm, abi.KVM_SET_USER_MEMORY_REGION, region(0, 0, 0, PAGE, address + 8)),
        (errors.BadRegion, vm, abi.KVM_SET_USER_MEMORY_REGION, region(0, 0, 8, PAGE, address)),
        (errors.NoMemory, vcpu, abi.KVM_RUN, 0), (errors.VcpuExists, vm, abi.KVM_CREATE_VCPU, 0),
        (errors.BadValue, system, abi.KVM_CREATE_VM, 1),
        (errors.NoSuchRegion, vm, abi.KVM_GET_DIRTY_LOG, abi.DirtyLog()),
        (errors.NoSuchRegister, vcpu, abi.KVM_GET_ONE_REG, abi.OneReg(5, address)),
        (errors.BadMemory, vcpu, abi.KVM_GET_ONE_REG, abi.OneReg(kvm.number(kvm.CORE, 0), 0x1000)),
        (errors.BadValue, vcpu, abi.KVM_SET_MP_STATE, abi.MpState(9)),
        (errors.BadValue, vcpu, abi.KVM_INTERRUPT, abi.Interrupt(3)),
        (errors.KvmError, vcpu, abi.KVM_GET_REG_LIST, bytearray(16)),
        (errors.BadMemory, vcpu, abi.KVM_GET_REG_LIST, bytearray(13)),
        (errors.BadMemory, vcpu, abi.KVM_GET_REG_LIST, 5),
        (errors.BadMemory, vcpu, abi.KVM_GET_REG_LIST, bytes(4096)),
        (errors.BadMemory, vcpu, abi.KVM_GET_REG_LIST, bytearray()),
        (errors.BadValue, vm, abi.KVM_SET_USER_MEMORY_REGION, abi.MpState(0)),
        (errors.BadValue, vcpu, abi.KVM_INTERRUPT, 1), (errors.BadValue, vm, abi.KVM_CREATE_VCPU, "0"),
        (errors.Closed, 3, abi.KVM_RUN, 0),
    ]  # fmt: skip
    for error, descriptor, request, argument in refused:
        with pytest.raises(error):
            ioctl(descriptor, request, argument)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        open_kvm("/dev/nothing")
    with pytest.raises(errors.BadValue):
        map_vcpu(vm)
    with pytest.raises(errors.BadValue, match="no method 'magic'"):
        open_kvm(method="magic")
    with pytest.raises(errors.BadValue, match="cannot have the extension h"):
        open_kvm(method=virtual.METHOD, isa="rv64gch")
    ioctl(vm, abi.KVM_SET_USER_MEMORY_REGION, region(0, 1, 0, 2 * PAGE, address))
    memory[: len(code(*OFF)) + 4] = code(asm("sd", rs1=A1, rs2=0, imm=8), *OFF)
    value = ctypes.c_uint64(PAGE)
    ioctl(vcpu, abi.KVM_SET_ONE_REG, abi.OneReg(kvm.number(kvm.CORE, A1), ctypes.addressof(value)))
    run = map_vcpu(vcpu)
    run.immediate_exit = 1
    with pytest.raises(errors.KvmError, match="interrupted") as left:
        ioctl(vcpu, abi.KVM_RUN)
    assert left.value.errno == 4 and run.exit_reason == abi.KVM_EXIT_INTR
    run.immediate_exit = 0
    ioctl(vcpu, abi.KVM_RUN)
    assert run.exit_reason == abi.KVM_EXIT_SYSTEM_EVENT and run.system_event.type == 1
    bitmap = ctypes.c_uint64()
    ioctl(vm, abi.KVM_GET_DIRTY_LOG, abi.DirtyLog(0, 0, ctypes.addressof(bitmap)))
    assert bitmap.value == 2
    room = bytearray(8 + 8 * 400)
    room[:8] = (400).to_bytes(8, "little")
    ioctl(vcpu, abi.KVM_GET_REG_LIST, room)
    assert int.from_bytes(room[:8], "little") == len(vcpu.of.reg_list())
    state = abi.MpState(9)
    ioctl(vcpu, abi.KVM_GET_MP_STATE, state)
    assert state.mp_state == abi.KVM_MP_STATE_RUNNABLE
    vm.close()
    for descriptor in (vm, vcpu):
        with pytest.raises(errors.Closed):
            ioctl(descriptor, abi.KVM_RUN)
    vcpu.close()
    with pytest.raises(errors.Closed):
        map_vcpu(vcpu)


def test_calls_by_the_page(method: str) -> None:
    system = open_kvm(method=method)
    vm = ioctl(system, abi.KVM_CREATE_VM)
    vcpu = ioctl(vm, abi.KVM_CREATE_VCPU, 0)
    vm.of.set_user_memory_region(0, 0, PAGE)
    vm.of.write(0, code(*li(A0, 65), *call(1), *call(0x4442434E), SPIN))
    run = map_vcpu(vcpu)
    ioctl(vcpu, abi.KVM_RUN)
    assert run.exit_reason == abi.KVM_EXIT_RISCV_SBI
    assert (run.riscv_sbi.extension_id, run.riscv_sbi.args[0]) == (1, 65)
    run.riscv_sbi.ret[0] = 5
    ioctl(vcpu, abi.KVM_RUN)
    assert (run.riscv_sbi.extension_id, run.riscv_sbi.args[0]) == (0x4442434E, 5)
    vcpu.of.run(10)
    assert vcpu.of.get("a0") == sbi.NOT_SUPPORTED & p.ALL


# --- the host's own ------------------------------------------------------------------------------------------------


def refusing(number: int) -> Callable[[str, int], int]:
    def open_device(path: str, flags: int) -> int:
        raise OSError(number, os.strerror(number), path)

    return open_device


@pytest.mark.parametrize("number, says", [
    (errno.ENOENT, "no such file"), (errno.EACCES, "permission denied"), (errno.ENODEV, "no such device"),
])  # fmt: skip
def test_a_host_without_kvm_says_so(number: int, says: str) -> None:
    found = live.run(refusing(number))
    assert found.exits == () and says in found.refused and found.refused.startswith("/dev/kvm cannot be opened: ")


def test_a_device_that_is_none_is_refused(tmp_path: Path) -> None:
    assert "no such file" in live.run(path=str(tmp_path / "kvm")).refused
    found = live.run(lambda path, flags: os.open("/dev/null", flags))
    assert found.exits == () and found.refused.startswith("/dev/kvm refuses: ")


def test_the_row_says_what_the_host_refuses(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = live.run
    monkeypatch.setattr(live, "run", lambda: run(refusing(errno.EACCES)))
    assert lab.main(["C47"]) == 0
    assert "the host's own KVM is not used: /dev/kvm cannot be opened: permission denied" in capsys.readouterr().out


def test_the_hosts_own_kvm() -> None:
    found = live.run()
    if found.refused:
        pytest.skip(found.refused)
    assert found.exits == live.EXPECTED


def test_mechanism_knows_no_device() -> None:
    """Notes 002: KVM has no devices; its user has."""
    script = "import sys, dbt.kvm; print([n for n in sys.modules if n.startswith(('dbt.machine.devices', 'dbt.cli'))])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "[]\n", done.stderr
