# The entry of a guest that is written in C, in supervisor mode.
#
# Owns: the stack, the empty data, the end. Must not know: any program.

    .section .text.start, "ax"
    .globl _start
_start:
    la sp, stack_end
    la t0, bss_start
    la t1, bss_end
1:  bgeu t0, t1, 2f
    sd zero, (t0)
    addi t0, t0, 8
    j 1b
2:  call main
    li a7, 8
    ecall

    .bss
    .balign 16
    .zero 4096
stack_end:
