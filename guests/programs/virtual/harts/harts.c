/* harts: all harts that there are count under one lock, and say their numbers in turn.
 *
 * Shows: harts that start each other, a lock, and waiting for an interrupt that another hart sends. The first hart is
 * main's. Whose turn it is to speak is a word of memory; who waits for it sleeps, and its predecessor wakes it. */
#include "guest.h"

enum { MOST = 8, STACK = 512, ROUNDS = 2000, SOFTWARE = 1 << 1 };
enum { SBI_IPI = 0x735049, SBI_HSM = 0x48534d };

extern void hart_entry(void);

static u64 stacks[MOST][STACK];
static volatile u64 turn, harts, counted;
static int lock;

static u64 call(u64 extension, u64 a, u64 b, u64 c) {
    register u64 a7 __asm__("a7") = extension;
    register u64 a6 __asm__("a6") = 0;
    register u64 a0 __asm__("a0") = a;
    register u64 a1 __asm__("a1") = b;
    register u64 a2 __asm__("a2") = c;
    __asm__ volatile("ecall" : "+r"(a0), "+r"(a1) : "r"(a7), "r"(a6), "r"(a2) : "memory");
    return a0;
}

static void count(void) {
    for (int i = 0; i < ROUNDS; i++) {
        while (__atomic_exchange_n(&lock, 1, __ATOMIC_ACQUIRE))
            ;
        counted++;
        __atomic_store_n(&lock, 0, __ATOMIC_RELEASE);
    }
}

static void wait_for_turn(u64 mine) {
    for (;;) {
        clear_csr(sip, SOFTWARE);
        if (turn == mine)
            return;
        wait_for_interrupt();
    }
}

static void say(u64 hart) {
    count();
    wait_for_turn(hart);
    print("hart %ld\n", hart);
    turn = hart + 1;
    call(SBI_IPI, 1, turn % harts, 0);
}

void hart_main(u64 hart) {
    set_csr(sie, SOFTWARE);
    while (!harts)
        ;
    say(hart);
    for (;;)
        wait_for_interrupt();
}

int main(void) {
    u64 others = 0;
    set_csr(sie, SOFTWARE);
    while (others + 1 < MOST && !call(SBI_HSM, others + 1, (u64)hart_entry, (u64)stacks[others + 2]))
        others++;
    harts = others + 1;
    say(0);
    wait_for_turn(harts);
    print("harts: %ld, counted to %ld\n", harts, counted);
    return 0;
}
