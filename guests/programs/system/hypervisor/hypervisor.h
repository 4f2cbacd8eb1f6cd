/* What the parts of the hypervisor share: its guest, and what each part does for it.
 *
 * "Priv." in comments is the RISC-V manual, volume II, version 20240411; its chapter 18 is the hypervisor extension. */
#ifndef HYPERVISOR_H
#define HYPERVISOR_H

#include "world.h"

enum {
    FINISHER = 0x100000, PLIC = 0xc000000, PLIC_SIZE = 0x600000, UART = 0x10000000, VIRTIO = 0x10001000, VIRTIOS = 8,
    PAGE = 4096,
};
static const u64 GUEST_RAM = 0x80200000, GUEST_RAM_END = 0xc0000000; /* RAM below belongs to the hypervisor */

/* start.S */
void drop(void); /* returns in the mode that mstatus.MPP names */

/* stage.c: guest-physical addresses. */
void stage_start(void);
int stage_fault(u64 address); /* maps a page; 0 if there is nothing to be mapped */

/* devices.c: what the guest takes for a UART, a PLIC and a finisher. */
void console_put(char c);
void print(const char *text, ...) FORMAT(1, 2);
_Noreturn void finish(int status);
void devices_start(void);
void devices_interrupt(void);                           /* an interrupt of the PLIC has come */
int device_load(u64 address, u64 *value);               /* 0 if there is no such device */
int device_store(u64 address, u64 value);

/* calls.c: what the guest asks for by ecall. */
void timer_set(u64 when);
void answer(struct guest *guest);

#endif
