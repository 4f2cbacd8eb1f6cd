/* quad: does what a kernel does to its machine, in phases of known counts, and sums up what came of it.
 *
 * Shows: what each way of running a guest costs. A call of the monitor's marks the begin of each phase, so that it can
 * tell them apart; what is printed is the same in every way. */
#include "sensitive.h"

enum {
    PAIRS = 1000,
    SWITCHES = 100,
    CALLS = 100, /* of the program in trap.S */
    READS = 50,
    TICKS = 10,
    WAITS = 10,
    EDITS = 256,
    ROUNDS = 250000, /* of four instructions */
    PATCHES = 3,
};
enum { DEVICE = 0x10000000, INTERVAL = 20, SPACES = 2, FRAMES = 4, ENTRIES = 512 };
enum { VALID = 1, READ = 2, WRITE = 4, EXECUTE = 8, USER = 16, USED = 0xC0 }; /* of table entries: Priv. 10.3 */
#define WINDOW 0x40000000ul /* where programs see their code, and the kernel pages that it maps */

extern void call_entry(void), tick_entry(void);
extern char program[]; /* trap.S: runs in user mode, and makes CALLS calls */
extern void run_program(u64 pc);
extern u32 patched[]; /* trap.S: a function, in a page of its own */

static _Alignas(4096) u64 roots[SPACES][ENTRIES], middles[SPACES][ENTRIES], leaves[SPACES][ENTRIES];
static _Alignas(4096) u64 frames[FRAMES][ENTRIES];
static u64 sum = 0xcbf29ce484222325;
static volatile int ticks;

static void mix(u64 value) {
    sum = (sum ^ value) * 0x100000001b3;
}

static u64 to(const void *page, u64 rights) {
    return (u64)page >> 12 << 10 | rights | VALID;
}

static volatile u64 *page(int number) {
    return (volatile u64 *)(WINDOW + 4096ul * number);
}

/* Each space has the kernel's memory where it is, devices, and a window: the program's page, then frames of its own. */
static void make_spaces(void) {
    for (int i = 0; i < FRAMES; i++)
        frames[i][0] = 0x1111 * (i + 1);
    for (int space = 0; space < SPACES; space++) {
        u64 *root = roots[space], *leaf = leaves[space];
        root[0] = to((void *)0, READ | WRITE | USED);
        root[2] = to((void *)0x80000000, READ | WRITE | EXECUTE | USED);
        root[1] = to(middles[space], 0);
        middles[space][0] = to(leaf, 0);
        leaf[0] = to(program, READ | EXECUTE | USER | USED);
        for (int i = 1; i <= EDITS; i++)
            leaf[i] = to(frames[space], READ | WRITE | USED);
    }
    set_space(1, roots[0]);
    forget_all();
}

static void interrupts_off_and_on(void) {
    for (int i = 0; i < PAIRS; i++) {
        irq_off();
        irq_on();
    }
    irq_off();
}

static void other_spaces(void) {
    for (int i = 1; i <= SWITCHES; i++) {
        set_space(1 + i % SPACES, roots[i % SPACES]);
        mix(*page(1));
    }
}

/* A program's call, for trap.S: how much is added to what it has. */
u64 call(u64 value, u64 cause) {
    mix(value ^ cause);
    return value + 1;
}

static void programs_calls(void) {
    set_entry(call_entry);
    run_program(WINDOW);
}

static void device_reads(void) {
    static u32 words[READS];
    read_device(DEVICE, words, READS);
    for (int i = 0; i < READS; i++)
        mix(words[i]);
}

/* The timer's interrupt, for trap.S. */
void tick(u64 cause) {
    mix(cause);
    if (cause == TIMER_INTERRUPT)
        ticks++;
    set_alarm(ticks < TICKS ? time_now() + INTERVAL : ~0ul);
}

static void timer_ticks(void) {
    set_entry(tick_entry);
    take_timer();
    set_alarm(time_now() + INTERVAL);
    commit();
    irq_on();
    while (ticks < TICKS) /* a block of some length: who looks at the ends of blocks only is late */
        __asm__ volatile(".rept 9\n nop\n .endr");
    irq_off();
}

static void waits(void) {
    for (int i = 0; i < WAITS; i++) {
        u64 until = time_now() + INTERVAL;
        set_alarm(until);
        wait();
        mix(time_now() >= until);
    }
    set_alarm(~0ul);
    commit();
}

static void table_edits(void) {
    for (int i = 1; i <= EDITS; i++)
        mix(*page(i));
    for (int i = 1; i <= EDITS; i++)
        edit(&leaves[0][i], to(frames[i % FRAMES], READ | WRITE | USED), page(i));
    commit();
    for (int i = 1; i <= EDITS; i++)
        mix(*page(i));
}

static void computing(void) {
    u64 value = sum, rounds = ROUNDS;
    __asm__ volatile("1: slli t0, %0, 1\n xor %0, %0, t0\n addi %1, %1, -1\n bnez %1, 1b"
                     : "+r"(value), "+r"(rounds) : : "t0");
    mix(value);
}

static void patches(void) {
    for (int i = 0; i <= PATCHES; i++) {
        if (i > 0) {
            patched[0] = 0x513 | (u32)i << 20; /* li a0, i */
            __asm__ volatile("fence.i" : : : "memory");
        }
        for (int n = 0; n < 8; n++)
            mix(((u64 (*)(void))(u64)patched)());
    }
}

int main(void) {
    static void (*const PHASES[])(void) = {
        interrupts_off_and_on, other_spaces, programs_calls, device_reads, timer_ticks,
        waits, table_edits, computing, patches,
    };
    make_spaces();
    for (u64 i = 0; i < LENGTH(PHASES); i++) {
        mark('a' + i);
        PHASES[i]();
    }
    mark('z');
    say("quad: %d ticks, checksum %016lx\n", ticks, sum);
    return 0;
}
