/* What the phases of quad do to the machine they run on: interrupts, page tables, time, devices.
 *
 * Owns: each sensitive act by a name. Must not know: the phases. */
#ifndef SENSITIVE_H
#define SENSITIVE_H

#include "guest.h"

enum { SIE_TIMER = 1 << 5, SSTATUS_SIE = 1 << 1, SSTATUS_SPP = 1 << 8 };
static const u64 TIMER_INTERRUPT = 1ul << 63 | 5, SV39 = 8ul << 60;
enum { KERNEL_PAGE = 0 }; /* what an entry of the kernel's own pages has besides */

static inline void irq_off(void) {
    clear_csr(sstatus, SSTATUS_SIE);
}

static inline void irq_on(void) {
    set_csr(sstatus, SSTATUS_SIE);
}

/* Traps go to this entry: of programs, or of the kernel. */
static inline void set_entry(void (*entry)(void)) {
    write_csr(stvec, entry);
}

/* Another address space, which has a number of its own: nothing needs to be forgotten. */
static inline void set_space(u64 number, const u64 *root) {
    write_csr(satp, SV39 | number << 44 | (u64)root >> 12);
}

static inline void forget_all(void) {
    __asm__ volatile("sfence.vma" : : : "memory");
}

/* Change an entry of a page table, and forget what was known of its page. */
static inline void edit(volatile u64 *entry, u64 value, const volatile void *page) {
    *entry = value;
    __asm__ volatile("sfence.vma %0" : : "r"(page) : "memory");
}

/* What was edited is there now. */
static inline void commit(void) {
}

/* The timer interrupts at this time. */
static inline void set_alarm(u64 time) {
    write_csr(stimecmp, time);
}

static inline void take_timer(void) {
    set_csr(sie, SIE_TIMER);
}

/* Until an interrupt is pending, taken or not. */
static inline void wait(void) {
    wait_for_interrupt();
}

static inline void read_device(u64 address, u32 *words, int count) {
    for (int i = 0; i < count; i++)
        words[i] = *reg32(address);
}

#endif
