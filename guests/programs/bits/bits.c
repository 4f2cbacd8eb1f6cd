/* bits: counting, reversing, interleaving, scattering and searching bits without any instruction made for it. */
#include "guest.h"

static u32 population(u64 x) {
    x -= x >> 1 & 0x5555555555555555u;
    x = (x & 0x3333333333333333u) + (x >> 2 & 0x3333333333333333u);
    x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu;
    return (u32)(x * 0x0101010101010101u >> 56);
}

static u64 reversed(u64 x) {
    static const u64 masks[] = {0x5555555555555555u, 0x3333333333333333u, 0x0f0f0f0f0f0f0f0fu,
                                0x00ff00ff00ff00ffu, 0x0000ffff0000ffffu, 0x00000000ffffffffu};
    for (u32 i = 0; i < LENGTH(masks); i++)
        x = (x >> (1 << i) & masks[i]) | (x & masks[i]) << (1 << i);
    return x;
}

static u64 spread(u32 x) {              /* bit i goes to bit 2 i */
    u64 v = x;
    v = (v | v << 16) & 0x0000ffff0000ffffu;
    v = (v | v << 8) & 0x00ff00ff00ff00ffu;
    v = (v | v << 4) & 0x0f0f0f0f0f0f0f0fu;
    v = (v | v << 2) & 0x3333333333333333u;
    return (v | v << 1) & 0x5555555555555555u;
}

static u64 scatter(u64 bits, u64 mask) {    /* the low bits go where the mask has ones */
    u64 out = 0;
    for (; mask; mask &= mask - 1, bits >>= 1)
        if (bits & 1)
            out |= mask & (0 - mask);
    return out;
}

static u32 leading_zeros(u64 x) {
    u32 count = 0;
    for (u32 step = 32; step; step /= 2)
        if (x >> (64 - step) == 0)
            count += step, x <<= step;
    return x ? count : 64;
}

static u64 from_gray(u64 x) {
    for (u32 shift = 1; shift < 64; shift *= 2)
        x ^= x >> shift;
    return x;
}

static u64 same_population_above(u64 x) {   /* the next greater number with as many ones */
    u64 lowest = x & (0 - x), ripple = x + lowest;
    return lowest == 0 || ripple == 0 ? 1 : ripple | ((x ^ ripple) >> 2) / lowest;
}

static u64 multiply_without_carry(u64 a, u32 b) {
    u64 product = 0;
    for (; b; b >>= 1, a <<= 1)
        product ^= a & (0 - (u64)(b & 1));
    return product;
}

static u16 narrow_forms(u32 x) {        /* bytes and halfwords, signed and not */
    i8 low = (i8)x;
    i16 middle = (i16)(x >> 8);
    u8 byte = (u8)(x >> 16), turned = (u8)(byte << 3 | byte >> 5);
    return (u16)((low >> 2) + (middle >> 3) + turned - (u16)(x >> 9));
}

int main(int argc, char **argv) {
    u64 size = work_size(argc, argv, 1000, 44000000), sum = 0, state = 0x0d95748f728eb658u;
    for (u64 i = 0; i < size; i++) {
        u64 x = random_bits(&state) >> (i & 31), y = x * 0x9e3779b97f4a7c15u;
        sum += population(x) + 3 * leading_zeros(x);
        sum ^= reversed(x) + spread((u32)y);
        sum += scatter(sum, x & y & 0xffffff);
        sum = mix(sum, from_gray(y) ^ same_population_above(x));
        sum += multiply_without_carry(x, (u32)y & 0xffff) ^ narrow_forms((u32)sum);
        sum = (sum << (x & 63)) | (sum >> (-x & 63));
    }
    return result("bits", size, sum);
}
