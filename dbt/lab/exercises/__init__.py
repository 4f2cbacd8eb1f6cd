"""The lab book's exercises: `dragoman lab check NAME FILE` runs what a reader has written and says what is wrong.

A checker runs the file, or reads its answers and finds them out anew by a run; it holds no answer itself. Owns: the
table of exercises and the command. Must not know: the pages, which are docs/lab/.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from dbt.kvm import KvmError
from dbt.lab.exercises import (
    batch,
    blocks,
    cache,
    classes,
    console,
    emulate,
    flag,
    guest,
    latency,
    loop,
    mapped,
    memory,
    shadow,
    share,
    shell,
    stages,
    stale,
    tables,
    timer,
    toy,
    vmexit,
    worlds,
)
from dbt.lab.exercises.reading import Unreadable, Wrong

USAGE = """usage: dragoman lab check NAME FILE | --list

Check what you have written for an exercise of the lab book (docs/lab/). Runs the file: it may do all that you may.

  NAME    the exercise; --list shows them
  FILE    your answer: assembly, Python, or what is typed, as the exercise says

exit status:
  0  it is right                 2  bad usage, or no such exercise
  1  it is wrong; one line on    126  the file cannot be read
     stderr says how             127  there is no such file
"""
RIGHT, WRONG, USAGE_ERROR, NOT_READABLE, NOT_FOUND = 0, 1, 2, 126, 127


class Exercise(NamedTuple):
    """One exercise. `check` says what is right of a file, in a sentence, or raises Wrong or Unreadable."""

    name: str
    kind: str  # of file: what it is written in
    task: str
    check: Callable[[str], str]


EXERCISES = (  # in the order of the book
    Exercise("memory", "Python", "give a guest RAM of pages that are scattered over the host's", memory.check),
    Exercise("mapped", "Python", "pass a device through, with one exit", mapped.check),
    Exercise("guest", "assembly", "a guest that prints a digit and turns its machine off", guest.check),
    Exercise("worlds", "assembly", "enter a guest, answer its calls, and lose none of its registers", worlds.check),
    Exercise("vmexit", "Python", "answer the exits of guests that are not the lecture's", vmexit.check),
    Exercise("timer", "Python", "a guest's timer, of the host's", timer.check),
    Exercise("toy", "assembly", "move an amount from one register to another, unseen by interrupts", toy.check),
    Exercise("blocks", "assembly", "a sum in few basic blocks", blocks.check),
    Exercise("cache", "Python", "a translation cache with a bound and links", cache.check),
    Exercise("classes", "assembly", "execute so many instructions of each class", classes.check),
    Exercise("flag", "assembly", "a kernel's critical section, with the interrupt flag in place", flag.check),
    Exercise("tables", "Python", "page tables for a kernel that switches to them", tables.check),
    Exercise("stale", "assembly", "self-modifying code that a naive cache runs wrongly", stale.check),
    Exercise("latency", "assembly", "blocks short enough that no interrupt waits for long", latency.check),
    Exercise("batch", "assembly", "entries of a page table, changed by one call of the monitor", batch.check),
    Exercise("stages", "Python", "translate an address in two stages", stages.check),
    Exercise("share", "Python", "virtual CPUs that share a physical one", share.check),
    Exercise("loop", "Python", "the loop around KVM_RUN, with a device", loop.check),
    Exercise("emulate", "Python", "emulate instructions on privileged registers", emulate.check),
    Exercise("shadow", "Python", "shadow page tables, of a guest's own and of where its memory is", shadow.check),
    Exercise("console", "assembly", "print a text with one exit", console.check),
    Exercise("shell", "input", "type so that a kernel has two processes take turns", shell.check),
)


def main(words: Sequence[str]) -> int:
    """The command; returns its exit status."""
    if list(words) in (["--help"], ["-h"]):
        sys.stdout.write(USAGE)
        return RIGHT
    if list(words) == ["--list"]:
        for each in EXERCISES:
            print(f"{each.name:8} {each.kind:8} {each.task}")
        return RIGHT
    exercise = next((each for each in EXERCISES if words and each.name == words[0]), None)
    if words and exercise is None:
        known = " ".join(each.name for each in EXERCISES)
        return _say(USAGE_ERROR, f"there is no exercise {words[0]!r} (exercises: {known}; or --list)")
    if exercise is None or len(words) != 2:
        sys.stderr.write(USAGE)
        return _say(USAGE_ERROR, "an exercise and one file are wanted")
    try:
        print(f"{exercise.name}: right: {exercise.check(words[1])}")
        return RIGHT
    except (Wrong, KvmError) as wrong:  # a guest of the reader's may go where no machine follows it
        return _say(WRONG, f"{exercise.name}: {wrong}")
    except FileNotFoundError:
        return _say(NOT_FOUND, f"{words[1]}: there is no such file")
    except Unreadable as error:
        return _say(NOT_READABLE, f"{words[1]}: {error}")


def _say(status: int, message: str) -> int:
    line = " ".join(message.split())
    sys.stderr.write(f"dragoman: {line}\n")
    return status
