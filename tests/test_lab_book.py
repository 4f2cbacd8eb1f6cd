"""The lab book: pages print what they say, solutions are right, what is wrong is refused in a sentence."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.book import PAGES, follow, refreshed
from support.desk import ROOT, Desk

from dbt import lab
from dbt.lab.exercises import EXERCISES

SOLUTIONS = ROOT / "docs" / "lab" / "solutions"
NAMES = [each.name for each in EXERCISES]

WRONG = [  # exercise; what of the solution is replaced, and by what; what is said
    ("toy", "        cli\n", "", "finds"),
    ("toy", "        add r2, r2, r7\n        sti\n        cli\n", "        add r2, r2, r7\n", "has to wait for"),
    ("toy", "        sti\n", "", "never comes"),
    ("toy", "add r2, r2, r7\n        sti\n        halt", "add r2, r2, r2\n        sti\n        halt", "in the end"),
    ("toy", "r7", "r9", "in the end"),
    ("toy", "        halt\n", "", "illegal instruction"),
    ("toy", "        halt\n", "x:      jump x\n", "not come to halt"),
    ("classes", "        li a0, 10", "        li a0, 9", "executed; asked are"),
    ("classes", "time", "instret", "executed; asked are"),
    ("classes", "        ebreak", "        ecall", "not with ebreak"),
    ("classes", "        ebreak", "        j loop", "not come to ebreak"),
    ("classes", "        ebreak", "        .word 0", "illegal instruction"),
]


def solution(name: str) -> Path:
    """The one file of this name, whatever it is written in."""
    (found,) = SOLUTIONS.glob(f"{name}.*")
    return found


def checked(name: str, file: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    status = lab.main(["check", name, str(file)])
    return status, *capsys.readouterr()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_a_page_says_what_is_printed(page: Path, tmp_path: Path) -> None:
    text = page.read_text()
    said = list(follow(text, Desk(tmp_path)))
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
