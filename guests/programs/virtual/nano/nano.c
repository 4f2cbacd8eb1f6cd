/* nano: one thing at a time that a kernel or its program does to a machine, TIMES times each.
 *
 * Shows: what each costs in each way of running a guest, after the nano-benchmarks of Adams and Agesen (2006): a system
 * call, a device's register, interrupts off and on, a call and its return, a page at its first use, a program's fault,
 * an entry of a page table. A call of the monitor's marks the begin of each. */
#include "sensitive.h"

enum { TIMES = 100, DEVICE = 0x10000000, ENTRIES = 512, EDITED = 300 };
enum { VALID = 1, READ = 2, WRITE = 4, EXECUTE = 8, USER = 16, USED = 0xC0 }; /* of table entries: Priv. 10.3 */
#define WINDOW 0x40000000ul /* where programs see their code, and behind it pages that are not there at first */

extern void entry(void);                            /* trap.S: all traps */
extern u64 run_program(u64 pc);                     /* trap.S: what the program has counted */
extern char programs[], calls[], touches[], bads[]; /* trap.S: three of them, in a page */

_Alignas(4096) u64 leaves[ENTRIES]; /* of the window; trap.S fills it */
u64 touched;                        /* the entry for a page that a program uses first */
static _Alignas(4096) u64 root[ENTRIES], middle[ENTRIES], frames[2][ENTRIES];
static u64 counts[4];

static u64 to(const void *page, u64 rights) {
    return (u64)page >> 12 << 10 | rights | VALID;
}

static void make_space(void) {
    frames[0][0] = 1;
    frames[1][0] = 2;
    root[0] = to((void *)0, READ | WRITE | USED);
    root[1] = to(middle, 0);
    root[2] = to((void *)0x80000000, READ | WRITE | EXECUTE | USED);
    middle[0] = to(leaves, 0);
    leaves[0] = to(programs, READ | EXECUTE | USER | USED);
    touched = to(frames[0], READ | USER | USED);
    set_space(1, root);
    forget_all();
}

static u64 program(const char *begin) {
    return run_program(WINDOW + (u64)(begin - programs));
}

static void system_calls(void) {
    counts[0] = program(calls);
}

static void device_reads(void) {
    static u32 word;
    for (int i = 0; i < TIMES; i++) {
        read_device(DEVICE, &word, 1);
        counts[1] += word;
    }
}

static void interrupts_off_and_on(void) {
    for (int i = 0; i < TIMES; i++) {
        irq_off();
        irq_on();
    }
}

static void calls_and_returns(void) {
    register u64 times __asm__("t2") = TIMES;
    __asm__ volatile("1: jal t1, 2f\n addi t2, t2, -1\n bnez t2, 1b\n j 3f\n 2: jr t1\n 3:" : "+r"(times) : : "t1");
}

static void first_uses(void) {
    counts[2] = program(touches);
}

static void illegal_instructions(void) {
    counts[3] = program(bads);
}

static void table_edits(void) {
    const volatile u64 *page = (const volatile u64 *)(WINDOW + 4096ul * EDITED);
    for (int i = 0; i < TIMES; i++) {
        edit(&leaves[EDITED], to(frames[i & 1], READ | WRITE | USED), page);
        commit();
    }
}

int main(void) {
    static void (*const OPERATIONS[])(void) = {
        system_calls, device_reads, interrupts_off_and_on, calls_and_returns, first_uses, illegal_instructions,
        table_edits,
    };
    make_space();
    set_entry(entry);
    for (u64 i = 0; i < LENGTH(OPERATIONS); i++) {
        mark('a' + i);
        OPERATIONS[i]();
    }
    mark('z');
    u64 last = *(const volatile u64 *)(WINDOW + 4096ul * EDITED);
    say("nano: %lu calls, %lu pages, %lu faults, device %lx, entry %lu\n", counts[0], counts[2], counts[3], counts[1],
        last);
    return 0;
}
