        li a0, 20           # turns, of six instructions each: one block, so five to wait for
        j loop              # a block of its own, or the first turn's would be of seven
loop:   nop
        nop
        nop
        nop
        addi a0, a0, -1
        bnez a0, loop
        ebreak
