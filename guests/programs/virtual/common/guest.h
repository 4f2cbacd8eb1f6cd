/* What a guest of a virtual machine may use: the calls of SBI 0.1, and formatted text.
 *
 * Owns: the contract between a program and guest.c. A program has main(), behind which the machine is turned off. */
#ifndef GUEST_H
#define GUEST_H

#include "base.h"

void put(char c);
void print(const char *text, ...) FORMAT(1, 2);
void set_timer(u64 time);

#endif
