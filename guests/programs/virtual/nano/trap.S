# The entry of nano's traps, and its programs.
#
# Owns: what is done for each trap, which uses the registers t0 to t2 of a program. Must not know: how often.

#include "program.h"

# The address of the entry for an address of the window, in the table of its pages.
    .macro place address, table
    srli \address, \address, 12
    andi \address, \address, 511
    slli \address, \address, 3
    add \table, \table, \address
    .endm

# A program, and its end: a hundred times.
    .macro begin
    li s0, 100
    li s1, 0
    li a7, 1
    .endm

    .macro again label
    addi s0, s0, -1
    bnez s0, \label
    li a7, 0
    ecall
    .endm

    .text

# run_program(pc): it runs in user mode, until its call with a7 = 0; what it has in s1 then.
    .globl run_program
run_program:
    program_begins

# All traps are a program's. Of a page at its first use the entry is written; behind a call, and behind what is no
# instruction, the program goes on with one more in s1.
    .globl entry
    .balign 4
entry:
#ifdef PV
    block t0
    ld t1, PV_CAUSE(t0)
    li t2, 13
    beq t1, t2, page
    beqz a7, over
    addi s1, s1, 1
    ld t1, PV_PC(t0)
    addi t1, t1, 4
    sd t1, PV_PC(t0)
    ask PV_RESUME
page:
    ld t1, PV_VALUE(t0)
    la a0, at_once
    sd t1, 24(a0)
    la t2, leaves
    place t1, t2
    sd t2, 8(a0)
    ld t1, touched
    sd t1, 16(a0)
    li a1, 2
    ask PV_MULTICALL
#else
    csrr t0, scause
    li t1, 13
    beq t0, t1, page
    beqz a7, over
    addi s1, s1, 1
    csrr t0, sepc
    addi t0, t0, 4
    csrw sepc, t0
    sret
page:
    csrr t0, stval
    la t1, leaves
    place t0, t1
    ld t0, touched
    sd t0, (t1)
    sret
#endif
over:
    mv a0, s1
#ifndef PV
    csrr sp, sscratch
#endif
    program_over

#ifdef PV
    .data
    .balign 8
at_once: # an entry of the table, for a page; and back
    .dword PV_SET_LEAF, 0, 0, 0
    .dword PV_RESUME, 0, 0, 0
#endif

# A page that user mode may execute.
    .section .text.program, "ax"
    .globl programs, calls, touches, bads
    .balign 4096
programs:
calls:
    begin
1:  ecall
    again 1b

touches:
    begin
    li s2, 0x40001000
    li s3, 4096
1:  ld t0, (s2)
    add s1, s1, t0
    add s2, s2, s3
    again 1b

    .option push
    .option norvc
bads:
    begin
1:  .word 0xffffffff
    again 1b
    .option pop
    .balign 4096
