"""The lab book: pages print what they say, solutions are right, what is wrong is refused in a sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.book import PAGES, follow, refreshed
from support.desk import ROOT, Desk
from support.forked import Forks

from dbt import lab
from dbt.lab.exercises import EXERCISES

SOLUTIONS = ROOT / "docs" / "lab" / "solutions"
NAMES = [each.name for each in EXERCISES]

WRONG = [  # exercise; what of the solution is replaced, and by what; what is said
    ("memory", "enumerate(pages)", "enumerate([pages[0], *sorted(pages[1:])])", "should be the guest's page"),
    ("memory", "in enumerate(pages)", "in enumerate(pages[:-1])", "no memory at 0x8000f000"),
    ("memory", "slot * PAGE", "(slot + 1) * PAGE", "no memory at 0x80000000"),
    (
        "memory",
        "memoryview(host)[page * PAGE : (page + 1) * PAGE]",
        "bytearray(PAGE)",
        "executes at 0x0, where its guest has no memory",
    ),
    ("memory", "memoryview(host)[", "memoryview(bytearray(host))[", "has not what the guest wrote"),
    ("memory", "RAM, PAGE = 0x8000_0000, 4096", "RAM, PAGE = 0x8000_0001, 4096", "line 6: BadRegion"),
    ("memory", "def lay", "def put", "no function lay"),
    ("memory", "def lay(vm, host, pages):", "def lay(vm, host, pages)", "line 4: "),
    ("mapped", "PAGE, device)", "PAGE, bytearray(device))", "marks are not in the device"),
    ("mapped", "PAGE, device)", "PAGE, bytearray(PAGE))", "sum of 100 words is wrong"),
    ("mapped", "            vcpu.vm.set", "            return\n            vcpu.vm.set", "100 of 100 words are left"),
    (
        "mapped",
        "    while True:",
        "    for _ in range(3):\n        vcpu.enter()\n    while True:",
        "exits for 200 accesses",
    ),
    ("guest", "        addi a0, a0, 48", "        addi a0, a0, 49", "with a0 = 0 it prints '1"),
    ("guest", "        li a0, 10", "        li a0, 32", "prints '0 '"),
    ("guest", "        li a7, 8            # shut down\n        ecall\n", "x:      j x\n", "not come to its end"),
    ("guest", "        li a7, 8            # shut down", "        ebreak", "executes at 0x0, where"),
    (
        "guest",
        "        li a7, 1 ",
        "        ld a1, 0(zero)\n        li a7, 1 ",
        "is left at line 2, which nobody answers: Mmio",
    ),
    ("guest", "        li a7, 8 ", "        li a7, 0\n        ecall\n        li a7, 8 ", "left 4 times"),
    ("vmexit", "NAMES[trap.stval >> 7 & 31]", '"s7"', "where the hart's number, 0x1234, should be"),
    ("vmexit", "a0=0x6688", "a0=0x8866", "0x8866, not 0x6688"),
    ("vmexit", "vcpu.skip()  # by two bytes or by four", "vcpu.set(pc=trap.sepc + 4)", "`c.ld`"),
    ("vmexit", " and trap.stval >> 20 == MHARTID", "", "has run 0 times, not once"),
    ("vmexit", "a0=(1 << 64) - 2", "a0=0", "gives 0x0, not -2"),
    ("vmexit", ' and vcpu.get("a7") == 8', "", "has ended the guest, which had not asked for it"),
    ("vmexit", "return True", "return False", "goes round and does not end"),
    ("vmexit", "return True", "return vcpu.nothing", "AttributeError"),
    ("worlds", "        csrs hstatus, t0\n", "", "its guest has not begun"),
    ("worlds", "        beqz a1, enter\n", "", "the guest is in VS mode, and should be in VU"),
    ("worlds", "        addi t1, t1, 4\n", "", "behind its call number 1 the guest traps at"),
    ("worlds", "        ld t1, 0(t0)\n", "", "in t1, and should have"),
    ("worlds", "        csrrw t0, sscratch, t0\n        sret", "        sret", "in t0, and should have"),
    ("worlds", "        add t1, t1, a0", "        add t1, t1, a1", "and the sum is"),
    ("worlds", "        beq a7, t1, done\n", "", "which is not its next call"),
    ("worlds", "end:    j end", "        j done\nend:    j end", "it is not at its end, but at"),
    ("worlds", "end:    j end", "last:   j last", "no label end"),
    ("share", "        if vcpu.waits:\n            continue\n", "", "waits for an interrupt, and is given turn"),
    ("share", "ready.append(vcpu)", "ready.insert(len(ready) - 1, vcpu)", "is given a second turn, and vCPU 3"),
    ("share", "ready.append(vcpu)", "ready.appendleft(vcpu)", "looked 100,000 times who waits, and given 1 turns"),
    ("share", "turn(quantum)", "turn(10 * quantum)", "instructions, and a quantum is"),
    ("share", "            return False\n", "            continue\n", "3 of 3 wait"),
    ("share", "return True", "return None", "it returns None, and the machine has ended"),
    ("share", " and ended(vcpu, exit)", "", "and the machine has not ended"),
    ("share", "            return True", "            continue", "is given a turn, and the machine has ended"),
    ("share", "all(", "any(", "it returns False, and the machine has not ended"),
    ("share", "    while True", "    while len(vcpus) > 3", "it returns None, and vCPU 1 could"),
    ("timer", "    vcpu.set(compare=NEVER)", "    pass", "came before the time that it had set"),
    ("timer", "        vcpu.set(compare=vcpu.get(\"time\"))\n", "", "the host's was not started; 1 interrupts"),
    ("timer", "    start(vcpu", "    (lambda time: None)(vcpu", "was not started; 0 interrupts"),
    ("timer", "    vcpu.skip()\n", "", "exits the guest is not at its end"),
    ("timer", "== 8", "== 0", "waits for"),
    ("toy", "        cli\n", "", "finds"),
    ("toy", "        add r2, r2, r7\n        sti\n        cli\n", "        add r2, r2, r7\n", "has to wait for"),
    ("toy", "        sti\n", "", "never comes"),
    ("toy", "add r2, r2, r7\n        sti\n        halt", "add r2, r2, r2\n        sti\n        halt", "in the end"),
    ("toy", "r7", "r9", "in the end"),
    ("toy", "        halt\n", "", "illegal instruction"),
    ("toy", "        halt\n", "x:      jump x\n", "not come to halt"),
    ("blocks", "        li t0, 8 ", "        li t0, 7 ", "and the sum of the 96 doublewords is"),
    (
        "blocks",
        "        ld t4, 88(a1)",
        "        j here\nhere:   ld t4, 88(a1)\n        j next\nnext:",
        "24 blocks are executed; 16 are allowed",
    ),
    (
        "blocks",
        "        ebreak",
        "        nop\n        nop\n        nop\n        nop\n        nop\n        nop\n        nop\n        nop\n"
        "        nop\n        nop\n        nop\n        nop\n        ebreak",
        "instructions; 40 are allowed",
    ),
    ("blocks", "        ebreak", "        ecall", "not with ebreak"),
    ("cache", "        cache.linked -= {pair for pair in cache.linked if oldest in pair}\n", "", "still jumps to"),
    ("cache", "    if size > cache.bound:\n        return\n", "", "StopIteration"),
    ("cache", "while cache.used() + size > cache.bound", "while False", "the bound is 4096"),
    ("cache", "for other in leads if other in cache.kept", "for other in leads", "which is not kept"),
    ("cache", "if key in cache.kept[other][1]", "if False", "they are not linked"),
    ("cache", "if key in cache.kept[other][1]", "if True", "where it does not lead"),
    ("cache", "    cache.kept[key] = size, leads", "    pass", "has been added, and is not kept"),
    ("cache", "while cache.used() + size > cache.bound", "while cache.kept", "did not have to be"),
    ("classes", "        li a0, 10", "        li a0, 9", "executed; asked are"),
    ("classes", "time", "instret", "executed; asked are"),
    ("classes", "        ebreak", "        ecall", "not with ebreak"),
    ("classes", "        ebreak", "        j loop", "not come to ebreak"),
    ("classes", "        ebreak", "        .word 0", "illegal instruction"),
    ("flag", "csrci sstatus, 2 ", "nop ", "words of the table that are not equal"),
    ("flag", "csrsi sstatus, 2 ", "nop ", "waits for more than 150 instructions"),
    ("flag", "a3, a3, 1", "a3, a3, 2", "has not been added to each of the words"),
    ("flag", "        mv t0, a1", "        csrr a4, scounteren\n        mv t0, a1", "not done in place"),
    ("flag", "end:    j end", "last:   j last", "no label end"),
    ("flag", "end:    j end", "end:    j again", "it is not at its end"),
    ("flag", "end: ", "        nop\n        nop\n        nop\n        nop\nend: ", "instructions; 16 are allowed"),
    ("tables", "12 + 9 * level", "12 + 8 * level", "the kernel's code, at 0x80000000, is gone"),
    ("tables", "0xCF", "0xDF", "the kernel's code"),
    ("tables", "0xCF", "0x4B", "a store behind it a page fault"),
    (
        "tables",
        "physical >> 12 << 10 | LEAF",
        "(physical + (PAGE if virtual != physical else 0)) >> 12 << 10 | LEAF",
        "does not lead to",
    ),
    ("tables", "    free = root + PAGE", "    free = root + 4 * PAGE + 4", "it writes to"),
    (
        "tables",
        "(virtual >> 12 & 511), physical",
        "((virtual >> 12) + (virtual != physical) & 511), physical",
        "is a page fault, and should lead to",
    ),
    (
        "tables",
        "        write(table + 8 * (virtual >> 12 & 511), physical >> 12 << 10 | LEAF)",
        "        for beside in (0, 1):\n"
        "            write(table + 8 * ((virtual >> 12) + beside & 511), physical >> 12 << 10 | LEAF)",
        "mapped, and nobody asked",
    ),
    ("stale", "        jal ra, change      #", "        nop #", "there, too, the new code was executed"),
    ("stale", "        sw t1, 0(t0)\n", "", "does not write over its code"),
    ("stale", "        ebreak", "        ecall", "in the interpreter it ends with"),
    ("latency", "        j loop ", "        nop ", "7 later, at line 3"),
    ("latency", "        li a0, 20 ", "        li a0, 19 ", "it has executed 116 instructions; 120"),
    ("latency", "        li a0, 20 ", "        li a0, 30 ", "31 blocks are executed; 22"),
    ("latency", "        li a0, 20 ", "        li a0, 100 ", "500 are enough"),
    ("batch", "        ecall\n        li a7, 8", "        li a7, 8", "is 0x2000"),
    ("batch", "        sd t2, 16(t0)", "        sd t2, 0(a0)\n        sd t2, 16(t0)\n        sd zero, 0(t0)",
     "nobody has told the monitor"),
    ("batch", "0xCF", "0xC7", "and should be 0x"),
    ("batch", "        sd a2, 24(t0)", "        sd zero, 24(t0)", "nobody has told the monitor"),
    ("batch", "        mv t1, a1", "        addi a1, a1, 1\n        mv t1, a1", "it has changed entries behind"),
    ("batch", "        li a7, 8 ", "        ecall\n        li a7, 8 ", "3 exits; 2 are enough"),
    ("batch", "        li a7, 8 ", "        li a7, 1\n        ecall\n        li a7, 8 ", "which nobody answers: Riscv"),
    ("batch", "        mv t0, a4", "        sfence.vma a2, zero\n        mv t0, a4", "nothing that its kernel may do"),
    ("batch", "        li a7, 8 ", "x:      j x\n        li a7, 8 ", "not come to its end"),
    ("stages", "read(second(at))", "read(at)", "where the machine has no memory"),
    ("stages", "(0, second(gpa))", "(0, gpa)", "and not (0, 0x4"),
    ("stages", "entry & READ and entry & USER", "entry & READ", "is (21, 0x40"),
    ("stages", "entry & READ and not entry & USER", "entry & READ", "is (13, 0x"),
    ("stages", "entry & READ and not entry & USER", "not entry & USER", "is (13, 0x"),
    ("stages", "Fault(GUEST_PAGE_FAULT, gpa)", "Fault(GUEST_PAGE_FAULT, address)", "and not (21, 0x"),
    ("stages", "address % size if", "address % 4096 if", "is (0, 0x8"),
    ("stages", "(PAGE_FAULT, address) if gpa is None", "None if gpa is None", "and not None"),
    ("loop", "vcpu.reply(left.pop(0) if left else 0)", "vcpu.reply(0)", "has had 0 letters of"),
    (
        "loop",
        "            case kvm.RiscvSbi(extension=1, args=args):\n                printed.append(args[0])\n",
        "            case kvm.RiscvSbi():\n",
        "and has printed",
    ),
    ("loop", "return bytes(printed)", "return None", "which are no bytes"),
    (
        "loop",
        "            case kvm.SystemEvent(kind=1):\n",
        "            case kvm.SystemEvent(kind=9):\n",
        "RuntimeError: the guest was left for SystemEvent",
    ),
    (
        "console",
        "        ecall\n        li a7, 8",
        "        ecall\n        li a7, 1\n        ecall\n        li a7, 8",
        "it has printed",
    ),
    ("emulate", "    if rd:\n        registers", "    if True:\n        registers", "x0 is"),
    ("emulate", "rs1 if funct3 & 4 else registers[rs1]", "registers[rs1]", "i x"),
    ("emulate", "old & ~operand", "old ^ operand", "`csrrc"),
    ("emulate", "old | operand", "operand", "`csrrs"),
    ("emulate", "registers[rd] = old", "registers[rd] = virtual[csr]", "and should be"),
    ("emulate", "virtual[csr] = operand", "pass", "`csrrw"),
    ("shadow", "there >> 12", "gpa >> 12", "which is code, is allowed, and is trapped by cause 2"),
    ("shadow", "there >> 12", "(there if rights & EXECUTE else place(gpa ^ PAGE)) >> 12", "does not lead to"),
    ("shadow", "place(gpa)", "place(gpa) or root", "which is nobody's, is to be a page fault"),
    ("shadow", "or not entry & USED ", "", "which is not used yet, is to be a page fault"),
    ("shadow", " or entry & USER", "", "which is its program's, is to be a page fault"),
    ("shadow", " if entry & WRITTEN else 0", "", "a store at"),
    ("shadow", "(READ | EXECUTE)", "READ", "which is code, is allowed, and is trapped by cause 12"),
    ("shadow", "rights | VALID | USER", "rights | VALID", "which is code, is allowed, and is trapped by cause 12"),
    ("shadow", "            for at in range(0, PAGE << 9 * level, PAGE):\n", "            for at in (0,):\n",
     "which is a part of 2 MiB, is allowed"),
    ("shadow", "gpa + at, entry", "gpa, entry", "which is a part of 2 MiB, does not lead to"),
    ("shadow", "table + 8 * index)", "table + 4 * index)", "where the guest has no table"),
    ("console", "0x4442434e", "0x4442434f", "it has printed b''"),
    ("console", "        li a2, 0 ", "        li a2, 1 ", "where no text is"),
    ("console", "        li a7, 8\n        ecall\n", "x:      j x\n", "not come to its end"),
    ("shell", " &", "", "follow each other 0 times"),
    ("shell", "spin b 9", "spin b 900", "still running"),
    ("shell", "fault store", "fault load", "killed for a store page fault"),
    ("shell", "shutdown 7", "shutdown", "status 0, not 7"),
    ("shell", "shutdown 7\n", "", "waits for more input"),
]


def solution(name: str) -> Path:
    """The one file of this name, whatever it is written in."""
    (found,) = SOLUTIONS.glob(f"{name}.*")
    return found


def checked(name: str, file: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    status = lab.main(["check", name, str(file)])
    return status, *capsys.readouterr()


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    made = Forks(tmp_path_factory.mktemp("forks"), ROOT)
    yield made
    made.close()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_a_page_says_what_is_printed(page: Path, tmp_path: Path, forks: Forks) -> None:
    """The README's commands start as a user's do; those of the other pages are forked."""
    text = page.read_text()
    said = list(follow(text, Desk(tmp_path, forks=None if page.stem == "README" else forks)))
    assert len(said) == len(re.findall(r"^\$ ", text, re.MULTILINE)) > 0
    for each in said:
        assert each.same, f"$ {each.command}\nprints now (make lab-book writes it into the page):\n{each.now}"


def test_a_page_that_is_stale_is_found_and_refreshed(tmp_path: Path) -> None:
    page = (
        "```text notes\none\n```\n\n"
        "```console\n$ cat notes; echo 17 ms\ntwo\n8 ms\n$ echo took 3.0 s\ntook  12.5 s\n```\n"
        "<!-- varies: 0x[0-9a-f]+ -->\n```console\n$ echo at 0x10\nat 0x20\n$ echo at 10\nat 20\n```\n"
    )
    said = list(follow(page, Desk(tmp_path)))
    assert [each.same for each in said] == [False, True, True, False]
    assert refreshed(page, said) == page.replace("two\n8 ms", "one\n17 ms").replace("at 20\n", "at 10\n")


@pytest.mark.parametrize("name", NAMES)
def test_a_solution_is_right(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = checked(name, solution(name), capsys)
    assert (status, err) == (0, "") and out.startswith(f"{name}: right: ") and out.count("\n") == 1, out + err


@pytest.mark.parametrize(("name", "old", "new", "said"), WRONG, ids=[f"{row[0]}: {row[3]}" for row in WRONG])
def test_what_is_wrong_is_refused(
    name: str, old: str, new: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    right = solution(name).read_text()
    assert old in right
    file = tmp_path / solution(name).name
    file.write_text(right.replace(old, new))
    status, out, err = checked(name, file, capsys)
    assert status == 1 and out == "" and err.count("\n") == 1, out + err
    assert err.startswith(f"dragoman: {name}: ") and said in err, err


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_answer_is_refused(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nothing, other = tmp_path / "nothing", tmp_path / "other"
    nothing.write_text("# nothing\n")
    other.write_text("this is not what was asked for\n")
    for file in (nothing, other):
        status, out, err = checked(name, file, capsys)
        assert status == 1 and out == "" and err.startswith(f"dragoman: {name}: ") and err.count("\n") == 1, err
    other.write_bytes(b"\xff\xfe")
    assert checked(name, other, capsys) == (126, "", f"dragoman: {other}: it is no text in UTF-8\n")


def test_statuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name, missing = NAMES[0], tmp_path / "missing"
    assert checked(name, missing, capsys) == (127, "", f"dragoman: {missing}: there is no such file\n")
    assert checked(name, tmp_path, capsys) == (126, "", f"dragoman: {tmp_path}: is a directory\n")
    for words, says in (([], "an exercise and one file"), ([name], "one file"), (["x", "y"], "no exercise 'x'"),
                        ([name, "a", "b"], "one file")):  # fmt: skip
        assert lab.main(["check", *words]) == 2
        out, err = capsys.readouterr()
        assert out == "" and says in err.splitlines()[-1] and err.splitlines()[-1].startswith("dragoman: ")
    assert lab.main(["check", "--help"]) == lab.main(["check", "--list"]) == 0
    out = capsys.readouterr().out
    assert all(each in out for each in NAMES)


def test_each_exercise_has_a_page_a_solution_and_wrong_answers() -> None:
    pages = "".join(page.read_text() for page in PAGES)
    assert sorted(path.stem for path in SOLUTIONS.iterdir()) == sorted(NAMES)
    assert {name for name, *_ in WRONG} == set(NAMES)
    for name in NAMES:
        assert f"Exercise: `{name}`" in pages and f"](solutions/{solution(name).name})" in pages
        assert f"dragoman lab check {name} docs/lab/solutions/{solution(name).name}" in pages
