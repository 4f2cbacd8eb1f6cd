/* poly: exponentials, sines and logarithms from fused multiply-adds, square roots, and all number conversions. */
#include "guest.h"

static double from_bits(u64 bits) {
    union { u64 u; double d; } both = {.u = bits};
    return both.d;
}

/* Horner's rule, lowest coefficient first. */
static double horner(const double *c, int count, double x) {
    double sum = c[count - 1];
    for (int i = count - 2; i >= 0; i--)
        sum = __builtin_fma(sum, x, c[i]);
    return sum;
}

static double exponential(double x) {
    static const double c[] = {1.0, 1.0, 1.0 / 2, 1.0 / 6, 1.0 / 24, 1.0 / 120, 1.0 / 720, 1.0 / 5040, 1.0 / 40320};
    i64 k = (i64)(x * 0x1.71547652b82fep0 + (x < 0 ? -0.5 : 0.5));
    double r = __builtin_fma((double)-k, 0x1.62e42fefa39efp-1, x);
    return horner(c, LENGTH(c), r) * from_bits((u64)(k + 1023) << 52);
}

static double sine(double x) {
    static const double c[] = {1.0, -1.0 / 6, 1.0 / 120, -1.0 / 5040, 1.0 / 362880, -1.0 / 39916800};
    i32 k = (i32)(x * 0x1.45f306dc9c883p-2 + (x < 0 ? -0.5 : 0.5));
    double r = __builtin_fma((double)-k, 0x1.921fb54442d18p1, x);
    return __builtin_copysign(1.0, k & 1 ? -1.0 : 1.0) * (r * horner(c, LENGTH(c), r * r));
}

/* x > 0: the exponent from the bits, the rest as an odd series of (m - 1) / (m + 1). */
static double logarithm(double x) {
    static const double c[] = {2.0, 2.0 / 3, 2.0 / 5, 2.0 / 7, 2.0 / 9, 2.0 / 11};
    u64 bits = bits_of(x);
    double m = from_bits((bits & 0x000fffffffffffffu) | 0x3ff0000000000000u), t = (m - 1) / (m + 1);
    return __builtin_fma((double)((i32)(bits >> 52) - 1023), 0x1.62e42fefa39efp-1, t * horner(c, LENGTH(c), t * t));
}

/* Through every integer and floating width and back. */
static u64 conversions(double x) {
    float narrow = (float)x;
    i32 word = (i32)(narrow * 1000.0f);
    u32 unsigned_word = (u32)(__builtin_fabs(x) * 1000.0);
    i64 wide = (i64)(x * 0x1p40);
    u64 unsigned_wide = (u64)(__builtin_fabsf(narrow) * 0x1p50f);
    float back = (float)word + (float)unsigned_word - (float)wide + (float)unsigned_wide;
    double sum = (double)word - (double)unsigned_word + (double)wide - (double)unsigned_wide;
    float fused = __builtin_fmaf(back, narrow, -1.0f);
    return bits_of(sum) ^ bits_of_float(fused) ^ bits_of(-__builtin_fma(-sum, x, (double)back));
}

int main(int argc, char **argv) {
    u64 size = work_size(argc, argv, 1500, 3400000), sum = 0, state = 0x452821e638d01377u;
    double walk = 0;
    for (u64 i = 0; i < size; i++) {
        double x = 16 * random_unit(&state) - 8, e = exponential(x);
        double s = sine(x + walk), root = __builtin_sqrt(__builtin_fma(s, s, e));
        double l = logarithm(root + 0x1p-20);
        walk = __builtin_fma(0.75, walk, l - s);
        float ratio = __builtin_sqrtf((float)root) / (float)(1 + e);
        sum = mix(sum, bits_of(walk) + bits_of_float(ratio));
        sum = mix(sum, conversions(x < l ? root + l : s - x));
    }
    return result("poly", size, sum);
}
