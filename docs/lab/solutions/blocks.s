        li a0, 0
        li t0, 8            # turns, of twelve doublewords each
loop:   ld t1, 0(a1)
        ld t2, 8(a1)
        ld t3, 16(a1)
        ld t4, 24(a1)
        add a0, a0, t1
        add a0, a0, t2
        add a0, a0, t3
        add a0, a0, t4
        ld t1, 32(a1)
        ld t2, 40(a1)
        ld t3, 48(a1)
        ld t4, 56(a1)
        add a0, a0, t1
        add a0, a0, t2
        add a0, a0, t3
        add a0, a0, t4
        ld t1, 64(a1)
        ld t2, 72(a1)
        ld t3, 80(a1)
        ld t4, 88(a1)
        add a0, a0, t1
        add a0, a0, t2
        add a0, a0, t3
        add a0, a0, t4
        addi a1, a1, 96
        addi t0, t0, -1
        bnez t0, loop
        ebreak
