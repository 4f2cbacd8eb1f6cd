/* For a guest's assembly: into a program of user mode, and back; and a para-virtualized kernel's calls.
 *
 * Owns: what is kept while a program runs. Must not know: what its traps are for. */
#ifndef PROGRAM_H
#define PROGRAM_H

#ifdef PV
#include "pv.h"

    .macro block register
    la \register, pv_block
    .endm

# The call that has one number and no arguments.
    .macro ask number
    li a7, PV_EXTENSION
    li a6, \number
    ecall
    .endm
#endif

    .macro kept what
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
    \what s\n, 8 * \n(sp)
    .endr
    \what ra, 96(sp)
    .endm

# A function of one argument, the address at which a program begins in user mode. It returns when the kernel's entry for
# traps, on the kernel's stack, gets to `program_over`.
    .macro program_begins
    addi sp, sp, -112
    kept sd
#ifdef PV
    block t0
    sd sp, PV_STACK(t0)
    sd a0, PV_PC(t0)
    li t1, 1
    sd t1, PV_USER(t0)
    ask PV_RESUME
#else
    csrw sscratch, sp
    csrw sepc, a0
    li t0, 1 << 8
    csrc sstatus, t0
    sret
#endif
    .endm

    .macro program_over
    kept ld
    addi sp, sp, 112
    ret
    .endm

#endif
