from dragoman import kvm

DEVICE = 0x1000_0000


def run(vcpu, letters):
    left, printed = list(letters), bytearray()
    while True:
        match vcpu.run():
            case kvm.Mmio(address=at, is_write=False) if at == DEVICE:
                vcpu.reply(left.pop(0) if left else 0)
            case kvm.Mmio(address=at, is_write=True, data=letter) if at == DEVICE + 1:
                printed.append(letter)
            case kvm.RiscvSbi(extension=1, args=args):
                printed.append(args[0])
                vcpu.reply(0, 0)
            case kvm.SystemEvent(kind=1):
                return bytes(printed)
            case exit:
                raise RuntimeError(f"the guest was left for {exit}")
