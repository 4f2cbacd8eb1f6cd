"""Each stage of translation by itself, over all regions that a program made hot.

The JSON has guest instructions a second for every stage. A block's stages are those of `dbt/translate.py`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import dragoman
from dbt.arena import Arena
from dbt.backend import Backend, arena_size
from dbt.block import Key
from dbt.code import Code
from dbt.lift import entry
from dbt.regions import Request
from dbt.translate import Translator
from guests.spec import Guest
from ir import llvm, passes
from ir.block import Block
from ir.passes import PIPELINE
from ir.region import Region
from ir.verify import verify

PROGRAMS = ("sha256", "nbody", "json")  # long integer blocks, floating point, short blocks with many branches
LENGTH = dragoman.Options().max_instructions


@dataclass
class Work:
    """The hot blocks of a program, at every stage."""

    guest: Guest
    words: list[int]
    translator: Translator
    backend: Backend
    requests: list[Request]
    keys: list[Key]  # of their blocks
    lifted: list[Block]
    before: dict[str, list[Block]]  # what each pass is given
    optimised: list[Block]
    regions: list[Region]
    lowered: list[llvm.Lowered]
    texts: list[str]  # a module each
    pieces: list[list[Code]]

    @property
    def instructions(self) -> int:
        return sum(len(block.guest) for block in self.lifted)

    def modules(self) -> list[str]:
        """LLVM's text of all regions."""
        return [llvm.module([function], self.backend.target) for function in self.lowered]


@pytest.fixture(scope="module", params=PROGRAMS)
def work(request: pytest.FixtureRequest) -> Iterator[Work]:
    """The regions that a run of the small size translated."""
    output = os.open(os.devnull, os.O_WRONLY)
    with dragoman.load(f"@{request.param}", ["small"], seed=0, stdout=output, options=dragoman.Options()) as process:
        engine: Any = process.engine
        translator = engine.translator
        requests: list[Request] = []
        translate = translator.translate

        def noted(wanted: Request, *rest: Any) -> Any:
            requests.append(wanted)
            return translate(wanted, *rest)

        translator.translate = noted
        process.run()
        backend = translator.backend
        keys = [key for wanted in requests for key in wanted.blocks]
        lifted = [translator.lifter.lift(*key) for key in keys]
        before, blocks = {}, lifted
        for name, run in PIPELINE:
            before[name] = blocks
            blocks = [verify(run(block)) for block in blocks]
        rest = iter(blocks)
        regions = [Region([next(rest) for _ in wanted.blocks], dict(wanted.weights)).reachable() for wanted in requests]
        lowered = [_lower(region, backend) for region in regions]
        words = [site.decoded.word for key in keys for site in translator.lifter.decode(key[0], LENGTH)[0]]
        made = Work(
            process.guest, words, translator, backend, requests, keys, lifted, before, blocks, regions, lowered, [], []
        )  # fmt: skip
        made.texts = made.modules()
        made.pieces = [list(backend.shop.compile(text).split().values()) for text in made.texts]
        yield made
    os.close(output)


def _lower(region: Region, backend: Backend) -> llvm.Lowered:
    return llvm.lower(region, entry((region.pc, region.boundary)), backend.target)


Timed = Callable[..., Any]
Did = Callable[..., None]


@pytest.mark.benchmark(group="stages")
def test_decode_new_words(benchmark: BenchmarkFixture, did: Did, work: Work) -> None:
    look_up: Any = work.guest.decode
    benchmark(lambda: [look_up.look_up(word) for word in work.words])
    did(guest_instructions=len(work.words))


@pytest.mark.benchmark(group="stages")
def test_decode_known_words(benchmark: BenchmarkFixture, did: Did, work: Work) -> None:
    """With what fetches them, as a block is decoded."""
    blocks = benchmark(lambda: [work.translator.lifter.decode(pc, LENGTH) for pc, _ in work.keys])
    assert sum(len(sites) for sites, _ in blocks) == len(work.words)
    did(guest_instructions=len(work.words))


@pytest.mark.benchmark(group="stages")
def test_decode_and_lift(benchmark: BenchmarkFixture, did: Did, work: Work) -> None:
    benchmark(lambda: [work.translator.lifter.lift(*key) for key in work.keys])
    did(guest_instructions=work.instructions)


@pytest.mark.benchmark(group="stages")
@pytest.mark.parametrize("name", [name for name, _ in PIPELINE])
def test_pass(benchmark: BenchmarkFixture, did: Did, work: Work, name: str) -> None:
    run, blocks = dict(PIPELINE)[name], work.before[name]
    benchmark(lambda: [run(block) for block in blocks])
    did(guest_instructions=work.instructions)


@pytest.mark.benchmark(group="stages")
def test_verify_once(benchmark: BenchmarkFixture, did: Did, work: Work) -> None:
    benchmark(lambda: [verify(block) for block in work.lifted])
    did(guest_instructions=work.instructions)


@pytest.mark.benchmark(group="stages")
def test_all_passes_verified(benchmark: BenchmarkFixture, did: Did, work: Work) -> None:
    benchmark(lambda: [passes.optimise(block) for block in work.lifted])
    did(guest_instructions=work.instructions)


@pytest.mark.benchmark(group="stages")
def test_lower(benchmark: BenchmarkFixture, did: Did, work: Work) -> None:
    def lower() -> None:
        for region in work.regions:
            again = Region(region.blocks, region.weights)  # which knows nothing of its edges yet
            llvm.module([_lower(again, work.backend)], work.backend.target)

    benchmark(lower)
    did(guest_instructions=work.instructions)


@pytest.mark.benchmark(group="stages")
def test_llvm(benchmark: BenchmarkFixture, did: Did, work: Work) -> None:
    """Parse, generate code, take the object file apart, as when a program runs."""
    compile = work.backend.shop.compile
    benchmark.pedantic(lambda: [compile(text) for text in work.texts], rounds=5)
    benchmark.extra_info["modules"] = len(work.texts)
    did(guest_instructions=work.instructions)


@pytest.mark.benchmark(group="stages")
def test_place(benchmark: BenchmarkFixture, did: Did, work: Work) -> None:
    def fresh() -> tuple[tuple[Arena], dict[str, Any]]:
        return (Arena(arena_size(1 << 20)),), {}

    def place(arena: Arena) -> None:
        for pieces in work.pieces:
            arena.place_all([(code, lambda symbol: 0) for code in pieces])

    benchmark.pedantic(place, setup=fresh, rounds=20)
    did(guest_instructions=work.instructions, bytes=sum(len(code.text) for batch in work.pieces for code in batch))
