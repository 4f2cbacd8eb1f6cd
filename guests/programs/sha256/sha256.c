/* sha256: a chain of SHA-256 digests (FIPS 180-4), after the standard's own test message. */
#include "guest.h"

/* The first 32 bits of the fractional parts of the cube roots of the first 64 primes. */
static u32 constants[64];
static const u32 start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                             0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

/* floor(2^32 times the cube root of n), modulo 2^32, bit by bit. */
static u32 cube_root_fraction(u32 n) {
    u64 root = 0;
    for (int bit = 34; bit >= 0; bit--) {
        unsigned __int128 guess = root | 1ull << bit;
        if (guess * guess * guess <= (unsigned __int128)n << 96)
            root = (u64)guess;
    }
    return (u32)root;
}

static void find_constants(void) {
    u32 found = 0;
    for (u32 n = 2; found < 64; n++) {
        u32 divisor = 2;
        while (divisor * divisor <= n && n % divisor)
            divisor++;
        if (divisor * divisor > n)
            constants[found++] = cube_root_fraction(n);
    }
}

static u32 rotate(u32 x, int by) { return x >> by | x << (32 - by); }

static void block(u32 *state, const u8 *bytes) {
    u32 w[64];
    for (int i = 0; i < 16; i++)
        w[i] = (u32)bytes[4 * i] << 24 | (u32)bytes[4 * i + 1] << 16 | (u32)bytes[4 * i + 2] << 8 | bytes[4 * i + 3];
    for (int i = 16; i < 64; i++) {
        u32 x = w[i - 15], y = w[i - 2];
        u32 early = rotate(x, 7) ^ rotate(x, 18) ^ x >> 3, late = rotate(y, 17) ^ rotate(y, 19) ^ y >> 10;
        w[i] = w[i - 16] + early + w[i - 7] + late;
    }
    u32 a = state[0], b = state[1], c = state[2], d = state[3], e = state[4], f = state[5], g = state[6], h = state[7];
    for (int i = 0; i < 64; i++) {
        u32 one = h + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & f) ^ (~e & g)) + constants[i] + w[i];
        u32 two = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
        h = g, g = f, f = e, e = d + one;
        d = c, c = b, b = a, a = one + two;
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d;
    state[4] += e, state[5] += f, state[6] += g, state[7] += h;
}

static void digest(const u8 *message, u64 count, u8 *out) {
    u32 state[8];
    u8 last[128] = {0};
    memcpy(state, start, sizeof state);
    u64 whole = count / 64, rest = count % 64, end = rest < 56 ? 64 : 128;
    for (u64 i = 0; i < whole; i++)
        block(state, message + 64 * i);
    memcpy(last, message + 64 * whole, rest);
    last[rest] = 0x80;
    for (int i = 0; i < 8; i++)
        last[end - 1 - (u64)i] = (u8)(count * 8 >> (8 * i));
    for (u64 i = 0; i < end; i += 64)
        block(state, last + i);
    for (int i = 0; i < 32; i++)
        out[i] = (u8)(state[i / 4] >> (24 - 8 * (i % 4)));
}

int main(int argc, char **argv) {
    u64 size = work_size(argc, argv, 50, 1250000);
    u8 message[192], out[32];
    find_constants();
    digest((const u8 *)"abc", 3, out);
    if (out[0] != 0xba || out[1] != 0x78 || out[31] != 0xad)
        die("the digest of abc is wrong");
    memset(message, 0x5a, sizeof message);
    for (u64 i = 0; i < size; i++) {
        memcpy(message + i % 5 * 32, out, sizeof out);
        digest(message, 100 + i % 64, out);
    }
    u64 sum = 0;
    for (int i = 0; i < 32; i++)
        sum = sum << 8 ^ sum >> 56 ^ out[i];
    return result("sha256", size, sum);
}
