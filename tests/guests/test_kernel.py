"""Our kernel, on QEMU's board and ours: what it prints, what its disk holds; processes harm nothing but themselves."""

from __future__ import annotations

import inspect
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

import pytest
from support import peers, tablefs
from support.qemu_system import Console, console
from support.riscv import scaled

from guests import programs
from guests.programs import build

KERNEL = Path(programs.system_file("kernel"))
OPENSBI = Path("/usr/share/qemu/opensbi-riscv64-generic-fw_dynamic.bin")
FAULTS = {
    "load": r"load page fault at pc \w+, address 8",
    "store": r"store page fault at pc \w+, address 1\w+",
    "jump": "instruction page fault at pc 20000000, address 20000000",
    "execute": r"instruction page fault at pc 3f\w+, address 3f\w+",
    "kernel": r"load page fault at pc \w+, address 80000000",
    "trampoline": r"load page fault at pc \w+, address 3ffffff000",
    "illegal": r"illegal instruction at pc \w+, address \w+",  # of which the address is the word, or 0
    "privileged": r"illegal instruction at pc \w+, address \w+",
    "float": r"illegal instruction at pc \w+, address \w+",
    "breakpoint": r"breakpoint at pc \w+, address \w+",
    "stack": r"store page fault at pc \w+, address 3ffe\w+",
}


def do(machine: Console, line: str) -> str:
    """What a command prints, from its line to the next prompt."""
    machine.type(f"{line}\n")
    text = machine.expect("$ ")
    assert text.startswith(f"{line}\n"), text
    return text.removeprefix(f"{line}\n").removesuffix("$ ")


def stop(machine: Console, status: int = 0) -> None:
    machine.type(f"shutdown {status}\n")
    assert machine.finish() == status


def blank(path: Path, sectors: int = 2048) -> Path:
    path.write_bytes(bytes(sectors * tablefs.SECTOR))
    return path


def test_files_stay_on_the_disk(tmp_path: Path) -> None:
    disk = blank(tmp_path / "disk")
    with console(KERNEL, disk=disk) as machine:
        assert machine.expect("$ ").endswith("disk: 2048 sectors, formatted\n$ ")
        assert do(machine, "write note one two") == ""
        machine.type("write lines\nfirst\nsecond\n\x04")
        machine.expect("$ ")
        assert do(machine, "cp primes p") == ""
        assert do(machine, "write gone soon") + do(machine, "rm gone") == ""
        assert do(machine, "append note three") == ""
        stop(machine)
    files = tablefs.read(disk.read_bytes())
    assert files.pop("p")[:4] == b"\x7fELF"
    assert files == {"note": b"one two\nthree\n", "lines": b"first\nsecond\n"}
    with console(KERNEL, disk=disk) as machine:
        assert machine.expect("$ ").endswith("disk: 2048 sectors\n$ ")
        assert do(machine, "cat note") == "one two\nthree\n"
        assert do(machine, "p 100") == "25 primes below 100\n"
        assert re.search(r"^ +14 note$", do(machine, "ls"), re.MULTILINE)
        assert do(machine, "cat gone") == "cat: cannot open gone\n"
        stop(machine)


def test_a_disk_that_was_written_elsewhere_is_read(tmp_path: Path) -> None:
    text = "".join(f"line {i} of many\n" for i in range(200))
    disk = tmp_path / "disk"
    disk.write_bytes(tablefs.write({"empty": b"", "text": text.encode(), "sector": b"x" * 511 + b"\n"}))
    with console(KERNEL, disk=disk) as machine:
        machine.expect("$ ")
        assert do(machine, "cat empty") == ""
        assert do(machine, "cat text") == text
        assert do(machine, "cat sector") == "x" * 511 + "\n"
        assert do(machine, "append sector more") == do(machine, "cp text copy") == do(machine, "rm text") == ""
        stop(machine)
    expected = {"empty": b"", "copy": text.encode(), "sector": b"x" * 511 + b"\nmore\n"}
    assert tablefs.read(disk.read_bytes()) == expected


def ours(*flags: str, lines: str) -> tuple[int, str]:
    """Status and output of the kernel in our machine, where time is the number of instructions."""
    command = [sys.executable, "-m", "dragoman", "boot", "-m", "32", "--deterministic", "-kernel", "@kernel", *flags]
    done = subprocess.run(command, input=lines.encode(), capture_output=True, timeout=600)
    assert done.stderr == b""
    return done.returncode, done.stdout.decode().replace("\r", "")


def test_the_disk_of_our_machine_over_two_boots(tmp_path: Path) -> None:
    disk = blank(tmp_path / "disk")
    flags = "-drive", f"file={disk},format=raw,if=none,id=d", "-device", "virtio-blk-device,drive=d"
    for said, line, answer in (("sectors, formatted", "write note one two", ""), ("sectors", "cat note", "one two\n")):
        expected = f"kernel: started in machine mode\ndisk: 2048 {said}\n$ {line}\n{answer}$ shutdown 5\n"
        assert ours(*flags, lines=f"{line}\nshutdown 5\n") == (5, expected)
        assert tablefs.read(disk.read_bytes()) == {"note": b"one two\n"}


def test_processes_take_turns_in_our_machine() -> None:
    status, text = ours(lines="spin # 2 &\nspin @ 2 &\nwait\nshutdown\n")
    assert status == 0
    assert re.sub("[^#@]", "", text).endswith("#@#@"), text


def test_a_full_disk_keeps_what_is_there(tmp_path: Path) -> None:
    disk = blank(tmp_path / "disk", tablefs.METADATA + 5)
    with console(KERNEL, disk=disk) as machine:
        machine.expect("$ ")
        assert do(machine, "write small words") == ""
        assert do(machine, "cp shell big") == "cp: cannot copy shell\n"
        assert do(machine, "cat small") == "words\n"
        assert do(machine, "write other words") == "write: cannot write other\n"
        assert do(machine, "rm big") == do(machine, "rm other") == do(machine, "write other words") == ""
        stop(machine)
    assert tablefs.read(disk.read_bytes()) == {"small": b"words\n", "other": b"words\n"}


@pytest.mark.parametrize("kind", ["foreign", "shortened", "tiny"])
def test_a_disk_of_something_else_is_left_alone(kind: str, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    foreign = b"\xeb\x3c\x90" + bytes(200 * tablefs.SECTOR - 3)
    image = {"foreign": foreign, "shortened": bytes(tablefs.write({}))[: 1000 * 512], "tiny": bytes(20 * 512)}[kind]
    disk.write_bytes(image)
    with console(KERNEL, disk=disk) as machine:
        assert ("disk: too small" if kind == "tiny" else "of something else, left alone") in machine.expect("$ ")
        assert do(machine, "write note words") == "write: cannot open note\n"
        stop(machine)
    assert disk.read_bytes() == image


def test_a_damaged_disk_does_not_stop_the_kernel(tmp_path: Path) -> None:
    """Names, first sectors, sizes and the table are overwritten at random: commands fail, or do not, and end."""
    rng = Random(1)
    for _ in range(scaled(8)):
        image = tablefs.write({f"f{i}": rng.randbytes(rng.randrange(3000)) for i in range(6)}, 200)
        for _ in range(rng.randrange(1, 30)):
            at = rng.choice((rng.randrange(6) * 32 + 512 + 24, tablefs.table_offset(rng.randrange(200))))
            image[at : at + 2] = rng.choice((rng.randbytes(2), bytes([rng.randrange(200), 0]), b"\xff\xff"))
        disk = tmp_path / "disk"
        disk.write_bytes(image)
        with console(KERNEL, disk=disk) as machine:
            machine.expect("$ ")
            for i in range(6):
                for line in (f"cp f{i} g{i}", f"append f{i} more", f"rm f{i}"):
                    assert re.fullmatch(r"(\w+: cannot \w+ \w+\n)?", do(machine, line))
            assert do(machine, "forks") == "15 processes, 0 pages lost\n"
            stop(machine)


def test_a_machine_that_stops_in_between_leaves_whole_files(tmp_path: Path) -> None:
    """QEMU is killed at any moment of many writes. Sectors may be lost; what was closed before is as it was."""
    rng = Random(2)
    for _ in range(scaled(4)):
        disk = blank(tmp_path / "disk")
        with console(KERNEL, disk=disk) as machine:
            machine.expect("$ ")
            assert do(machine, "write kept words") == ""
            machine.type("".join(f"cp shell s{i}\nappend s{i} more\ncp fault s{i}\nrm s{i - 1}\n" for i in range(50)))
            machine.expect("cp shell s0\n")
            time.sleep(rng.random() / 2)
        files = tablefs.read(disk.read_bytes(), stopped=True)
        assert files["kept"] == b"words\n"
        with console(KERNEL, disk=disk) as machine:
            machine.expect("$ ")
            for name in sorted(files):
                assert do(machine, f"rm {name}") == ""
            stop(machine)
        assert tablefs.read(disk.read_bytes(), stopped=True) == {}


def test_processes_that_compute_take_turns() -> None:
    """Signs that no other text has: each comes once more, where the command is echoed."""
    with console(KERNEL) as machine:
        machine.expect("$ ")
        machine.type("spin # 12 &\nspin @ 12 &\nwait\n")
        for _ in range(3):
            machine.expect("$ ")
        stop(machine)
    assert machine.text.count("#") == machine.text.count("@") == 13
    turns = re.findall("#+|@+", re.sub("[^#@]", "", machine.text))
    assert len(turns) > 8, f"the first ended before the second began: {turns}"


def test_a_fault_ends_its_process_alone() -> None:
    with console(KERNEL) as machine:
        machine.expect("$ ")
        memory = do(machine, "mem")
        for kind, said in FAULTS.items():
            text = do(machine, f"fault {kind}")
            assert re.fullmatch(rf"process (\d+) \(fault\): {said}\nprocess \1 was killed\n", text), text
        assert do(machine, "primes 100000000").endswith("was killed\n"), "more memory than there is"
        assert do(machine, "forks") == "15 processes, 0 pages lost\n"
        assert do(machine, "mem") == memory, "all of the memory comes back"
        stop(machine, 7)


def test_wild_calls_leave_nothing_behind(tmp_path: Path) -> None:
    for seed in range(scaled(4)):
        disk = blank(tmp_path / "disk")
        with console(KERNEL, disk=disk) as machine:
            machine.expect("$ ")
            memory = do(machine, "mem")
            machine.type(f"wild {seed}\nwait\n")
            machine.expect("$ wait\n")
            machine.expect("$ ")
            assert do(machine, "forks") == "15 processes, 0 pages lost\n"
            assert do(machine, "mem") == memory
            assert do(machine, "ps").count("\n") == 2, "the shell is alone"
            stop(machine)
        tablefs.read(disk.read_bytes())


def test_control_c_ends_what_the_shell_waits_for() -> None:
    with console(KERNEL) as machine:
        machine.expect("$ ")
        machine.type("spin A 1000000\n")
        machine.expect("AAA")
        machine.type("\x03")
        machine.expect("was killed\n$ ")
        assert do(machine, "kill 99") == "kill: cannot kill 99\n"
        machine.type("\x04")  # the end of the shell's input is the shell's end, and the machine's
        assert machine.finish() == 0


def test_control_c_ends_what_the_shell_is_about_to_wait_for() -> None:
    """It is typed before the shell has read the line. At the prompt it means nothing, to the next program neither."""
    with console(KERNEL) as machine:
        machine.expect("$ ")
        machine.type("\x03echo on\nspin A 1000000\n\x03spin B 3\n")
        machine.expect("\non\n$ ")
        machine.expect("was killed\n$ ")
        machine.expect("BBB")
        machine.expect("$ ")
        stop(machine)


def test_lines_are_edited_and_wait_until_they_are_read() -> None:
    """More is typed ahead than the kernel has room for: the UART holds it back."""
    with console(KERNEL) as machine:
        machine.expect("$ ")
        machine.type("echo xy\x7f\x7f\x7f\x7fo all\x15echo b\b\b is\n")
        assert machine.expect("$ ").endswith("\nis\n$ "), machine.text
        machine.type("sleep 300\n" + "".join(f"echo {i}\n" for i in range(200)))
        for i in range(200):
            machine.expect(f"$ echo {i}\n{i}\n")
        machine.expect("$ ")
        stop(machine)


@pytest.mark.parametrize("cpu", ["rv64,sstc=off", "rv64"])
@pytest.mark.parametrize("firmware", [False, True], ids=["machine", "firmware"])
def test_each_way_to_start_and_each_timer(firmware: bool, cpu: str, tmp_path: Path) -> None:
    kernel = KERNEL
    if firmware:
        peers.need("ziglang", "ziglang")
        peers.need_file(OPENSBI, "apt-get install qemu-system-misc")
        assert build.main(["--firmware", str(tmp_path)]) == 0
        kernel = tmp_path / "kernel.elf"
    with console(kernel, "-cpu", cpu, bios=str(OPENSBI) if firmware else "none") as machine:
        mode, timer = "supervisor" if firmware else "machine", "" if cpu == "rv64" else ", without stimecmp"
        machine.expect(f"kernel: started in {mode} mode{timer}\n")
        machine.expect("$ ")
        machine.type("spin # 6 &\nsleep 5\nwait\n")
        for _ in range(3):
            machine.expect("$ ")
        assert machine.text.count("#") == 7
        assert do(machine, "forks") == "15 processes, 0 pages lost\n"
        stop(machine, 3)


@pytest.mark.parametrize(("words", "timer"), [(["i", "m", "sstc"], ""), (["i", "m"], ", without stimecmp")])
def test_the_device_tree_is_believed(words: list[str], timer: str, tmp_path: Path) -> None:
    """Another list of extensions, other sizes of RAM, and words that mean nothing to us."""
    tree, put = tmp_path / "tree", peers.need("fdtput", "device-tree-compiler")
    machine = [peers.need("qemu-system-riscv64", "qemu-system-misc"), "-M", f"virt,dumpdtb={tree}", "-m", "64"]
    subprocess.run([*machine, "-display", "none", "-bios", "none"], check=True, capture_output=True)
    subprocess.run([put, "-t", "s", tree, "/cpus/cpu@0", "riscv,isa", "rv64ima"], check=True)
    subprocess.run([put, "-t", "s", tree, "/cpus/cpu@0", "riscv,isa-extensions", *words], check=True)
    subprocess.run([put, "-t", "x", tree, "/memory@80000000", "reg", "0", "80000000", "0", "2000000"], check=True)
    subprocess.run([put, "-d", tree, "/soc", "ranges"], check=True)
    with console(KERNEL, "-dtb", str(tree), memory=64) as board:
        board.expect(f"kernel: started in machine mode{timer}\n")
        board.expect("$ ")
        pages = re.fullmatch(r"(\d+) pages, \d+ free, 0 shared\n", do(board, "mem"))
        assert pages is not None and 8000 < int(pages[1]) < 8192, "32 MiB less the kernel"
        assert do(board, "sleep 10") == ""
        stop(board)


def test_firmware_starts_the_kernel_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build.main(["uart", "--firmware", str(tmp_path)]) == 1
    assert "only kernel does" in capsys.readouterr().err


# --- defects ------------------------------------------------------------------------------------------------------

PLANTED = [  # a name, the file, what stands in it, what stands there instead, and the test that has to fail
    ("no time slices", "process.c", "timer_set(start + turn);", "timer_set(NEVER);",
     test_processes_that_compute_take_turns),
    ("a stack that is not given back", "process.c", "page_drop(p->stack);", ";", test_a_fault_ends_its_process_alone),
    ("pages stay writable after a fork", "space.c", "from[i] = (from[i] & ~(u64)W) | COPY;", ";",
     test_a_fault_ends_its_process_alone),
    ("user mode may read the trampoline", "space.c", "*entry_at(space, FRAME, 0, 1) = entry_of(frame, R | W | A | D);",
     "*entry_at(space, FRAME, 0, 1) = entry_of(frame, R | W | A | D); *entry |= U;",
     test_a_fault_ends_its_process_alone),
    ("a process goes on after a fault", "trap.c", "p->killed = 1;", ";", test_a_fault_ends_its_process_alone),
    ("a full ring is emptied", "console.c", "        *uart(INTERRUPT_ENABLE) = 0;", "        taken = arrived;",
     test_lines_are_edited_and_wait_until_they_are_read),
    ("a size that is not written", "files.c", "return save(e) ? part : -1;", "return part;",
     test_files_stay_on_the_disk),
    ("sectors stay taken", "files.c", "free_sectors(first) && disk_flush()", "first + 1 && disk_flush()",
     test_a_full_disk_keeps_what_is_there),
]  # fmt: skip


@pytest.mark.parametrize(("file", "old", "new", "finder"), [row[1:] for row in PLANTED], ids=[r[0] for r in PLANTED])
def test_planted_defects_are_found(
    file: str, old: str, new: str, finder: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel is built with a defect, and one of the tests above has to fail."""
    peers.need("ziglang", "ziglang")
    peers.need("qemu-system-riscv64", "qemu-system-misc")
    shutil.copytree(build.SYSTEM, tmp_path / "system")
    source = tmp_path / "system/kernel" / file
    text = source.read_text()
    assert text.count(old) == 1, "the defect is stale"
    source.write_text(text.replace(old, new))
    monkeypatch.setattr(build, "SYSTEM", tmp_path / "system")
    build.build("kernel", tmp_path / "kernel.elf")
    here = sys.modules[__name__]
    monkeypatch.setattr(here, "KERNEL", tmp_path / "kernel.elf")
    monkeypatch.setattr(here, "console", partial(console, seconds=10))
    arguments = {"tmp_path": tmp_path} if "tmp_path" in inspect.signature(finder).parameters else {}
    with pytest.raises((AssertionError, subprocess.TimeoutExpired, BrokenPipeError)):
        finder(**arguments)
