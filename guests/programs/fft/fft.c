/* fft: convolutions by the fast Fourier transform over complex numbers, in double precision. */
#include "guest.h"

enum { POINTS = 256 };

struct complex {
    double re, im;
};

static struct complex roots[POINTS / 2], a[POINTS], b[POINTS];

static struct complex times(struct complex x, struct complex y) {
    return (struct complex){x.re * y.re - x.im * y.im, x.re * y.im + x.im * y.re};
}

/* Roots of unity from half-angle square roots; exact enough, and no library is needed. */
static void find_roots(void) {
    roots[0] = (struct complex){1, 0};
    struct complex turn = {0, -1};
    for (int step = POINTS / 4; step >= 1; step /= 2) {
        for (int i = step; i < POINTS / 2; i += 2 * step)
            roots[i] = times(roots[i - step], turn);
        turn = (struct complex){__builtin_sqrt((1 + turn.re) / 2), -__builtin_sqrt((1 - turn.re) / 2)};
    }
}

static void transform(struct complex *v) {
    for (u32 i = 0, reversed = 0; i < POINTS; i++) {
        if (i < reversed) {
            struct complex keep = v[i];
            v[i] = v[reversed];
            v[reversed] = keep;
        }
        u32 bit = POINTS / 2;
        for (; reversed & bit; bit /= 2)
            reversed ^= bit;
        reversed |= bit;
    }
    for (u32 half = 1; half < POINTS; half *= 2) {
        for (u32 start = 0; start < POINTS; start += 2 * half) {
            for (u32 k = 0; k < half; k++) {
                struct complex *low = &v[start + k], *high = low + half;
                struct complex turned = times(*high, roots[k * (POINTS / 2 / half)]);
                *high = (struct complex){low->re - turned.re, low->im - turned.im};
                *low = (struct complex){low->re + turned.re, low->im + turned.im};
            }
        }
    }
}

int main(int argc, char **argv) {
    u64 size = work_size(argc, argv, 6, 14500), sum = 0, state = 0xbe5466cf34e90c6cu;
    find_roots();
    for (u64 round = 0; round < size; round++) {
        for (u32 i = 0; i < POINTS; i++) {
            int inside = i < POINTS / 2;
            a[i] = (struct complex){inside ? (double)random_below(&state, 100) : 0, 0};
            b[i] = (struct complex){inside ? (double)random_below(&state, 100) : 0, 0};
        }
        transform(a);
        transform(b);
        for (u32 i = 0; i < POINTS; i++) {
            struct complex product = times(a[i], b[i]);
            a[i] = (struct complex){product.re, -product.im};
        }
        transform(a);
        for (u32 i = 0; i < POINTS; i++)
            sum = mix(sum, (u64)(i64)(a[i].re / POINTS + 0.5));
        sum = mix(sum, bits_of(a[size % POINTS].im));
    }
    return result("fft", size, sum);
}
