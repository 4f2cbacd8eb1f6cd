/* sieve: primes below the size by a segmented sieve of Eratosthenes over odd numbers. */
#include "guest.h"

enum { SEGMENT = 1 << 15, BASE_LIMIT = 1 << 16 };

static u8 composite[SEGMENT];       /* composite[i] speaks of the odd number low + 2 i + 1 */
static u8 base_composite[BASE_LIMIT];
static u32 base[6600];
static u32 next[6600];              /* the index, from the segment's start, of the next odd multiple */
static u32 bases;

static void find_base_primes(u64 size) {
    for (u32 p = 3; (u64)p * p < size && p < BASE_LIMIT; p += 2) {
        if (base_composite[p])
            continue;
        base[bases] = p;
        next[bases++] = (p * p - 1) / 2;
        for (u32 m = p * p; p < 256 && m < BASE_LIMIT && (u64)m * m < size; m += 2 * p)
            base_composite[m] = 1;
    }
}

int main(int argc, char **argv) {
    u64 size = work_size(argc, argv, 60000, 800000000);
    if (size > (u64)BASE_LIMIT * BASE_LIMIT)
        die("the size must be at most 2^32");
    find_base_primes(size);
    u64 count = size > 2, sum = size > 2 ? 2 : 0, last = 0;
    for (u64 low = 0; low < size; low += 2 * SEGMENT) {
        memset(composite, 0, sizeof composite);
        composite[0] = low == 0;
        for (u32 b = 0; b < bases; b++) {
            u32 i = next[b], p = base[b];
            for (; i < SEGMENT; i += p)
                composite[i] = 1;
            next[b] = i - SEGMENT;
        }
        for (u32 i = 0; i < SEGMENT && low + 2 * i + 1 < size; i++) {
            if (!composite[i]) {
                count++;
                last = low + 2 * i + 1;
                sum += last;
            }
        }
    }
    return result("sieve", size, mix(mix(count, sum), last));
}
