"""The address space of user mode: accesses, exact faults, Linux's mapping rules, record and replay."""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dbt.mappings import Region
from dbt.memory import EXEC, GUARD, PAGE_SIZE, READ, WRITE, AddressSpace, MemoryFault, OutOfMemory

P = PAGE_SIZE
RW = READ | WRITE


@pytest.fixture
def space() -> Iterator[AddressSpace]:
    made = AddressSpace()
    yield made
    made.close()


def fault(function: Callable[..., object], *operands: object) -> tuple[int, str, bool]:
    with pytest.raises(MemoryFault) as caught:
        function(*operands)
    return caught.value.address, caught.value.access, caught.value.mapped


def fails(code: int, function: Callable[..., object], *operands: object, **keywords: object) -> None:
    with pytest.raises(OSError) as caught:
        function(*operands, **keywords)
    assert caught.value.errno == code


def shape(space: AddressSpace) -> list[tuple[int, int, int]]:
    return [(region.start, region.end, region.protection) for region in space.regions()]


# Accesses ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_values_are_unsigned_and_little_endian_at_every_alignment(space: AddressSpace, size: int) -> None:
    space.map(0x10000, 2 * P, RW, fixed=True)
    for address in [*range(0x10000, 0x10010), *range(0x10000 + P - 9, 0x10000 + P + 9)]:
        value = random.Random(address).getrandbits(8 * size) | 1 << (8 * size - 1)
        space.store(address, size, value)
        assert space.load(address, size) == value
        assert space.read(address, size) == value.to_bytes(size, "little")


def test_translated_code_sees_the_same_bytes_at_base_plus_address(space: AddressSpace) -> None:
    space.map(0x10000, P, RW, fixed=True)
    space.store(0x10008, 8, 0x0102030405060708)
    assert ctypes.string_at(space.base + 0x10008, 8) == bytes([8, 7, 6, 5, 4, 3, 2, 1])


def test_faults_name_the_first_byte_out_of_bounds(space: AddressSpace) -> None:
    space.map(0x10000, P, RW, fixed=True)
    end = 0x10000 + P
    assert fault(space.load, 0xFFFF, 1) == (0xFFFF, "load", False)
    assert fault(space.load, 0xFFFC, 8) == (0xFFFC, "load", False)  # the first page is the bad one
    assert fault(space.load, end - 4, 8) == (end, "load", False)
    assert fault(space.load, end - 1, 2) == (end, "load", False)
    assert fault(space.store, end - 4, 8, 0) == (end, "store", False)
    assert fault(space.fetch, end) == (end, "fetch", False)
    space.map(end, P, READ, fixed=True)
    assert fault(space.store, end - 4, 8, 0) == (end, "store", True)
    assert fault(space.store, end, 1, 0) == (end, "store", True)
    assert fault(space.fetch, 0x10000) == (0x10000, "fetch", True)
    assert space.load(end - 4, 8) == 0


def test_a_store_that_faults_changes_nothing(space: AddressSpace) -> None:
    space.map(0x10000, P, RW, fixed=True)
    space.store(0x10000 + P - 8, 8, 0x1122334455667788)
    assert fault(space.store, 0x10000 + P - 4, 8, 0)[0] == 0x10000 + P
    assert fault(space.write, 0x10000 + P - 4, b"12345")[0] == 0x10000 + P
    assert space.load(0x10000 + P - 8, 8) == 0x1122334455667788


@pytest.mark.parametrize("address", [1 << 38, (1 << 38) + 8, (1 << 63), (1 << 64) - 1, (1 << 64) - P])
def test_nothing_beyond_the_end_is_reachable(space: AddressSpace, address: int) -> None:
    assert fault(space.load, address, 1) == (address, "load", False)
    assert fault(space.load, address, 8) == (address, "load", False)
    assert fault(space.store, address, 4, 0) == (address, "store", False)
    assert fault(space.fetch, address & -2) == (address & -2, "fetch", False)
    assert fault(space.read, address, 100) == (address, "load", False)
    assert fault(space.write, address, b"x") == (address, "store", False)
    assert fault(space.peek, address, 1) == (address, "load", False)
    assert fault(space.poke, address, b"x") == (address, "store", False)


def test_an_access_across_the_very_end_faults_at_the_end(space: AddressSpace) -> None:
    space.map(space.size - P, P, 7, fixed=True)
    assert fault(space.load, space.size - 4, 8) == (space.size, "load", False)
    space.store(space.size - 2, 2, 0x0003)
    assert fault(space.fetch, space.size - 2) == (space.size, "fetch", False)
    assert fault(space.read, space.size - P, 2 * P) == (space.size, "load", False)


def test_fetch_returns_a_parcel_or_a_word_and_faults_on_the_second_parcel(space: AddressSpace) -> None:
    space.map(0x10000, P, READ | EXEC, fixed=True)
    space.poke(0x10000, bytes.fromhex("01001300a000"))
    assert space.fetch(0x10000) == 0x0001
    assert space.fetch(0x10002) == 0x00A00013
    assert space.fetch(0x10004) == 0x00A0
    last = 0x10000 + P - 2
    space.poke(last, bytes.fromhex("1300"))
    assert fault(space.fetch, last) == (last + 2, "fetch", False)
    space.map(last + 2, P, READ, fixed=True)
    assert fault(space.fetch, last) == (last + 2, "fetch", True)
    space.protect(last + 2, P, READ | EXEC)
    space.poke(last + 2, bytes.fromhex("a000"))
    assert space.fetch(last) == 0x00A00013


def test_pages_that_may_only_be_executed_are_fetched_but_not_loaded(space: AddressSpace) -> None:
    space.map(0x10000, P, EXEC, fixed=True)
    space.poke(0x10000, b"\x13\x05\x10\x00")
    assert space.fetch(0x10000) == 0x00100513
    assert space.fetch(0x10002) == 0x0010
    assert fault(space.load, 0x10000, 4) == (0x10000, "load", True)
    assert space.peek(0x10000, 4) == b"\x13\x05\x10\x00"


def test_writable_means_readable(space: AddressSpace) -> None:
    space.map(0x10000, P, WRITE, fixed=True)
    assert space.load(0x10000, 8) == 0
    assert space.protection(0x10000) == RW


def test_protection_none_is_mapped_but_denied(space: AddressSpace) -> None:
    space.map(0x10000, P, 0, fixed=True)
    assert fault(space.load, 0x10000, 1) == (0x10000, "load", True)
    assert fault(space.store, 0x10000, 1, 0) == (0x10000, "store", True)
    assert space.protection(0x10000) == 0
    assert space.protection(0x20000) is None
    space.poke(0x10000, b"secret")
    assert space.peek(0x10000, 6) == b"secret"
    assert fault(space.read, 0x10000, 6) == (0x10000, "load", True)


def test_strings_end_at_a_nul_and_fault_exactly(space: AddressSpace) -> None:
    space.map(0x10000, P, RW, fixed=True)
    end = 0x10000 + P
    space.write(end - 4, b"abc\0")
    assert space.read_cstring(end - 4) == b"abc"
    space.write(end - 4, b"abcd")
    assert fault(space.read_cstring, end - 4) == (end, "load", False)
    space.map(end, P, RW, fixed=True)
    assert space.read_cstring(end - 4) == b"abcd"
    fails(errno.ENAMETOOLONG, space.read_cstring, end - 4, 4)


def test_check_needs_every_bit_it_is_given(space: AddressSpace) -> None:
    space.map(0x10000, P, READ, fixed=True)
    space.check(0x10000, P, READ)
    space.check(1 << 60, 0, READ)
    assert fault(space.check, 0x10000, 1, RW) == (0x10000, "store", True)


# The reservation ----------------------------------------------------------------------------------------------


def test_guard_zones_and_the_empty_space_belong_to_us_and_are_closed(space: AddressSpace) -> None:
    low, high = space.base - GUARD, space.base + space.size + GUARD
    covering = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, rights = line.split()[:2]
        start, end = (int(part, 16) for part in span.split("-"))
        if start <= low and end >= high:
            covering.append(rights)
    assert covering == ["---p"]


def test_guest_code_is_never_host_code(space: AddressSpace) -> None:
    space.map(0x10000, P, 7, fixed=True)
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, rights = line.split()[:2]
        start, end = (int(part, 16) for part in span.split("-"))
        if start < space.base + space.size and end > space.base:
            assert "x" not in rights


def test_close_gives_everything_back_and_later_accesses_fault() -> None:
    space = AddressSpace()
    space.map(0x10000, P, RW, fixed=True)
    base = space.base
    space.close()
    space.close()
    assert f"{base - GUARD:x}-" not in Path("/proc/self/maps").read_text()
    assert fault(space.load, 0x10000, 8) == (0x10000, "load", False)
    assert fault(space.store, 0x10000, 8, 0) == (0x10000, "store", False)
    assert fault(space.read, 0x10000, 8) == (0x10000, "load", False)


def test_a_forgotten_space_does_not_leak() -> None:
    for _ in range(2000):  # 256 GiB each: the host's address space ends after about 500
        AddressSpace()
    gc.collect()


def test_no_host_mapping_is_left_behind(space: AddressSpace) -> None:
    def count() -> int:
        return len(Path("/proc/self/maps").read_text().splitlines())

    before = count()
    for _ in range(50):
        start = space.map(0, 8 * P, RW)
        space.protect(start + P, P, READ)
        start = space.remap(start + 2 * P, 4 * P, 64 * P, may_move=True)
        space.unmap(0, space.size)
    assert space.regions() == []
    assert count() <= before + 2


# mmap -----------------------------------------------------------------------------------------------------------


def test_ranges_are_chosen_downwards_below_the_mmap_base(space: AddressSpace) -> None:
    first = space.map(0, 1, RW)
    second = space.map(0, P + 1, RW)
    assert first == space.mmap_base - P
    assert second == first - 2 * P
    space.unmap(first, P)
    assert space.map(0, P, RW) == first


def test_a_hint_is_taken_when_free(space: AddressSpace) -> None:
    assert space.map(0x123456, P, RW) == 0x124000
    assert space.map(0x124000, P, RW) == space.mmap_base - P
    assert space.map(1, P, RW) == 0x10000


def test_fixed_replaces_and_noreplace_refuses(space: AddressSpace) -> None:
    space.map(0x10000, 3 * P, RW, fixed=True)
    space.store(0x10000, 8, 1)
    space.store(0x10000 + P, 8, 2)
    fails(errno.EEXIST, space.map, 0x10000 + P, P, RW, noreplace=True)
    assert space.map(0x10000 + P, P, READ, fixed=True) == 0x10000 + P
    assert space.load(0x10000, 8) == 1
    assert space.load(0x10000 + P, 8) == 0
    assert shape(space) == [(0x10000, 0x10000 + P, RW), (0x10000 + P, 0x10000 + 2 * P, READ),
                            (0x10000 + 2 * P, 0x10000 + 3 * P, RW)]


def test_bad_requests(space: AddressSpace) -> None:
    fails(errno.EINVAL, space.map, 0, 0, RW)
    fails(errno.EINVAL, space.map, 0x10001, P, RW, fixed=True)
    fails(errno.EINVAL, space.map, 0, P, RW, fd=0, offset=1)
    fails(errno.ENOMEM, space.map, 0, (1 << 38) + P, RW)
    fails(errno.ENOMEM, space.map, (1 << 38) - P, 2 * P, RW, fixed=True)
    fails(errno.EBADF, space.map, 0, P, RW, fd=9999)
    fails(errno.EINVAL, space.unmap, 1, P)
    fails(errno.EINVAL, space.unmap, 0, 0)
    fails(errno.EINVAL, space.unmap, 1 << 38, P)
    fails(errno.EINVAL, space.protect, 1, P, READ)
    assert space.regions() == []


def test_a_refused_mapping_leaves_what_was_there(space: AddressSpace, tmp_path: Path) -> None:
    space.map(0x10000, P, RW, fixed=True)
    space.store(0x10000, 8, 42)
    fd = os.open(tmp_path, os.O_RDONLY)
    fails(errno.ENODEV, space.map, 0x10000, P, RW, fixed=True, fd=fd)
    os.close(fd)
    assert space.load(0x10000, 8) == 42


def test_a_full_space_is_out_of_memory_and_small_spaces_work() -> None:
    space = AddressSpace(1 << 20)
    space.map(0x10000, space.size - 0x10000, RW, fixed=True)
    with pytest.raises(OutOfMemory):
        space.map(0, P, RW)
    space.close()


def test_neighbours_that_are_alike_become_one_region(space: AddressSpace) -> None:
    space.map(0x10000, P, RW, fixed=True)
    space.map(0x12000, P, RW, fixed=True)
    space.map(0x11000, P, RW, fixed=True)
    assert shape(space) == [(0x10000, 0x13000, RW)]
    space.map(0x13000, P, RW, fixed=True, name="[heap]")
    assert space.regions()[1] == Region(0x13000, 0x14000, RW, "[heap]")


def test_unmap_splits_and_ignores_holes(space: AddressSpace) -> None:
    space.map(0x10000, 4 * P, RW, fixed=True)
    space.store(0x13000, 1, 7)
    space.unmap(0x11000, 2 * P)
    space.unmap(0x11000, 2 * P)
    assert shape(space) == [(0x10000, 0x11000, RW), (0x13000, 0x14000, RW)]
    assert fault(space.load, 0x12000, 8) == (0x12000, "load", False)
    assert space.load(0x13000, 1) == 7


def test_protect_changes_up_to_the_first_hole(space: AddressSpace) -> None:
    space.map(0x10000, 2 * P, RW, fixed=True)
    space.map(0x13000, P, RW, fixed=True)
    fails(errno.ENOMEM, space.protect, 0x10000, 4 * P, READ)
    assert shape(space) == [(0x10000, 0x12000, READ), (0x13000, 0x14000, RW)]
    fails(errno.ENOMEM, space.protect, 0x12000, 2 * P, READ)
    space.protect(0x11000, P, RW)
    space.store(0x11000, 1, 5)
    assert fault(space.store, 0x10FFF, 2, 0) == (0x10FFF, "store", True)


def test_random_mapping_agrees_with_a_page_by_page_model(space: AddressSpace) -> None:
    rng = random.Random(1)
    model: dict[int, tuple[int, int]] = {}  # page -> protection, value of its first byte
    for step in range(600):
        page, count, protection = rng.randrange(16, 48), rng.randrange(1, 9), rng.choice([0, 1, 3, 5, 7])
        span = range(page, page + count)
        kind = rng.choice(["map", "map", "unmap", "protect", "poke", "move"])
        if kind == "map":
            space.map(page * P, count * P, protection, fixed=True)
            model.update(dict.fromkeys(span, (protection, 0)))
        elif kind == "unmap":
            space.unmap(page * P, count * P)
            for each in span:
                model.pop(each, None)
        elif kind == "protect" and all(each in model for each in span):
            space.protect(page * P, count * P, protection)
            model.update({each: (protection, model[each][1]) for each in span})
        elif kind == "poke" and page in model:
            space.poke(page * P, bytes([step % 256]))
            model[page] = model[page][0], step % 256
        elif kind == "move" and all(each in model for each in span) and len({model[each][0] for each in span}) == 1:
            target = page + 100 + rng.randrange(9)
            assert space.remap(page * P, count * P, (count + 1) * P, may_move=True, to=target * P) == target * P
            old = model[page][0]
            for index, each in enumerate(span):
                model[target + index] = model.pop(each)
            model[target + count] = old, 0
    for page in range(10, 200):
        expected = model.get(page)
        assert space.protection(page * P) == (None if expected is None else expected[0])
        if expected is not None:
            assert space.peek(page * P, 1)[0] == expected[1]
    covered = {page for region in space.regions() for page in range(region.start // P, region.end // P)}
    assert covered == set(model)


# Files ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "data"
    path.write_bytes(bytes(range(256)) * 20)  # 5,120 bytes: one page and a quarter
    fd = os.open(path, os.O_RDWR)
    yield fd
    os.close(fd)


@pytest.mark.parametrize("shared", [False, True])
def test_files_are_mapped_with_zeros_after_their_end(space: AddressSpace, file: int, shared: bool) -> None:
    start = space.map(0, 3 * P, RW, fd=file, shared=shared)
    assert space.read(start, 5200) == bytes(range(256)) * 20 + bytes(80)
    assert space.load(start + 8, 8) == int.from_bytes(bytes(range(8, 16)), "little")
    assert space.load(start + P - 1, 2) == 0x00FF
    with pytest.raises(MemoryFault) as caught:
        space.load(start + 2 * P, 8)
    assert caught.value.bus and caught.value.mapped and caught.value.address == start + 2 * P


def test_private_writes_stay_private_and_shared_ones_reach_the_file(space: AddressSpace, file: int) -> None:
    private = space.map(0, P, RW, fd=file)
    shared = space.map(0, P, RW, fd=file, shared=True)
    space.store(private, 4, 0x11111111)
    space.store(shared + 4, 4, 0x22222222)
    space.write(shared + 8, b"three")
    space.sync(shared, P, 4)
    assert os.pread(file, 13, 0) == b"\x00\x01\x02\x03\x22\x22\x22\x22three"


def test_a_file_cut_short_faults_instead_of_killing_us(space: AddressSpace, file: int) -> None:
    shared = space.map(0, 2 * P, READ | EXEC, fd=file, shared=True)
    private = space.map(0, 2 * P, RW, fd=file)
    os.ftruncate(file, 0)
    for access in (lambda: space.load(shared, 8), lambda: space.read(shared, 100), lambda: space.fetch(shared)):
        with pytest.raises(MemoryFault) as caught:
            access()
        assert caught.value.bus
    assert space.load(private, 1) == 0


def test_offsets_and_large_private_files(space: AddressSpace, tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as out:
        out.truncate(6 << 20)
        out.seek(5 << 20)
        out.write(b"here")
    fd = os.open(path, os.O_RDONLY)
    start = space.map(0, 6 << 20, RW, fd=fd)
    part = space.map(0, P, READ, fd=fd, offset=5 << 20)
    os.close(fd)
    assert space.read(start + (5 << 20), 4) == space.read(part, 4) == b"here"
    space.store(start + (5 << 20), 4, 0)
    assert space.read(part, 4) == b"here"


def test_a_shared_mapping_of_a_read_only_file_cannot_become_writable(space: AddressSpace, tmp_path: Path) -> None:
    path = tmp_path / "read-only"
    path.write_bytes(b"text")
    fd = os.open(path, os.O_RDONLY)
    fails(errno.EACCES, space.map, 0, P, RW, fd=fd, shared=True)
    start = space.map(0, P, READ, fd=fd, shared=True)
    os.close(fd)
    fails(errno.EACCES, space.protect, start, P, RW)
    assert fault(space.poke, start, b"x") == (start, "store", True)
    assert space.read(start, 4) == b"text"


# mremap and madvise -----------------------------------------------------------------------------------------------


def test_remap_shrinks_grows_in_place_and_moves(space: AddressSpace) -> None:
    space.map(0x10000, 4 * P, RW, fixed=True)
    space.write(0x10000, b"contents")
    assert space.remap(0x10000, 4 * P, 2 * P) == 0x10000
    assert shape(space) == [(0x10000, 0x12000, RW)]
    assert space.remap(0x10000, 2 * P, 3 * P) == 0x10000
    space.store(0x12FF8, 8, 9)
    space.map(0x13000, P, READ, fixed=True)
    fails(errno.ENOMEM, space.remap, 0x10000, 3 * P, 5 * P)
    moved = space.remap(0x10000, 3 * P, 500 * P, may_move=True)
    assert moved == space.mmap_base - 500 * P
    assert space.read(moved, 8) == b"contents" and space.load(moved + 3 * P - 8, 8) == 9
    assert space.load(moved + 499 * P, 8) == 0
    assert space.protection(0x10000) is None
    assert space.remap(moved, 500 * P, P, may_move=True, to=0x13000) == 0x13000
    assert space.read(0x13000, 8) == b"contents"
    assert shape(space) == [(0x13000, 0x14000, RW)]


def test_remap_moves_what_the_host_holds_in_pieces(space: AddressSpace) -> None:
    start = space.map(0, P, RW)
    space.store(start, 8, 1)
    for step in range(1, 6):  # each move leaves the host with a mapping it cannot merge with the next
        start = space.remap(start, step * P, (step + 1) * P, may_move=True, to=0x100000 * step)
        space.store(start + step * P, 8, step + 1)
    assert [space.load(start + page * P, 8) for page in range(6)] == [1, 2, 3, 4, 5, 6]


def test_remap_of_a_file_mapping_grows_into_the_file(space: AddressSpace, file: int) -> None:
    start = space.map(0, P, RW, fd=file, shared=True)
    start = space.remap(start, P, 2 * P, may_move=True)
    assert space.read(start + P, 4) == bytes(range(4))


def test_bad_remaps(space: AddressSpace) -> None:
    space.map(0x10000, 2 * P, RW, fixed=True)
    fails(errno.EINVAL, space.remap, 0x10001, P, P)
    fails(errno.EINVAL, space.remap, 0x10000, P, 0)
    fails(errno.EINVAL, space.remap, 0x10000, P, P, to=0x20000)
    fails(errno.EINVAL, space.remap, 0x10000, 2 * P, P, may_move=True, to=0x11000)
    fails(errno.EFAULT, space.remap, 0x10000, 3 * P, 4 * P)
    fails(errno.EFAULT, space.remap, 0x50000, P, P)
    fails(errno.ENOMEM, space.remap, 0x10000, P, 1 << 39, may_move=True)


def test_discard_zeroes_private_pages(space: AddressSpace) -> None:
    space.map(0x10000, 2 * P, RW, fixed=True)
    space.store(0x10000, 8, 1)
    space.store(0x11000, 8, 2)
    space.discard(0x10000, P)
    assert (space.load(0x10000, 8), space.load(0x11000, 8)) == (0, 2)
    fails(errno.ENOMEM, space.discard, 0x11000, 2 * P)


# Hooks ------------------------------------------------------------------------------------------------------------


def test_watchers_hear_of_every_way_that_code_changes(space: AddressSpace) -> None:
    heard: list[tuple[int, int]] = []
    space.watchers.append(lambda start, end: heard.append((start, end)))
    space.map(0x10000, 4 * P, 7, fixed=True)
    space.map(0x20000, P, RW, fixed=True)
    space.write(0x20000, b"data")
    space.unmap(0x20000, P)
    space.store(0x10000, 8, 0)  # nobody made anything from this page, so nobody wants to know
    space.write(0x10010, b"code")
    space.poke(0x10010, b"code")
    assert heard == []
    for change, expected in (
            (lambda: space.store(0x10010, 8, 1), (0x10010, 0x10018)),
            (lambda: space.write(0x10010, b"code"), (0x10010, 0x10014)),
            (lambda: space.poke(0x10010, b"code"), (0x10010, 0x10014)),
            (lambda: space.protect(0x10000, P, READ), (0x10000, 0x11000)),
            (lambda: space.map(0x11000, P, 7, fixed=True), (0x11000, 0x12000)),
            (lambda: space.discard(0x11000, P), (0x11000, 0x12000)),
            (lambda: space.remap(0x12000, P, P, may_move=True, to=0x30000), (0x12000, 0x13000)),
            (lambda: space.unmap(0x13000, P), (0x13000, 0x14000))):
        space.watch(0x10000, 0x11000)
        heard.clear()
        change()
        assert heard == [expected]


def test_a_watched_page_tells_on_the_first_store_only(space: AddressSpace) -> None:
    heard: list[tuple[int, int]] = []
    space.watchers.append(lambda start, end: heard.append((start, end)))
    space.map(0x10000, 2 * P, RW, fixed=True)
    space.watch(0x10100, 0x10104)
    assert space.load(0x10000, 8) == 0
    space.store(0x11000, 8, 1)
    assert heard == []
    space.store(0x10FFC, 8, 1)
    space.store(0x10FFC, 8, 2)
    assert heard == [(0x10FFC, 0x11004)]
    assert space.load(0x10FFC, 8) == 2
    space.watch(0x10000, 0x11000)
    space.unwatch(0x10000, 0x11000)
    space.store(0x10000, 8, 1)
    assert len(heard) == 1


def test_dirty_collects_pages(space: AddressSpace) -> None:
    space.map(0x10000, 8 * P, RW, fixed=True)
    space.store(0x10000, 8, 1)
    space.dirty = set()
    space.store(0x11000, 8, 1)
    space.store(0x12FFF, 2, 1)
    space.write(0x15000, bytes(P + 1))
    space.poke(0x17000, b"x")
    space.load(0x10000, 8)
    assert space.dirty == {0x11, 0x12, 0x13, 0x15, 0x16, 0x17}


def test_effects_replayed_elsewhere_give_the_same_memory(space: AddressSpace, file: int) -> None:
    other = AddressSpace()
    space.map(0x10000, 8 * P, RW, fixed=True)
    other.map(0x10000, 8 * P, RW, fixed=True)
    with space.record() as effects:
        space.write(0x10000, b"written")
        mapped = space.map(0, 2 * P, READ, fd=file, shared=True, name="data")
        space.poke(0x11000, b"poked")
        space.unmap(0x16000, 2 * P)
        space.protect(0x12000, P, READ)
        moved = space.remap(0x14000, P, 9 * P, may_move=True)
        grown = space.remap(0x15000, P, 2 * P)
        space.discard(0x11000, P)
    assert [effect[0] for effect in effects] == ["write", "map", "poke", "unmap", "protect", "remap", "remap",
                                                 "discard"]
    space.write(0x10000, b"later..")
    other.replay(effects)
    assert grown == 0x15000
    assert shape(space) == shape(other)
    assert other.read(0x10000, 7) == b"written"
    assert other.read(mapped, 2 * P) == space.read(mapped, 2 * P)
    assert other.read(moved, 9 * P) == bytes(9 * P)
    os.pwrite(file, b"changed", 0)
    assert space.read(mapped, 7) == b"changed"
    assert other.read(mapped, 7) == bytes(range(7))
    other.close()


def test_what_fails_is_not_recorded(space: AddressSpace) -> None:
    with space.record() as effects:
        fault(space.write, 0x10000, b"x")
        fails(errno.EINVAL, space.map, 0, 0, RW)
        fails(errno.ENOMEM, space.protect, 0x10000, P, RW)
    assert effects == []
    with space.record(), pytest.raises(RuntimeError), space.record():
        pass
