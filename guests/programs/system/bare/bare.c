/* Output and the end of bare-metal programs. Owns: what bare.h declares. Must not know: any program. */
#include "bare.h"

/* The word by which simulators such as Spike are told of the end (HTIF): status * 2 + 1. `fromhost` is for answers. */
__attribute__((section(".tohost"), used)) volatile u64 tohost, fromhost;

extern void park(void);

void put(char c) {
    while (!(*reg8(UART_LINE_STATUS) & UART_CAN_SEND))
        ;
    *reg8(UART_DATA) = (u8)c;
}

void print(const char *text, ...) {
    va_list values;
    va_start(values, text);
    format(put, text, values);
    va_end(values);
}

_Noreturn void finish(int status) {
    tohost = (u64)status << 1 | 1;
    write_csr(mtvec, park); /* a board without a finisher has a fault here, and a host that looks at tohost */
    *reg32(FINISHER) = status == 0 ? 0x5555 : (u32)status << 16 | 0x3333;
    for (;;)
        wait_for_interrupt();
}

__attribute__((weak)) u64 trap(u64 cause, u64 pc, u64 value) {
    print("trap: cause %lx, pc %lx, value %lx\n", cause, pc, value);
    finish(1);
}
