/* What the guest asks for by ecall: the SBI of RISC-V, as far as a kernel on one hart needs it; and its timer.
 *
 * Owns: the answers, and vstimecmp, which is the guest's timer: its interrupt comes without the hypervisor. (It could be
 * made of the hypervisor's own timer and hvip, too, but on QEMU 7.2 that bit stayed pending when it was cleared.)
 * Must not know: devices. */
#include "hypervisor.h"

enum { BASE = 0x10, TIME = 0x54494d45, SYSTEM_RESET = 0x53525354, LEGACY_PUT = 1, LEGACY_SHUTDOWN = 8 };
enum { SPECIFICATION = 0, PROBE = 3, NOT_SUPPORTED = -2, VERSION = 2 << 24 };

void timer_set(u64 when) {
    write_csr(0x24d, when); /* vstimecmp */
}

static int known(u64 extension) {
    return extension == BASE || extension == TIME || extension == SYSTEM_RESET;
}

void answer(struct guest *guest) {
    u64 *x = guest->x, function = x[A6], argument = x[A0];
    i64 error = 0;
    u64 value = 0;
    guest->pc += 4;
    if (x[A7] == BASE && function <= PROBE + 3) {
        value = function == SPECIFICATION ? VERSION : function == PROBE ? (u64)known(argument) : 0;
    } else if (x[A7] == TIME && function == 0) {
        timer_set(argument);
    } else if (x[A7] == SYSTEM_RESET || x[A7] == LEGACY_SHUTDOWN) {
        print("hypervisor: the guest has asked for its end\n");
        finish(0);
    } else if (x[A7] == LEGACY_PUT) {
        console_put((char)argument);
    } else {
        error = NOT_SUPPORTED;
    }
    x[A0] = (u64)error;
    x[A1] = value;
}
