"""Machines on bad ground: damaged kernels and trees, disks that shrink or refuse, hosts that are full, a sudden end."""

from __future__ import annotations

import gzip
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random

import pytest
from support import peers, tablefs
from support.qemu_system import Console as PipedConsole
from support.riscv import Tally, scaled

from dbt.cache.database import Database
from dbt.elf import NotRunnable
from dbt.machine import fdt, start
from dbt.machine.boards import Board
from dbt.machine.devices.console import Console
from dbt.machine.exits import Exit
from guests.programs import system_file
from guests.riscv import machine

KERNEL = Path(system_file("kernel"))
STATUSES = (0, 2, 124, 125, 126, 127)


@contextmanager
def kernel(disk: Path, *words: str, limit: int = resource.RLIM_INFINITY) -> Iterator[PipedConsole]:
    """Our kernel at its prompt, with a disk; files of the process have at most `limit` bytes."""
    command = [sys.executable, "-m", "dragoman", "boot", "-m", "32", "-kernel", "@kernel", *words]
    process = subprocess.Popen(
        [*command, "-drive", f"file={disk}"] if not words else command,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(peers.REPOSITORY)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )  # fmt: skip
    made = PipedConsole(process, 120)
    try:
        made.expect("$ ")
        yield made
    finally:
        process.kill()
        process.wait()
        made.close()


def do(console: PipedConsole, line: str) -> str:
    """What a command prints."""
    console.type(f"{line}\n")
    return console.expect("$ ").removeprefix(f"{line}\n").removesuffix("$ ")


def ends(console: PipedConsole) -> None:
    console.type("shutdown 9\n")
    assert console.finish() == 9


# --- disks --------------------------------------------------------------------------------------------------------


def test_a_disk_that_is_cut_while_the_machine_runs(tmp_path: Path) -> None:
    """What is behind the cut is an error of the guest's request; what is before it can be read, and the guest lives."""
    disk = tmp_path / "disk"
    disk.write_bytes(tablefs.write({"first": b"behind\n" * 100, "empty": b""}))
    with kernel(disk) as console:
        assert do(console, "cat first").count("behind") == 100
        os.truncate(disk, 100 * tablefs.SECTOR)
        assert "behind" not in do(console, "cat first")
        assert "first" in do(console, "ls") and do(console, "echo alive") == "alive\n"
        ends(console)


def test_a_read_only_disk_is_read_and_stays(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    image = bytes(tablefs.write({"note": b"kept\n"}))
    disk.write_bytes(image)
    with kernel(disk, "-drive", f"file={disk},readonly=on") as console:
        assert do(console, "cat note") == "kept\n"
        do(console, "write other words")
        do(console, "rm note")
        ends(console)
    assert disk.read_bytes() == image


@pytest.mark.parametrize("over", [False, True])
def test_a_host_that_is_full(tmp_path: Path, over: bool) -> None:
    """Writes beyond what the host takes are errors of the guest's; what was flushed before is there to the byte.

    Once into the disk's file, a sparse one, and once into what is written over it.
    """
    disk = tmp_path / "disk"
    disk.touch()
    os.truncate(disk, 2048 * tablefs.SECTOR)
    words = ("-drive", f"file={disk}", "-snapshot") if over else ()
    limit = (1 << 17) if over else (tablefs.METADATA + 8) * tablefs.SECTOR
    with kernel(disk, *words, limit=limit) as console:
        do(console, "write note kept")
        assert do(console, "cat note") == "kept\n"
        for i in range(4):
            do(console, f"cp primes copy{i}")
        assert do(console, "cat note") == "kept\n" and do(console, "echo alive") == "alive\n"
        ends(console)
    if not over:
        image = disk.read_bytes()
        assert tablefs.read(image, stopped=True)["note"] == b"kept\n" and len(image) == 2048 * tablefs.SECTOR


def test_what_was_flushed_survives_the_end_of_the_process(tmp_path: Path) -> None:
    """The kernel flushes when a file is closed, and says so by its next prompt; then the process is killed."""
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(2048 * tablefs.SECTOR))
    with kernel(disk) as console:
        for i in range(5):
            do(console, f"write file{i} content {i}")
        console.process.kill()
    files = tablefs.read(disk.read_bytes(), stopped=True)
    assert files == {f"file{i}": f"content {i}\n".encode() for i in range(5)}


@pytest.mark.parametrize("times", [6, pytest.param(200, marks=[pytest.mark.long, pytest.mark.timeout(3600)])])
def test_killed_at_any_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """While it writes files to its disk, or its translations to theirs. The next machine starts on what is there: each
    file is as it was acknowledged, but for the one that was being written, of which there may be a part, and all
    translations are whole.
    """
    monkeypatch.setenv("DRAGOMAN_CACHE_DIR", str(tmp_path / "cache"))
    disk, random, tally = tmp_path / "disk", Random(times), Tally("kills")
    disk.write_bytes(tablefs.write({"primes": Path(system_file("kernel")).read_bytes()[:40_000]}, 8192))
    known: dict[str, set[bytes]] = {}
    for turn in range(times):
        names = [f"file{random.randrange(8)}" for _ in range(3)]
        written = [f"turn {turn} {i}\n".encode() for i in range(3)]
        hot = ["primes 200000"] if turn % 2 else []  # new translations, until a run has left them
        lines = [*hot, *(f"write {name} {content.decode().strip()}" for name, content in zip(names, written))]
        with kernel(disk, "-drive", f"file={disk}") as console:
            asked = sorted(known) if turn % 10 == 0 else []
            for name in asked:
                found = do(console, f"cat {name}").encode()
                tally.check(found in known[name]) or tally.note(f"turn {turn}: {name} is {found!r} for a guest")
            console.type("".join(f"{line}\n" for line in [*lines, "cp primes copy", "echo all", "shutdown 9"]))
            if hot:
                console.expect("all\n$ ")
            time.sleep(random.uniform(0, 0.15 if hot else 0.3))
            console.process.kill()
            console.process.wait()
        done = console.text.count("$ ") - 1 - len(asked) - len(hot)
        for i, (name, new) in enumerate(zip(names, written)):
            if i <= done:
                known[name] = {new} if i < done else known.get(name, {b""}) | {new[:end] for end in range(len(new) + 1)}
        files = tablefs.read(disk.read_bytes(), stopped=True)
        for name, allowed in known.items():
            tally.check(files.get(name, b"") in allowed) or tally.note(f"turn {turn}: {name} is {files.get(name)!r}")
    with closing(Database(tmp_path / "cache")) as kept:
        good, bad = kept.verify()
        assert good > 4 and not bad and kept.sound(), (good, bad)
    tally.done()


@pytest.mark.parametrize("words", [[], ["-serial", "file:/dev/full"]])
def test_output_that_the_host_does_not_take(words: list[str]) -> None:
    """It is told once, and the guest goes on: to its own end, or to where it waits for input, which has no line."""
    command = [sys.executable, "-m", "dragoman", "boot", "-m", "32", *words, "@kernel"]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, input=b"echo x\nshutdown 6\n", stdout=full, stderr=subprocess.PIPE, timeout=120,
                              env={**os.environ, "PYTHONPATH": str(peers.REPOSITORY)})  # fmt: skip
    assert done.returncode == (125 if words else 6)
    assert done.stderr.count(b"output is lost: no space left on device") == 1 and b"internal" not in done.stderr


@pytest.mark.parametrize("more", [[], ["--deterministic"]])
@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&-"])
def test_standard_descriptors_that_are_closed(tmp_path: Path, closed: str, more: list[str]) -> None:
    """No input, or no output: the disk is not taken for either."""
    image = bytes(tablefs.write({"note": b"kept\n"}))
    (tmp_path / "disk").write_bytes(image)
    words = f"-m 32 {' '.join(more)} -drive file={tmp_path}/disk @kernel"
    command = f"exec {sys.executable} -m dragoman boot {words} {closed}"
    done = subprocess.run(["sh", "-c", command], stdin=subprocess.DEVNULL, capture_output=True, timeout=120,
                          env={**os.environ, "PYTHONPATH": str(peers.REPOSITORY)})  # fmt: skip
    assert done.returncode == 125 and b"nothing will ever send" in done.stderr and b"internal" not in done.stderr
    assert (b"$ " in done.stdout) == (">" not in closed) and (tmp_path / "disk").read_bytes() == image


# --- kernels and trees --------------------------------------------------------------------------------------------


def damaged(random: Random, good: bytes) -> bytes:
    """A kernel in which something is wrong, or that never was one."""
    match random.randrange(5):
        case 0:
            return random.randbytes(random.randrange(1, 5000))
        case 1:
            return good[: random.randrange(1, len(good))]
        case 2:
            return gzip.compress(good)[: random.randrange(20, 2000)]
        case 3:  # the headers of an ELF file
            data = bytearray(good)
            for _ in range(random.randrange(1, 6)):
                data[random.randrange(0x120)] = random.randrange(256)
            return bytes(data)
    data = bytearray(good)
    for _ in range(random.randrange(1, 200)):
        data[random.randrange(len(data))] = random.randrange(256)
    return bytes(data)


def test_damaged_kernels(tmp_path: Path) -> None:
    """They are refused with a sentence, or run to some end or the limit: nothing else comes out of the machine."""
    random, good, tally, path = Random(8), KERNEL.read_bytes(), Tally("kernels"), tmp_path / "kernel"
    refused = 0
    for _ in range(scaled(150)):
        path.write_bytes(damaged(random, good))
        board = Board(machine.guest(), 16 << 20, Console(lambda data: None))
        try:
            start.place(board, start.Files(None, str(path), None))
        except NotRunnable as error:
            refused += 1
            tally.check("\n" not in str(error) and str(path) in str(error))
            continue
        tally.check(isinstance(board.vm.run(20_000), Exit))
    tally.done()
    assert 0 < refused < scaled(150)


def boots(*words: str) -> str:
    """What is said of these words; the status is one of ours, and no traceback is shown."""
    done = subprocess.run(
        [sys.executable, "-m", "dragoman", "boot", "--max-instructions=20000", *words], input=b"", capture_output=True,
        env={**os.environ, "PYTHONPATH": str(peers.REPOSITORY)}, timeout=120,
    )  # fmt: skip
    message = done.stderr.decode()
    assert done.returncode in STATUSES and "Traceback" not in message, message
    assert message.count("\n") == 1 and message.startswith("dragoman: "), message
    return message


def test_a_damaged_kernel_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "kernel").write_bytes(Random(2).randbytes(4096))
    assert "dragoman: the " in boots("-kernel", str(tmp_path / "kernel"))


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "is empty"),
        (b"garbage" * 100, "is no device tree: it does not begin as one"),
        (fdt.flatten({})[:30], "is no device tree: it is damaged"),
        (fdt.flatten({"a": 1})[:-3], "is no device tree: it is truncated"),
        (None, "tree: there is no such file"),
    ],
)
def test_a_tree_that_is_none_gets_a_sentence(tmp_path: Path, data: bytes | None, sentence: str) -> None:
    path = tmp_path / "tree"
    if data is not None:
        path.write_bytes(data)
    assert sentence in boots("-kernel", "@kernel", "-dtb", str(path))


def test_damaged_trees_are_refused_or_are_trees() -> None:
    """Random bytes and damaged trees: ValueError, or nodes that can be flattened again."""
    random, tally = Random(4), Tally("trees")
    good = Board(machine.guest(), 16 << 20, Console(lambda data: None)).tree("arguments", (1 << 31, 1 << 32))
    for _ in range(scaled(2000)):
        data = bytearray(good)
        for _ in range(random.randrange(1, 9)):
            data[random.randrange(len(data))] = random.randrange(256)
        try:
            fdt.flatten(fdt.parse(bytes(data[: random.choice([len(data), random.randrange(len(data))])])))
        except ValueError as error:
            tally.check(str(error).startswith("it"))
        else:
            tally.check(True)
    tally.done()


def test_the_kernel_ends_where_the_tree_has_nothing_of_what_it_needs(tmp_path: Path) -> None:
    """A tree without a console or memory: the guest's affair, and the machine is told of at the limit."""
    (tmp_path / "tree").write_bytes(fdt.flatten({"compatible": "nothing"}))
    assert "dragoman: the " in boots("-kernel", "@kernel", "-dtb", str(tmp_path / "tree"))


def test_qemu_s_own_tree_is_read_and_its_machine_boots(tmp_path: Path) -> None:
    """What QEMU says of its board is read without loss, and our kernel starts on our board by that description."""
    qemu, dtc = peers.need("qemu-system-riscv64", "qemu-system-misc"), peers.need("dtc", "device-tree-compiler")
    tree = tmp_path / "tree"
    subprocess.run([qemu, "-M", f"virt,dumpdtb={tree}", "-m", "32", "-display", "none"], check=True, timeout=60,
                   stderr=subprocess.DEVNULL)  # fmt: skip
    sources = [subprocess.run([dtc, "-q", "-s", "-I", "dtb", "-O", "dts"], input=data, capture_output=True).stdout
               for data in (tree.read_bytes(), fdt.flatten(fdt.parse(tree.read_bytes())))]  # fmt: skip
    assert sources[0] == sources[1] and b"sifive,plic" in sources[0]
    command = [sys.executable, "-m", "dragoman", "boot", "-m", "32", "-kernel", "@kernel", "-dtb", str(tree)]
    done = subprocess.run(command, input=b"shutdown 4\n", capture_output=True, timeout=120,
                          env={**os.environ, "PYTHONPATH": str(peers.REPOSITORY)})  # fmt: skip
    assert done.returncode == 4 and b"kernel: started in machine mode" in done.stdout
