ILLEGAL, CALL, LOAD_FAULT = 2, 10, 21  # causes
MHARTID = 0xF14
NAMES = "zero ra sp gp tp t0 t1 t2 s0 s1 a0 a1 a2 a3 a4 a5 a6 a7 s2 s3 s4 s5 s6 s7 s8 s9 s10 s11 t3 t4 t5 t6".split()


def vmexit_handler(vcpu, trap):
    if trap.scause == ILLEGAL and trap.stval >> 20 == MHARTID:  # stval: the instruction
        vcpu.set(**{NAMES[trap.stval >> 7 & 31]: 0x1234})
        vcpu.skip()
    elif trap.scause == LOAD_FAULT:
        vcpu.set(a0=0x6688)
        vcpu.skip()  # by two bytes or by four
    elif trap.scause == CALL and vcpu.get("a7") == 8:
        return True
    elif trap.scause == CALL:
        vcpu.set(a0=(1 << 64) - 2)
        vcpu.skip()
    else:
        vcpu.inject(trap.scause, trap.stval)
    return False
