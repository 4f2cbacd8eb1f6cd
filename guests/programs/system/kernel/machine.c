/* Machine mode: what has to be set up in it before supervisor mode can run a kernel. Not used under firmware.
 *
 * Owns: delegation, access to memory and counters, and the timer that machine.S passes on. */
#include "kernel.h"

enum {
    MSTATUS_MPP = 3 << 11, MSTATUS_MPP_SUPERVISOR = 1 << 11,
    EXCEPTIONS = 0xb1ff,  /* all that user and supervisor mode cause, but ecall of the latter: Priv. 3.1.8 */
    INTERRUPTS = 0x222,   /* software, timer and external of supervisor mode */
    COUNTERS = 0x7,       /* cycle, time, instret */
    PMP_ALL = 0x1f,       /* readable, writable, executable; the address is a power of two's range */
};
static const u64 MENVCFG_STCE = 1ul << 63;

extern void machine_trap(void), drop(void);
static struct { u64 saved[2], mtimecmp, finisher; } machine_area;

/* Returns in supervisor mode. */
void machine_leave(void) {
    machine_area.mtimecmp = board.clint + 0x4000 + 8 * read_csr(mhartid);
    machine_area.finisher = board.finisher;
    write_csr(mscratch, &machine_area);
    write_csr(mtvec, machine_trap);
    write_csr(medeleg, EXCEPTIONS);
    write_csr(mideleg, INTERRUPTS);
    write_csr(mcounteren, COUNTERS);
    write_csr(mie, 0);
    if (board.sstc)
        set_csr(0x30a, MENVCFG_STCE); /* menvcfg, which is there if Sstc is */
    write_csr(pmpaddr0, ~0ul >> 10);
    write_csr(pmpcfg0, PMP_ALL);
    clear_csr(mstatus, MSTATUS_MPP);
    set_csr(mstatus, MSTATUS_MPP_SUPERVISOR);
    drop();
}
