        li a0, 10
loop:   csrrs a2, instret, zero     # inline: the count is known to translated code
        sd a2, 0(a1)
        ld a3, 0(a1)
        add a4, a4, a3
        xor a5, a5, a4
        nop
        nop
        nop
        addi a0, a0, -1
        bnez a0, loop
        csrr a6, time               # callout: only the monitor has a clock
        fence.i                     # callout: translations may be stale
        li a0, 0
        addi a7, zero, 0
        nop
        nop
        nop
        nop
        nop
        nop
        nop
        ebreak                      # callout, and the end
