"""`dragoman bench`: statuses, JSON, that runs which differ are found, the arithmetic. Timings decide nothing here."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import capstone
import pytest
from support import peers, tiny
from support.riscv import asm, words_to_bytes
from support.tiny import A0, A1, A2, SP, call, leave, li

from dbt import bench, runs
from guests import programs


def command(*words: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(peers.REPOSITORY)} | env
    done = subprocess.run(
        [sys.executable, "-m", "dragoman", "bench", *map(str, words)], env=environment, text=True, timeout=300,
        stdin=subprocess.DEVNULL, capture_output=True, cwd=tempfile.gettempdir(),
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def without_qemu(tmp_path: Path) -> str:
    """A PATH without qemu-riscv64."""
    (tmp_path / "bin").mkdir(exist_ok=True)
    return str(tmp_path / "bin")


# --- the command --------------------------------------------------------------------------------------------------


def test_a_program_under_every_engine(tmp_path: Path) -> None:
    peers.need("qemu-riscv64", "qemu-user")
    peers.need("ziglang", "ziglang")
    report = tmp_path / "report.json"
    done = command("--runs=2", f"--json={report}", "@sieve", "small")
    assert (done.returncode, done.stderr) == (0, "")
    assert "qemu-riscv64 version" in done.stdout and "@sieve small: 758,236 instructions" in done.stdout
    assert "x qemu-riscv64's time" in done.stdout and "The program is short" in done.stdout
    assert all(name in done.stdout for name in bench.ENGINES.values())
    told = json.loads(report.read_text())
    assert (told["runs"], told["differences"], told["means"]) == (2, [], {})
    assert {"processor", "python", "llvmlite", "qemu-riscv64"} <= set(told["machine"])
    (program,) = told["programs"]
    assert (program["program"], program["arguments"], program["status"]) == ("@sieve", ["small"], 0)
    assert program["equal"] and program["instructions"] == 758_236 and not program["reference_bounded"]
    assert set(program["engines"]) == set(bench.ENGINES)
    for figures in program["engines"].values():
        assert all(figures[name] > 0 for name in ("cpu_seconds", "wall_seconds", "instructions_per_second"))
        assert figures["time_to_qemu"] > 0 and figures["time_to_native"] > 0
        assert figures["peak_memory"] is None or figures["peak_memory"] > 0
    engines = program["engines"]
    assert engines["running"]["peak_memory"] is None and engines["cold"]["peak_memory"] > 10 << 20
    assert engines["warm"]["cpu_seconds"] > engines["running"]["cpu_seconds"]
    assert program["translation_seconds"] >= 0 and program["start_seconds"] > 0
    assert {who: len(runs) for who, runs in program["samples"].items()} == dict.fromkeys(
        ("cold", "warm", "qemu", "native", "tuned", "reference"), 2
    )


def test_what_is_missing_is_said_and_left_out(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    program = tiny.program(tmp_path / "program", leave(7))
    done = command("--runs=1", f"--json={report}", program, PATH=without_qemu(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert "qemu-riscv64: not installed" in done.stdout and "ended with status 7" in done.stdout
    assert "x qemu-riscv64's time" not in done.stdout
    told = json.loads(report.read_text())["programs"][0]
    assert set(told["engines"]) == {"reference", "cold", "warm", "running"}
    assert told["status"] == 7 and told["engines"]["cold"]["time_to_qemu"] is None


def test_the_reference_interpreter_is_bounded_and_the_rest_is_not(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    done = command("--runs=1", "--max-instructions=5_000", f"--json={report}", "@sieve", "small",
                   PATH=without_qemu(tmp_path))  # fmt: skip
    assert done.returncode == 0 and "was stopped after 5," in done.stdout
    program = json.loads(report.read_text())["programs"][0]
    assert program["reference_bounded"] and program["instructions"] == 758_236
    assert 5_000 <= program["samples"]["reference"][0]["stats"]["instructions"] < 5_100


def test_every_run_has_the_same_input(tmp_path: Path) -> None:
    peers.need("qemu-riscv64", "qemu-user")
    # read(0, sp, 100), then exit with what it returned
    words = [li(A0, 0), asm("addi", rd=A1, rs1=SP, imm=0), li(A2, 100), *call(63), *call(94)]
    given = tmp_path / "input"
    given.write_bytes(b"x" * 42)
    done = command("--runs=2", f"--stdin={given}", tiny.program(tmp_path / "program", words))
    assert done.returncode == 0 and "ended with status 42" in done.stdout, done.stderr


def test_runs_that_differ_are_found(tmp_path: Path) -> None:
    """A fake qemu that prints something else, one that ends otherwise, and a native program that does."""
    folder = Path(without_qemu(tmp_path))
    fake, report = folder / "qemu-riscv64", tmp_path / "report.json"
    script(fake, 'echo "Hello from elsewhere!"')
    done = command("--runs=1", f"--json={report}", "@hello", PATH=str(folder))
    assert done.returncode == 3 and "running" not in done.stdout
    assert done.stderr == ("dragoman: the engines differ: @hello: qemu printed 'Hello from elsewhere!' on stdout, "
                           "it must have 'Hello from RISC-V!'\n")  # fmt: skip
    told = json.loads(report.read_text())
    assert not told["programs"][0]["equal"] and len(told["differences"]) == 1
    script(fake, "echo it broke >&2\nexit 4")
    done = command("--runs=1", "@hello", "more", PATH=str(folder))
    assert done.returncode == 3
    assert "qemu ended with status 4 (it broke), the cold run ended with status 0" in done.stderr
    fake.unlink()
    native = script(tmp_path / "native", 'kill -SEGV "$$"')
    done = command("--runs=1", f"--native={native}", "@hello", PATH=str(folder))
    assert done.returncode == 3 and "native killed by SIGSEGV, it must have ended with status 0" in done.stderr


def test_a_native_program_of_the_user(tmp_path: Path) -> None:
    native = script(tmp_path / "native", r"printf 'Hello from RISC-V!\nargc = 2\nargv[1] = %s\n' $1")
    done = command("--runs=1", f"--native={native}", "@hello", "x", PATH=without_qemu(tmp_path))
    assert done.returncode == 0 and bench.ENGINES["native"] in done.stdout, done.stderr
    assert bench.ENGINES["tuned"] not in done.stdout
    wrong = script(tmp_path / "wrong", "echo Hello from the other")
    done = command("--runs=1", f"--native={native}", f"--tuned={wrong}", "@hello", "x", PATH=without_qemu(tmp_path))
    assert done.returncode == 3 and "tuned printed 'Hello from the other' on stdout" in done.stderr


def test_native_code_has_vectors_only_where_it_is_tuned() -> None:
    """Loops over arrays of doubles, which a vectoriser does two or more at a time."""
    peers.need("ziglang", "ziglang")
    with ExitStack() as stack:
        built = dict(bench._native(runs.bundled("stream"), stack))
        packed = {way: mnemonics(path) & PACKED for way, path in built.items()}
    assert packed["native"] == set() and packed["tuned"] & PACKED and set(packed) == set(bench.NATIVE)


PACKED = {f"{v}{operation}pd" for v in ("", "v") for operation in ("add", "mul", "fmadd213", "fmadd231", "fmadd132")}


def mnemonics(path: Path) -> set[str]:
    """Of all instructions in the executable segments of an x86-64 file."""
    image, found = path.read_bytes(), set()
    disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    disassembler.skipdata = True
    start, size, count = *struct.unpack_from("<Q", image, 32), *struct.unpack_from("<HH", image, 54)
    for i in range(count):
        _, flags, offset, address, _, length = struct.unpack_from("<IIQQQQ", image, start + i * size)
        if flags & tiny.EXECUTE:
            found |= {words[2] for words in disassembler.disasm_lite(image[offset : offset + length], address)}
    return found


@pytest.mark.parametrize(
    "words, status, sentence",
    [
        ((), 2, "which program?"),
        (("@all", "small"), 2, "@all takes no arguments"),
        (("--runs=0", "@hello"), 2, "not at least 1"),
        (("--native=/no/such", "@hello"), 2, "/no/such: there is no such file, or it may not be run"),
        (("--tuned=/no/such", "@hello"), 2, "/no/such: there is no such file, or it may not be run"),
        (("--tuned=x", "@all"), 2, "@all takes no arguments, no --native and no --tuned"),
        (("--native=/usr", "@hello"), 2, "/usr: there is no such file, or it may not be run"),
        (("--pairs=/no/such",), 2, "/no/such: is not a folder"),
        (("--pairs=/dev", "@hello"), 2, "--pairs takes no program"),
        (("--pairs=/dev",), 2, "/dev: there is no NAME.riscv64 in it"),
        (("--stdin=/no/such", "@hello"), 2, "/no/such: there is no such file, or it may not be read"),
        (("--json=/no/such/file", "@hello"), 2, "cannot write /no/such/file"),
        (("@nothing",), 127, "there is no bundled program @nothing"),
        (("/no/such",), 127, "there is no such file"),
        (("/dev/null",), 126, "/dev/null"),
    ],
)
def test_what_cannot_be_measured_is_refused(words: tuple[str, ...], status: int, sentence: str) -> None:
    done = command(*words)
    assert done.returncode == status and done.stdout == ""
    assert done.stderr.startswith("dragoman: ") and done.stderr.count("\n") == 1 and sentence in done.stderr


def test_ctrl_c_ends_the_command_and_the_run(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    words = [sys.executable, "-m", "dragoman", "bench", "--runs=1", f"--json={report}", "@sieve"]
    bench_process = subprocess.Popen(words, cwd=peers.REPOSITORY, text=True, stdout=subprocess.PIPE,
                                     stderr=subprocess.PIPE, start_new_session=True)  # fmt: skip
    try:
        children = Path(f"/proc/{bench_process.pid}/task/{bench_process.pid}/children")
        end = time.monotonic() + 60
        # The compiler of the native program is a child too: wait for the first run.
        while not (running := [pid for pid in children.read_text().split() if b"\0run\0" in command_line(pid)]):
            assert time.monotonic() < end
            time.sleep(0.05)
        bench_process.send_signal(signal.SIGINT)
        _, said = bench_process.communicate(timeout=60)
        assert (bench_process.returncode, said) == (130, "dragoman: interrupted\n")
        assert not any(command_line(pid) for pid in running)
        assert json.loads(report.read_text())["programs"] == [], "what was measured until then"
    finally:
        bench_process.kill()
        bench_process.wait()


def command_line(pid: str) -> bytes:
    """Of a process that may be gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""


def test_a_run_that_fails_says_why(tmp_path: Path) -> None:
    path = tmp_path / "program"
    path.write_text("no program")
    with pytest.raises(runs.Failed, match="is not an ELF file"):
        bench.Bench(runs.Caches(tmp_path), runs=1).measure(runs.case_of(str(path), path, ()))
    path.chmod(0o755)
    done = command("--runs=1", f"--native={path}", "@hello", PATH=without_qemu(tmp_path))
    assert (done.returncode, done.stderr) == (125, f"dragoman: {path} cannot be run: Exec format error\n")


def test_the_benchmarks_of_the_parts_run(tmp_path: Path) -> None:
    """Each once, without being timed, in a process of its own as `make bench-stages` does."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    words = ["bench", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", f"--basetemp={tmp_path}"]
    done = subprocess.run([sys.executable, "-m", "pytest", *words], env=environment, cwd=peers.REPOSITORY, text=True,
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=600)  # fmt: skip
    files = list((peers.REPOSITORY / "bench").glob("bench_*.py"))
    functions = sum(file.read_text().count("\ndef test_") for file in files)
    assert done.returncode == 0, done.stdout
    assert len(files) >= 6 and f"{functions} passed" in done.stdout, done.stdout


# --- pairs --------------------------------------------------------------------------------------------------------


def pair(folder: Path, name: str, native: str, *, source: str = "hello") -> None:
    (folder / f"{name}.riscv64").write_bytes(programs.path(source).read_bytes())
    script(folder / f"{name}.native", native)


HELLO = r"""printf 'Hello from RISC-V!\nargc = %d\n' $(($# + 1)); n=1
for word; do printf 'argv[%d] = %s\n' $n "$word"; n=$((n + 1)); done"""


def test_a_folder_of_pairs(tmp_path: Path) -> None:
    peers.need("qemu-riscv64", "qemu-user")
    folder, report = tmp_path / "pairs", tmp_path / "report.json"
    folder.mkdir()
    pair(folder, "alone", HELLO)
    pair(folder, "with-words", HELLO)
    (folder / "with-words.args").write_text("one two\n@all\n--runs\n")
    script(folder / "with-words.tuned", HELLO)
    (folder / "with-words.fp").touch()
    (folder / "notes.txt").write_text("something else")
    done = command("--runs=1", f"--pairs={folder}", f"--json={report}")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert "Not in the means, since they are too short: alone, with-words." in done.stdout
    one, other = json.loads(report.read_text())["programs"]
    assert (one["program"], one["arguments"]) == ("alone", [])
    assert (other["program"], other["arguments"]) == ("with-words", ["one two", "@all", "--runs"])
    assert set(bench.ENGINES) - set(one["engines"]) == {"tuned"} and set(other["engines"]) == set(bench.ENGINES)
    assert [case.group for case in bench.pairs(folder)] == ["integer", "floating point"]


def test_programs_of_a_pair_see_the_same_name_and_must_print_the_same(tmp_path: Path) -> None:
    (tmp_path / "named.riscv64").write_bytes(tiny.elf(words_to_bytes(tiny.show_strings())))
    pair(tmp_path, "other", "echo Hello from elsewhere")
    (case, other) = bench.pairs(tmp_path)
    sample = runs.own(case, "reference", case.arguments)
    assert sample.stdout.startswith(b"named\0")
    found = bench.Bench(runs.Caches(tmp_path), runs=1).measure(other)
    assert found.difference == (
        "other: native printed 'Hello from elsewhere' on stdout, the cold run 'Hello from RISC-V!'"
    )


@pytest.mark.parametrize("way", ["native", "tuned"])
def test_half_a_pair_is_refused(tmp_path: Path, way: str) -> None:
    pair(tmp_path, "half", HELLO)
    (tmp_path / f"half.{way}").write_text("cannot be run")
    (tmp_path / f"half.{way}").chmod(0o644)
    done = command(f"--pairs={tmp_path}")
    assert done.returncode == 2 and f"half.{way}: there is no such file, or it may not be run" in done.stderr
    (tmp_path / "half.riscv64").write_text("no program")
    done = command(f"--pairs={tmp_path}")
    assert done.returncode == 126 and "half.riscv64: is not an ELF file" in done.stderr


# --- the arithmetic -----------------------------------------------------------------------------------------------


def result(name: str, instructions: int, translated: float, qemu: float | None, difference: str | None = None) -> Any:
    """A program whose runs took so many CPU seconds: of ours 2 were start, 1 translation and 0.5 another process's."""
    stats = {"instructions": instructions, "cpu_seconds": translated - 2, "wall_seconds": 2 * translated - 2,
             "seconds": {"lift": 0.25, "llvm": 0.75}}  # fmt: skip
    samples = [runs.Sample(2 * t, t, 0, b"", b"", stats, others=0.5) for t in (translated, 99.0, 0.5)]
    case = runs.case_of(f"@{name}", Path(name), ())
    found = bench.Result(case, {"cold": samples, "warm": samples}, difference)
    if qemu is not None:
        found.samples["qemu"] = [runs.Sample(3 * qemu, qemu, 0, b"", b"")]
    return found


def test_figures_are_medians_and_ratios_are_times() -> None:
    found = result("sieve", 40_000_000, 5.0, 4.0)
    assert (found.seconds("cold"), found.seconds("cold", "wall"), found.seconds("running")) == (5.0, 10.0, 2.0)
    assert found.seconds("running", "wall") == 7.0 and found.translation() == 1.5 and found.start() == 1.5
    assert found.speed("running") == 20_000_000 and found.speed("qemu") == 10_000_000
    assert (found.ratio("running", "qemu"), found.ratio("qemu", "running")) == (0.5, 2.0)
    assert found.ratio("running", "qemu", "wall") == pytest.approx(7 / 12)
    assert found.ratio("running", "native") is None and found.seconds("native") is None


def test_means_leave_out_what_is_short_or_wrong_or_has_no_partner() -> None:
    results = [
        result("sieve", 40_000_000, 5.0, 4.0), result("sort", 10_000_000, 5.0, 1.0), result("lz", 10**9, 5.0, None),
        result("hello", 550, 5.0, 4.0), result("life", 10**9, 5.0, 4.0, "@life: qemu printed 'x', it must have 'y'"),
    ]  # fmt: skip
    assert [r.case.name for r in bench.counted(results)] == ["@sieve", "@sort", "@lz"]
    means = bench.means(results)
    assert list(means) == ["integer", "all"] and means["integer"] == means["all"]
    target = means["all"]["translated, running / qemu-riscv64"]
    assert target["programs"] == 2 and target["geomean"] == pytest.approx(1.0)  # of 0.5 and 2
    assert (target["least"], target["greatest"], target["median"]) == (0.5, 2.0, 1.25)
    assert means["all"]["instructions/s: translated, running"]["programs"] == 3
    assert "translated, running / native" not in means["all"]
    text = bench.means_text(results)
    assert "too short: @hello." in text and "floating" not in text
    assert text.endswith("running, x qemu-riscv64's time: 1.00 on integer programs (geometric mean of 2)")
    assert "DIFFERS" in bench.line(results[-1], 10) and "DIFFERS" not in bench.line(results[0], 10)
    report = json.loads(json.dumps(bench.report(results, 3)))
    assert len(report["programs"]) == 5 and report["differences"] == ["@life: qemu printed 'x', it must have 'y'"]
    assert report["means"] == means and report["outliers"] == bench.outliers(results)


def test_means_keep_groups_apart() -> None:
    """@stream computes with doubles, and is measured with those that do."""
    results = [
        result("sieve", 40_000_000, 5.0, 4.0), result("nbody", 40_000_000, 5.0, 8.0), result("sort", 10**9, 5.0, 1.0),
        result("stream", 10**9, 5.0, 16.0),
    ]  # fmt: skip
    text = "translated, running / qemu-riscv64"
    means = {group: figures[text] for group, figures in bench.means(results).items()}
    assert list(means) == ["integer", "floating point", "all"]
    assert {group: mean["programs"] for group, mean in means.items()} == {"integer": 2, "floating point": 2, "all": 4}
    assert means["integer"]["geomean"] == pytest.approx(1.0)  # of 1/2 and 2/1
    assert means["floating point"]["geomean"] == pytest.approx((2 / 8 * 2 / 16) ** 0.5)
    assert means["all"]["geomean"] == pytest.approx((2 / 8 * 2 / 16) ** 0.25)
    told = bench.means_text(results)
    assert "0.18 on floating point programs (geometric mean of 2)" in told.splitlines()[-1]
    row = next(line for line in told.splitlines() if line.endswith(text))
    assert row.split()[0:6:2] == ["1.00", "0.18", "0.42"]


def test_programs_that_stick_out_are_named() -> None:
    results = [result(name, 10**9, 5.0, 5.0) for name in ("sieve", "sort", "lz", "life", "hello")]
    results[1].samples["qemu"] = results[3].samples["qemu"] = [runs.Sample(1.0, 1.0, 0, b"", b"")]
    for found, seconds in zip(results, (1.0, 0.5, 4.0, 0.25)):
        found.samples["native"] = [runs.Sample(seconds, seconds, 0, b"", b"")]
    results[4].samples["cold"] = results[4].samples["warm"] = [
        runs.Sample(2.0, 2.0, 0, b"", b"", {"instructions": 10, "cpu_seconds": 2.0, "seconds": {}})
    ]
    assert bench.outliers(results) == {
        "slower than qemu-riscv64, cold": {"@sort": 5.0, "@life": 5.0},
        "slowest beside native code, cold": {"@life": 20.0, "@sort": 10.0, "@sieve": 5.0},
        "slower than qemu-riscv64, running": {"@sort": 2.0, "@life": 2.0},
        "slowest beside native code, running": {"@life": 8.0, "@sort": 4.0, "@sieve": 2.0},
    }
    assert "slower than qemu-riscv64, cold: @sort 5.00, @life 5.00" in bench.means_text(results)
    assert "slower than qemu-riscv64, cold: none" in bench.means_text(results[:1])


def test_the_cases() -> None:
    cases = bench.bundled_cases()
    assert [case.name for case in cases] == [f"@{name}" for name in programs.PROGRAMS]
    sieve = next(case for case in cases if case.name == "@sieve")
    assert (sieve.arguments, sieve.small, sieve.argv0) == (("large",), ("small",), "sieve")
    assert sieve.output(("small",)) == programs.PROGRAMS["sieve"].small_output
    assert sieve.output(("large",)) == programs.PROGRAMS["sieve"].large_output
    own = runs.case_of("./sieve", Path("sieve"), ["large"])
    assert (own.small, own.output(("large",)), own.argv0) == (None, None, "./sieve")
    assert runs.case_of("@sieve", Path("sieve"), ["small"]).small is None
