# The hypervisor's first instructions. A board's reset code gives the hart's number in a0, the device tree's address in
# a1; the mode is machine mode.

    .section .text.start, "ax"
    .globl _start
_start:
    bnez a0, park               # one hart is enough
    la sp, stack_end
    la t0, bss_start
    la t1, bss_end
1:  sd zero, (t0)
    addi t0, t0, 8
    bltu t0, t1, 1b
    call hypervisor             # (hart, device tree)
park:
    wfi
    j park

# void drop(void): returns in the mode that mstatus.MPP names. Priv. 3.3.2.
    .globl drop
drop:
    csrw mepc, ra
    mret

# A trap of the hypervisor itself: nobody could say more.
    .globl lost
    .balign 4
lost:
    li t0, 0x100000
    li t1, 0x23333
    sw t1, (t0)
    j lost

    .bss
    .balign 16
    .zero 8192
stack_end:
