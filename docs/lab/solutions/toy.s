# Three transfers, and interrupts may come between two of them.
        cli
        add r1, r1, r8
        add r2, r2, r7
        sti
        cli
        add r1, r1, r8
        add r2, r2, r7
        sti
        cli
        add r1, r1, r8
        add r2, r2, r7
        sti
        halt
