# What stays in machine mode: the timer of boards whose supervisor mode has none (no Sstc extension).
#
# The kernel asks by an ecall as it would ask firmware, by the SBI's set_timer; the interrupt of the CLINT comes here,
# and is passed on as the timer interrupt of supervisor mode. Nothing else comes here: machine.c delegates all of it.
# mscratch holds the address of a machine_area (machine.c): two saved registers, addresses of mtimecmp and finisher.

    .text
    .globl machine_trap
    .balign 4
machine_trap:
    csrrw sp, mscratch, sp
    sd t0, 0(sp)
    sd t1, 8(sp)
    csrr t0, mcause
    bltz t0, timer
    addi t0, t0, -9             # an ecall of supervisor mode
    bnez t0, lost
    ld t0, 16(sp)
    sd a0, (t0)
    li t0, 1 << 5               # what was pending is over,
    csrc mip, t0
    li t0, 1 << 7               # and the machine's timer may interrupt
    csrs mie, t0
    csrr t0, mepc
    addi t0, t0, 4
    csrw mepc, t0
    li a0, 0
    j done
timer:
    li t0, 1 << 7
    csrc mie, t0
    li t0, 1 << 5
    csrs mip, t0
done:
    ld t0, 0(sp)
    ld t1, 8(sp)
    csrrw sp, mscratch, sp
    mret
lost:                           # a trap of machine mode itself: nobody could say more
    ld t0, 24(sp)
    li t1, 0x23333
    sw t1, (t0)
    j lost
