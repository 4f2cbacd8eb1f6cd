"""Commands of a Debian system for riscv64, for tests and benchmarks: what is run, in which folder, from which package.

Owns: the table, and the files that the commands read, made here. Must not know: who runs them, or under what.
"""

from __future__ import annotations

import gzip
import random
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

PACKAGES = (  # what `make debian-guests` fetches
    "bash bc busybox-static bzip2 coreutils dash diffutils file findutils gawk gcc git grep gzip jq libc6-dev lua5.4 "
    "make mawk netcat-openbsd openssl perl python3 sed sqlite3 tar tcl vim-tiny xz-utils zstd"
).split()


class Command(NamedTuple):
    """A program below the root and its arguments. `{root}` in one is the root, `{bin}` its folder of programs."""

    name: str
    package: str
    words: tuple[str, ...]
    stdin: bytes = b""
    executes: bool = False  # starts other programs, which only a translator known to the kernel can do
    threads: bool = False  # several of them do its work: qemu has as many on the host, and ours take turns on one

    @property
    def program(self) -> str:
        """Its path below the root, or that of one that was built here."""
        return str(Path("usr/bin") / self.words[0])


def _lines(count: int, seed: int) -> bytes:
    """Lines of a number and some words."""
    rng = random.Random(seed)
    words = ["".join(rng.choices("etaoinshrdlu", k=rng.randrange(2, 9))) for _ in range(500)]
    return "".join(
        f"{rng.randrange(1_000_000)} {' '.join(rng.choices(words, k=rng.randrange(1, 8)))}\n" for _ in range(count)
    ).encode()


def _json(count: int) -> bytes:
    rng = random.Random(5)
    rows = [f'{{"id": {i}, "name": "n{rng.randrange(999)}", "tags": ["a", {rng.random():.6f}], "ok": true}}'
            for i in range(count)]  # fmt: skip
    return ("[" + ",\n".join(rows) + "]\n").encode()


C_PROGRAM = b"""#include <stdio.h>
#include <stdlib.h>
struct node { struct node *left, *right; int key; };
static struct node *insert(struct node *at, int key) {
    if (!at) { at = calloc(1, sizeof *at); at->key = key; return at; }
    if (key < at->key) at->left = insert(at->left, key); else at->right = insert(at->right, key);
    return at;
}
static long sum(const struct node *at, int depth) {
    return at ? (long)at->key * depth + sum(at->left, depth + 1) + sum(at->right, depth + 1) : 0;
}
int main(int argc, char **argv) {
    struct node *root = 0;
    unsigned state = 1;
    for (int i = 0; i < 20000; i++) { state = state * 1103515245 + 12345; root = insert(root, state >> 8 & 0xffff); }
    printf("%d %ld %.10f\\n", argc, sum(root, 1), (double)state / 3);
    return argc + 1;
}
"""
MAKEFILE = b"""all: one two
one: few
\tsort few > one
two: one
\twc -l < one > two; cat two
.PHONY: all
"""
SCRIPT = b"""#!{bin}/dash
total=0
while read number rest; do total=$((total + number)); done < few
echo "$0 has $total for $1"
exit 3
"""
FILES: Mapping[str, bytes] = {
    "text": _lines(20_000, 1), "few": _lines(50, 2), "large": _lines(100_000, 3), "data.json": _json(2000),
    "random": random.Random(4).randbytes(1 << 20), "tree.c": C_PROGRAM, "Makefile": MAKEFILE,
}  # fmt: skip


def fill(folder: Path, programs: Path) -> None:
    """Make the files that commands read. `programs`: where the guest's programs are, for a script's first line."""
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    (folder / "script").write_bytes(SCRIPT.replace(b"{bin}", str(programs).encode()))
    (folder / "script").chmod(0o755)
    for i in range(40):
        (folder / f"tree/d{i % 7}").mkdir(parents=True, exist_ok=True)
        (folder / f"tree/d{i % 7}/file{i}").write_bytes(FILES["few"] * (i % 5) + b"%d\n" % i)
    (folder / "home").mkdir()


_SHELL_LOOP = "i=0; t=0; while [ $i -lt 100000 ]; do t=$((t + i * i % 7)); i=$((i + 1)); done; echo $t"
_BASH_TABLE = ("declare -A seen; for ((i = 0; i < 20000; i++)); do k=$((i * i % 997)); "
               "seen[$k]=$((${seen[$k]:-0} + i)); done; "
               " t=0; for k in ${!seen[@]}; do t=$((t ^ seen[$k])); done; echo $t ${#seen[@]}")  # fmt: skip
_PYTHON_JSON = """
import json, re, hashlib, zlib
rows = json.load(open("data.json"))
text = json.dumps(rows, sort_keys=True)
names = re.findall(r'"name": "(n\\d+7)"', text)
print(len(text), len(names), hashlib.sha256(text.encode()).hexdigest(), zlib.crc32(zlib.compress(text.encode(), 6)))
"""
_PYTHON_SQL = """
import sqlite3
db = sqlite3.connect("py.db")
db.execute("create table t (n integer, w text)")
db.executemany("insert into t values (?, ?)", (line.split()[:2] for line in open("text")))
db.commit()
print(db.execute("select count(*), sum(n), count(distinct w) from t where n % 3 = 0").fetchall())
"""
_PYTHON_CLASSES = """
import collections, functools, itertools, dataclasses, heapq
@dataclasses.dataclass(order=True)
class Item:
    cost: int
    name: str = dataclasses.field(compare=False)
heap = []
for i in range(30000):
    heapq.heappush(heap, Item(i * 7919 % 10007, f"n{i}"))
total = 0
while heap:
    total = (total * 31 + heapq.heappop(heap).cost) % 1000003
@functools.cache
def f(n): return n if n < 2 else f(n - 1) + f(n - 2)
print(total, f(200), collections.Counter(map(len, open("text"))).most_common(3))
"""
_PYTHON_CHILDREN = """
import subprocess, sys, os
out = subprocess.run([sys.argv[1] + "/sort", "-n", "few"], capture_output=True).stdout
print(len(out), out[:40])
p = subprocess.Popen([sys.argv[1] + "/cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
print(p.communicate(b"through a pipe"), p.returncode)
pid = os.fork()
if pid == 0:
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
_PYTHON_SOCKET = """
import os, socket
server = socket.create_server(("127.0.0.1", 0))
port = server.getsockname()[1]
pid = os.fork()
if pid == 0:
    client = socket.create_connection(("127.0.0.1", port))
    client.sendall(b"hello " * 10000)
    client.shutdown(socket.SHUT_WR)
    data = b""
    while part := client.recv(4096): data += part
    print("client", len(data), data[:12])
    os._exit(0)
peer, _ = server.accept()
data = b""
while part := peer.recv(65536): data += part
peer.sendall(data.upper())
peer.close()
print("status", os.waitpid(pid, 0)[1], len(data))
"""
_PYTHON_THREADS = """
import queue, threading, time
from concurrent.futures import ThreadPoolExecutor
todo, done = queue.Queue(5), []
def make(n):
    for i in range(60): todo.put(n * 1000 + i)
def take():
    while (x := todo.get()) is not None: done.append(x * x)
makers = [threading.Thread(target=make, args=(n,)) for n in range(4)]
takers = [threading.Thread(target=take) for _ in range(3)]
for t in makers + takers: t.start()
for t in makers: t.join()
for _ in takers: todo.put(None)
for t in takers: t.join()
print(len(done), sum(done))
event, barrier, ranks, local = threading.Event(), threading.Barrier(6), [], threading.local()
threading.Timer(0.02, event.set).start()
print(event.wait(20), threading.Event().wait(0.01))
def meet(n):
    local.n = n
    ranks.append(barrier.wait() * 0 + local.n)
threads = [threading.Thread(target=meet, args=(n,)) for n in range(6)]
for t in threads: t.start()
for t in threads: t.join()
with ThreadPoolExecutor(8) as pool: print(sorted(ranks), sum(pool.map(lambda n: time.sleep(0.001) or n, range(64))))
"""
_PYTHON_PROCESSES = """
import multiprocessing as mp
def square(n): return n * n
def put(queue, n): queue.put("x" * 70000 if n else "none")
if __name__ == "__main__":
    mp.set_start_method("fork")
    with mp.Pool(3) as pool: print(sum(pool.map(square, range(200))), pool.apply(square, (7,)))
    queue, total = mp.Queue(), mp.Value("i", 0)
    children = [mp.Process(target=put, args=(queue, n)) for n in range(3)]
    for child in children: child.start()
    print(sorted(len(queue.get()) for _ in children))
    for child in children: child.join()
    print([child.exitcode for child in children])
"""
_SQLITE_TWICE = """
sqlite3 two.db 'pragma journal_mode=wal; create table t(who, n);'
add() { for i in 1 2 3 4 5 6; do echo "insert into t values('$1', $i);"; done |
        sqlite3 -cmd '.timeout 60000' two.db; }
add a & add b & wait
sqlite3 two.db 'select who, count(*), sum(n) from t group by who; pragma integrity_check; pragma journal_mode=delete;'
rm two.db
"""
_PERL_HASH = ('my %h; for my $i (1..100000) { $h{($i * 7919) % 5003} .= chr(97 + $i % 26) } my $t = 0; '
              '$t += length($h{$_}) * $_ for sort { $a <=> $b } keys %h; print "$t\\n"')  # fmt: skip
_PERL_TEXT = r'while (<>) { $n++; $w{$1}++ while /\b([a-z]{3,})\b/g; s/(\d+)/<$1>/ and $s++ } ' \
             r'@w = sort { $w{$b} <=> $w{$a} || $a cmp $b } keys %w; print "$n $s @w[0..5]\n"'
_SQL = ("with recursive c(x) as (select 1 union all select x + 1 from c where x < 100000) "
        "select count(*), sum(x * x % 1009), group_concat(distinct x % 5) from c;")  # fmt: skip
_AWK = ('{ words += NF; sum += $1; for (i = 2; i <= NF; i++) seen[$i]++ } END { for (w in seen) if (seen[w] > m) '
        '{ m = seen[w] } printf "%d %d %.4f %d %.12g\\n", NR, words, sum / NR, m, sin(1) + exp(2) }')  # fmt: skip
_LUA = """
local t, s = {}, 0
for i = 1, 200000 do t[i % 1009] = (t[i % 1009] or 0) + i end
for k, v in pairs(t) do s = (s * 31 + k * v) % 1000003 end
print(s, string.format("%.14g", math.sin(1)), ("x"):rep(3), #table.concat({1, 2, 3}, ","))
local out = {}
for w in io.open("text"):read("a"):gmatch("%a+") do out[#out + 1] = w:upper() end
print(#out, out[1], out[#out])
"""
_TCL = """
set t 0
for {set i 0} {$i < 100000} {incr i} { set t [expr {($t * 31 + $i) % 1000003}] }
puts $t
set f [open few]; set words [split [read $f]]; close $f
puts "[llength $words] [lindex [lsort $words] 5] [string length [string toupper $words]]"
"""
_GIT = """
export HOME=$PWD/home GIT_CONFIG_NOSYSTEM=1 GIT_EXEC_PATH={root}/usr/lib/git-core
export GIT_AUTHOR_DATE='2024-01-02T03:04:05Z' GIT_COMMITTER_DATE='2024-01-02T03:04:05Z'
export GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=B GIT_COMMITTER_EMAIL=b@example.org
cd tree && git -c init.defaultBranch=main init -q && git add . && git commit -q -m first && echo more >> d0/file7 &&
git commit -q -a -m second && git log --stat --format='%H %an %s' && git diff HEAD~1 && git status -s && git fsck
"""
_GCC = "gcc --sysroot={root} -O2 tree.c -o tree.out && ./tree.out a b; echo $?"
_VIM = ("-es", "-u", "NONE", "-c", "%s/[aeiou]/X/g", "-c", "g/9$/d", "-c", "sort n", "-c", "w out.txt", "-c", "qa!")

COMMANDS = (
    # shells
    Command("bash-start", "bash", ("bash", "-c", "echo $BASH_VERSION $((6 * 7))")),
    Command("bash-table", "bash", ("bash", "-c", _BASH_TABLE)),
    Command("bash-pipes", "bash", ("bash", "-c", "sort -n text | uniq | tail -5 | tr a-z A-Z; echo ${PIPESTATUS[@]}; "
                                   "cat <(echo sub) - <<< here; (exit 5) & wait $!; echo $?"), executes=True),
    Command("bash-commands", "bash", ("bash", "-c", "for i in {1..60}; do t=$(expr $i + 1); done; echo $t"),
            executes=True),
    Command("bash-trap", "bash", ("bash", "-c", "trap 'echo caught' USR1; trap 'echo bye' EXIT; kill -USR1 $$; "
                                  "echo after")),
    Command("dash-start", "dash", ("dash", "-c", "echo $((1 + 1))")),
    Command("dash-loop", "dash", ("dash", "-c", _SHELL_LOOP)),
    Command("dash-script", "dash", ("dash", "-c", "./script arg; echo $?"), executes=True),
    # coreutils
    Command("ls", "coreutils", ("ls", "-R", "-1", "-F", "tree")),
    Command("cat", "coreutils", ("cat", "-n", "text")),
    Command("sort", "coreutils", ("sort", "text")),
    Command("sort-numbers", "coreutils", ("sort", "-n", "-k1,1", "large")),
    Command("sort-parallel", "coreutils", ("sort", "--parallel=4", "-S", "200M", "large"), threads=True),
    Command("uniq", "coreutils", ("uniq", "-c", "few")),
    Command("wc", "coreutils", ("wc", "large", "random", "few")),
    Command("cut", "coreutils", ("cut", "-d", " ", "-f", "2-3", "text")),
    Command("tr", "coreutils", ("tr", "a-z", "A-Z"), FILES["text"]),
    Command("sha256sum", "coreutils", ("sha256sum", "random", "text")),
    Command("md5sum", "coreutils", ("md5sum", "random", "text", "nonesuch")),
    Command("cksum", "coreutils", ("cksum", "random")),
    Command("base64", "coreutils", ("base64", "random")),
    Command("od", "coreutils", ("od", "-A", "x", "-t", "x4z", "few")),
    Command("seq", "coreutils", ("seq", "-w", "1", "7", "20000")),
    Command("factor", "coreutils", ("factor", "600851475143", "1000000014000000049", "18446744073709551557")),
    Command("head-tail", "coreutils", ("tail", "-n", "+19990", "text")),
    Command("cp", "coreutils", ("cp", "-r", "-v", "tree", "copy")),
    Command("printf", "coreutils", ("printf", "%s|%5d|%-5x|%e|%.3f\\n", "text", "-42", "255", "12345.678", "2.5")),
    Command("date", "coreutils", ("date", "-u", "-d", "2024-02-29 12:34:56", "+%F %T %j %U %A %s")),
    Command("stat", "coreutils", ("stat", "-c", "%n %s %F", "few", "tree")),
    Command("env", "coreutils", ("env", "-u", "TZ", "A=1", "{bin}/printenv", "A", "TZ", "TERM"), executes=True),
    # languages
    Command("python-start", "python3", ("python3", "-S", "-c", "print('started')")),
    Command("python-json", "python3", ("python3", "-c", _PYTHON_JSON)),
    Command("python-sqlite", "python3", ("python3", "-c", _PYTHON_SQL)),
    Command("python-classes", "python3", ("python3", "-c", _PYTHON_CLASSES)),
    Command("python-children", "python3", ("python3", "-c", _PYTHON_CHILDREN, "{bin}"), executes=True),
    Command("python-socket", "python3", ("python3", "-u", "-c", _PYTHON_SOCKET)),
    Command("python-threads", "python3", ("python3", "-c", _PYTHON_THREADS), threads=True),
    Command("python-processes", "python3", ("python3", "-W", "ignore", "-c", _PYTHON_PROCESSES), threads=True),
    Command("python-error", "python3", ("python3", "-c", "def f(n): return 1 / n\nf(0)")),
    Command("perl-start", "perl", ("perl", "-e", 'print "started $]\\n"')),
    Command("perl-hash", "perl", ("perl", "-e", _PERL_HASH)),
    Command("perl-text", "perl", ("perl", "-e", _PERL_TEXT, "text")),
    Command("perl-modules", "perl", ("perl", "-MList::Util=sum", "-MData::Dumper", "-MPOSIX=floor", "-e",
                                     "$Data::Dumper::Sortkeys = 1; print Dumper({a => sum(1..9), b => floor(-2.5)})")),
    Command("lua", "lua5.4", ("lua5.4", "-e", _LUA)),
    Command("tcl", "tcl", ("tclsh",), _TCL.encode()),
    Command("gawk", "gawk", ("gawk", _AWK, "text")),
    Command("mawk", "mawk", ("mawk", _AWK, "large")),
    Command("bc", "bc", ("bc", "-l"), b"scale=120; 4*a(1); e(1)\n2^2000 % 10^40\nsqrt(2)\n"),
    Command("sqlite3", "sqlite3", ("sqlite3", ":memory:", _SQL)),
    Command("sqlite3-file", "sqlite3", ("sqlite3", "new.db"), b"create table t(a, b);\n.mode csv\n.separator ' '\n"
            b"insert into t select value, value * 7 % 101 from generate_series(1, 20000);\n"
            b"create index i on t(b);\nselect b, count(*) from t group by b order by 2 desc, 1 limit 3;\n"),
    Command("sqlite3-twice", "sqlite3", ("bash", "-c", _SQLITE_TWICE), executes=True),
    Command("jq", "jq", ("jq", "-c", "map(select(.id % 7 == 0) | {id, t: .tags[1]}) | length, .[3], (map(.t) | add)",
                         "data.json")),
    # archives and digests
    Command("gzip", "gzip", ("gzip", "-nc", "large")),
    Command("gunzip", "gzip", ("gzip", "-dc"), gzip.compress(FILES["text"], mtime=0)),
    Command("bzip2", "bzip2", ("bzip2", "-c", "text")),
    Command("xz", "xz-utils", ("xz", "-c", "-T1", "text")),
    Command("xz-threads", "xz-utils", ("xz", "-c", "-T4", "-0", "--block-size=100KiB", "large"), threads=True),
    Command("zstd-threads", "zstd", ("zstd", "-c", "-T4", "-5", "large"), threads=True),
    Command("zstd", "zstd", ("zstd", "-c", "--single-thread", "--no-asyncio", "large")),
    Command("tar", "tar", ("tar", "--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "-cf", "-",
                           "tree")),
    Command("tar-gzip", "tar", ("tar", "--sort=name", "--mtime=@0", "-czvf", "tree.tgz", "tree"), executes=True),
    Command("openssl-digest", "openssl", ("openssl", "dgst", "-sha256", "random")),
    Command("openssl-cipher", "openssl", ("openssl", "enc", "-aes-128-cbc", "-K", "00112233445566778899aabbccddeeff",
                                          "-iv", "0" * 32, "-a", "-in", "few")),
    Command("openssl-numbers", "openssl", ("openssl", "prime", "-hex", "FFFFFFFFFFFFFFC5")),
    # text
    Command("sed", "sed", ("sed", "-E", r"s/([a-z]+) ([a-z]+)/\2-\1/g; 3,9d; /9/!s/$/./", "text")),
    Command("grep", "grep", ("grep", "-n", "-E", "(on|sh)+[rdlu]{2}|^[0-9]*77 ", "large")),
    Command("grep-fixed", "grep", ("grep", "-c", "-F", "-i", "TION", "text")),
    Command("find", "findutils", ("find", "tree", "-type", "f", "-size", "-9", "-name", "*[0-4]*")),
    Command("find-exec", "findutils", ("find", "tree/d0", "-type", "f", "-exec", "{bin}/md5sum", "{}", "+"),
            executes=True),
    Command("xargs", "findutils", ("xargs", "-n", "3", "{bin}/echo"), b"a b c d e f g", executes=True),
    Command("diff", "diffutils", ("diff", "-u", "--label", "a", "--label", "b", "few", "text")),
    Command("cmp", "diffutils", ("cmp", "few", "text")),
    Command("file", "file", ("file", "-b", "few", "tree.c", "random", "data.json")),
    Command("vim", "vim-tiny", ("vim.tiny", *_VIM, "few")),
    # development
    Command("make", "make", ("make", "-s"), executes=True),
    Command("git", "git", ("dash", "-c", _GIT), executes=True),
    Command("gcc", "gcc", ("dash", "-c", _GCC), executes=True),
    Command("nc", "netcat-openbsd", ("dash", "-c", "nc.openbsd -l -U -N sock < few & sleep 0.3; nc.openbsd -U -N sock "
                                     "< /dev/null; wait; echo $?"), executes=True),
)  # fmt: skip


def environment(root: Path) -> dict[str, str]:
    """The variables of every command: programs are found by their host paths, which both translators take."""
    return {"PATH": f"{root}/usr/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC0", "HOME": "home", "TERM": "dumb"}


def arguments(command: Command, root: Path) -> list[str]:
    """The words after the program, with paths put in."""
    return [word.replace("{bin}", f"{root}/usr/bin").replace("{root}", str(root)) for word in command.words[1:]]
