# skernel2: three instructions that a guest may not execute by itself: a register of machine mode, a load where there is
# no memory, and the call that turns a machine off.
#
# Shows: what a monitor answers them; it gives a1 and a0 their values. PLACE: the address that is loaded from.

#ifndef PLACE
#define PLACE 64
#endif

    .section .text.start, "ax"
    .globl _start
_start:
    csrr a1, mhartid
    ld a0, PLACE(zero)
    li a7, 8
    ecall
