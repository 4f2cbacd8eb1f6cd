"""One run of a guest program, measured from inside: `python -m bench.inside REPORT ENGINE PROGRAM [ARGS...]`.

The guest has our standard input and output, and its exit status is ours. REPORT is a file that gets one line of JSON:
the counts of the run, and the CPU and wall seconds of the run proper, without Python's start, imports and loading.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import dragoman


def main(words: Sequence[str]) -> int:
    report, engine, program, *arguments = words
    process = dragoman.load(program, arguments, engine=engine)
    wall, cpu = time.perf_counter(), time.process_time()
    status = process.run()
    figures = {"run cpu": time.process_time() - cpu, "run wall": time.perf_counter() - wall}
    stats = process.stats()
    figures["translation cpu"] = sum(stats.get("seconds", {}).values())
    Path(report).write_text(json.dumps(stats | figures) + "\n")
    process.close()
    return 128 + (process.signal or 0) if status is None else status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
