"""`dragoman bench`. Owns: its options, its progress, where results are written."""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from dbt.cli.errors import DIFFER, FAILURE, USAGE, Fail, opened, say, why
from dbt.cli.options import Parser, folder, number, program_of

ALL = "@all"
NOTES = """\
A program is run by the translator, by qemu-riscv64 if it is installed, as native code if that can be had (bundled
programs are built by ziglang if it is installed, once without vector instructions, which the guest's code has none
of, and once tuned to this processor), and by the reference interpreter, each time as a process of its own.
@NAME alone is run at its large size, and in the reference interpreter at its small one. All runs must print the same
and end alike: a program that tells the time cannot be measured.

exit status: 0, whatever the program's own; 3 if two runs differ, 125 if a run failed, else as for `dragoman run`.
"""


def command(words: Sequence[str]) -> int:
    parser = Parser(
        "bench", "Measure how fast a program, or each bundled program, runs under each engine.",
        "PROGRAM [ARGS...] | @all | --pairs DIR | --ablate [PROGRAM...]", NOTES,
    )  # fmt: skip
    parser.option(
        "--runs", metavar="N", type=number(1), help="runs of each engine, in turn (default: 5; with --ablate: 3)"
    )
    parser.option(
        "--max-instructions", metavar="N", type=number(1),
        help="stop the slow reference interpreter after N instructions; what it printed until then is compared "
        "(default: 1,000,000, and none for the small size of a bundled program)",
    )
    parser.option("--native", metavar="FILE", help="the same program built for this machine")
    parser.option("--tuned", metavar="FILE", help="and built with all that its processor and the compiler can do")
    parser.option(
        "--pairs", metavar="DIR", type=folder,
        help="run all programs of a folder: each is NAME.riscv64, and NAME.native built for this machine; where they "
        "are there, also NAME.tuned as --tuned, NAME.args with an argument a line, and NAME.fp, which may be empty "
        "and says that the program computes with floating point",
    )
    parser.option(
        "--ablate", action="store_true",
        help="run programs with everything on, and without each mechanism of the translator that can be switched off, "
        "to see what it is worth; PROGRAMs are run without arguments (default: a dozen of the bundled ones)",
    )
    parser.option("--stdin", metavar="FILE", default=os.devnull, help="standard input of all runs (default: none)")
    parser.option("--json", metavar="FILE", help="write all figures and all runs there")
    options, rest = parser.split(words)
    cases = _cases(parser, options, rest)
    if not os.access(options.stdin, os.R_OK) or os.path.isdir(options.stdin):
        raise Fail(USAGE, f"{options.stdin}: there is no such file, or it may not be read")
    from dbt import ablation, bench, runs

    try:  # now, not after an hour
        output = open(options.json, "w") if options.json else None  # noqa: SIM115 - closed below
    except OSError as error:
        raise Fail(USAGE, f"cannot write {options.json}: {why(error)}") from None
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))  # of what we start
    runs.prepare()
    progress = _progress if sys.stderr is not None and sys.stderr.isatty() else lambda text: None
    print("\n".join(f"{name}: {value}" for name, value in bench.machine().items()), end="\n\n", flush=True)
    turns = options.runs or (ablation.TURNS if options.ablate else bench.TURNS)
    many, width = bool(options.pairs) or rest == [ALL], max(len(case.name) for case in cases)
    if many and not options.ablate:
        print(bench.heading(width), flush=True)
    measured: Iterable[Any]
    results: list[Any] = []
    try:
        with tempfile.TemporaryDirectory(prefix="dragoman-bench-") as place:
            caches = runs.Caches(Path(place))
            if options.ablate:
                measured = ablation.ablate(cases, caches, turns, options.stdin, progress)
            else:
                measuring = bench.Bench(caches, turns, options.max_instructions, options.stdin, progress)
                measured = map(measuring.measure, cases)
            for result in measured:
                results.append(result)
                progress("")
                if isinstance(result, bench.Result) and many:
                    print(bench.line(result, width), flush=True)
    except runs.Failed as failure:
        raise Fail(FAILURE, str(failure)) from None
    finally:
        progress("")
        if output is not None:  # what was measured until Ctrl-C, too
            told = (ablation if options.ablate else bench).report(results, turns)
            with output:
                output.write(json.dumps(told, indent=1) + "\n")
    if options.ablate:
        print(ablation.text(results, turns))
    elif many:
        print(f"\n{bench.means_text(results)}")
    elif results[0].difference is None:
        print(bench.result_text(results[0]))
    differences = [result.difference for result in results if result.difference is not None]
    for difference in differences:
        say(f"the engines differ: {difference}")
    return DIFFER if differences else 0


def _cases(parser: Parser, options: Any, rest: list[str]) -> list[Any]:
    """What is to be run. Of programs that are not ours it says in our words why one does not run."""
    import dragoman
    from dbt import ablation, bench, runs

    native = {who: Path(file).resolve() for who in bench.NATIVE if (file := getattr(options, who))}
    if options.ablate and native:
        parser.error("--ablate is about the translator, and takes no --native and no --tuned")
    if options.pairs:
        if rest or native:
            parser.error("--pairs takes no program, no --native and no --tuned")
        try:
            cases = bench.pairs(Path(options.pairs))
        except runs.Failed as failure:
            raise Fail(USAGE, str(failure)) from None
    elif options.ablate and rest != [ALL]:
        words = rest or [f"@{name}" for name in ablation.DEFAULT]
        cases = [runs.case_of(word, opened(partial(dragoman.find, word), word), ()) for word in words]
    else:
        program, args = program_of(parser, rest)
        if program == ALL:
            if args or native:
                parser.error(f"{ALL} takes no arguments, no --native and no --tuned")
            return bench.bundled_cases()
        cases = [runs.case_of(program, opened(lambda: dragoman.find(program), program), args, native)]
    for case in cases:
        if case.bundled is None:
            opened(partial(_try, case), str(case.path))
        for _, file in case.native:
            if not file.is_file() or not os.access(file, os.X_OK):
                raise Fail(USAGE, f"{file}: there is no such file, or it may not be run")
    return cases


def _try(case: Any) -> None:
    import dragoman

    dragoman.load(case.path, list(case.arguments)).close()


def _progress(text: str) -> None:
    """One line on the terminal that is written over."""
    sys.stderr.write(f"\r\x1b[K{text}")
    sys.stderr.flush()
