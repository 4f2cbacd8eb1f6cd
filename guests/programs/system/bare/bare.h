/* What a bare-metal program may use: the addresses of the board, output, the end. QEMU's `virt`, one hart, M mode.
 *
 * Owns: the contract between a program, start.S and bare.c. A program has main(), and trap() if it wants traps. */
#ifndef BARE_H
#define BARE_H

#include "base.h"

enum {
    FINISHER = 0x100000,
    CLINT = 0x2000000,
    MTIMECMP = CLINT + 0x4000,
    UART = 0x10000000,
    UART_DATA = UART,
    UART_LINE_STATUS = UART + 5,
    UART_CAN_SEND = 1 << 5,
};

void put(char c);
void print(const char *text, ...) FORMAT(1, 2);

/* Ends the machine: status 0 is success. */
_Noreturn void finish(int status);

/* Where to go on after a trap at `pc`; `value` is mtval. Unless a program has its own, a trap ends it. */
u64 trap(u64 cause, u64 pc, u64 value);

#endif
