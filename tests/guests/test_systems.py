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

from guests import programs
from guests.programs import PROGRAMS, SYSTEMS, System, UnknownProgram, build

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
    with console(image(system.name)) as machine:
        machine.type(system.input)
        assert machine.finish() == 0
        assert machine.text == system.output


@EACH
def test_output_in_our_machine(system: System) -> None:
    """With time as the number of instructions."""
    command = [sys.executable, "-m", "dragoman", "boot", "-m", "32", "--deterministic", "-kernel", f"@{system.name}"]
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
