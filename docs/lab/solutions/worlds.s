        # a0: where the guest begins, a1: 1 for VS mode, 0 for VU, a2: memory
        la t0, back
        csrw stvec, t0
        csrw sscratch, a2
        sd zero, 8(a2)              # the sum
        csrw sepc, a0
        li t0, 0x80                 # hstatus.SPV: sret enters a guest
        csrs hstatus, t0
        li t0, 0x100                # sstatus.SPP: the guest's kernel, or its program
        csrc sstatus, t0
        beqz a1, enter
        csrs sstatus, t0
enter:  sret

back:   csrrw t0, sscratch, t0      # one register is free now; the guest's is in sscratch
        sd t1, 0(t0)                # and another one
        li t1, 8
        beq a7, t1, done
        ld t1, 8(t0)
        add t1, t1, a0
        sd t1, 8(t0)
        csrr t1, sepc               # on behind the call
        addi t1, t1, 4
        csrw sepc, t1
        ld t1, 0(t0)
        csrrw t0, sscratch, t0
        sret
done:   ld a0, 8(t0)
end:    j end
