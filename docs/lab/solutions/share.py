from collections import deque


def share(vcpus, quantum, ended):
    ready = deque(vcpus)
    while True:
        if all(vcpu.waits for vcpu in vcpus):
            return False
        vcpu = ready.popleft()
        ready.append(vcpu)
        if vcpu.waits:
            continue
        exit = vcpu.turn(quantum)
        if exit is not None and ended(vcpu, exit):
            return True
