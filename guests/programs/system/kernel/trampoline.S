# The way into the kernel and back: the one page that every address space has at TRAMPOLINE, executable for the kernel.
#
# A trap leaves the process's page table in force, so the code that changes it must be at one address in both. sscratch
# holds the address of the trap frame (struct frame of kernel.h): register xN at 8 * N, with the kernel's satp in place
# of x0, then pc, and the kernel's stack and entry. Priv. 10.1, 10.2.1 (sfence.vma).

    .macro each what            # all but x0 and a0 (x10)
    .irp n, 1,2,3,4,5,6,7,8,9,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    \what x\n, 8 * \n(a0)
    .endr
    .endm

    .section .trampoline, "ax"
    .globl user_trap_entry
    .balign 4
user_trap_entry:
    csrrw a0, sscratch, a0
    each sd
    csrr t0, sscratch
    sd t0, 80(a0)
    csrr t0, sepc
    sd t0, 256(a0)
    ld sp, 264(a0)
    ld t1, 272(a0)
    ld t0, 0(a0)
    csrw satp, t0
    sfence.vma
    jr t1

# void user_enter(struct frame *, u64 satp): the frame by its address in the process's space. Does not return.
    .globl user_enter
user_enter:
    csrw satp, a1
    sfence.vma
    csrw sscratch, a0
    ld t0, 256(a0)
    csrw sepc, t0
    each ld
    ld a0, 80(a0)
    sret
