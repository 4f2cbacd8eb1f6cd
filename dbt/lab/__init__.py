"""The lab: what the lecture notes claim, shown by running it. `dragoman lab ROW|--list|--all`.

A row does one experiment, prints what it measured, and holds or does not: the command ends with 0 only if all
rows asked for hold. `check` is for readers' own work (`dbt.lab.exercises`). Owns: the table of rows and the command.
Must not know: how engines work inside.
"""

from __future__ import annotations

import os
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from dbt.lab import (
    a01_properties,
    a02_topologies,
    a03_objects,
    a04_schedule,
    a05_memory,
    a06_device,
    a07_discovery,
    a08_shutdown,
    a09_misa,
    a10_modes,
    a11_guest_memory,
    a12_context,
    a13_world_switch,
    a14_exits,
    a15_causes,
    a20_virtual_instructions,
    a21_timer,
    b04_interpreter,
    c01_classify,
    c03_sensitive,
    c04_toy_cpu,
    c05_critical_section,
    c07_slow,
    c08_cache,
    c09_granularity,
    c10_bounded_cache,
    c11_inline,
    c12_classes,
    c13_interrupt_flag,
    c14_address_space,
    c15_chaining,
    c16_registers,
    c17_accesses,
    c18_length,
    c19_smc,
    c20_latency,
    c21_traces,
    c22_hypercalls,
    c23_batches,
    c24_source,
    c25_printing,
    c27_tables,
    c30_reasons,
    c31_blocks,
    c46_split,
    c47_kvm,
    c49_threads,
    c51_waiting,
    c52_access,
    d02_services,
    d03_trap_and_emulate,
    d05_registers,
    d10_shadow,
    d14_console,
    d15_disk,
    d16_passed_through,
    d17_kernel,
    e01_decoder,
    e02_lowering,
    e03_life_cycle,
    e04_lockstep,
    e05_benchmark,
    e06_command,
    e07_nano,
    exercises,
)  # fmt: skip
from dbt.lab.report import Report

USAGE = """usage: dragoman lab ROW... | --all | --list | check NAME FILE

Show by experiment what the lecture notes claim, or what the design promises. Ends with 0 if all of it holds, with 1 if
not, with 2 for bad usage. With check: say whether an exercise of the lab book (docs/lab/) is solved.

  ROW     one or more rows, by id, or by name where they have one, such as classify; --list shows them
  --all   every row
  check   `dragoman lab check --help` explains it
"""

LINE = 118  # columns


class Row(NamedTuple):
    """One row: `claim` is what the notes say, or what is promised; `run` does the experiment. One that shows something
    to look at has a `name` beside its number; `also` are the numbers of rows that the same experiment shows.
    """

    id: str
    title: str
    source: str
    claim: str
    run: Callable[[Report], None]
    name: str = ""
    also: tuple[str, ...] = ()


ROWS = (
    Row("A01", "equivalent, efficient, in control", "notes 000",
        "A guest's results are those of a bare machine, most of its instructions run directly, and it gets at nothing "
        "that is not its own.",
        a01_properties.run, "props"),
    Row("A02", "two types of hypervisor", "notes 000",
        "Type I is on the hardware, type II inside a host operating system.",
        a02_topologies.run),
    Row("A03", "the objects of virtualization", "notes 000",
        "What is virtualized are a VM, vCPUs, memory, devices, and what connects them: interrupts and the bus.",
        a03_objects.run),
    Row("A04", "virtual CPUs on physical ones", "notes 000",
        "Virtual CPUs are multiplexed on physical ones as tasks are, which is less efficient; or each is bound to one, "
        "which is efficient, and limits their number.",
        a04_schedule.run, "schedule"),
    Row("A05", "contiguous RAM of scattered pages", "notes 000",
        "Each virtual machine sees RAM that is contiguous; the host's pages that it is made of are scattered.",
        a05_memory.run, "memmap"),
    Row("A06", "a device, mapped or emulated", "notes 000",
        "A virtual device is mapped directly, and then reached without exits; or emulated, by an exit for each access.",
        a06_device.run),
    Row("A07", "a guest finds its devices", "notes 000",
        "The machine has a bus that can be discovered: a guest is handed the hart's number and a tree of its devices.",
        a07_discovery.run),
    Row("A08", "the simplest guest", "notes 000",
        "Load an image, prepare a context, enter the guest; its call for the end leaves it; the cause says what to do.",
        a08_shutdown.run),
    Row("A09", "misa.H", "notes 000",
        "Bit 7 of misa says whether there is the hypervisor extension; without it its registers are illegal.",
        a09_misa.run),
    Row("A10", "hstatus.SPV, and sret", "notes 000",
        "SPV says whether sret goes to a guest; sstatus.SPP says in which of its modes it is then.",
        a10_modes.run),
    Row("A11", "hstatus.SPVP", "notes 000",
        "SPVP is the privilege with which a hypervisor reaches its guest's memory.",
        a11_guest_memory.run),
    Row("A12", "a forged context", "notes 000",
        "A guest is entered for the first time through a context that is made up: SPP, sepc, hgatp with mode 8.",
        a12_context.run),
    Row("A13", "the world switch", "notes 000",
        "In and out of a guest the registers of one world are kept and those of the other put in their place.",
        a13_world_switch.run),
    Row("A14", "the simplest hypervisor, exactly", "notes 000",
        "A guest's three instructions are three exits, and the monitor's console is that of the notes.",
        a14_exits.run, also=("A18", "A19")),
    Row("A15", "a register of machine mode", "notes 000",
        "A guest that reads mhartid has made an illegal instruction; its monitor answers with a number of its own.",
        a15_causes.illegal),
    Row("A16", "memory that is not there", "notes 000",
        "An access where a guest has no memory is a guest-page fault of its own cause; it can be answered, or mapped.",
        a15_causes.memory),
    Row("A17", "calls of a guest", "notes 000",
        "A call of a supervisor always leaves it; which one it is decides who answers.",
        a15_causes.calls),
    Row("A20", "virtual instructions", "notes 000",
        "What a hypervisor could do and its guest may not is an exception of its own, with cause 22.",
        a20_virtual_instructions.run),
    Row("A21", "a timer for a guest", "notes 000",
        "Setting the timer is an exit, the host's timer is one, and then the guest has its own interrupt.",
        a21_timer.run),
    Row("B03", "one physical CPU at a time", "notes 001",
        "A virtual CPU is a thread of the host's, which is on one physical CPU at a time, and may be on another one "
        "the next time.",
        a04_schedule.migrations),
    Row("B04", "the interpreter", "notes 001",
        "A CPU fetches, decodes and executes; the crudest virtual machine emulates every instruction.",
        b04_interpreter.run),
    Row("C01", "sensitive and privileged", "notes 002",
        "An architecture can be virtualized by traps if each sensitive instruction is a privileged one.",
        c01_classify.run, "classify"),
    Row("C03", "three kinds of sensitive", "notes 002",
        "Sensitive instructions access special registers, or sensitive memory, or devices.",
        c03_sensitive.run),
    Row("C04", "the notes' interpreter loop", "notes 002, method 1",
        "Fetch, PC += 4, switch on the instruction; after each one an interrupt is taken if IRQ and IE.",
        c04_toy_cpu.run),
    Row("C05", "between CLI and STI", "notes 002, method 1",
        "CLI masks interrupts, STI lets them in: one that is pending then comes before the next instruction.",
        c05_critical_section.run),
    Row("C07", "the interpreter is very slow", "notes 002, method 1",
        "Very slow: any one instruction of the virtual machine becomes many.",
        c07_slow.run),
    Row("C08", "translate in batches, and keep it", "notes 002, method 2",
        "Guest code is translated in batches before it is executed, and what is translated is cached.",
        c08_cache.run),
    Row("C09", "why basic blocks", "notes 002, method 2",
        "The unit of translation is the basic block. (Why?)",
        c09_granularity.run),
    Row("C10", "a cache with a bound", "notes 002, method 2",
        "Translations are cached; the cache has a size, and what it costs is time, never a result.",
        c10_bounded_cache.run),
    Row("C11", "calls or code in place", "notes 002, method 2",
        "A sensitive instruction is replaced by a function; for speed the function is expanded in place.",
        c11_inline.run),
    Row("C12", "ident, inline, callout", "notes 002, method 2",
        "Harmless instructions are translated as themselves (ident), simple sensitive ones to code in place (inline), "
        "the rest to calls of the monitor (callout).",
        c12_classes.run),
    Row("C13", "the interrupt flag, in place", "notes 002, method 2",
        "A simple sensitive instruction, such as one that edits the interrupt-enable flag, is expanded in place.",
        c13_interrupt_flag.run),
    Row("C14", "what changes the address space", "notes 002, method 2",
        "What is not simple, such as a new base of the page table, calls the monitor; mappings are then the new ones.",
        c14_address_space.run),
    Row("C15", "the branch that ends a block", "notes 002, method 2",
        "The branch that ends a basic block needs a call of the monitor.",
        c15_chaining.run),
    Row("C16", "virtual registers in host registers", "notes 002, method 2",
        "The monitor jumps to the block with the virtual registers in hardware registers.",
        c16_registers.run),
    Row("C17", "loads and stores", "notes 002, method 2",
        "Accesses to memory are among the dangerous instructions: each one has to go where the guest's tables say.",
        c17_accesses.run),
    Row("C18", "end early, or go past a branch", "notes 002, method 2",
        "There may be reasons to end a sequence early, or to go past a branch.",
        c18_length.run),
    Row("C19", "self-modifying code", "notes 002, method 2",
        "Binary translation cannot handle self-modifying code.",
        c19_smc.run),
    Row("C20", "where interrupts enter", "notes 002, method 2",
        "Interpretation can inject a virtual interrupt after any instruction, translation only at block boundaries.",
        c20_latency.run),
    Row("C21", "one trace, two engines", "notes 002, method 2",
        "An interpreter may inject anywhere; one that does so at boundaries only cannot be told from the translator.",
        c21_traces.run),
    Row("C22", "calls instead of traps", "notes 002, method 3",
        "In para-virtualization the guest's kernel is changed: it calls the monitor where it would have to be trapped.",
        c22_hypercalls.run),
    Row("C23", "many calls in one", "notes 002, method 3",
        "Calls can be gathered, and made by one exit.",
        c23_batches.run),
    Row("C24", "the kernel's source is needed", "notes 002, method 3",
        "The drawback: the operating system's source must be changed, which closed ones do not allow.",
        c24_source.run),
    Row("C25", "drivers that know", "notes 002, method 3",
        "Guest and monitor may be designed together, which helps input and output.",
        c25_printing.run),
    Row("C26", "guests' modes beside the others", "notes 002, method 4",
        "Hardware has a second kind of mode for guests, with all privileges of the first in it.",
        a10_modes.orthogonal),
    Row("C27", "a page table that nobody hears of", "notes 002, method 4",
        "A guest's kernel sets its page table, and the monitor is not told.",
        c27_tables.run),
    Row("C30", "why a guest is left", "notes 002, method 4",
        "A VM exit comes with a sensitive instruction or an event, such as an interrupt from outside.",
        c30_reasons.run, "reasons"),
    Row("C31", "how many control structures", "notes 002, method 4",
        "With 8 physical CPUs and 10 VMs of 4 virtual CPUs there are 40 control structures: one for each virtual CPU.",
        c31_blocks.run),
    Row("C32", "who moves the state", "notes 002, method 4",
        "Where there is no control structure software itself keeps and loads the state of both worlds.",
        a13_world_switch.counts),
    Row("C46", "mechanism and policy", "notes 002, QEMU/KVM",
        "KVM is the mechanism, and has no devices; QEMU is the policy, and has them.",
        c46_split.run, also=("C53",)),
    Row("C47", "the loop around KVM_RUN", "notes 002, QEMU/KVM",
        "A user of KVM opens it, makes a VM and a vCPU by ioctl, runs it, and switches over the reason of its exit.",
        c47_kvm.run),
    Row("C49", "a virtual CPU is a thread", "notes 002, QEMU/KVM",
        "A virtual CPU is a thread's; the end of that thread's time slice is no affair of the user's.",
        c49_threads.threads),
    Row("C50", "a timer's interrupts", "notes 002, QEMU/KVM",
        "An interrupt of a timer need not go back to the user.",
        c49_threads.ticks),
    Row("C51", "a guest that waits", "notes 002, QEMU/KVM",
        "WFI leaves the guest, whose virtual CPU sleeps until an interrupt comes; another one has the time.",
        c51_waiting.run),
    Row("C52", "two switches", "notes 002, QEMU/KVM",
        "An access to a device goes from the fault to the user and back; what the first switch answers does not.",
        c52_access.run, also=("C48",)),
    Row("D02", "many services on one box", "notes 003",
        "Many light services are on one machine, each isolated in a virtual one, and share it.",
        d02_services.run),
    Row("D03", "direct execution in user mode", "notes 003",
        "The guest's kernel executes directly, in user mode; each of its privileged instructions traps.",
        d03_trap_and_emulate.counts),
    Row("D04", "and nothing else", "notes 003",
        "Naively: a kernel in user mode that executes `csrw satp` crashes.",
        d03_trap_and_emulate.nobody),
    Row("D05", "virtual registers and real ones", "notes 003",
        "A monitor keeps the guest's privileged registers; the real ones are its own, and hold other values.",
        d05_registers.run, "regs"),
    Row("D06", "emulating a register", "notes 003",
        "`csrr a0, sepc` traps; the monitor sets a0 in the trap frame to virtual sepc, and goes on behind it.",
        d03_trap_and_emulate.forms),
    Row("D07", "the mode is kept", "notes 003",
        "The mode follows trapped `sret`; what a guest's program may not do is its kernel's, and is not emulated.",
        d03_trap_and_emulate.reflected),
    Row("D08", "the hart's number", "notes 003",
        "Which hart it is cannot be read even with privilege: the monitor keeps the number.",
        d03_trap_and_emulate.numbers),
    Row("D09", "a call of a guest's program", "notes 003",
        "A program's `ecall` traps to the monitor, which makes it a trap of the guest's kernel.",
        d03_trap_and_emulate.calls),
    Row("D10", "shadow page tables", "notes 003",
        "A write of satp has the monitor make tables from the guest's virtual addresses to the host's physical ones.",
        d10_shadow.three),
    Row("D11", "only what was granted", "notes 003",
        "Shadow tables hold only the host's pages that this machine was given.",
        d10_shadow.isolated),
    Row("D12", "edits and fences", "notes 003",
        "An edit of the guest's tables is seen from `sfence.vma` on, for which the monitor looks at them again.",
        d10_shadow.edits),
    Row("D13", "a map for each machine", "notes 003",
        "The monitor keeps for each machine where its physical addresses are in the host's.",
        d10_shadow.maps),
    Row("D14", "an emulated device", "notes 003",
        "A device is emulated behind addresses that are not mapped: each access of the guest is an exit.",
        d14_console.run),
    Row("D15", "a virtual device", "notes 003",
        "A virtual device, which the guest's driver knows, needs one exit for a request, or for several.",
        d15_disk.run),
    Row("D16", "a device that is handed over", "notes 003",
        "A device, or a function of one for each guest, is passed through: its pages are mapped into the guest.",
        d16_passed_through.run),
    Row("D17", "an operating system, whole", "notes 003",
        "A system with machine mode, protection, timer, interrupts, page tables, UART and disk runs as a guest.",
        d17_kernel.run),
    Row("E01", "the decoder against capstone", "design",
        "Every word decodes to the same instruction as in an independent decoder, or there is a known reason.",
        e01_decoder.run),
    Row("E02", "lowering", "design",
        "Every block verifies, in our IR and in LLVM's; the IR of each class is as written down.",
        e02_lowering.run),
    Row("E03", "the life of translations", "design",
        "Translations come and go without end: code is freed, nothing is leaked, the bound holds.",
        e03_life_cycle.run),
    Row("E04", "lockstep", "design",
        "The engines are compared at every block, registers and memory; the first difference is found and shown.",
        e04_lockstep.run),
    Row("E05", "benchmarks, cold and warm", "design",
        "Cold and warm are measured apart; records are kept as JSON and compared.",
        e05_benchmark.run),
    Row("E06", "the command line", "design",
        "The commands exist; a bad image gets a message and a status.",
        e06_command.run),
    Row("E07", "one operation at a time", "design",
        "What a virtual machine costs is seen operation by operation: a call, a device, a page, a fault, a table.",
        e07_nano.run),
)  # fmt: skip


def main(argv: Sequence[str]) -> int:
    """The command; returns its exit status."""
    words = list(argv)
    if words[:1] == ["check"]:
        return exercises.main(words[1:])
    if not words or words == ["--help"] or words == ["-h"]:
        (sys.stdout if words else sys.stderr).write(USAGE)
        return 0 if words else 2
    if words == ["--list"]:
        for row in ROWS:
            beside = row.name or f"also {' '.join(row.also)}" * bool(row.also)
            print(f"{row.id:4} {row.title:36} {row.source:22} {beside}".rstrip())
        return 0
    by_id = {word.upper(): row for row in ROWS for word in (row.id, row.name, *row.also) if word}
    if words == ["--all"]:
        wanted = list(ROWS)
    else:
        unknown = [word for word in words if word.upper() not in by_id]
        if unknown:
            known = " ".join(row.id for row in ROWS)
            sys.stderr.write(f"dragoman: there is no lab row {unknown[0]!r} (rows: {known}; or --all, --list)\n")
            return 2
        wanted = [by_id[word.upper()] for word in words]
    failed = [row.id for row in wanted if not perform(row)]
    if len(wanted) > 1:
        which = f"; not: {' '.join(failed)}" if failed else ""
        print(f"{len(wanted) - len(failed)} of {len(wanted)} rows hold{which}")
    return 1 if failed else 0


def perform(row: Row, write: Callable[[str], None] = print) -> bool:
    """Run one row's experiment; returns whether its claim holds."""
    write(f"{row.id}: {row.title}")
    claim = f"claim ({row.source}): {row.claim}"
    write(textwrap.fill(claim, LINE, initial_indent="  ", subsequent_indent="    "))
    report = Report(write)
    start = time.perf_counter()
    try:
        row.run(report)
    except Exception as error:  # an experiment that breaks off proves nothing
        if os.environ.get("DRAGOMAN_DEBUG") == "1":
            raise
        report.check(False, f"the experiment ran to its end ({type(error).__name__}: {error})")
    verdict = "holds" if report.holds else f"DOES NOT HOLD: {'; '.join(report.failures) or 'nothing was checked'}"
    write(f"  {row.id} {verdict} ({report.checks} checks, {time.perf_counter() - start:.1f} s)\n")
    return report.holds
