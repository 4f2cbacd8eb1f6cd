# The kernel's first instructions: finds out its mode, and prepares a stack for C.
#
# Firmware, or a board's reset code, gives the hart's number in a0 and the device tree's address in a1. Machine mode may
# read mhartid; in supervisor mode that is an illegal instruction (Priv. 2.1), which goes to stvec.

    .section .text.start, "ax"
    .globl _start
_start:
    la t0, known
    csrw stvec, t0
    li a2, 0                    # supervisor mode, unless it turns out otherwise
    csrr t0, mhartid
    bnez t0, park               # in machine mode all harts come here; one is enough
    li a2, 1
    .balign 4
known:
    la sp, boot_stack_end
    la t0, bss_start
    la t1, bss_end
1:  sd zero, (t0)
    addi t0, t0, 8
    bltu t0, t1, 1b
    call kernel                 # (hart, device tree, whether this is machine mode)
park:
    wfi
    j park

# void drop(void): returns in the mode that mstatus.MPP names. Priv. 3.3.2.
    .globl drop
drop:
    csrw mepc, ra
    mret

# void switch_context(struct context *from, const struct context *to): returns where `to` called it.
    .macro each what, to
    \what ra, 0(\to)
    \what sp, 8(\to)
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
    \what s\n, 16 + 8 * \n(\to)
    .endr
    .endm

    .globl switch_context
switch_context:
    each sd, a0
    each ld, a1
    ret

    .bss
    .balign 16
    .zero 8192
boot_stack_end:
