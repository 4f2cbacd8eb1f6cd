again:  csrci sstatus, 2        # interrupts off
        mv t0, a1
        li t1, 16
word:   ld a3, 0(t0)
        addi a3, a3, 1
        sd a3, 0(t0)
        addi t0, t0, 8
        addi t1, t1, -1
        bnez t1, word
        csrsi sstatus, 2        # interrupts on: one that waited comes now
        addi a2, a2, -1
        bnez a2, again
end:    j end
