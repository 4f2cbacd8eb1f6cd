"""Debian's static busybox for riscv64, a program that nobody here wrote, against qemu-riscv64.

Both get the same arguments, input, environment and working directory; standard output, standard error and exit status
must be the same bytes. One file is 256 KiB of text, bytes and repetitions, made here.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import peers

import dragoman

ENVIRONMENT = {"PATH": "/nowhere", "TZ": "UTC0", "LC_ALL": "C", "HOME": "/"}
FIXED_TIME = 1_700_000_000


@dataclass(frozen=True)
class Case:
    """One command line after "busybox", in a folder with the files of `folder`, and the standard input."""

    name: str
    command: tuple[str, ...]
    stdin: bytes = b""


def make_text() -> bytes:
    """Lines of words and numbers, some of them repeated: 128 KiB."""
    rng = random.Random(20)
    words = ["".join(rng.choices("etaoinshrdlu", k=rng.randrange(1, 9))) for _ in range(400)]
    lines: list[str] = []
    size = 0
    while size < 128 << 10:
        if lines and rng.random() < 0.2:
            line = rng.choice(lines)
        else:
            line = f"{rng.randrange(100_000)} {' '.join(rng.choices(words, k=rng.randrange(12)))}"
        lines.append(line)
        size += len(line) + 1
    return "\n".join(lines).encode() + b"\n"


TEXT = make_text()
RANDOM = random.Random(21).randbytes(64 << 10)
MIXED = TEXT + RANDOM + bytes(32 << 10) + TEXT[: 32 << 10]  # 256 KiB
FEW = b"".join(TEXT.splitlines(keepends=True)[:40])

SUM = r"""
{ words += NF; sum += $1; long = length($0) > long ? length($0) : long; for (i = 2; i <= NF; i++) seen[$i]++ }
END { for (word in seen) { kinds++; if (seen[word] > most) most = seen[word] }
      printf "%d %d %.6f %d %d %d %g\n", NR, words, sum / NR, long, kinds, most, sin(1) + exp(2) + log(3) }
"""
WORDS = '{ gsub(/[aeiou]+/, "<&>"); print toupper(substr($0, 3, 20)) ":" index($0, "t") }'
NUMBERS = r'BEGIN { for (i = -8; i < 60; i += 3) printf "%e %.17g %x\n", 2 ^ i / 3, atan2(i, 7), i * i }'
LOOP = """
total=0; i=0
while [ $i -lt 3000 ]; do
    case $((i % 7)) in 0|3) total=$((total + i * i));; 5) total=$((total ^ i));; *) : ;; esac
    i=$((i + 1))
done
word=abcdef; short=${word#abc}; list="$short ${#word} ${word%ef}"
for item in $list; do echo "item $item"; done
echo "total $total"; printf '%08x|%-6s|%5.5d\\n' $total left 42
f() { local n=$1; [ $n -le 1 ] && return $n; f $((n - 1)); return $(( ($? + n) % 256 )); }
f 60; echo "f $?"
"""
SCRIPT = b"x=1\nwhile read a b; do x=$((x * 2)); done < few\necho $x $0 $#\nexit 7\n"
REDIRECTS = "echo one > out; echo two >> out; read a < out; echo $a >&2; : > out; test -s out"
FORMAT = "%s|%5d|%-5x|%o|%c|%e|%.3f|%g\\n"

CASES = [
    Case("sha256sum", ("sha256sum", "mixed", "empty")),
    Case("sha256sum-stdin", ("sha256sum",), MIXED),
    Case("sha512sum", ("sha512sum", "mixed")),
    Case("sha3sum", ("sha3sum", "few")),
    Case("sha1sum", ("sha1sum", "mixed")),
    Case("md5sum", ("md5sum", "mixed", "few", "nonesuch")),
    Case("md5sum-check", ("md5sum", "-c", "sums")),
    Case("cksum", ("cksum", "mixed", "few")),
    Case("crc32", ("crc32", "mixed")),
    Case("sum", ("sum", "mixed")),
    Case("gzip", ("gzip", "-c", "mixed")),
    Case("gzip-stdin-best", ("gzip", "-9"), MIXED),
    Case("gunzip", ("gunzip", "-c", "mixed.gz")),
    Case("gunzip-damaged", ("gunzip", "-c", "damaged.gz")),
    Case("bzip2", ("bzip2", "-c", "mixed")),
    Case("bunzip2", ("bunzip2", "-c", "mixed.bz2")),
    Case("unxz", ("xz", "-dc", "mixed.xz")),
    Case("unlzma-wrong", ("unlzma", "-c", "mixed.xz")),
    Case("sort", ("sort", "text")),
    Case("sort-numeric-unique", ("sort", "-n", "-u", "-r", "text")),
    Case("sort-key", ("sort", "-k", "2,2", "-k", "1n", "text")),
    Case("uniq", ("uniq", "-c", "few")),
    Case("awk", ("awk", SUM, "text")),
    Case("awk-strings", ("awk", WORDS, "few")),
    Case("awk-numbers", ("awk", NUMBERS)),
    Case("shell-loop", ("sh", "-c", LOOP)),
    Case("shell-script-from-input", ("sh",), SCRIPT),
    Case("shell-status", ("sh", "-c", "exit 200")),
    Case("shell-syntax-error", ("sh", "-c", "if then")),
    Case("shell-arguments", ("sh", "-c", 'shift; echo "$# $* $@"; set -- $1; echo $#', "zero", "one", "two words", "")),
    Case("shell-redirects", ("sh", "-c", REDIRECTS)),
    Case("wc", ("wc", "text", "mixed", "few")),
    Case("wc-stdin", ("wc", "-l"), TEXT),
    Case("tr", ("tr", "a-mn-z", "n-za-m"), TEXT),
    Case("tr-squeeze", ("tr", "-cs", "[:alnum:]", "\\n"), FEW),
    Case("sed", ("sed", "-E", r"s/([a-z]+) ([a-z]+)/\2-\1/g; 3,9d; /9/!s/$/./; $!N; P; D", "text")),
    Case("grep-count", ("grep", "-c", "-E", "(on|sh)+[rdlu]{2}", "text")),
    Case("grep-none", ("grep", "zzzz", "text")),
    Case("grep-many", ("grep", "-n", "-i", "-o", "^[0-9]*7 [A-D]", "few", "text", "nonesuch")),
    Case("cut", ("cut", "-d", " ", "-f", "1,3-4", "text")),
    Case("cut-bytes", ("cut", "-c", "2-9", "few")),
    Case("paste", ("paste", "-d", ":,", "few", "few")),
    Case("head", ("head", "-n", "17", "text")),
    Case("head-bytes", ("head", "-c", "100000", "mixed")),
    Case("tail", ("tail", "-n", "+1200", "text")),
    Case("tail-few", ("tail", "-n", "3", "text", "few")),
    Case("tac", ("tac", "few")),
    Case("rev", ("rev", "few")),
    Case("nl", ("nl", "few")),
    Case("fold", ("fold", "-s", "-w", "30", "few")),
    Case("od", ("od", "-A", "x", "-t", "x4", "few")),
    Case("hexdump", ("hexdump", "-C", "few")),
    Case("xxd", ("xxd", "few")),
    Case("base64", ("base64", "mixed")),
    Case("base64-decode", ("base64", "-d"), b"RHJhZ29tYW4=\n"),
    Case("uuencode", ("uuencode", "-m", "few", "name")),
    Case("strings", ("strings", "mixed")),
    Case("cmp", ("cmp", "-l", "text", "few")),
    Case("diff", ("diff", "-u", "few", "other")),
    Case("comm", ("comm", "few", "other")),
    Case("tsort", ("tsort",), b"a b\nb c\nd b\n"),
    Case("expand", ("expand", "-t", "3"), b"a\tb\t\tc\n"),
    Case("printf", ("printf", FORMAT, "text", "-42", "255", "8", "z", "12345.678", "2.5", "1e-7")),
    Case("printf-wrong", ("printf", "%d\\n", "12x")),
    Case("expr", ("expr", "(", "7", "*", "6", ")", "%", "5", "+", "100")),
    Case("expr-match", ("expr", "abcdef", ":", "abc\\(.*\\)")),
    Case("expr-false", ("expr", "1", "=", "2")),
    Case("expr-by-zero", ("expr", "1", "/", "0")),
    Case("dc", ("dc", "-e", "40k 2 v p 3 100 ^ p")),
    Case("bc", ("bc", "-l"), b"scale=30; 4*a(1); e(1)\n2^200\n10/3\n"),
    Case("factor", ("factor", "600851475143", "1000000014000000049", "97")),
    Case("seq", ("seq", "-w", "3", "7", "200")),
    Case("seq-fractions", ("seq", "0", "0.1", "2")),
    Case("cat-stdin", ("cat",), MIXED),
    Case("cat-several", ("cat", "few", "-", "nonesuch", "few"), b"between\n"),
    Case("cat-numbered", ("cat", "-n", "few")),
    Case("ls", ("ls", "-l", "-n", "tree")),
    Case("ls-recursive", ("ls", "-R", "-1", "-F", "tree")),
    Case("ls-missing", ("ls", "nonesuch")),
    Case("find", ("find", "tree", "-type", "f", "-size", "-9", "-name", "*[0-4]*")),
    Case("find-no-start", ("find", "nonesuch")),
    Case("du", ("du", "-a", "-b", "few")),
    Case("stat", ("stat", "-c", "%n %s %a %F %Y", "few", "tree", "tree/link")),
    Case("readlink", ("readlink", "tree/link")),
    Case("realpath", ("realpath", "tree/../tree/link")),
    Case("basename", ("basename", "/usr/lib/thing.txt", ".txt")),
    Case("dirname", ("dirname", "/usr/lib/thing.txt")),
    Case("tar-create", ("tar", "-c", "-f", "-", "tree")),
    Case("tar-list", ("tar", "-t", "-v", "-f", "tree.tar")),
    Case("tar-extract", ("tar", "-x", "-v", "-f", "tree.tar", "-C", "target")),
    Case("dd", ("dd", "if=mixed", "bs=1000", "skip=3", "count=50", "conv=swab", "status=noxfer")),
    Case("split", ("split", "-b", "50000", "mixed", "part-")),
    Case("tee", ("tee", "copy"), FEW),
    Case("cp", ("cp", "-a", "tree", "target/tree")),
    Case("mv", ("mv", "few", "target/moved")),
    Case("mkdir", ("mkdir", "-p", "-m", "750", "new/deep/er")),
    Case("mkdir-exists", ("mkdir", "tree")),
    Case("rm", ("rm", "-r", "tree")),
    Case("rmdir-full", ("rmdir", "tree")),
    Case("ln", ("ln", "-s", "few", "new-link")),
    Case("touch", ("touch", "-d", "2001-02-03 04:05:06", "few")),
    Case("chmod", ("chmod", "-c", "u=rwx,go-w", "few")),
    Case("truncate", ("truncate", "-s", "100", "few")),
    Case("date-epoch", ("date", "-u", "-d", "@0")),
    Case("date-format", ("date", "-u", "-d", "2024-02-29 12:34:56", "+%F %T %j %U %A %s")),
    Case("cal", ("cal", "2", "2000")),
    Case("env", ("sh", "-c", "echo $PATH $TZ $LC_ALL $HOME $NONESUCH ${NONESUCH:-none}")),
    Case("echo", ("echo", "-e", "a\\tb\\x41\\n")),
    Case("uname", ("uname", "-s", "-m")),
    Case("pwd", ("pwd",)),
    Case("true", ("true",)),
    Case("false", ("false",)),
    Case("test", ("test", "3", "-lt", "2")),
    Case("test-misused", ("test", "a", "b", "c")),
    Case("head-zeros", ("head", "-c", "5", "/dev/zero")),
    Case("unknown-applet", ("nonesuch",)),
    Case("no-such-option", ("cat", "--nonesuch")),
    Case("unreadable", ("wc", "tree")),
    Case("usage", ("sort", "--help")),
    Case("applets", ("--list",)),
]  # fmt: skip

EAGER = ("sha256sum", "awk", "ls")
EAGER_LONG = ("gunzip", "sort", "shell-loop", "sed", "tar-create", "bc", "unxz", "gunzip-damaged", "grep-many", "diff")


@pytest.fixture(scope="module")
def busybox() -> Path:
    return peers.debian_program("usr/bin/busybox")


@pytest.fixture(scope="module")
def qemu() -> str:
    return peers.need("qemu-riscv64", "qemu-user")


def fill(folder: Path) -> None:
    """The files that the cases name, the same bytes, modes and times whenever it is called."""
    import bz2
    import gzip
    import hashlib
    import lzma
    import tarfile

    folder.mkdir()
    zipped = gzip.compress(MIXED, mtime=0)
    files = {
        "text": TEXT, "mixed": MIXED, "few": FEW, "other": FEW.replace(b"e", b"E", 30) + b"more\n", "empty": b"",
        "mixed.gz": zipped, "damaged.gz": zipped[:90_000] + b"?" + zipped[90_001:],
        "mixed.bz2": bz2.compress(MIXED), "mixed.xz": lzma.compress(MIXED),
        "sums": f"{hashlib.md5(FEW).hexdigest()}  few\n{hashlib.md5(b'').hexdigest()}  text\n".encode(),
    }  # fmt: skip
    for i in range(8):
        files[f"tree/file{i}"] = RANDOM[: 700 * i]
    files["tree/below/last"] = FEW
    (folder / "tree/below").mkdir(parents=True)
    (folder / "target").mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o640 if name.startswith("tree") else 0o644)
    (folder / "tree/link").symlink_to("file1")
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir():
            path.chmod(0o755)
        os.utime(path, (FIXED_TIME, FIXED_TIME), follow_symlinks=False)
    with tarfile.open(folder / "tree.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
        archive.add(folder / "tree", "tree")
    for path in (folder / "tree.tar", folder):
        os.utime(path, (FIXED_TIME, FIXED_TIME))


def look(folder: Path) -> dict[str, tuple[int, bytes | str]]:
    """Everything below a folder: mode and content of each file, so that what a command changed is compared too."""
    found: dict[str, tuple[int, bytes | str]] = {}
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        content: bytes | str = b""
        if path.is_symlink():
            content = os.readlink(path)
        elif path.is_file():
            content = path.read_bytes()
        found[str(path.relative_to(folder))] = mode, content
    return found


@dataclass(frozen=True)
class Outcome:
    status: int | None
    stdout: bytes
    stderr: bytes
    files: dict[str, tuple[int, bytes | str]]


class Both:
    """Runs busybox in a fresh folder, always of the same name: under qemu-riscv64, or under an engine of ours."""

    def __init__(self, busybox: Path, qemu: str, folder: Path) -> None:
        self.busybox = busybox
        self.qemu_program = qemu
        self.base = folder
        self.folder = folder / "work"
        self._done = 0

    def _fresh(self) -> None:
        if self.folder.exists():
            self._done += 1
            self.folder.rename(self.base / f"done{self._done}")
        fill(self.folder)
        os.chdir(self.folder)

    def qemu(self, case: Case) -> Outcome:
        self._fresh()
        command = [self.qemu_program, str(self.busybox), *case.command]
        done = subprocess.run(command, input=case.stdin, capture_output=True, env=ENVIRONMENT, timeout=120)
        return Outcome(done.returncode, done.stdout, done.stderr, look(self.folder))

    def ours(self, case: Case, **settings: object) -> Outcome:
        self._fresh()
        result = dragoman.run(self.busybox, case.command, stdin=case.stdin, env=ENVIRONMENT, **settings)  # type: ignore[arg-type]
        assert result.signal is None, result.reason
        return Outcome(result.status, result.stdout, result.stderr, look(self.folder))

    def agree(self, case: Case, **settings: object) -> Outcome:
        theirs, ours = self.qemu(case), self.ours(case, **settings)
        assert (ours.status, ours.stderr) == (theirs.status, theirs.stderr)
        assert ours.stdout == theirs.stdout
        assert ours.files == theirs.files
        return ours


@pytest.fixture
def both(busybox: Path, qemu: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Both:
    monkeypatch.chdir(tmp_path)
    return Both(busybox, qemu, tmp_path)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_same_as_qemu(case: Case, both: Both) -> None:
    both.agree(case)


@pytest.mark.parametrize("name", [*EAGER, *(pytest.param(name, marks=pytest.mark.long) for name in EAGER_LONG)])
def test_same_as_qemu_without_interpreting(name: str, both: Both) -> None:
    """Every block is translated when it is first met: busybox runs through ten thousand instructions to get going."""
    (case,) = (case for case in CASES if case.name == name)
    both.agree(case, options=dragoman.Options(hot=0, region=0, optimisation=0))


def test_reference_engine_too(both: Both) -> None:
    both.agree(Case("sort-few", ("sort", "-r", "few")), engine="reference")


def test_cases_cover_several_statuses(both: Both) -> None:
    """The comparison above would be poor if everything succeeded: here is what some of the cases must end with."""
    expected = {"true": 0, "false": 1, "shell-status": 200, "expr-by-zero": 2, "unknown-applet": 127, "cat-several": 1}
    cases = {case.name: case for case in CASES}
    assert {name: both.ours(cases[name]).status for name in expected} == expected


def test_known_answers(both: Both) -> None:
    """And some outputs that need no other translator to be known."""
    import gzip
    import hashlib

    cases = {case.name: case for case in CASES}
    assert both.ours(cases["sha256sum-stdin"]).stdout == f"{hashlib.sha256(MIXED).hexdigest()}  -\n".encode()
    assert gzip.decompress(both.ours(cases["gzip"]).stdout) == MIXED
    assert both.ours(cases["gunzip"]).stdout == MIXED
    assert both.ours(cases["unxz"]).stdout == MIXED
    assert both.ours(cases["sort"]).stdout == b"".join(sorted(TEXT.splitlines(keepends=True)))
    assert both.ours(cases["tar-extract"]).files["target/tree/file7"][1] == RANDOM[:4900]


def test_command_with_pipes(busybox: Path, tmp_path: Path) -> None:
    """Through the `dragoman` command: descriptors, environment and exit status are the process's own."""
    script = "while read number rest; do total=$((total + number)); done; echo $total; echo $NAME >&2; exit 9"
    command = [sys.executable, "-m", "dragoman", "run", "-E", "NAME=value", str(busybox), "sh", "-c", script]
    done = subprocess.run(command, input=FEW, capture_output=True, cwd=tmp_path, timeout=120,
                          env=os.environ | {"PYTHONPATH": str(peers.REPOSITORY)})  # fmt: skip
    total = sum(int(line.split()[0]) for line in FEW.splitlines())
    assert (done.returncode, done.stdout, done.stderr) == (9, f"{total}\n".encode(), b"value\n")
