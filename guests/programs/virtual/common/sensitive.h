/* What a kernel does to the machine it runs on: interrupts, page tables, time, devices.
 *
 * Owns: each sensitive act by a name, twice: as a kernel does it to a processor, and, with -DPV, as a para-virtualized
 * kernel asks for it. Must not know: what for. */
#ifndef SENSITIVE_H
#define SENSITIVE_H

#include "guest.h"

static const u64 TIMER_INTERRUPT = 1ul << 63 | 5, SV39 = 8ul << 60;

#ifndef PV

enum { SIE_TIMER = 1 << 5, SSTATUS_SIE = 1 << 1 };

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

#define say print

#else
#include "pv.h"

static inline void irq_off(void) {
    pv_block[PV_ENABLED / 8] = 0;
}

static inline void irq_on(void) {
    pv_block[PV_ENABLED / 8] = 1;
    if (pv_block[PV_PENDING / 8])
        pv_call(PV_IRQ_ENABLE, 0, 0);
}

static inline void set_entry(void (*entry)(void)) {
    pv_call(PV_SET_ENTRY, (u64)entry, (u64)pv_block);
}

static inline void set_space(u64 number, const u64 *root) {
    pv_call(PV_SET_TABLES, SV39 | number << 44 | (u64)root >> 12, 0);
}

static inline void forget_all(void) {
    pv_call(PV_FLUSH, ~0ul, 0);
}

static inline void edit(volatile u64 *entry, u64 value, const volatile void *page) {
    pv_later(PV_SET_LEAF, (u64)entry, value, (u64)page);
}

static inline void commit(void) {
    pv_run();
}

static inline void set_alarm(u64 time) {
    pv_later(PV_SET_TIMER, time, 0, 0);
}

static inline void take_timer(void) {
}

static inline void wait(void) {
    pv_later(PV_WAIT, 0, 0, 0);
    pv_run();
}

static inline void read_device(u64 address, u32 *words, int count) {
    (void)address;
    pv_read_device(words, count);
}

#define say pv_print

#endif

#endif
