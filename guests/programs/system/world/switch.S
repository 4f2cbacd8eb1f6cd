# The world switch in full, with nothing that a compiler could know to be dead: 31 registers, and sstatus, hstatus,
# scounteren, stvec, sscratch, sepc. Priv. 18.2, 18.6.3, 18.6.4.
#
# sscratch holds the address of both sides while the guest runs (world.c: struct worlds).

    .option arch, +h
    .set SIDE, 38 * 8           # bytes of one side
    .set SSTATUS, 32 * 8
    .set HSTATUS, 33 * 8
    .set SCOUNTEREN, 34 * 8
    .set STVEC, 35 * 8
    .set SSCRATCH, 36 * 8
    .set SEPC, 37 * 8

    .macro others what, side    # all registers but x10, which holds the address
    .irp n, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
    \what x\n, \side + 8 * \n(a0)
    .endr
    .endm

    .macro swap csr, at, in, out    # what a CSR is of one side, for what it was of the other
    ld t0, \in + \at(a0)
    csrrw t0, \csr, t0
    sd t0, \out + \at(a0)
    .endm

    .text
run_guest:                      # (worlds): returns when the guest has trapped
    others sd, 0
    sd a0, 80(a0)
    swap sstatus, SSTATUS, SIDE, 0
    swap hstatus, HSTATUS, SIDE, 0
    swap scounteren, SCOUNTEREN, SIDE, 0
    swap sepc, SEPC, SIDE, 0
    la t0, guest_exit
    csrrw t0, stvec, t0
    sd t0, STVEC(a0)
    csrrw t0, sscratch, a0
    sd t0, SSCRATCH(a0)
    others ld, SIDE
    ld a0, SIDE + 80(a0)
    sret

    .balign 4
guest_exit:
    csrrw a0, sscratch, a0
    others sd, SIDE
    ld t0, SSCRATCH(a0)
    csrrw t0, sscratch, t0
    sd t0, SIDE + 80(a0)
    ld t0, STVEC(a0)
    csrw stvec, t0
    swap sepc, SEPC, 0, SIDE
    swap scounteren, SCOUNTEREN, 0, SIDE
    swap hstatus, HSTATUS, 0, SIDE
    swap sstatus, SSTATUS, 0, SIDE
    others ld, 0
    ret                         # a0 is what it was: the address

    .globl observe_switch
observe_switch:                 # (worlds)
    addi sp, sp, -256
    .irp n, 1, 3, 4, 8, 9, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27
    sd x\n, 8 * \n(sp)
    .endr
    la t6, given
    .irp n, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
    ld x\n, 8 * \n(t6)
    .endr
    call run_guest
    sd t6, (sp)
    la t6, seen
    .irp n, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30
    sd x\n, 8 * \n(t6)
    .endr
    ld t5, (sp)
    sd t5, 248(t6)
    .irp n, 1, 3, 4, 8, 9, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27
    ld x\n, 8 * \n(sp)
    .endr
    addi sp, sp, 256
    ret

# The guest: each of its registers goes on by one, and it calls. It is 32 instructions of four bytes, whatever an
# assembler would like to make of them.
    .option push
    .option norvc
    .balign 4
    .globl guest
guest:
    .irp n, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
    addi x\n, x\n, 1
    .endr
    ecall
    j guest
    .option pop

    .globl ask_for_the_end
ask_for_the_end:
    ecall                       # from HS mode: machine mode's

    .globl drop
drop:
    csrw mepc, ra
    mret

    .balign 4
    .globl lost
lost:
    j lost
