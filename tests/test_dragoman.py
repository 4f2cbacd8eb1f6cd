"""The public face: what `import dragoman` offers."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import ModuleType

import pytest
from support import tiny
from support.riscv import asm
from support.tiny import A0, A1, ECALL, SP, li

import dragoman

ENGINES = pytest.mark.parametrize("engine", ("translated", "reference"))


@ENGINES
def test_run_captures(engine: str) -> None:
    result = dragoman.run("@hello", ["a b", "ü"], engine=engine)
    assert result.stdout.decode() == "Hello from RISC-V!\nargc = 3\nargv[1] = a b\nargv[2] = ü\n"
    assert (result.status, result.signal, result.stderr, result.reason) == (0, None, b"", "")
    assert result.instructions == result.stats["instructions"] > 500
    assert result.stats["engine"] == engine


def echo(path: Path, descriptor: int) -> Path:
    """A program that copies its input to a descriptor, 256 bytes at a time."""
    return tiny.program(path, [
        asm("addi", rd=SP, rs1=SP, imm=-256),
        asm("addi", rd=A1, rs1=SP, imm=0), li(A0, 0), li(12, 256), *tiny.call(63),
        asm("beq", rs1=A0, rs2=0, imm=24),
        asm("addi", rd=12, rs1=A0, imm=0), li(A0, descriptor), *tiny.call(64), asm("jal", rd=0, imm=-44 + 4),
        *tiny.leave(7),
    ])  # fmt: skip


def test_input_and_large_output(tmp_path: Path) -> None:
    text = bytes(range(256)) * 4096  # more than any pipe holds
    out, err = echo(tmp_path / "out", 1), echo(tmp_path / "err", 2)
    result = dragoman.run(out, stdin=text)
    assert (result.status, result.stdout, result.stderr) == (7, text, b"")
    result = dragoman.run(err, stdin=text)
    assert (result.status, result.stdout, result.stderr) == (7, b"", text)
    source = tmp_path / "input"
    source.write_bytes(b"from a file")
    with source.open("rb") as file:
        assert dragoman.run(str(out), stdin=file, engine="reference").stdout == b"from a file"
    with source.open("rb") as file:
        assert dragoman.run(out, stdin=file.fileno()).stdout == b"from a file"
    assert dragoman.run(out).stdout == b""


def test_output_that_is_not_captured_is_ours(capfd: pytest.CaptureFixture[str]) -> None:
    result = dragoman.run("@hello", capture=False)
    assert result.stdout == b"" and capfd.readouterr().out.startswith("Hello from RISC-V!")


@ENGINES
def test_a_signal(engine: str, tmp_path: Path) -> None:
    path = tiny.program(tmp_path / "program", [asm("lw", rd=A0, rs1=0, imm=0)])
    result = dragoman.run(path, engine=engine)
    assert (result.status, result.signal) == (None, 11)
    assert result.reason == "guest killed by SIGSEGV: load page fault at 0x0, pc 0x10078: lw a0, 0(zero)"


@ENGINES
def test_a_system_call_ends_a_reservation(engine: str, tmp_path: Path) -> None:
    """The exit status is what the store-conditional says: 1, it failed."""
    path = tiny.program(tmp_path / "program", [
        asm("addi", rd=8, rs1=SP, imm=-16), asm("lr.w", rd=5, rs1=8, aq=0, rl=0), *tiny.call(172),
        asm("sc.w", rd=A0, rs1=8, rs2=5, aq=0, rl=0), *tiny.call(94),
    ])  # fmt: skip
    assert dragoman.run(path, engine=engine, options=dragoman.Options(hot=0)).status == 1


@ENGINES
def test_the_limit_keeps_what_there_is(engine: str) -> None:
    with pytest.raises(dragoman.LimitReached) as caught:
        dragoman.run("@hello", engine=engine, max_instructions=300)
    result = caught.value.result
    assert result.instructions == caught.value.count >= 300 and (result.status, result.signal) == (None, None)


@ENGINES
def test_a_process_by_hand(engine: str, tmp_path: Path) -> None:
    path = tiny.program(tmp_path / "program", [li(A0, 5), asm("sd", rs2=A0, rs1=SP, imm=-8), *tiny.leave(1)])
    with dragoman.load(path, engine=engine, env={"A": "B"}, argv0="me", seed=1) as process:
        assert isinstance(process, dragoman.Process)
        assert process.step() == 1 and process.registers["x10"] == 5 and process.pc == 0x1007C
        process.set_register("a0", 0x1234)
        process.step()
        sp = process.registers["x2"]
        assert process.read(sp - 8, 8) == (0x1234).to_bytes(8, "little")
        process.write(process.pc, li(A0, 9).to_bytes(4, "little"))  # the exit status, before it is executed
        assert process.run() == 9 and process.ended
        with pytest.raises(dragoman.MemoryFault):
            process.read(0, 1)


def test_a_run_can_go_on_after_a_limit() -> None:
    with dragoman.load("@sieve", ["small"], stdout=2, seed=0) as process:
        for limit in (1000, 2000, 100_000):
            with pytest.raises(dragoman.LimitReached):
                process.run(limit)
            assert limit <= process.instructions < limit + 100
        assert process.run() == 0
        assert process.instructions == dragoman.run("@sieve", ["small"], seed=0).instructions


def test_repeatable_with_a_seed(tmp_path: Path) -> None:
    buffer = asm("addi", rd=A0, rs1=SP, imm=-64)
    show = [asm("addi", rd=A1, rs1=SP, imm=-64), li(12, 16), li(A0, 1), *tiny.call(64), *tiny.leave(0)]
    path = tiny.program(tmp_path / "random", [buffer, li(A1, 16), li(12, 0), *tiny.call(278), *show])
    one, again, other = (dragoman.run(path, seed=seed).stdout for seed in (1, 1, 2))
    assert len(one) == 16 and one == again != other != dragoman.run(path).stdout


def test_what_is_told() -> None:
    calls: list[str] = []
    lines: list[str] = []
    dragoman.run("@hello", engine="reference", strace=calls.append, trace=lines.append)
    assert calls[0].startswith("write(1, ") and calls[-1] == "+++ exited with 0 +++" and "<main>" in "".join(lines)
    with pytest.raises(ValueError, match="only the reference engine"):
        dragoman.run("@hello", trace=lines.append)


def test_options() -> None:
    texts: list[str] = []
    options = dragoman.Options(hot=0, dump=frozenset({"decode"}), write=texts.append)
    dragoman.run("@hello", options=options)
    assert any("jal" in text for text in texts)


def test_compare() -> None:
    found = dragoman.compare("@atomic", ["small"], max_instructions=20_000, options=dragoman.Options(hot=4, tiers=(1,)))
    assert found.equal and found.bounded and found.differences == ()
    assert found.reference.compared == found.translated.compared
    assert found.translated.instructions > found.reference.instructions >= 20_000
    assert found.translated.translate > 0 and found.ratio > 0 and "atomic" in found.program


def test_lockstep() -> None:
    report = dragoman.lockstep("@hello", stdout=2)
    assert report.difference is None and report.status == 0 and report.instructions > 500


def test_errors(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("text")
    with pytest.raises(dragoman.NotRunnable, match="is not an ELF file"):
        dragoman.run(path)
    with pytest.raises(FileNotFoundError):
        dragoman.run(tmp_path / "none")
    with pytest.raises(dragoman.UnknownProgram, match="there is no bundled program @none"):
        dragoman.run("@none")
    with pytest.raises(dragoman.UnknownIsa):
        dragoman.run("@hello", isa="rv32i")
    with pytest.raises(ValueError, match="no engine 'fast'"):
        dragoman.run("@hello", engine="fast")
    with pytest.raises(AttributeError):
        dragoman.nothing  # noqa: B018


def test_an_instruction_set_without_an_extension(tmp_path: Path) -> None:
    path = tiny.program(tmp_path / "program", [asm("mul", rd=A0, rs1=A0, rs2=A0), *tiny.leave(0)])
    assert dragoman.run(path).status == 0
    assert dragoman.run(path, isa="rv64iac").signal == 4


def test_every_public_name_is_there() -> None:
    for name in dragoman.__all__:
        assert getattr(dragoman, name) is not None and name in dir(dragoman)
    assert isinstance(dragoman, ModuleType) and dragoman.__version__[0].isdigit()


def test_text_input_needs_bytes() -> None:
    with pytest.raises((TypeError, AttributeError, io.UnsupportedOperation)):
        dragoman.run("@hello", stdin="text")  # type: ignore[arg-type]
    assert sys.stdin is not None


def test_a_program_of_two_calls(tmp_path: Path) -> None:
    """The kernel's error convention reaches the guest: reading from a closed descriptor gives -EBADF."""
    path = tiny.program(tmp_path / "program", [
        li(A0, 100), li(A1, 0), li(12, 0), *tiny.call(63), asm("sub", rd=A0, rs1=0, rs2=A0), li(17, 94), ECALL,
    ])  # fmt: skip
    assert dragoman.run(path).status == 9
