"""Program start: the stack that a program finds, read as its C library reads it."""

from __future__ import annotations

import struct

import pytest

import guests.riscv.linux as abi
from dbt.elf import Image, NotRunnable, Segment
from dbt.linux.kernel import Kernel
from dbt.memory import EXEC, PAGE_SIZE, READ, WRITE, AddressSpace

IMAGE = Image("prog", b"\x13\0\0\0" * 64, False, 0x10040, 0, (Segment(0x10000, 0x2100, 0, 256, READ | EXEC),), 0x10040,
              3, False)


def start(argv: list[bytes], env: list[bytes], image: Image = IMAGE, seed: int | None = 5) -> tuple[Kernel, int, int]:
    kernel = Kernel(AddressSpace(), abi, argv=argv, env=env, executable="/usr/bin/prog", deterministic_seed=seed)
    return kernel, *kernel.start(image)


@pytest.mark.parametrize("count", range(4))
def test_the_stack_holds_arguments_environment_and_vector(count: int) -> None:
    argv, env = [b"arg%d" % index for index in range(count)], [b"HOME=/", b"EMPTY="]
    kernel, entry, pointer = start(argv, env)
    space = kernel.space
    assert entry == 0x10040 and pointer % 16 == 0
    words = struct.iter_unpack("<Q", space.read(pointer, 8 * (count + 44)))

    def read() -> int:
        return int(next(words)[0])

    assert read() == count
    assert [space.read_cstring(read()) for _ in range(count)] == argv
    assert read() == 0
    assert [space.read_cstring(read()) for _ in env] == env
    assert read() == 0
    vector: dict[int, int] = {}
    while key := read():
        assert key not in vector
        vector[key] = read()
    assert read() == 0
    assert (vector[3], vector[4], vector[5]) == (0x10040, 56, 3)
    assert (vector[6], vector[7], vector[9], vector[17], vector[23]) == (4096, 0, 0x10040, 100, 0)
    assert vector[16] == sum(1 << "ABCDEFGHIJKLM".index(letter) for letter in "IMAFDC")
    assert space.read_cstring(vector[31]) == b"/usr/bin/prog"
    assert len(set(space.read(vector[25], 16))) > 4
    assert 15 not in vector and space.read(vector[33], 4) == b"\x7fELF"
    assert kernel.auxiliary.endswith(bytes(16))
    space.close()


def test_regions_and_break_after_the_start() -> None:
    kernel, _entry, _pointer = start([b"prog"], [])
    stack = kernel.space.regions()[-1]
    assert (stack.name, stack.protection, stack.end) == ("[stack]", READ | WRITE, kernel.space.size - PAGE_SIZE)
    assert kernel.break_start == kernel.break_end == 0x13000
    assert kernel.space.map(0, PAGE_SIZE, READ) < stack.start
    kernel.space.close()


def test_the_seed_decides_the_random_bytes() -> None:
    vectors = []
    for seed in (1, 1, 2):
        kernel, _entry, _pointer = start([b"prog"], [], seed=seed)
        address = dict(struct.iter_unpack("<QQ", kernel.auxiliary))[25]
        vectors.append(kernel.space.read(address, 16))
        kernel.space.close()
    assert vectors[0] == vectors[1] != vectors[2]


def test_a_position_independent_program_goes_to_its_place() -> None:
    image = Image("pie", IMAGE.data, True, 0x40, 0, (Segment(0, 0x100, 0, 256, READ | EXEC),), 0x40, 3, True)
    kernel, entry, _pointer = start([b"pie"], [], image)
    assert entry == abi.PIE_BASE + 0x40
    assert kernel.space.regions()[-1].protection == 7  # PT_GNU_STACK asked for an executable stack
    kernel.space.close()


def test_too_many_arguments() -> None:
    with pytest.raises(NotRunnable, match="the argument list is too long"):
        start([b"x" * 100_000] * 100, [])
