/* tasks: two tasks that never give way, and a timer that takes the processor from them.
 *
 * Shows: the timer of a guest. Setting it is a call, and its interrupt the monitor's; the guest switches its tasks. */
#include "guest.h"

enum { INTERVAL = 200, SWITCHES = 10, STACK = 1024, FRAME = 34, SIE_TIMER = 1 << 5, SSTATUS_SIE = 1 << 1 };
enum { PC = 0, STATUS = 32 }; /* of a frame: x1 to x31 have their numbers */
static const u64 TIMER_INTERRUPT = 1ul << 63 | 5, SSTATUS_SPP_SPIE = 1 << 8 | 1 << 5;

extern void trap_entry(void);

static u64 stacks[2][STACK];
static u64 *frames[2];
static int current;
static volatile int switches;
static volatile u64 rounds[2];

/* The frame to go on from: the other task's. */
u64 *trap(u64 cause, u64 *frame) {
    if (cause != TIMER_INTERRUPT) {
        print("tasks: cause %lx is no timer interrupt\n", cause);
        return frame;
    }
    frames[current] = frame;
    if (++switches == SWITCHES)
        set_timer(~0ul);
    else
        set_timer(time_now() + INTERVAL);
    current = !current;
    return frames[current];
}

static void work(int me) {
    while (switches < SWITCHES)
        rounds[me]++;
    print("Multi-task(%s) ok!\n", rounds[0] && rounds[1] ? "Preemptible" : "not preempted");
    __asm__ volatile("li a7, 8\n ecall");
}

static void second(void) {
    work(1);
}

int main(void) {
    write_csr(stvec, trap_entry);
    u64 *frame = stacks[1] + STACK - FRAME;
    frame[PC] = (u64)second;
    frame[STATUS] = SSTATUS_SPP_SPIE;
    frames[1] = frame;
    set_timer(time_now() + INTERVAL);
    set_csr(sie, SIE_TIMER);
    set_csr(sstatus, SSTATUS_SIE);
    work(0);
    return 0;
}
