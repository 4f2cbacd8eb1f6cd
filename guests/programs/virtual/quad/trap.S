# The entries of quad's traps, its program, and the function that it patches.
#
# Owns: what is kept over a trap. Must not know: what a call or a tick does.

#include "program.h"

    .macro passing what
    .irp n, 0, 1, 2, 3, 4, 5, 6
    \what t\n, 8 * \n(sp)
    .endr
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7
    \what a\n, 56 + 8 * \n(sp)
    .endr
    \what ra, 120(sp)
    .endm

    .text

# run_program(pc): it runs in user mode, until its call with a7 = 0.
    .globl run_program
run_program:
    program_begins

# From the program: call(a0, cause) is the answer. Its other registers that a call may change have changed.
    .globl call_entry
    .balign 4
call_entry:
#ifdef PV
    block t0
    ld a1, PV_CAUSE(t0)
    beqz a7, 1f
    call call
    block t0
    ld t1, PV_PC(t0)
    addi t1, t1, 4
    sd t1, PV_PC(t0)
    sd a0, PV_A0(t0)
    ask PV_RESUME
#else
    csrrw sp, sscratch, sp
    csrr a1, scause
    beqz a7, 1f
    call call
    csrr t0, sepc
    addi t0, t0, 4
    csrw sepc, t0
    csrrw sp, sscratch, sp
    sret
#endif
1:  call call
    program_over

# From the kernel: tick(cause).
    .globl tick_entry
    .balign 4
tick_entry:
    addi sp, sp, -128
    passing sd
#ifdef PV
    block t0
    ld a0, PV_CAUSE(t0)
    call tick
    li a0, PV_RESUME
    call pv_later
    passing ld
    addi sp, sp, 128
    la a0, pv_queue # what the tick has asked for, and to resume, which gives these four registers back
    la a6, pv_queued
    ld a1, (a6)
    sd zero, (a6)
    ask PV_MULTICALL
#else
    csrr a0, scause
    call tick
    passing ld
    addi sp, sp, 128
    sret
#endif

# A page that user mode may execute: 100 calls, of which the last one ends it.
    .section .text.program, "ax"
    .globl program
    .balign 4096
program:
    li s0, 99
    li a0, 1
1:  li a7, 1
    ecall
    addi s0, s0, -1
    bnez s0, 1b
    li a7, 0
    ecall

# A page that is written: its first instruction has four bytes.
    .section .text.patched, "awx"
    .globl patched
    .balign 4096
    .option push
    .option norvc
    .option norelax
patched:
    li a0, 0
    ret
    .option pop
    .balign 4096
