# The world switch: into the guest by sret with hstatus.SPV set, out of it by its trap. Priv. 18.6.3, 18.6.4.
#
# A guest's registers are in struct guest while it does not run (world.h); the hypervisor's are on its stack while
# the guest does. sscratch holds the guest's address then. What VS mode has of CSRs stays where it is: there is one guest.

    .set PC, 32 * 8
    .set HOST_SP, 33 * 8

    .macro kept what            # what C expects to find again
    \what ra, 0(sp)
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
    \what s\n, 8 + 8 * \n(sp)
    .endr
    .endm

    .macro others what          # all registers of the guest but x10, which holds their address
    .irp n, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
    \what x\n, 8 * \n(a0)
    .endr
    .endm

    .text
    .globl world_enter
world_enter:
    addi sp, sp, -112
    kept sd
    sd sp, HOST_SP(a0)
    csrw sscratch, a0
    la t0, left
    csrw stvec, t0
    ld t0, PC(a0)
    csrw sepc, t0
    others ld
    ld a0, 80(a0)
    sret

    .balign 4
left:
    csrrw a0, sscratch, a0
    others sd
    csrr t0, sscratch
    sd t0, 80(a0)
    csrr t0, sepc
    sd t0, PC(a0)
    la t0, lost
    csrw stvec, t0
    ld sp, HOST_SP(a0)
    kept ld
    addi sp, sp, 112
    ret

# u32 guest_parcel(u64 address): 16 bits of an instruction, as the guest would fetch them.
    .option push
    .option arch, +h
    .globl guest_parcel
guest_parcel:
    hlvx.hu a0, (a0)
    ret
    .option pop
