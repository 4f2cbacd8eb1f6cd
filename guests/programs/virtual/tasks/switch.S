# The entry of traps: all registers go to a frame on the task's stack, and come from that of the task that is next.
#
# Owns: the frame. Must not know: which task is next; trap() says so.

    .macro each what
    .irp n, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
    \what x\n, 8 * \n(sp)
    .endr
    .endm

    .text
    .globl trap_entry
    .balign 4
trap_entry:
    addi sp, sp, -272
    each sd
    csrr t0, sepc
    csrr t1, sstatus
    sd t0, 0(sp)
    sd t1, 256(sp)
    csrr a0, scause
    mv a1, sp
    call trap
    mv sp, a0
    ld t0, 0(sp)
    ld t1, 256(sp)
    csrw sepc, t0
    csrw sstatus, t1
    each ld
    addi sp, sp, 272
    sret
