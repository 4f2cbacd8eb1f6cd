/* The interrupt controller: which device wants something. RISC-V PLIC specification 1.0.0.
 * Owns: its registers, and which driver an interrupt is for. */
#include "kernel.h"

enum { PRIORITY = 0, ENABLE = 0x2000, ENABLE_SIZE = 0x80, THRESHOLD = 0x200000, CLAIM = 0x200004, CONTEXT_SIZE = 0x1000 };

static volatile u32 *of_context(u64 offset) {
    return reg32(board.plic + offset + CONTEXT_SIZE * board.plic_context);
}

void plic_start(void) {
    *of_context(THRESHOLD) = 0;
    plic_enable(board.uart_interrupt);
}

void plic_enable(u32 interrupt) {
    *reg32(board.plic + PRIORITY + 4 * interrupt) = 1;
    *reg32(board.plic + ENABLE + ENABLE_SIZE * board.plic_context + interrupt / 32 * 4) |= 1u << interrupt % 32;
}

void plic_interrupt(void) {
    for (u32 interrupt; (interrupt = *of_context(CLAIM)) != 0; *of_context(CLAIM) = interrupt)
        if (interrupt == board.uart_interrupt)
            console_interrupt();
        else
            disk_interrupt(interrupt);
}
