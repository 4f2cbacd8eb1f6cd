"""The lab: every row holds, and each row fails when what it claims is made untrue."""

from __future__ import annotations

import mmap
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from support.peers import REPOSITORY

import guests
from dbt import fleet, lab, lockstep, regions
from dbt.arena import Arena
from dbt.cache import TranslationCache
from dbt.coherence import Coherence
from dbt.engine import Translated
from dbt.kvm import Vcpu, deprivileged, errors, schedule
from dbt.kvm import Vm as VirtualMachine
from dbt.kvm.deprivileged import Emulating
from dbt.kvm.physical import HOST, Shadowed
from dbt.kvm.vcpu import Stats
from dbt.kvm.vm import Turns
from dbt.lab import (
    a01_properties,
    a06_device,
    a09_misa,
    a10_modes,
    a11_guest_memory,
    a12_context,
    a13_world_switch,
    a15_causes,
    a20_virtual_instructions,
    b04_interpreter,
    c01_classify,
    c03_sensitive,
    c04_toy_cpu,
    c05_critical_section,
    c08_cache,
    c11_inline,
    c12_classes,
    c14_address_space,
    c27_tables,
    c46_split,
    c49_threads,
    d16_passed_through,
    e01_decoder,
    e02_lowering,
    e06_command,
    simple_monitor,
    workbench,
)
from dbt.lab.report import Report
from dbt.lab.workbench import Machine
from dbt.lift import Lifter
from dbt.machine.boards import Board
from dbt.machine.devices.block import Block
from dbt.machine.disks import Raw
from dbt.machine.pool import Pool
from dbt.machine.remembered import RememberingSpace
from dbt.machine.tlb import Ram
from dbt.machine.vm import Caller
from dbt.options import Options
from dbt.reference import Reference
from dbt.state import RAM_HOST
from dbt.translate import Translator
from guests.riscv import kvm as virtual
from guests.riscv import mmu, paravirtual, privileged_traps, shadow, two_stage, worlds
from guests.riscv import privileged as p
from guests.riscv.machine import guest as machine_guest
from guests.spec import Guest
from guests.toy import interrupts
from ir import llvm, passes
from ir.block import Continue, Jump
from ir.records import replace as with_fields

IDS = [row.id for row in lab.ROWS]
Patch = pytest.MonkeyPatch


@pytest.mark.parametrize("row", IDS)
def test_row_holds(row: str, capsys: pytest.CaptureFixture[str]) -> None:
    status = lab.main([row])
    out = capsys.readouterr().out
    assert status == 0, out
    assert out.startswith(f"{row}: ") and f"{row} holds" in out and "claim" in out and "[NO]" not in out


def test_rows_that_show_something_have_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert {row.name: row.id for row in lab.ROWS if row.name} == {
        "props": "A01", "schedule": "A04", "memmap": "A05", "classify": "C01", "reasons": "C30",
        "regs": "D05"}  # fmt: skip
    assert lab.main(["regs"]) == 0 and capsys.readouterr().out.startswith("D05: ")
    assert lab.main(["--list"]) == 0
    assert re.search(r"^C01 .* classify$", capsys.readouterr().out, re.MULTILINE)


def test_the_page_has_the_table_of_sensitive_instructions(capsys: pytest.CaptureFixture[str]) -> None:
    """Every one that is found, and no other."""
    page = (REPOSITORY / "docs/sensitive-instructions.md").read_text()
    written = re.findall(r"^\| `([^`]+)` \| (traps) \| ([a-z ]+) \|$", page, re.MULTILINE)
    found = [(each.name, "traps" if each.traps else "", each.sensitive)
             for each in c01_classify.table(machine_guest()) if each.sensitive]  # fmt: skip
    assert written == found


# --- claims broken on purpose ------------------------------------------------------------------------


def forgetful_interpreter(patch: Patch) -> None:
    """An interpreter that keeps part of the state in itself loses it when it is replaced."""

    class Forgetful(Reference):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.state.slots[self.state.slot("s0")] = 0

    patch.setattr(b04_interpreter, "Reference", Forgetful)


def interrupt_without_return_address(patch: Patch) -> None:
    def vector(slots: Any, pc: int, exception: int = 0) -> int:
        target = interrupts.vector(slots, pc, exception)
        slots[32] = 0
        return target

    patch.setattr(c04_toy_cpu, "vector", vector)


def stores_to_read_only_memory_that_are_lost(patch: Patch) -> None:
    write = Caller.write
    rom = c03_sensitive.ROM
    patch.setattr(Caller, "write", lambda self, at, *rest: None if at == rom else write(self, at, *rest))


def a_section_that_does_not_begin(patch: Patch) -> None:
    program = c05_critical_section.PROGRAM
    patch.setattr(c05_critical_section, "PROGRAM", program.replace("csrrci zero, sstatus, 2", "nop"))


def interrupts_that_ignore_the_flag(patch: Patch) -> None:
    patch.setattr(c04_toy_cpu, "IE", 6)  # r6 is 1 in the program


def blocks_one_by_one(patch: Patch) -> None:
    patch.setattr(c08_cache, "Options", lambda **given: Options(**given, region=0))


def nothing_kept(patch: Patch) -> None:
    call = Machine.call

    def flushed(self: Machine, *arguments: int) -> Any:
        self.engine.flush()
        return call(self, *arguments)

    patch.setattr(Machine, "call", flushed)


def additions_of_a_thousand_instructions(patch: Patch) -> None:
    def do_add(self: Any, inst: Any) -> None:
        self.put(r'call void asm sideeffect "jmp 1f\0A.rept 2000\0Anop\0A.endr\0A1:", ""()')
        self.binary(inst, "add")

    patch.setattr(llvm.Lowering, "do_add", do_add)


def a_bound_that_is_ignored(patch: Patch) -> None:
    start = TranslationCache.__init__

    def unbounded(self: Any, state: Any, bound: int, *rest: Any, **more: Any) -> None:
        start(self, state, 32 << 20, *rest, **more)

    patch.setattr(TranslationCache, "__init__", unbounded)


def nothing_linked(patch: Patch) -> None:
    start = TranslationCache.__init__

    def unlinked(self: Any, state: Any, bound: int, policy: str = "lru", linked: bool = True) -> None:
        start(self, state, bound, policy, False)

    patch.setattr(TranslationCache, "__init__", unlinked)


def links_that_stay(patch: Patch) -> None:
    drop = TranslationCache._drop

    def forgetful(self: Any, translation: Any) -> None:
        held = {slot: self._words[slot >> 3] for slot in self._incoming.get(translation.key, ())}
        drop(self, translation)
        for slot, entry in held.items():
            self._words[slot >> 3] = entry

    patch.setattr(TranslationCache, "_drop", forgetful)


def callouts_in_place(patch: Patch) -> None:
    patch.setattr(c11_inline, "Options", lambda **given: Options(**{**given, "sensitive": "inline"}))


def flags_that_are_not_cleared(patch: Patch) -> None:
    patch.setattr(llvm.Lowering, "do_and", lambda self, inst: self.binary(inst, "or"))


def writes_that_are_not_seen(patch: Patch) -> None:
    patch.setattr(Coherence, "_changed", lambda self, start, end: None)


def fences_that_do_nothing(patch: Patch) -> None:
    patch.setattr(Coherence, "_verify", lambda self, suspects: None)


def an_engine_that_stops_late(patch: Patch) -> None:
    run = Translated.run
    patch.setattr(Translated, "run", lambda self, until: run(self, until + 1))


def a_bit_that_is_stored_wrong(patch: Patch) -> None:
    store = llvm.Lowering.access_store

    def wrong(self: Any, pointer: str, value: str, size: int, at: int) -> None:
        store(self, pointer, self.let(f"xor i64 {value}, 1") if size == 1 else value, size, at)

    patch.setattr(llvm.Lowering, "access_store", wrong)


def an_interpreter_of_blocks(patch: Patch) -> None:
    patch.setattr(Reference, "interruptible", property(lambda self: not self.state.mid_block))


def addition_by_a_call(patch: Patch) -> None:
    def do_add(self: Any, inst: Any) -> None:
        self.put('call void asm sideeffect "nop", ""()')
        self.binary(inst, "add")

    patch.setattr(llvm.Lowering, "do_add", do_add)


def wrong_class(patch: Patch) -> None:
    expected = {**c12_classes.EXPECTED, "ecall": "inline"}
    patch.setattr(c12_classes, "EXPECTED", expected)


def registers_read_at_every_use(patch: Patch) -> None:
    patch.setattr(passes, "optimise", lambda block: block)


def side_exits_that_store_nothing(patch: Patch) -> None:
    side = llvm.Lowering.side

    def forgetful(self: Any, at: int, reason: str) -> str:
        before, self.before = self.before, {}
        try:
            return side(self, at, reason)
        finally:
            self.before = before

    patch.setattr(llvm.Lowering, "side", forgetful)


def cuts_that_count_as_boundaries(patch: Patch) -> None:
    decode = Lifter.decode

    def wrong(self: Any, pc: int, most: int) -> Any:
        sites, exit = decode(self, pc, most)
        return sites, Jump(exit.target) if isinstance(exit, Continue) else exit

    patch.setattr(Lifter, "decode", wrong)


def a_limit_that_is_ignored(patch: Patch) -> None:
    decode = Lifter.decode

    patch.setattr(Lifter, "decode", lambda self, pc, most: decode(self, pc, 64))


def branches_that_end_every_translation(patch: Patch) -> None:
    patch.setattr(Translator, "request", lambda self, key, profile: regions.single(self.lifter, key))


def wrong_operands(patch: Patch) -> None:
    right = guests.load("riscv64")

    def load(name: str, isa: str | None = None) -> Guest:
        return replace(right, decode=lambda word: right.decode(word ^ 0x80 if word & 0x7F == 0x33 else word))

    patch.setattr(e01_decoder.guests, "load", load)


def ill_typed_lowering(patch: Patch) -> None:
    patch.setattr(llvm.Lowering, "do_sub", lambda self, inst: self.binary(inst, "fsub"))


def another_golden_text(patch: Patch) -> None:
    patch.setitem(e02_lowering.GOLDEN, "ident", e02_lowering.GOLDEN["ident"].replace("add %0", "sub %0"))


def code_that_is_never_freed(patch: Patch) -> None:
    patch.setattr(Arena, "free", lambda self, address: None)


def a_leak_in_the_process(patch: Patch) -> None:
    free, kept = Arena.free, []

    def leaking(self: Any, address: int) -> None:
        kept.append(bytes(4096))  # more than what other tests have left free can hide
        free(self, address)

    patch.setattr(Arena, "free", leaking)


def memory_not_compared(patch: Patch) -> None:
    patch.setattr(lockstep._Pair, "_compare_pages", lambda self, pages: [])


def pages_that_are_handed_out_twice(patch: Patch) -> None:
    take = Pool.take

    def generous(self: Pool, size: int) -> Any:
        free = list(self._free)
        taken = take(self, size)
        self._free = free
        return taken

    patch.setattr(Pool, "take", generous)


def a_map_that_is_made_up(patch: Patch) -> None:
    place = Pool._map
    patch.setattr(Pool, "_map", lambda self, address, pages: place(self, address, sorted(pages)))


def trees_without_transports(patch: Patch) -> None:
    soc = Board._soc
    patch.setattr(Board, "_soc", lambda self: {k: v for k, v in soc(self).items() if not k.startswith("virtio")})


def a_tree_that_is_not_handed_on(patch: Patch) -> None:
    reset = Board.reset
    patch.setattr(Board, "reset", lambda self, start, tree: reset(self, start, tree + 8))


def masks_by_a_call(patch: Patch) -> None:
    def do_and(self: Any, inst: Any) -> None:
        self.put('call void asm sideeffect "nop", ""()')
        self.binary(inst, "and")

    patch.setattr(llvm.Lowering, "do_and", do_and)


def what_lets_interrupts_in_looks_for_none(patch: Patch) -> None:
    leave = llvm.Lowering.leave_when

    def blind(self: Any, condition: str, at: int, reason: str) -> None:
        leave(self, "false" if reason == "monitor" else condition, at, reason)

    patch.setattr(llvm.Lowering, "leave_when", blind)


def address_spaces_in_place(patch: Patch) -> None:
    patch.setattr(c14_address_space, "replace", lambda options, sensitive: with_fields(options, sensitive="inline"))


def code_that_stays_in_its_address_space(patch: Patch) -> None:
    patch.setattr(llvm.Lowering, "do_remaps", lambda self, inst: setattr(self, "remaps", "false"))


def a_reference_that_stays_in_its_address_space(patch: Patch) -> None:
    remap = RememberingSpace.remap

    def once(self: Any) -> None:
        if not self._contexts:
            remap(self)

    patch.setattr(RememberingSpace, "remap", once)


def a_call_at_every_access(patch: Patch) -> None:
    translated = llvm.Lowering.translated

    def slow(self: Any, *access: Any) -> str:
        self.put('call void asm sideeffect "nop", ""()')
        return translated(self, *access)

    patch.setattr(llvm.Lowering, "translated", slow)


def accesses_that_are_where_they_begin(patch: Patch) -> None:
    translated = llvm.Lowering.translated

    def narrow(self: Any, tables: Any, base: Any, offset: object, at: int, size: int, writing: bool) -> str:
        return translated(self, tables, base, offset, at, 1, writing)

    patch.setattr(llvm.Lowering, "translated", narrow)


def a_register_that_answers_without_an_exit(patch: Patch) -> None:
    read = Caller.read
    patch.setattr(Caller, "read", lambda self, at, size: 0x61 if at == 5 else read(self, at, size))


def one_region_for_all(patch: Patch) -> None:
    shared = mmap.mmap(-1, simple_monitor.SIZE)
    given = VirtualMachine.set_user_memory_region

    def same(self: VirtualMachine, slot: int, gpa: int, size: int, memory: object = None, flags: int = 0) -> Any:
        return given(self, slot, gpa, size, shared if slot == 0 else memory, flags)

    patch.setattr(VirtualMachine, "set_user_memory_region", same)


def binding_that_nobody_checks(patch: Patch) -> None:
    patch.setattr(schedule, "bind", None)


def loads_that_nobody_refuses(patch: Patch) -> None:
    """A virtual CPU is never said to run."""
    patch.setattr(schedule.Entity, "runs", property(lambda self: False, lambda self, value: None), raising=False)


def quanta_of_another_length_elsewhere(patch: Patch) -> None:
    execute = schedule.Scheduler._execute

    def uneven(self: Any, entity: Any, most: int) -> None:
        execute(self, entity, most - 500 * entity.current.number)

    patch.setattr(schedule.Scheduler, "_execute", uneven)


def twice_the_processors(patch: Patch) -> None:
    class Generous(schedule.Scheduler):
        def __init__(self, vms: Any, answer: Any, pcpus: int, *rest: Any) -> None:
            super().__init__(vms, answer, 2 * pcpus, *rest)

    patch.setattr(fleet, "Scheduler", Generous)


def a_crash_that_is_everybodys(patch: Patch) -> None:
    execute = schedule.Scheduler._execute

    def careless(self: Any, entity: Any, most: int) -> None:
        execute(self, entity, most)
        if isinstance(error := entity.machine.end, errors.KvmError):
            for machine in self.machines:
                machine.end = error

    patch.setattr(schedule.Scheduler, "_execute", careless)


def waiting_that_takes_the_time(patch: Patch) -> None:
    until = Vcpu._until_exit
    patch.setattr(Vcpu, "_until_exit", lambda self, most, yields: until(self, most, False))


def a_page_that_stays_away(patch: Patch) -> None:
    patch.setattr(a06_device, "CONTENT", bytes(a06_device.PAGE))


def a_call_that_is_not_seen(patch: Patch) -> None:
    patch.setattr(virtual, "SUPERVISOR_CALL", 8)


def seen_as(patch: Patch, change: Callable[[virtual.VmExit], virtual.VmExit]) -> None:
    """Where exits are worked out, they are others."""
    seen = worlds.Direct.seen
    patch.setattr(worlds.Direct, "seen", staticmethod(lambda *given: change(seen(*given))))


def a_trap_one_instruction_late(patch: Patch) -> None:
    seen_as(patch, lambda trap: trap._replace(sepc=trap.sepc + 4))


def illegal_is_virtual(patch: Patch) -> None:
    seen_as(patch, lambda trap: trap._replace(scause=22) if trap.scause == 2 else trap)


def physical_addresses_not_shifted(patch: Patch) -> None:
    seen_as(patch, lambda trap: trap._replace(htval=trap.htval << 2))


def calls_that_are_not_known(patch: Patch) -> None:
    patch.setattr(virtual, "is_for_user", lambda extension: False)


def an_instruction_that_an_interrupt_swallows(patch: Patch) -> None:
    tick = simple_monitor.Monitor._tick

    def swallowing(self: simple_monitor.Monitor) -> None:
        tick(self)
        self.vcpu.skip()

    patch.setattr(simple_monitor.Monitor, "_tick", swallowing)


def devices_that_are_not_kept(patch: Patch) -> None:
    patch.setattr(VirtualMachine, "add_device", lambda self, gpa, device: None)


def harts_that_all_have_it(patch: Patch) -> None:
    patch.setattr(a09_misa, "hart", lambda words, engine, hypervisor: workbench.hart(words, engine, hypervisor=True))


def interpreted(patch: Patch) -> None:
    """Rows about bodies of instructions ask the reference alone: native code is made once for all tests."""
    for module in (a10_modes, a11_guest_memory, a12_context, a13_world_switch, a20_virtual_instructions, c27_tables):
        patch.setattr(module, "ENGINES", ("reference",))
    patch.setattr(c27_tables, "METHODS", ("interp",))


def traps_that_note_nothing_of_a_guest(patch: Patch) -> None:
    interpreted(patch)
    patch.setattr(privileged_traps, "_leave_guest", lambda m, *of, **more: of[-1])


def a_privilege_that_is_not_looked_at(patch: Patch) -> None:
    interpreted(patch)
    patch.setattr(two_stage.TwoStage, "_as", lambda self, access: (p.SUPERVISOR, access in two_stage.KINDS))


def leaves_for_everybody(patch: Patch) -> None:
    interpreted(patch)
    patch.setattr(two_stage, "U", mmu.V)


def traps_that_cost_a_register(patch: Patch) -> None:
    def board(*given: Any, **more: Any) -> Any:
        made, printed = workbench.board(*given, **more)
        slots = made.vm.vcpus[0].state.slots

        def cost(*trap: int) -> None:
            slots[21] += 1

        made.vm.vcpus[0].observe = cost
        return made, printed

    patch.setattr(a13_world_switch, "board", board)


def virtual_is_illegal(patch: Patch) -> None:
    interpreted(patch)
    patch.setattr(p, "virtual_if", lambda m, condition: m.illegal_if(condition))


def bits_that_trap_nothing(patch: Patch) -> None:
    interpreted(patch)
    patch.setattr(p, "need_clear", lambda m, mask, guest=0: None)


def turns_that_never_end(patch: Patch) -> None:
    patch.setattr(Turns, "wanted", False)
    patch.setattr(c49_threads, "PATIENCE", 1)


def the_hypervisors_own_timer(patch: Patch) -> None:
    patch.setattr(worlds.GuestFirmware, "timer", p.STIMECMP)


def waiting_that_nobody_hears_of(patch: Patch) -> None:
    enter = worlds.Hypervised.enter
    patch.setattr(worlds.Hypervised, "enter", lambda self, hart, waiting: enter(self, hart, False))


def entries_without_a_fence(patch: Patch) -> None:
    patch.setattr(paravirtual.Calls, "_set_leaf", lambda self, a: self._world.memory.write(a[0], a[1]) or 0)


def kernels_that_nobody_refuses(patch: Patch) -> None:
    patch.setattr(deprivileged.Called, "_emulate", lambda self, trap: trap)


def a_mechanism_with_a_device(patch: Patch) -> None:
    patch.setattr(c46_split, "MECHANISM", (*c46_split.MECHANISM, "machine/boards.py"))


def loads_without_their_answer(patch: Patch) -> None:
    patch.setattr(Vcpu, "reply", lambda self, *values: None)


def everything_is_the_users(patch: Patch) -> None:
    patch.setattr(virtual, "is_for_user", lambda extension: extension != 8)


def traps_without_names(patch: Patch) -> None:
    patch.setattr(worlds.Deprivileged, "named", lambda self, decoded: "an instruction")


def a_crash_without_its_instruction(patch: Patch) -> None:
    patch.setattr(worlds.Deprivileged, "written", lambda self, decoded: "of some kind")


def registers_that_are_the_harts(patch: Patch) -> None:
    """What is shown as real is the guest's own."""
    slots = {"scause": p.SCAUSE, "stval": p.STVAL, "sepc": p.SEPC, "sstatus": p.MSTATUS, "satp": p.SATP, "sie": p.MIE}
    patch.setattr(worlds.Deprivileged, "real", lambda self, hart: {
        name: hart.state.slots[slot] for name, slot in slots.items()
    })  # fmt: skip


def emulated_as(patch: Patch, before: Callable[[Any], None], after: Callable[[Any], None]) -> None:
    emulate = Emulating._emulate

    def changed(self: Emulating, trap: Any) -> Any:
        before(self._hart.state.slots)
        left = emulate(self, trap)
        after(self._hart.state.slots)
        return left

    patch.setattr(Emulating, "_emulate", changed)


def reads_of_registers_that_are_lost(patch: Patch) -> None:
    emulated_as(patch, lambda slots: None, lambda slots: slots.__setitem__(10, 0))


def programs_that_are_emulated_as_kernels(patch: Patch) -> None:
    emulated_as(patch, lambda slots: slots.__setitem__(p.PRIVILEGE, p.SUPERVISOR), lambda slots: None)


def traps_that_are_counted_twice(patch: Patch) -> None:
    note = Stats.note

    def twice(self: Stats, name: str) -> None:
        note(self, name)
        note(self, name)

    patch.setattr(Stats, "note", twice)


def leaves_that_may_all_be_stored_to(patch: Patch) -> None:
    patch.setattr(shadow, "rights", lambda readable, writable, executable: mmu.R | mmu.W | mmu.X)


def memory_that_nobody_granted(patch: Patch) -> None:
    """Where the monitor has put its memory is the guest's as well."""
    pieces = Shadowed.pieces

    def more(self: Shadowed, gpa: int, size: int) -> Any:
        yield from pieces(self, gpa, size)
        if size == 1 and gpa >= HOST:
            yield shadow.Piece(gpa & -4096, 4096, gpa & -4096, True, True)

    patch.setattr(Shadowed, "pieces", more)


def shadows_that_stay(patch: Patch) -> None:
    patch.setattr(shadow.Shadow, "fence", lambda self, address, asid: None)


def one_request_for_a_notification(patch: Patch) -> None:
    def serve(self: Block, index: int, queue: Any) -> bool:
        chain = queue.pop()
        return bool(queue.push(chain, self._request(queue, chain)))

    patch.setattr(Block, "serve", serve)


def a_disk_that_forgets(patch: Patch) -> None:
    patch.setattr(Raw, "write", lambda self, sector, data: None)


def functions_that_are_all_of_one_guest(patch: Patch) -> None:
    """Whatever a card writes goes to the first guest's memory."""
    write = d16_passed_through.Remapping.write
    patch.setattr(d16_passed_through.Remapping, "write", lambda self, function, *rest: write(self, 0, *rest))


def devices_that_are_emulated_inside(patch: Patch) -> None:
    patch.setattr(VirtualMachine, "assign_device", VirtualMachine.add_device)


def native_code_one_page_off(patch: Patch) -> None:
    add = Ram.add

    def wrong(self: Ram, state: Any, space: Any) -> None:
        add(self, state, space)
        state.words[RAM_HOST] += 4096

    patch.setattr(Ram, "add", wrong)


def tracebacks(patch: Patch) -> None:
    def command(*words: str, **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(words, 126, "", "Traceback (most recent call last):\n  ...\n")

    patch.setattr(e06_command, "command", command)


def memory_that_is_not_its_own(patch: Patch) -> None:
    made = a15_causes.guest

    def guest(method: str, *words: int) -> Vcpu:
        vcpu = made(method, *words)
        vcpu.vm.set_user_memory_region(1, a01_properties.OUTSIDE, 0x1000)
        return vcpu

    patch.setattr(a01_properties, "guest", guest)


def an_engine_that_spoils_a_register(patch: Patch) -> None:
    run = Translated.run

    def spoiling(self: Translated, until: int) -> Any:
        stop = run(self, until)
        self.state.slots[self.state.slot("s11")] ^= 1
        return stop

    patch.setattr(Translated, "run", spoiling)


def modes_that_are_not_asked_for(patch: Patch) -> None:
    patch.setattr(p, "need", lambda m, mode: None)


@pytest.mark.parametrize(
    ("row", "breakage"),
    [
        ("A01", memory_that_is_not_its_own),
        ("A01", an_engine_that_spoils_a_register),
        ("A02", devices_that_are_not_kept),
        ("A03", one_region_for_all),
        ("A04", binding_that_nobody_checks),
        ("A05", pages_that_are_handed_out_twice),
        ("A05", a_map_that_is_made_up),
        ("A06", a_page_that_stays_away),
        ("A07", trees_without_transports),
        ("A07", a_tree_that_is_not_handed_on),
        ("A08", a_call_that_is_not_seen),
        ("A09", harts_that_all_have_it),
        ("A10", traps_that_note_nothing_of_a_guest),
        ("A11", a_privilege_that_is_not_looked_at),
        ("A12", leaves_for_everybody),
        ("A13", traps_that_cost_a_register),
        ("A14", a_trap_one_instruction_late),
        ("A14", physical_addresses_not_shifted),
        ("A15", illegal_is_virtual),
        ("A16", physical_addresses_not_shifted),
        ("A17", calls_that_are_not_known),
        ("A20", virtual_is_illegal),
        ("A21", an_instruction_that_an_interrupt_swallows),
        ("B03", loads_that_nobody_refuses),
        ("B03", quanta_of_another_length_elsewhere),
        ("B04", forgetful_interpreter),
        ("C01", modes_that_are_not_asked_for),
        ("C03", traps_that_are_counted_twice),
        ("C03", stores_to_read_only_memory_that_are_lost),
        ("C04", interrupt_without_return_address),
        ("C04", interrupts_that_ignore_the_flag),
        ("C05", a_section_that_does_not_begin),
        ("C07", additions_of_a_thousand_instructions),
        ("C08", blocks_one_by_one),
        ("C08", nothing_kept),
        ("C09", a_limit_that_is_ignored),
        ("C09", cuts_that_count_as_boundaries),
        ("C09", branches_that_end_every_translation),
        ("C10", a_bound_that_is_ignored),
        ("C10", cuts_that_count_as_boundaries),
        ("C11", callouts_in_place),
        ("C11", flags_that_are_not_cleared),
        ("C12", addition_by_a_call),
        ("C12", wrong_class),
        ("C13", masks_by_a_call),
        ("C13", what_lets_interrupts_in_looks_for_none),
        ("C14", address_spaces_in_place),
        ("C14", code_that_stays_in_its_address_space),
        ("C14", a_reference_that_stays_in_its_address_space),
        ("C15", nothing_linked),
        ("C15", links_that_stay),
        ("C16", registers_read_at_every_use),
        ("C16", side_exits_that_store_nothing),
        ("C17", a_call_at_every_access),
        ("C17", accesses_that_are_where_they_begin),
        ("C18", cuts_that_count_as_boundaries),
        ("C18", a_limit_that_is_ignored),
        ("C18", branches_that_end_every_translation),
        ("C19", writes_that_are_not_seen),
        ("C19", fences_that_do_nothing),
        ("C20", an_engine_that_stops_late),
        ("C20", cuts_that_count_as_boundaries),
        ("C20", an_interpreter_of_blocks),
        ("C21", an_engine_that_stops_late),
        ("C21", cuts_that_count_as_boundaries),
        ("C21", a_bit_that_is_stored_wrong),
        ("C26", virtual_is_illegal),
        ("C27", bits_that_trap_nothing),
        ("C22", calls_that_are_not_known),
        ("C23", entries_without_a_fence),
        ("C24", kernels_that_nobody_refuses),
        ("C25", calls_that_are_not_known),
        ("C30", calls_that_are_not_known),
        ("C31", twice_the_processors),
        ("C32", traps_that_note_nothing_of_a_guest),
        ("C46", a_mechanism_with_a_device),
        ("C47", loads_without_their_answer),
        ("C49", turns_that_never_end),
        ("C50", the_hypervisors_own_timer),
        ("C51", waiting_that_nobody_hears_of),
        ("C51", waiting_that_takes_the_time),
        ("C52", everything_is_the_users),
        ("D02", a_crash_that_is_everybodys),
        ("D03", traps_without_names),
        ("D04", a_crash_without_its_instruction),
        ("D05", illegal_is_virtual),
        ("D05", registers_that_are_the_harts),
        ("D06", reads_of_registers_that_are_lost),
        ("D07", programs_that_are_emulated_as_kernels),
        ("D08", illegal_is_virtual),
        ("D09", traps_that_are_counted_twice),
        ("D10", leaves_that_may_all_be_stored_to),
        ("D11", memory_that_nobody_granted),
        ("D12", shadows_that_stay),
        ("D13", pages_that_are_handed_out_twice),
        ("D14", a_register_that_answers_without_an_exit),
        ("D15", one_request_for_a_notification),
        ("D15", a_disk_that_forgets),
        ("D16", functions_that_are_all_of_one_guest),
        ("D16", devices_that_are_emulated_inside),
        ("D17", native_code_one_page_off),
        ("E01", wrong_operands),
        ("E02", ill_typed_lowering),
        ("E02", another_golden_text),
        ("E03", code_that_is_never_freed),
        ("E03", a_leak_in_the_process),
        ("E04", memory_not_compared),
        ("E05", nothing_kept),
        ("E06", tracebacks),
        ("E07", traps_that_are_counted_twice),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_row_fails_when_its_claim_is_broken(
    row: str, breakage: Callable[[Patch], None], monkeypatch: Patch, capsys: pytest.CaptureFixture[str]
) -> None:
    breakage(monkeypatch)
    status = lab.main([row])
    out = capsys.readouterr().out
    assert status == 1, out
    assert f"{row} DOES NOT HOLD" in out and "[NO]" in out


def test_every_row_has_a_broken_twin() -> None:
    mark = test_row_fails_when_its_claim_is_broken.pytestmark[0]  # type: ignore[attr-defined]
    assert {row for row, _ in mark.args[1]} == set(IDS)


# --- the command -------------------------------------------------------------------------------------


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert lab.main(["--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == IDS


def test_a_row_is_found_by_the_numbers_of_all_that_it_shows(capsys: pytest.CaptureFixture[str]) -> None:
    assert lab.main(["c53", "C46"]) == 0
    assert capsys.readouterr().out.count("C46: mechanism and policy") == 2
    assert lab.main(["--list"]) == 0
    assert "also A18 A19\n" in capsys.readouterr().out


def test_unknown_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert lab.main(["C04", "Z99"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("dragoman: there is no lab row 'Z99'")


def test_nothing_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert lab.main([]) == 2
    assert "usage:" in capsys.readouterr().err
    assert lab.main(["--help"]) == 0
    assert "usage:" in capsys.readouterr().out


def test_several_rows_are_summed_up(monkeypatch: Patch, capsys: pytest.CaptureFixture[str]) -> None:
    def good(report: Report) -> None:
        report.check(True, "fine")

    def bad(report: Report) -> None:
        raise ValueError("broken off")

    def idle(report: Report) -> None:
        report.say("nothing is checked")

    rows = tuple(lab.Row(name, name, "test", "", run) for name, run in (("A", good), ("B", bad), ("C", idle)))
    monkeypatch.setattr(lab, "ROWS", rows)
    assert lab.main(["--all"]) == 1
    out = capsys.readouterr().out
    assert "1 of 3 rows hold; not: B C" in out and "ValueError: broken off" in out
    assert lab.main(["a"]) == 0
