# skernel: a guest that does nothing but end: the call of SBI 0.1 that turns a machine off.
#
# Shows: a call of the mode above ends a guest's run.

    .section .text.start, "ax"
    .globl _start
_start:
    li a7, 8
    ecall
