/* ticks: the timer interrupts ten times, a millisecond apart, while the hart sleeps.
 *
 * Shows: mtimecmp of the CLINT, the timer interrupt of machine mode (Priv. 3.1.9, 3.2.1), wfi. */
#include "bare.h"

enum {
    TICKS = 10,
    INTERVAL = 10000, /* of the 10 MHz clock */
    MIE_TIMER = 1 << 7,
    MSTATUS_MIE = 1 << 3,
};
static const u64 TIMER_INTERRUPT = 1ul << 63 | 7;

static volatile int ticks;
static u64 due;

u64 trap(u64 cause, u64 pc, u64) {
    if (cause != TIMER_INTERRUPT || time_now() < due) {
        print("ticks: cause %lx is no timer interrupt that was due\n", cause);
        finish(1);
    }
    due = ++ticks < TICKS ? due + INTERVAL : ~0ul;
    *reg64(MTIMECMP) = due; /* which takes the interrupt back, too */
    return pc;
}

int main(void) {
    u64 start = time_now();
    due = start + INTERVAL;
    *reg64(MTIMECMP) = due;
    set_csr(mie, MIE_TIMER);
    set_csr(mstatus, MSTATUS_MIE);
    while (ticks < TICKS)
        wait_for_interrupt();
    int slept = time_now() - start >= TICKS * INTERVAL;
    print("%d timer interrupts, %s\n", ticks, slept ? "none early" : "too early");
    return !slept;
}
