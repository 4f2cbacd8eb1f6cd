/* A kernel's side of para-virtualization: calls of its monitor, one by one or many at once, and the block of words that
 * the two share.
 *
 * Owns: these conventions (guests/riscv/paravirtual.py has the monitor's side). Must not know: any program. */
#ifndef PV_H
#define PV_H

#define PV_EXTENSION 0x0a505601
#define PV_SET_ENTRY 0
#define PV_SET_TABLES 1
#define PV_FLUSH 2
#define PV_IRQ_ENABLE 3
#define PV_SET_TIMER 5
#define PV_WAIT 6
#define PV_RESUME 7
#define PV_SET_LEAF 8
#define PV_MULTICALL 9

/* Offsets in the block. */
#define PV_ENABLED 0
#define PV_PENDING 8
#define PV_CAUSE 16
#define PV_VALUE 24
#define PV_PC 32
#define PV_USER 40
#define PV_STACK 48
#define PV_A0 56

#ifndef __ASSEMBLER__
#include "guest.h"

extern volatile u64 pv_block[11];

/* A call, made now; what comes back as its value. */
u64 pv_call(u64 number, u64 a, u64 b);

/* A call, made with all others by the next pv_run, in their order: there are pv_queued in pv_queue. */
extern u64 pv_queue[][4], pv_queued;
void pv_later(u64 number, u64 a, u64 b, u64 c);
void pv_run(void);

/* The device's words that the monitor's user reads for us, and text that he prints: one exit each. */
void pv_read_device(u32 *words, int count);
void pv_print(const char *text, ...) FORMAT(1, 2);
#endif

#endif
