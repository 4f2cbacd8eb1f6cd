"""Lines for system calls: against those of Linux's strace, the headers of the cross compiler, and by hand."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.peers import REPOSITORY, need

import dragoman
import guests.riscv.linux as abi
from dbt.linux.abi import Layout
from dbt.linux.kernel import HANDLERS, ExitGroup, Kernel, arity, handler_of
from dbt.linux.rendering import outcome
from dbt.linux.signatures import CHOICES, CLASSES, SIGNATURES, STRUCTURES, members, parameter
from dbt.linux.strace import Strace, selection
from dbt.memory import READ, WRITE, AddressSpace
from guests.riscv import linux_names

PROBE = Path(__file__).parent.parent / "programs" / "strace_probe.c"
NUMBERS = {name: number for number, name in abi.CALLS.items()}
DATA, TEXT = 0x100000, 0x110000
AT_FDCWD = -100


class Traced:
    """A kernel whose calls are shown; strings become pointers, bytes their addresses, too."""

    def __init__(self, items: str = "", **keywords: int) -> None:
        self.space = AddressSpace()
        self.space.map(DATA, 0x20000, READ | WRITE, fixed=True)
        self.kernel = Kernel(self.space, abi, argv=[b"a"], env=[], executable="/bin/a", warn=lambda text: None,
                             **keywords)
        self.lines: list[str] = []
        self.strace = Strace(self.kernel, self.lines.append, selection(items))

    def __call__(self, name: str, *arguments: int | bytes | str | Path) -> str:
        """The line of a call, without the blanks that align results."""
        words, cursor = [], TEXT
        for argument in arguments:
            if not isinstance(argument, int):
                data = argument if isinstance(argument, bytes) else os.fsencode(argument) + b"\0"
                self.space.write(cursor, data)
                argument, cursor = cursor, cursor + len(data)
            words.append(argument & (1 << 64) - 1)
        self.strace.call(NUMBERS[name], tuple(words + [0] * (6 - len(words))))
        return re.sub(r" +=", " =", self.lines[-1])


@pytest.fixture
def traced() -> Iterator[Traced]:
    made = Traced()
    yield made
    made.kernel.close()
    made.space.close()


# --- the tables -----------------------------------------------------------------------------------------------------


def test_every_call_of_the_architecture_has_a_signature() -> None:
    assert set(SIGNATURES) == set(abi.CALLS.values())
    for name in HANDLERS:
        assert arity(handler_of(name)) <= len(SIGNATURES[name].parameters), name


def test_every_set_of_names_and_every_field_is_there() -> None:
    chosen = [parameter(kind) for _index, _names, kinds, default in CHOICES.values()
              for kind in (*kinds.values(), default)]
    kinds = {each.kind for signature in SIGNATURES.values() for each in (*signature.parameters, signature.result)}
    kinds |= {each.kind for each in chosen} | {f"name:{names}" for _index, names, _kinds, _default in CHOICES.values()}
    for structure, fields in STRUCTURES.items():
        for name, _, kind in (field.partition(":") for field in fields.split() if field != "..."):
            if structure in abi.STRUCTS:
                assert name.partition("/")[0] in Layout(abi.STRUCTS[structure]).offsets, (structure, name)
            kinds.add(kind)
    for kind in kinds:
        what, _, table = kind.partition(":")
        assert not table or table in {"flags": linux_names.FLAGS, "name": linux_names.NUMBERS}[what], kind
    for _index, names, by_name, _default in CHOICES.values():
        assert set(by_name) <= set(linux_names.NUMBERS[names])


def test_classes_hold_calls() -> None:
    for name in CLASSES:
        assert members(name) and members(name) <= set(SIGNATURES)
    assert {"openat", "execve", "mkdirat"} <= members("file") and "read" not in members("file")
    assert {"openat", "read", "mmap"} <= members("desc") and "getpid" not in members("desc")


_HEADERS = ("errno.h fcntl.h poll.h sched.h signal.h time.h unistd.h sys/epoll.h sys/eventfd.h sys/file.h "
            "sys/inotify.h sys/ioctl.h sys/mman.h sys/prctl.h sys/random.h sys/resource.h sys/signalfd.h sys/socket.h "
            "sys/stat.h sys/time.h sys/timerfd.h sys/wait.h sys/xattr.h netinet/in.h netinet/tcp.h netinet/udp.h "
            "linux/close_range.h linux/falloc.h linux/futex.h linux/membarrier.h linux/seccomp.h "
            "linux/fs.h linux/random.h linux/sockios.h linux/if_tun.h linux/rtc.h linux/nsfs.h").split()
_TERMIOS2 = "struct termios2 { unsigned c[4]; unsigned char l, cc[19]; unsigned i, o; };"  # <termios.h> has another


def test_values_are_those_of_the_headers(tmp_path: Path) -> None:
    compiler = need("riscv64-linux-gnu-gcc", "gcc-riscv64-linux-gnu")
    tables = [*linux_names.FLAGS.values(), *linux_names.NUMBERS.values(), linux_names.FILE_TYPES]
    pairs = {name: value for table in tables for name, value in table.items() if name.isidentifier()}
    lines = [*(f"#include <{header}>" for header in _HEADERS), _TERMIOS2, "long values[] = {"]
    for name in pairs:
        lines += [f"#if defined({name}) || {int(name in _ENUMS)}", f"(long)(unsigned)({name}),", "#else",
                  "-1L,", "#endif"]
    source = tmp_path / "values.c"
    source.write_text("#define _GNU_SOURCE\n" + "\n".join([*lines, "};"]))
    made = tmp_path / "values.s"
    subprocess.run([compiler, "-w", "-S", "-o", str(made), str(source)], check=True, timeout=60)
    found = [int(word) for word in re.findall(r"\t\.dword\t(-?\d+)", made.read_text())]
    values = dict(zip(pairs, found, strict=True))
    unknown = {name for name, value in values.items() if value == -1}
    wrong = {name: (pairs[name], value) for name, value in values.items()
             if value not in (-1, pairs[name] & 0xFFFFFFFF) and name not in _OTHERWISE_IN_C_LIBRARY}
    assert not wrong
    assert len(unknown) < 40, sorted(unknown)  # what old headers lack, or name only within the kernel


_OTHERWISE_IN_C_LIBRARY = ("O_LARGEFILE", "__O_TMPFILE")  # nothing, as files are large; with O_DIRECTORY in it
_ENUMS = frozenset(name for table in "rusage resource priority shut idtype itimer epoll_ctl ipproto".split()
                   for name in linux_names.NUMBERS[table])


# --- against strace -------------------------------------------------------------------------------------------------


def test_lines_are_those_of_strace(tmp_path: Path) -> None:
    strace, native = need("strace", "strace"), need("cc", "gcc")
    cross = need("riscv64-linux-gnu-gcc", "gcc-riscv64-linux-gnu")
    for compiler, name in ((native, "host"), (cross, "guest")):
        subprocess.run([compiler, "-O1", "-w", "-static", "-o", str(tmp_path / name), str(PROBE)], check=True,
                       timeout=60)
    log = tmp_path / "log"
    done = subprocess.run([strace, "-o", str(log), str(tmp_path / "host")], stdin=subprocess.DEVNULL, timeout=60)
    if not log.exists() or 'chdir("/tmp")' not in log.read_text():
        pytest.skip("strace may not trace here")
    assert done.returncode == 3
    lines: list[str] = []
    assert dragoman.run(tmp_path / "guest", strace=lines.append).status == 3
    wanted, found = _comparable(log.read_text().splitlines()), _comparable(lines)
    assert len(wanted) > 75
    assert found == wanted


def _comparable(lines: list[str]) -> list[str]:
    """From the first call of the probe's own; without addresses and the blanks that align results."""
    start = next(index for index, line in enumerate(lines) if line.startswith("chdir("))
    return [re.sub(r"0x[0-9a-f]{4,}", "ADDRESS", re.sub(r" +=", " =", line)) for line in lines[start:]]


# --- lines, by hand -------------------------------------------------------------------------------------------------


def test_what_cannot_be_read_is_a_pointer(traced: Traced) -> None:
    assert traced("openat", AT_FDCWD, 0x10, 0) == "openat(AT_FDCWD, 0x10, O_RDONLY) = -1 EFAULT (Bad address)"
    assert traced("write", 99, 0x10, 4) == "write(99, 0x10, 4) = -1 EBADF (Bad file descriptor)"
    assert traced("writev", 99, DATA + 0x1FFF8, 2) == "writev(99, 0x11fff8, 2) = -1 EBADF (Bad file descriptor)"
    assert traced("close", -1) == "close(-1) = -1 EBADF (Bad file descriptor)"


def test_strings_are_cut_and_escaped(traced: Traced) -> None:
    assert traced("write", 99, b'\1\x017"\\\xff\n', 7).startswith('write(99, "\\1\\0017\\"\\\\\\377\\n", 7) = -1')
    assert traced("write", 99, b"x" * 40, 40).startswith(f'write(99, "{"x" * 32}"..., 40)')
    long = "/" + "y" * 200
    assert traced("chdir", long).startswith(f'chdir("{long}")')
    assert Traced("strings=3")("write", 99, b"abcdef", 6).startswith('write(99, "abc"..., 6)')


def test_flags_and_numbers_without_names_are_shown(traced: Traced) -> None:
    assert traced("openat", AT_FDCWD, "/no/x", 0o3 | 1 << 30).startswith('openat(AT_FDCWD, "/no/x", 0x3|0x40000000)')
    assert traced("lseek", 99, -1, 9).startswith("lseek(99, -1, 9)")
    assert traced("kill", 1 << 31, 70).startswith("kill(-2147483648, 70)")
    assert traced("kill", -5, 40).startswith("kill(-5, SIGRT_8)")
    assert traced("openat", AT_FDCWD, "/none/x", 0o4010102, 0o600).startswith(
        'openat(AT_FDCWD, "/none/x", O_RDWR|O_CREAT|O_SYNC, 0600)')
    assert traced("mmap", 0, 1, 0, 0xF, -1, 0).startswith("mmap(NULL, 1, PROT_NONE, 0xf, -1, 0)")


def test_sockets_signals_and_waits_are_shown(traced: Traced) -> None:
    """Kinds that no structure of the architecture's is needed for, of calls done or not."""
    assert 'sin_port=htons(80), sin_addr=inet_addr("127.0.0.1")}, 16)' in traced(
        "connect", 99, struct.pack("<H", 2) + bytes((0, 80, 127, 0, 0, 1)) + bytes(8), 16)
    assert '{sa_family=AF_UNIX, sun_path="/run/x"}, 9)' in traced("bind", 99, b"\1\0/run/x\0", 9)
    assert '{sa_family=AF_UNIX, sun_path=@"name"}, 7)' in traced("bind", 99, b"\1\0\0name", 7)
    assert 'sin6_addr="::1"}' in traced("connect", 99, struct.pack("<HHI", 10, 80, 0) + bytes(15) + b"\1\0\0\0\0", 28)
    assert traced("socket", 77, 1 | 0o2000000, 0).startswith("socket(77, SOCK_STREAM|SOCK_CLOEXEC, 0)")
    render = traced.strace._renderer
    info = struct.pack("<iiiiiI", 10, 0, 0, 0, 42, 1000) + bytes(8)
    assert render.siginfo(info) == "{si_signo=SIGUSR1, si_code=SI_USER, si_pid=42, si_uid=1000}"
    info = struct.pack("<iiiiQ", 11, 0, 1, 0, 0x10) + bytes(8)
    assert render.siginfo(info) == "{si_signo=SIGSEGV, si_code=1, si_addr=0x10}"
    assert render.signals(0) == "[]" and render.signals((1 << 64) - 1 - 256) == "~[KILL]"
    for status, text in (
            (3 << 8, "WIFEXITED(s) && WEXITSTATUS(s) == 3"), (9, "WIFSIGNALED(s) && WTERMSIG(s) == SIGKILL"),
            (0x137F, "WIFSTOPPED(s) && WSTOPSIG(s) == SIGSTOP"), (0xFFFF, "WIFCONTINUED(s)")):
        traced.space.write(DATA, struct.pack("<I", status))
        assert render._status(DATA, None, None) == f"[{{{text}}}]"
    assert render.word("clone", 0x1200011) == "CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD"
    assert render.word("handler", 1) == "SIG_IGN" and render.word("handler", 0x1234) == "0x1234"


def test_errors_have_their_words() -> None:
    assert outcome(-2) == "-1 ENOENT (No such file or directory)" and outcome(-4000) == "-1 (errno 4000)"
    assert outcome(-512) == "? ERESTARTSYS (To be restarted if SA_RESTART is set)"
    assert outcome(-514) == "? ERESTARTNOHAND (To be restarted if no handler)" and outcome(-4096) == "-4096"


def test_arrays_of_pointers(traced: Traced) -> None:
    traced.space.write(DATA, struct.pack("<4Q", TEXT + 0x100, TEXT + 0x103, 0x10, 0))
    traced.space.write(TEXT + 0x100, b"ls\0-l\0")
    render = traced.strace._renderer
    traced.space.write(DATA + 16, bytes(8))
    assert render._texts(DATA, None, None) == '["ls", "-l"]'
    assert render._environment(DATA, None, None) == f"{DATA:#x} /* 2 vars */"


def test_a_call_that_does_not_return() -> None:
    traced = Traced()
    with pytest.raises(ExitGroup):
        traced("exit_group", 5)
    assert re.sub(" +=", " =", traced.lines[-1]) == "exit_group(5) = ?"
    traced.space.close()


def test_only_what_was_asked_for(tmp_path: Path) -> None:
    traced = Traced("json,file,getpid")
    traced.strace.call(NUMBERS["getuid"], (0,) * 6)
    assert traced.lines == []
    traced("openat", AT_FDCWD, "/none", 0)
    row = json.loads(traced.lines[-1])
    assert row == {"pid": os.getpid(), "instructions": 0, "name": "openat", "number": 56,
                   "arguments": ["AT_FDCWD", '"/none"', "O_RDONLY"],
                   "words": [(1 << 64) - 100, TEXT, 0, 0], "result": -2, "errno": "ENOENT"}
    assert json.loads(traced("getpid"))["result"] == os.getpid()
    traced.space.close()
    assert selection("time").times and selection("strings=7").strings == 7 and selection("").calls is None
    for text in ("jsn", "strings=", "strings=x", "json,openat,opennat"):
        with pytest.raises(ValueError, match="is no system call"):
            selection(text)


CHILD = """
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
static void come(int number) { (void)number; }
int main(void) {
    int status;
    if (fork() == 0)
        _exit(4);
    wait(&status);
    signal(SIGUSR1, come);
    kill(getpid(), SIGUSR1);
    return 2;
}
"""


def test_processes_and_signals_are_shown(tmp_path: Path) -> None:
    (tmp_path / "child.c").write_text(CHILD)
    subprocess.run([need("riscv64-linux-gnu-gcc", "gcc-riscv64-linux-gnu"), "-static", "-o", str(tmp_path / "child"),
                    str(tmp_path / "child.c")], check=True, timeout=60)  # fmt: skip
    command = [sys.executable, "-m", "dragoman", "run", "--strace=process,signal", str(tmp_path / "child")]
    env = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    lines = [re.sub(r" +=", " =", line) for line in done.stderr.splitlines()]
    assert done.returncode == 2
    made = re.fullmatch(r"clone\(CLONE_CHILD_CLEARTID\|CLONE_CHILD_SETTID\|SIGCHLD, .*\) = (\d+)",
                        next(line for line in lines if line.startswith("clone(")))
    assert made is not None
    inside = [line for line in lines if line.startswith(f"[pid {made[1]}] ")]
    assert [line.split("] ")[1] for line in inside][1:] == ["exit_group(4) = ?", "+++ exited with 4 +++"]
    assert f"wait4(-1, [{{WIFEXITED(s) && WEXITSTATUS(s) == 4}}], 0, NULL) = {made[1]}" in lines
    assert any(line.startswith("--- SIGUSR1 {si_signo=SIGUSR1, si_code=SI_USER, si_pid=") for line in lines)
    assert lines[-1] == "+++ exited with 2 +++"


def test_ends_are_shown() -> None:
    lines: list[str] = []
    dragoman.run("@hello", strace=lines.append, strace_items="exit_group")
    assert [re.sub(" +=", " =", line) for line in lines] == ["exit_group(0) = ?", "+++ exited with 0 +++"]
    dragoman.run("@hello", strace=lines.append, strace_items="json,exit_group")
    assert json.loads(lines[-1])["exited"] == 0
    traced = Traced("json")
    traced.strace.ended(None, 9)
    traced.strace.signal(10, struct.pack("<iiiiiI", 10, 0, 0, 0, 42, 1000) + bytes(8))
    assert json.loads(traced.lines[0])["killed"] == "SIGKILL" and json.loads(traced.lines[1])["signal"] == "SIGUSR1"
    traced.space.close()
