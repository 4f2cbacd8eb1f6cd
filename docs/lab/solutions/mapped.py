DEVICE, PAGE = 0x2200_0000, 4096
CALL, LOAD_FAULT, STORE_FAULT = 10, 21, 23


def run(vcpu, device):
    while True:
        trap = vcpu.enter()
        if trap.scause in (LOAD_FAULT, STORE_FAULT):
            vcpu.vm.set_user_memory_region(1, trap.gpa & -PAGE, PAGE, device)  # and the guest tries again
        elif trap.scause == CALL and vcpu.get("a7") == 8:
            return
