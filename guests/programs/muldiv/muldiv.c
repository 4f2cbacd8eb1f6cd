/* muldiv: 64-bit multiplication, division and remainder: Montgomery powers, Euclid, digits, 128-bit products. */
#include "guest.h"

static u64 high(u64 a, u64 b) { return (u64)(((unsigned __int128)a * b) >> 64); }

/* Montgomery multiplication with modulus m (odd, below 2^63) and inverse = -1 / m mod 2^64. */
static u64 montgomery(u64 a, u64 b, u64 m, u64 inverse) {
    u64 low = a * b, reduced = high(a, b) + high(low * inverse, m) + (low != 0);
    return reduced >= m ? reduced - m : reduced;
}

static u64 power(u64 a, u64 exponent, u64 m) {
    u64 inverse = m;                            /* Newton: the number of right bits doubles, from 3 */
    for (int i = 0; i < 5; i++)
        inverse *= 2 - m * inverse;
    inverse = 0 - inverse;
    u64 one = (0 - m) % m, answer = one, square = a % m;
    for (; exponent; exponent >>= 1) {
        if (exponent & 1)
            answer = montgomery(answer, square, m, inverse);
        square = montgomery(square, square, m, inverse);
    }
    return montgomery(answer, 1, m, inverse);
}

static u64 common_divisor(u64 a, u64 b) {
    while (b) {
        u64 rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

static u32 digit_sum(u64 value, u32 radix) {
    u32 sum = 0;
    for (; value; value /= radix)
        sum += (u32)(value % radix);
    return sum;
}

/* Signed and 32-bit forms, with operands of both signs and of every width. */
static u64 signed_forms(u64 x, u64 y) {
    i64 a = (i64)x >> (y & 31), b = ((i64)y >> (x & 31)) | 1;
    i32 c = (i32)x, d = (i32)(y >> 32) >> (x & 15) | 1;
    u32 e = (u32)(x >> 20), f = (u32)y | 1;
    u64 product = (u64)(((__int128)a * b) >> 64) + (u64)(((__int128)b * (i64)x) >> 64);
    u64 wide = b == -1 ? 0 : (u64)(a / b) ^ (u64)(a % b);
    u64 narrow = d == -1 ? 0 : (u64)(i64)(c / d) + (u64)(i64)(c % d);
    return product + wide * 3 + narrow * 5 + e / f * 7 + e % f;
}

int main(int argc, char **argv) {
    u64 size = work_size(argc, argv, 200, 4000000);
    u64 sum = 0, state = 0x243f6a8885a308d3u;
    for (u64 i = 0; i < size; i++) {
        u64 a = random_bits(&state), b = random_bits(&state), m = random_bits(&state) >> 1 | 1;
        sum = mix(sum, power(a, b, m));
        sum = mix(sum, common_divisor(a, b));
        sum = mix(sum, digit_sum(a, (u32)(b & 63) + 2));
        for (int k = 0; k < 8; k++)
            sum = mix(sum, signed_forms(a + sum, b * (u64)(k + 1)));
    }
    return result("muldiv", size, sum);
}
