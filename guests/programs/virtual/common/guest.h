/* What a guest of a virtual machine may use: the calls of SBI 0.1, and formatted text.
 *
 * Owns: the contract between a program and guest.c. A program has main(), behind which the machine is turned off. */
#ifndef GUEST_H
#define GUEST_H

#include "base.h"

void put(char c);
void print(const char *text, ...) FORMAT(1, 2);
void set_timer(u64 time);

/* A new phase begins, for a monitor that counts by phase: a call of its own, with the phase in the function's place. */
static inline void mark(u64 phase) {
    register u64 a7 __asm__("a7") = 0x08000000;
    register u64 a6 __asm__("a6") = phase;
    register u64 a0 __asm__("a0") = 0;
    register u64 a1 __asm__("a1") = 0;
    __asm__ volatile("ecall" : "+r"(a0), "+r"(a1) : "r"(a6), "r"(a7) : "memory");
}

#endif
