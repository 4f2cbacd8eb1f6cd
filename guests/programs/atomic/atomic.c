/* atomic: C11 atomics of every width: counters, a spin lock, a lock-free stack, a sequence lock, compare-and-swap. */
#include "guest.h"

#include <stdatomic.h>

enum { NODES = 64 };

static _Atomic u64 total;
static _Atomic u32 ticket, flags;
static _Atomic u16 half;
static _Atomic u8 byte;
static i64 lowest, highest;             /* C11 has no atomic minimum and maximum; the compiler has */
static atomic_flag lock = ATOMIC_FLAG_INIT;
static _Atomic u32 sequence;
static u64 guarded[2];

/* The stack holds indices; the upper half of its head counts changes, so that an old head is never mistaken. */
static _Atomic u64 head;
static u32 below[NODES + 1];

static void push(u32 node) {
    u64 old = atomic_load_explicit(&head, memory_order_relaxed), new;
    do {
        below[node] = (u32)old;
        new = ((old >> 32) + 1) << 32 | node;
    } while (!atomic_compare_exchange_weak_explicit(&head, &old, new, memory_order_release, memory_order_relaxed));
}

static u32 pop(void) {
    u64 old = atomic_load_explicit(&head, memory_order_acquire), new;
    do {
        if ((u32)old == 0)
            return 0;
        new = ((old >> 32) + 1) << 32 | below[(u32)old];
    } while (!atomic_compare_exchange_weak_explicit(&head, &old, new, memory_order_acquire, memory_order_acquire));
    return (u32)old;
}

static void locked_add(u64 value) {
    while (atomic_flag_test_and_set_explicit(&lock, memory_order_acquire))
        ;
    atomic_fetch_add_explicit(&sequence, 1, memory_order_acq_rel);
    guarded[0] += value;
    guarded[1] ^= guarded[0];
    atomic_fetch_add_explicit(&sequence, 1, memory_order_release);
    atomic_flag_clear_explicit(&lock, memory_order_release);
}

static u64 read_guarded(void) {
    u32 before, after;
    u64 seen;
    do {
        before = atomic_load_explicit(&sequence, memory_order_acquire);
        seen = guarded[0] + guarded[1];
        atomic_thread_fence(memory_order_acquire);
        after = atomic_load_explicit(&sequence, memory_order_relaxed);
    } while (before != after || before & 1);
    return seen;
}

/* A multiplication, which no instruction does atomically. */
static u32 atomic_scale(_Atomic u32 *at, u32 factor) {
    u32 old = atomic_load(at);
    while (!atomic_compare_exchange_strong(at, &old, old * factor + 1))
        ;
    return old;
}

int main(int argc, char **argv) {
    u64 size = work_size(argc, argv, 2500, 48000000), sum = 0, state = 0x718bcd5882154aeeu;
    for (u32 node = 1; node <= NODES; node++)
        push(node);
    for (u64 i = 0; i < size; i++) {
        u64 x = random_bits(&state);
        sum += atomic_fetch_add(&total, x) ^ atomic_fetch_sub(&ticket, (u32)x);
        u32 flags_before = atomic_fetch_or(&flags, 1u << (x & 31));
        sum ^= flags_before + atomic_fetch_xor_explicit(&flags, (u32)x, memory_order_relaxed);
        sum += atomic_fetch_and(&flags, (u32)(x >> 20)) + atomic_exchange(&ticket, (u32)sum);
        sum ^= (u64)__atomic_fetch_min(&lowest, (i64)(x + sum), __ATOMIC_SEQ_CST);
        sum += (u64)__atomic_fetch_max(&highest, (i64)(x ^ sum), __ATOMIC_ACQ_REL);
        sum += atomic_fetch_add(&byte, (u8)x) + atomic_fetch_xor(&half, (u16)sum);
        u32 one = pop(), two = pop();
        sum = mix(sum, one * 65 + two);
        push(x & 1 ? one : two);
        push(x & 1 ? two : one);
        locked_add(atomic_scale(&ticket, 2654435761u));
        sum += read_guarded();
        if ((x & 0xff00) == 0)
            __atomic_store_n(&lowest, 0, __ATOMIC_SEQ_CST), __atomic_store_n(&highest, 0, __ATOMIC_RELEASE);
    }
    u64 left = mix(atomic_load(&total), atomic_load(&ticket)) + atomic_load(&flags) + atomic_load(&half);
    return result("atomic", size, mix(sum, left + atomic_load(&byte)));
}
