/* stream: copies, scalings, sums and triads over arrays far larger than the caches (when the size is large). */
#include "guest.h"

enum { LONGEST = 1 << 20, ROUNDS = 8 };

int main(int argc, char **argv) {
    u64 size = work_size(argc, argv, 2500, 39000000);
    u64 length = size < LONGEST ? size : LONGEST, rounds = ROUNDS * size / length;
    double *a = pages(length * sizeof *a), *b = pages(length * sizeof *b), *c = pages(length * sizeof *c);
    u64 *integers = (u64 *)pages(length * sizeof *integers);
    for (u64 i = 0; i < length; i++) {
        a[i] = (double)(i % 17);
        integers[i] = i;
    }
    u64 sum = 0;
    for (u64 round = 0; round < rounds; round++) {
        double factor = 1.0 / (double)(round % 7 + 2);
        switch (round & 3) {
        case 0:
            for (u64 i = 0; i < length; i++)
                c[i] = a[i];
            for (u64 i = 0; i < length; i++)
                integers[i] = integers[i] * 5 + round;
            break;
        case 1:
            for (u64 i = 0; i < length; i++)
                b[i] = factor * c[i];
            break;
        case 2:
            for (u64 i = 0; i < length; i++)
                c[i] = a[i] + b[i];
            for (u64 i = 0; i < length; i++)
                sum += integers[i] >> 3;
            break;
        default:
            for (u64 i = 0; i < length; i++)
                a[i] = b[i] + factor * c[i];
        }
    }
    for (u64 i = 0; i < length; i += 16)
        sum = mix(sum, bits_of(a[i]) ^ bits_of(c[i]) ^ integers[i]);
    return result("stream", size, sum);
}
