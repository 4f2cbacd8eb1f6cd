# The entry of a bare-metal program, and of its traps. Machine mode throughout: Priv. 3.1.
#
# Owns: the stack, the empty data, and what is kept of the registers when a trap comes. Must not know: any program.

    .section .text.start, "ax"
    .globl _start
_start:
    csrr t0, mhartid
    bnez t0, park
    la sp, stack_end
    la t0, bss_start
    la t1, bss_end
1:  sd zero, (t0)
    addi t0, t0, 8
    bltu t0, t1, 1b
    la t0, trap_entry
    csrw mtvec, t0
    call main
    call finish

    .globl park
    .balign 4
park:
    wfi
    j park

# A trap goes to trap(mcause, mepc, mtval), which returns where to go on. Kept are the registers that C may change.
    .macro each what
    .irp n, 1, 5, 6, 7, 10, 11, 12, 13, 14, 15, 16, 17, 28, 29, 30, 31
    \what x\n, 8 * \n(sp)
    .endr
    .endm

    .balign 4
trap_entry:
    addi sp, sp, -256
    each sd
    csrr a0, mcause
    csrr a1, mepc
    csrr a2, mtval
    call trap
    csrw mepc, a0
    each ld
    addi sp, sp, 256
    mret

    .bss
    .balign 16
    .zero 8192
stack_end:
