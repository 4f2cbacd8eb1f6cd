"""The command line from outside: statuses, messages, options. Every command runs as a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest
from support import tiny
from support.riscv import asm
from support.tiny import A0, A1, A7, BASE, EBREAK, ECALL, LOOP, SP, START, header, li, segment

from dbt import cli
from dbt.cli import arguments, errors, options
from dbt.options import Options

ROOT = Path(__file__).resolve().parents[2]
ENGINES = ("translated", "reference")


def environment(**changes: str) -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "QEMU_LD_PREFIX", "DRAGOMAN_DEBUG")}
    return inherited | {"PYTHONPATH": str(ROOT)} | changes


def dragoman(*words: str | Path, **how: Any) -> subprocess.CompletedProcess[str]:
    """Run the command. Whatever it does, it shows no traceback, and its own failures say who speaks."""
    how = {"env": environment(), "stdin": subprocess.DEVNULL, "cwd": tempfile.gettempdir(), "timeout": 60} | how
    command = [sys.executable, "-m", "dragoman", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", **how)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def refused(done: subprocess.CompletedProcess[str], status: int, sentence: str) -> None:
    """It ended with our status and one line of ours, which says this."""
    assert done.returncode == status, (done.returncode, done.stderr)
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("dragoman: "), done.stderr
    assert sentence in lines[0]


@pytest.fixture
def make(tmp_path: Path) -> Callable[[Sequence[int]], Path]:
    return lambda words: tiny.program(tmp_path / "program", words)


# --- files that do not run ----------------------------------------------------------------------------------------

_CODE = tiny.elf(bytes(8))
TOP = (1 << 38) - 0x10000  # in the stack
_BAD = {
    "empty": (b"", "is empty"),
    "text": (b"echo\n", "is not an ELF file"),
    "short header": (_CODE[:40], "truncated"),
    "short program headers": (_CODE[:100], "the program headers are truncated"),
    "short segment": (_CODE[:-1], "is truncated"),
    "32 bits": (header(bits=1) + _CODE[64:], "32-bit"),
    "big endian": (_CODE[:5] + b"\2" + _CODE[6:], "big-endian"),
    "x86-64": (header(machine=62) + _CODE[64:], "is for x86-64"),
    "AArch64": (header(machine=183) + _CODE[64:], "is for AArch64"),
    "object file": (header(kind=1) + _CODE[64:], "relocatable"),
    "no headers": (header(count=0) + _CODE[64:], "no program headers"),
    "nothing to load": (header() + segment(BASE, 0, 0, 0) + bytes(8), "nothing to load"),
    "more in file": (header() + segment(BASE, 0, 128, 64) + bytes(8), "more bytes in the file than in memory"),
    "overlap": (
        header(BASE + 176, count=2) + segment(BASE, 0, 184, 8192) + segment(BASE + 4096, 0, 184, 184) + bytes(8),
        "overlap",
    ),
    "beyond all": (header() + segment(BASE, 0, 128, 1 << 63) + bytes(8), "beyond the guest's address space"),
    "stack": (header(TOP + 120) + segment(TOP, 0, 128, 128) + bytes(8), "it has a segment where the stack belongs"),
    "wraps": (header(1 << 63) + segment(1 << 63, 0, 128, 1 << 63 | 1) + bytes(8), "ends beyond the address space"),
    "odd entry": (header(START + 1) + _CODE[64:], "is not aligned"),
    "entry outside": (header(0x40) + _CODE[64:], "is in no segment"),
    "loader": (
        header(BASE + 176, count=2) + segment(BASE, 0, 184, 184) + segment(BASE, 120, 6, 6, kind=3) + bytes(8),
        "names its loader in a damaged header",
    ),
}


@pytest.mark.parametrize("name", _BAD)
def test_a_file_that_cannot_run(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, sentence = _BAD[name]
    path = tmp_path / "bad"
    path.write_bytes(content)
    for command in ("run", "info", "compare", "lockstep"):
        if command == "info" and name in ("beyond all", "stack"):
            continue  # facts of the guest's memory, not of the file
        options = ["--stdin=/dev/null"] if command == "compare" else []
        assert cli.main([command, *options, str(path)]) == errors.NOT_RUNNABLE
        out, err = capsys.readouterr()
        assert out == "" and err.startswith(f"dragoman: {path}: ") and err.count("\n") == 1
        assert sentence in err


def test_a_bad_file_as_a_process(tmp_path: Path) -> None:
    path = tmp_path / "bad"
    path.write_bytes(b"MZ")
    refused(dragoman("run", path), 126, "is not an ELF file")
    refused(dragoman("run", tmp_path), 126, "is a directory")
    refused(dragoman("run", path / "inside"), 126, "not a directory")
    refused(dragoman("run", tmp_path / "none"), 127, "there is no such file")
    refused(dragoman("run", "@none"), 127, "there is no bundled program @none")


def test_the_name_of_a_file_cannot_make_a_line_of_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a\ndragoman: b\x1b[31m\udcff"
    path.write_bytes(b"MZ")
    assert cli.main(["run", str(path)]) == errors.NOT_RUNNABLE
    err = capsys.readouterr().err
    assert err == f"dragoman: {tmp_path}/a\\ndragoman: b\\x1b[31m\\udcff: is not an ELF file\n"


def test_a_file_without_permission(capsys: pytest.CaptureFixture[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "secret"
        path.write_bytes(_CODE)
        path.chmod(0)
        os.chmod(folder, 0o755)
        cli.main(["run", "--max-instructions=0", "@hello"])  # all modules are imported before rights are given up
        capsys.readouterr()
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)
        try:
            status = cli.main(["run", str(path)])
        finally:
            if root:
                os.seteuid(0)
    assert status == 126
    assert capsys.readouterr().err == f"dragoman: {path}: permission denied\n"


# --- bad usage ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("words", "sentence"), [
    (["nonsense"], "there is no command 'nonsense'"),
    (["@hello"], "to run it: dragoman run @hello"),
    (["--nonsense"], "there is no option '--nonsense'"),
    (["run"], "which program?"),
    (["run", "--nonsense", "@hello"], "there is no option --nonsense"),
    (["run", "--max-instruction=3", "@hello"], "there is no option --max-instruction"),
    (["run", "-x", "@hello"], "there is no option -x"),
    (["run", "--engine=fast", "@hello"], "--engine: invalid choice: 'fast'"),
    (["run", "--engine"], "--engine needs a value"),
    (["run", "--isa=rv64gcq", "@hello"], "extension 'q' is not implemented"),
    (["run", "--isa=arm", "@hello"], "ISA string 'arm'"),
    (["run", "--max-instructions=many", "@hello"], "'many' is not a number"),
    (["run", "--max-instructions=-1", "@hello"], "-1 is not at least 0"),
    (["run", "--max-instructions", "@hello"], "'@hello' is not a number"),
    (["run", "--max-block=0", "@hello"], "0 is not from 1 to 2048"),
    (["run", "--cache-size=3", "@hello"], "3 is not from 1K to 1024M"),
    (["run", "--cache-size=2G", "@hello"], "'2G' is not a size, such as 65536, 64K or 1M"),
    (["run", "--cache-size=-4K", "@hello"], "'-4K' is not a size"),
    (["run", "--cache-policy=best", "@hello"], "--cache-policy: there is no policy 'best' (there are: lru, lfu"),
    (["run", "--cache=maybe", "@hello"], "--cache: invalid choice: 'maybe'"),
    (["run", "--cache=off", "--cache-size=64K", "@hello"], "--cache=off keeps nothing"),
    (["run", "--cache=off", "--engine=reference", "@hello"], "--cache is for the translator"),
    (["run", "--deterministic=x", "@hello"], "'x' is not a number"),
    (["run", "--stats=xml", "@hello"], "invalid choice: 'xml'"),
    (["run", "--dump=decode,magic", "@hello"], "there is no stage 'magic'"),
    (["run", "-E", "NAME", "@hello"], "'NAME' is not of the form VAR=VALUE"),
    (["run", "-L", "/nowhere/at/all", "@hello"], "is not a folder"),
    (["run", "-D", "/nowhere/at/all", "@hello"], "cannot write /nowhere/at/all"),
    (["run", "--trace", "--engine=translated", "@hello"], "--trace needs --engine=reference"),
    (["run", "--dump=ir", "--engine=reference", "@hello"], "--dump is for the translator"),
    (["run", "--dump-file=x", "@hello"], "--dump-file without --dump"),
    (["run", "--strace=yes", "@hello"], "--strace"),
    (["compare"], "which program?"),
    (["compare", "--stdin=/nowhere", "@hello"], "cannot read /nowhere"),
    (["lockstep"], "which program?"),
    (["lockstep", "--reproduce=x", "@hello"], "--reproduce runs a saved block"),
    (["info"], "one of PROGRAM, --programs, --isa, --coverage and --syscalls"),
    (["info", "@hello", "@hello"], "one of PROGRAM"),
])  # fmt: skip
def test_bad_usage(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("dragoman: ") and err.count("\n") == 1
    assert sentence in err


def test_bad_usage_as_a_process() -> None:
    refused(dragoman("run", "--nonsense", "@hello"), 2, "there is no option --nonsense (see `dragoman run --help`)")
    done = dragoman()
    assert done.returncode == 2 and "commands:" in done.stderr and "dragoman: which command?" in done.stderr


def test_help_and_version() -> None:
    for words in ((), ("run",), ("compare",), ("lockstep",), ("info",)):
        done = dragoman(*words, "--help")
        assert done.returncode == 0 and done.stdout.startswith("usage: dragoman") and done.stderr == ""
    assert dragoman("--version").stdout.startswith("dragoman 0")


def test_help_tells_the_defaults_that_there_are() -> None:
    plain = Options()
    known = {"max-block": plain.max_instructions, "region": plain.region, "promote": plain.promote,
             "hot": plain.hot, "cache-size": f"{plain.cache_size >> 20}M"}  # fmt: skip
    text = " ".join(dragoman("run", "--help").stdout.split())
    for name, value in known.items():
        told = re.search(rf" --{name} \S+ .*?\(default: (\w+)", text)
        assert told is not None and told[1] == str(value), name


def test_what_is_imported_when() -> None:
    """Help needs no engine, and the reference engine no LLVM."""

    def imported(*words: str) -> set[str]:
        code = f"import sys, dragoman; dragoman.main({list(words)!r}); print(*sys.modules, file=sys.stderr)"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment(), cwd=tempfile.gettempdir()
        )
        return set(done.stderr.split())

    assert not imported("--help") & {"dbt.process", "guests.riscv", "ir.ops", "llvmlite", "cachetools"}
    assert not imported("run", "--help") & {"dbt.process", "guests.riscv", "ir.ops", "llvmlite", "cachetools"}
    reference = imported("run", "--engine=reference", "@hello")
    assert "dbt.reference" in reference and not reference & {"llvmlite", "capstone", "cachetools"}
    assert not imported("run", "@hello") & {"capstone"}


def test_a_foreign_package_is_one_sentence(tmp_path: Path) -> None:
    """dbt-core installs a package `dbt`; whichever is found first, we say so and run nothing of it."""
    foreign = tmp_path / "dbt"
    foreign.mkdir()
    for content in ("raise SystemExit('executed')\n", "x = 'DISTRIBUTION = \"dragoman\"'\n", "syntax error\n", "\0"):
        (foreign / "__init__.py").write_text(content)
        done = dragoman("run", "@hello", env=environment(PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}"))
        refused(done, 125, f"the package 'dbt' that Python finds first, {foreign}/__init__.py, is not Dragoman's")


# --- running ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_the_program_s_status_and_output_are_ours(engine: str, make: Callable[[Sequence[int]], Path]) -> None:
    done = dragoman("run", f"--engine={engine}", "@hello", "one", "two")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "Hello from RISC-V!\nargc = 3\nargv[1] = one\nargv[2] = two\n"
    for status in (1, 124, 255):
        done = dragoman("run", f"--engine={engine}", make(tiny.leave(status)))
        assert (done.returncode, done.stdout, done.stderr) == (status, "", "")


def test_options_end_at_the_program(capfd: pytest.CaptureFixture[str]) -> None:
    def arguments(*words: str) -> list[str]:
        assert cli.main(["run", "--engine=reference", *words]) == 0
        return [line.split(" = ", 1)[1] for line in capfd.readouterr().out.splitlines() if line.startswith("argv[")]

    assert arguments("@hello", "--help", "-E", "--stats", "--", "-0") == ["--help", "-E", "--stats", "--", "-0"]
    assert arguments("--", "@hello", "--", "a") == ["--", "a"]
    assert arguments("--stats", "@hello", "json") == ["json"]
    assert arguments("-0", "--stats", "-E", "A=B", "@hello", "") == [""]


def test_what_the_program_sees(
    make: Callable[[Sequence[int]], Path], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tiny.show_strings())

    def strings(*options: str, **env: str) -> list[str]:
        with monkeypatch.context() as patch:
            for name, value in env.items():
                patch.setenv(name, value)
            assert cli.main(["run", "--engine=reference", *options, str(path), "last"]) == 0
        words = capfd.readouterr().out.split("\0")
        return words[: words.index(str(path), 1)]

    plain = strings(MINE="1")
    assert plain[:2] == [str(path), "last"] and "MINE=1" in plain
    seen = strings("-E", "NEW=a,b=c", "-EMINE=2", "--unset=GONE", "-U", "NOT_THERE", MINE="1", GONE="1")
    assert {"NEW=a,b=c", "MINE=2"} <= set(seen) and not any(s.startswith(("GONE=", "MINE=1")) for s in seen)
    assert "MINE=3" not in strings("-E", "MINE=3", "-U", "MINE") and "MINE=4" in strings("-U", "MINE", "-E", "MINE=4")
    assert strings("-0", "-login")[0] == "-login" and strings("--argv0=")[0] == ""


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("words", "number", "sentence"), [
    ([asm("ld", rd=A0, rs1=0, imm=8)], 11, "SIGSEGV: load page fault at 0x8, pc 0x10078: ld a0, 8(zero)"),
    ([asm("sd", rs2=A0, rs1=0, imm=8)], 11, "SIGSEGV: store/AMO page fault at 0x8, pc 0x10078: sd a0, 8(zero)"),
    ([0], 4, "SIGILL: illegal instruction 0x0, pc 0x10078"),
    ([EBREAK], 5, "SIGTRAP: breakpoint, pc 0x10078: ebreak"),
    ([asm("jalr", rd=0, rs1=0, imm=16)], 11, "SIGSEGV: instruction page fault at 0x10, pc 0x10"),
    (tiny.kill_self(6), 6, "SIGABRT"),
    (tiny.kill_self(9), 9, "SIGKILL"),
    (tiny.kill_self(40), 40, "signal 40"),
])  # fmt: skip
def test_killed_by_a_signal(
    engine: str, words: list[int], number: int, sentence: str, make: Callable[[Sequence[int]], Path]
) -> None:
    done = dragoman("run", f"--engine={engine}", make(words))
    assert done.returncode == -number
    first, *rest = done.stderr.splitlines()
    assert first == f"dragoman: guest killed by {sentence}"
    trapped = "pc" in sentence
    assert ("sp 000000" in "".join(rest)) == trapped and bool(rest) == (trapped or number == 6)
    if trapped:
        pc = int(sentence.split("pc ")[1].split(":")[0], 16)
        assert f"pc {pc:016x}" in done.stderr and f"\n#0  {pc:#x}" in done.stderr
    if rest:
        assert rest[-1].startswith("the backtrace ends: ")


def test_a_core_is_not_dumped(make: Callable[[Sequence[int]], Path], tmp_path: Path) -> None:
    path = make([EBREAK])
    import resource

    pid = os.fork()
    if pid == 0:
        try:
            os.chdir(tmp_path)
            hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
            resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            os.execve(sys.executable, [sys.executable, "-m", "dragoman", "run", str(path)], environment())
        finally:
            os._exit(99)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGTRAP and not os.WCOREDUMP(status)


def test_a_closed_pipe_ends_us_quietly() -> None:
    for words in (("run", "--trace", "@sieve", "small"), ("info", "--coverage")):
        reader, writer = os.pipe()
        os.close(reader)
        command = [sys.executable, "-m", "dragoman", *words]
        done = subprocess.run(
            command, stdout=writer, stderr=writer if "run" in words else subprocess.PIPE, env=environment(),
            cwd=tempfile.gettempdir(), timeout=60,
        )  # fmt: skip
        os.close(writer)
        assert done.returncode == -signal.SIGPIPE and not done.stderr


def test_closed_standard_descriptors(make: Callable[[Sequence[int]], Path]) -> None:
    """A guest of ours that has no stdout gets EBADF, not a file of ours."""
    path = make([li(A0, 1), asm("addi", rd=A1, rs1=SP, imm=0), li(12, 8), *tiny.call(64),
                 asm("sub", rd=A0, rs1=0, rs2=A0), li(A7, 94), ECALL])  # fmt: skip
    command = f'exec "{sys.executable}" -m dragoman run "{path}" <&- >&-'
    done = subprocess.run(["sh", "-c", command], env=environment(), stderr=subprocess.PIPE, cwd=tempfile.gettempdir())
    assert (done.returncode, done.stderr) == (9, b"")


# --- limits and interruption ----------------------------------------------------------------------------------------


def test_the_limit_is_exact_and_equal_in_both_engines(
    make: Callable[[Sequence[int]], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    counter = asm("addi", rd=A0, rs1=A0, imm=1)
    path = make([counter, counter, asm("jal", rd=0, imm=-8)])  # a block is three instructions
    for limit, count in ((0, 0), (1, 3), (3, 3), (4, 6), (50_000, 50_001)):
        for engine in ENGINES:
            assert cli.main(["run", f"--engine={engine}", "--max-instructions", str(limit), str(path)]) == 124
            assert capfd.readouterr().err == f"dragoman: stopped after {count:,} instructions: the limit was reached\n"
    refused(dragoman("run", "--max-instructions=9", path), 124, "stopped after 9 instructions")
    assert cli.main(["run", "--max-instructions=1_000_000", "@hello"]) == 0


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("words", [[LOOP], [*[li(10 + i, 0) for i in range(4)], *tiny.call(73), LOOP]],
                         ids=("a loop", "a system call that waits"))  # fmt: skip
def test_ctrl_c(engine: str, words: list[int], make: Callable[[Sequence[int]], Path], tmp_path: Path) -> None:
    started = tmp_path / "log"
    words = [li(A7, 172), ECALL, *words]  # a getpid, to be seen in the log
    command = [sys.executable, "-m", "dragoman", "run", f"--engine={engine}", "--strace", "--stats", make(words)]
    with started.open("w") as log, subprocess.Popen(command, env=environment(), cwd=tmp_path, stderr=log) as process:
        deadline = time.monotonic() + 30
        while "getpid" not in started.read_text():
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.02)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        sent = time.monotonic()
        assert process.wait(30) == 130
        assert time.monotonic() - sent < 2
    text = started.read_text()
    assert "dragoman: interrupted after" in text and "blocks" in text and "Traceback" not in text


# --- what it shows --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_statistics(engine: str) -> None:
    done = dragoman("run", f"--engine={engine}", "--stats=json", "--deterministic=7", "@hello")
    stats = json.loads(done.stderr)
    assert stats["engine"] == engine
    executed = stats["ident"] + stats["inline"] + stats["callout"]
    assert executed == stats["instructions"] + stats["syscalls"]  # a system call traps: executed, not retired
    assert stats["instructions"] > 500 and stats["blocks"] > 100 and stats["wall_seconds"] > 0
    if engine == "translated":
        assert 0 <= stats["cache_bytes"] <= stats["cache_bytes_max"] and stats["cache_misses"] > 0
    text = dragoman("run", f"--engine={engine}", "--stats", "--deterministic", "@hello").stderr
    assert f"{stats['instructions']:,}" in text and "million instructions/s" in text
    assert ("python entries" in text) == (engine == "translated")


def test_the_log_file_takes_it_all(tmp_path: Path) -> None:
    log = tmp_path / "log"
    done = dragoman("run", "--strace", "--stats=json", "--trace", "-D", log, "@hello")
    assert (done.returncode, done.stderr) == (0, "")
    lines = log.read_text().splitlines()
    assert any(line.startswith("write(") for line in lines) and any("<main>" in line for line in lines)
    assert json.loads(lines[-1])["engine"] == "reference"


def test_dump(tmp_path: Path) -> None:
    done = dragoman("run", "--max-instructions=1", "--dump", ",".join(options.STAGES), "@hello")
    for stage in options.STAGES:
        assert f"--- {stage} 0x1001ad2" in done.stderr
    path = tmp_path / "dump"
    done = dragoman("run", "--max-instructions=1", "--dump=opt", "--dump-file", path, "@hello")
    assert done.stderr.count("\n") == 1 and "--- opt " in path.read_text() and "--- ir" not in path.read_text()


def test_trace_shows_what_each_instruction_changed(make: Callable[[Sequence[int]], Path]) -> None:
    path = make([
        li(A0, -2),
        asm("sd", rs2=A0, rs1=SP, imm=-16),
        asm("addi", rd=A1, rs1=SP, imm=-16),
        asm("amoadd.w", rd=12, rs1=A1, rs2=A0, aq=0, rl=0),
        asm("fmv.d.x", rd=0, rs1=A0),
        asm("lw", rd=0, rs1=A1, imm=0),
        asm("beq", rs1=A0, rs2=A0, imm=8),
        EBREAK,
        *tiny.call(172),
        *tiny.leave(3),
    ])  # fmt: skip
    done = dragoman("run", "--deterministic", "--trace", path, env={"PYTHONPATH": str(ROOT)})
    assert done.returncode == 3
    lines = [" ".join(line.split()) for line in done.stderr.splitlines()]
    sp = int(lines[2].split("->")[1], 16) + 16
    pid = lines[8].split("->")[1]
    m2, stored = "0xfffffffffffffffe", f"[{sp - 16:#x}]"
    assert lines == [
        f"0x10078 addi a0, zero, -2 a0 0x0->{m2}",
        f"0x1007c sd a0, -16(sp) {stored}8={m2}",
        f"0x10080 addi a1, sp, -16 a1 0x0->{sp - 16:#x}",
        f"0x10084 amoadd.w a2, a0, (a1) a2 0x0->{m2} {stored}4=0xfffffffc",
        f"0x10088 fmv.d.x ft0, a0 ft0 0x0->{m2}",
        "0x1008c lw zero, 0(a1)",
        "0x10090 beq a0, a0, 0x10098",
        "0x10098 addi a7, zero, 172 a7 0x0->0xac",
        f"0x1009c ecall (getpid) a0 {m2}->{pid}",
        f"0x100a0 addi a0, zero, 3 a0 {pid}->0x3",
        "0x100a4 addi a7, zero, 94 a7 0xac->0x5e",
        "0x100a8 ecall (exit_group) exit 3",
    ]


def test_trace_names_functions_and_faults(make: Callable[[Sequence[int]], Path]) -> None:
    assert "0x1001ad2 <_start> " in dragoman("run", "--trace", "@hello").stderr.splitlines()[0]
    last = dragoman("run", "--trace", make([asm("ld", rd=A0, rs1=0, imm=0)])).stderr.splitlines()[0]
    assert " ".join(last.split()) == "0x10078 ld a0, 0(zero) (load page fault at 0x0) SIGSEGV"


def test_info(make: Callable[[Sequence[int]], Path]) -> None:
    text = dragoman("info", "@hello").stdout
    assert "0x1001ad2 <_start>" in text and "bundled as @hello" in text and "r-x" in text
    text = dragoman("info", make([asm("mul", rd=1, rs1=2, rs2=3), 0x4501])).stdout
    assert "needs     rv64imc" in text and "m 1" in text and "c 1" in text
    text = dragoman("info", "--coverage").stdout
    assert "instructions of riscv64" in text and "io_uring_setup" in text
    assert "@sieve" in dragoman("info", "--programs").stdout


def test_the_page_of_system_calls_is_what_the_code_says() -> None:
    page = (ROOT / "docs/syscalls.md").read_text()
    assert dragoman("info", "--syscalls").stdout == page, "make it anew: dragoman info --syscalls > docs/syscalls.md"
    assert "| 63 | `read` | done |" in page and "| `io_uring_setup` | refused |" in page


# --- both engines ---------------------------------------------------------------------------------------------------


def test_compare() -> None:
    done = dragoman("compare", "@hello", "x")
    assert (done.returncode, done.stderr) == (0, "")
    assert "The engines are equal; exit status 0." in done.stdout and "Hello" not in done.stdout
    found = json.loads(dragoman("compare", "--json", "--hot=0", "@hello").stdout)
    assert found["equal"] and not found["bounded"]
    first, second = found["runs"]
    assert (first["engine"], second["engine"]) == ("reference", "translated")
    assert first["compared"] == second["compared"]


def test_compare_with_input_and_a_bounded_reference(tmp_path: Path, make: Callable[[Sequence[int]], Path]) -> None:
    path = make([
        li(A0, 100), asm("addi", rd=A0, rs1=A0, imm=-1), asm("bne", rs1=A0, rs2=0, imm=-4),
        li(A0, 0), asm("addi", rd=A1, rs1=SP, imm=-64), li(12, 1), *tiny.call(63),
        asm("lbu", rd=A0, rs1=A1, imm=0), li(A7, 94), ECALL,
    ])  # fmt: skip
    with subprocess.Popen(["printf", "A"], stdout=subprocess.PIPE) as source:
        done = dragoman("compare", "--max-instructions=50", path, stdin=source.stdout)
    assert done.returncode == 0 and "exit status 65" in done.stdout
    assert "The reference was stopped after 51 instructions" in done.stdout


def test_a_difference_is_status_3(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from dbt import compare

    snapshot = compare._snapshot
    taken = []

    def wrong(*arguments: Any) -> compare.Snapshot:
        taken.append(snapshot(*arguments))
        right = taken[-1]
        if len(taken) == 1:
            return right
        return compare.replace(right, stdout=right.stdout[:3] + b"?" + right.stdout[4:], blocks=right.blocks + 1)

    monkeypatch.setattr(compare, "_snapshot", wrong)
    assert cli.main(["compare", "--stdin=/dev/null", "@hello"]) == 3
    out, err = capsys.readouterr()
    assert err.startswith("dragoman: the engines differ: blocks: reference ")
    assert "first different at byte 3: reference b'lo from" in out


def test_lockstep() -> None:
    done = dragoman("lockstep", "@hello")
    assert done.returncode == 0 and done.stdout.startswith("Hello from RISC-V!\n")
    assert "The engines agree at all of" in done.stdout
    done = dragoman("lockstep", "--max-instructions=100", "@hello")
    assert done.returncode == 0 and "stopped at --max-instructions" in done.stdout


def test_what_was_registered_for_the_end_is_done() -> None:
    """The process ends without taking Python apart: after all that others want done, and with nothing left unsaid."""
    text = (
        "import atexit, sys, dragoman\n"
        "atexit.register(lambda: sys.stdout.write('the last word'))\n"
        "sys.argv = ['dragoman', 'run', '@hello']\n"
        "sys.exit(dragoman.main())\n"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, env=environment(), timeout=60)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.endswith("argc = 1\nthe last word"), done


def test_no_memory_is_one_sentence() -> None:
    import resource

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))

    refused(dragoman("run", "@hello", preexec_fn=limit), 125, "out of memory")


def test_an_internal_error_is_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(words: Sequence[str]) -> int:
        raise ZeroDivisionError("two\nlines")

    monkeypatch.setitem(cli.COMMANDS, "info", broken)  # type: ignore[arg-type]
    monkeypatch.delenv("DRAGOMAN_DEBUG", raising=False)
    assert cli.main(["info"]) == 125
    assert capsys.readouterr().err == (
        "dragoman: internal error: ZeroDivisionError: two lines (DRAGOMAN_DEBUG=1 shows where)\n"
    )
    monkeypatch.setenv("DRAGOMAN_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        cli.main(["info"])


@pytest.mark.parametrize("policy", ["lru", "lfu", "fifo", "size"])
def test_a_small_cache_prints_the_same_and_says_what_it_dropped(policy: str) -> None:
    plain = dragoman("run", "--hot=0", "--deterministic", "@hello")
    options = ("--hot=0", "--deterministic", "--stats=json", "--cache-size=1k", f"--cache-policy={policy}")
    done = dragoman("run", *options, "@hello")
    assert (done.stdout, done.returncode) == (plain.stdout, plain.returncode)
    stats = json.loads(done.stderr)
    assert stats["cache_evictions"] > 0 and stats["cache_bytes_max"] <= 1024
    text = dragoman("run", *(o.replace("=json", "") for o in options), "@hello").stderr
    assert f"{stats['cache_evictions']:,}  dropped to make room" in text


def test_no_cache_prints_the_same() -> None:
    done = dragoman("run", "--cache=off", "--deterministic", "--stats=json", "@hello")
    assert done.stdout == dragoman("run", "--deterministic", "@hello").stdout
    assert json.loads(done.stderr)["cache_hits"] == 0


@pytest.mark.parametrize("command", [c for c in cli.COMMANDS if c != "lab"])
def test_no_options_mean_what_argparse_says_they_mean(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parsers: list[options.Parser] = []

    class Seen(Exception):
        pass

    def split(parser: options.Parser, words: Sequence[str]) -> NoReturn:
        parsers.append(parser)
        raise Seen

    with monkeypatch.context() as patch:
        patch.setattr(options.Parser, "split", split)
        with pytest.raises(Seen):
            cli.COMMANDS[command](["@hello"])
    (parser,) = parsers
    made = arguments.arguments(parser.prog, parser._texts, parser._options, parser.error)
    assert vars(parser.split(["@hello"])[0]) == vars(made.parse_args([]))
    for action in made._actions:
        for name in action.option_strings:
            assert parser._takes[name] == (action.option_strings[-1], action.nargs is None)
