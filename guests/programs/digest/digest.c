/* digest: CRC-32, SipHash-2-4 and a rolling hash over the same bytes, each checked against a known value. */
#include "guest.h"

enum { BUFFER = 4096 };

static u32 table[256];
static u8 buffer[BUFFER];

static void make_table(void) {
    for (u32 i = 0; i < 256; i++) {
        u32 value = i;
        for (int bit = 0; bit < 8; bit++)
            value = value >> 1 ^ (value & 1 ? 0xedb88320u : 0);
        table[i] = value;
    }
}

static u32 crc32(u32 crc, const u8 *bytes, u64 count) {
    crc = ~crc;
    for (u64 i = 0; i < count; i++)
        crc = crc >> 8 ^ table[(crc ^ bytes[i]) & 255];
    return ~crc;
}

static u64 rotate(u64 x, int by) { return x << by | x >> (64 - by); }

static void sip_round(u64 *v) {
    v[0] += v[1];
    v[2] += v[3];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] = rotate(v[0], 32);
    v[2] += v[1];
    v[0] += v[3];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] = rotate(v[2], 32);
}

static u64 little_endian(const u8 *bytes, u64 count) {
    u64 value = 0;
    for (u64 i = 0; i < count; i++)
        value |= (u64)bytes[i] << (8 * i);
    return value;
}

static u64 siphash(u64 key0, u64 key1, const u8 *bytes, u64 count) {
    u64 v[4] = {key0 ^ 0x736f6d6570736575u, key1 ^ 0x646f72616e646f6du, key0 ^ 0x6c7967656e657261u,
                key1 ^ 0x7465646279746573u};
    for (u64 i = 0; i <= count / 8; i++) {
        u64 left = count - 8 * i;
        u64 word = left >= 8 ? little_endian(bytes + 8 * i, 8) : little_endian(bytes + 8 * i, left) | count << 56;
        v[3] ^= word;
        sip_round(v);
        sip_round(v);
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    for (int i = 0; i < 4; i++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* How many windows of 32 bytes have a rolling hash that ends in six zero bits. */
static u32 cut_points(const u8 *bytes, u64 count) {
    u32 hash = 0, leaving = 1, cuts = 0;
    for (int i = 0; i < 32; i++)
        leaving *= 69069;
    for (u64 i = 0; i < count; i++) {
        hash = hash * 69069 + bytes[i] + 1;
        if (i >= 32) {
            hash -= leaving * (bytes[i - 32] + 1u);
            cuts += hash >> 26 == 0;
        }
    }
    return cuts;
}

int main(int argc, char **argv) {
    u64 size = work_size(argc, argv, 3, 63000), sum = 0, state = 0x2ffd72dbd01adfb7u;
    make_table();
    if (crc32(0, (const u8 *)"123456789", 9) != 0xcbf43926u)
        die("the CRC of 123456789 is wrong");
    for (int i = 0; i < 15; i++)
        buffer[i] = (u8)i;
    if (siphash(0x0706050403020100u, 0x0f0e0d0c0b0a0908u, buffer, 15) != 0xa129ca6149be45e5u)
        die("the SipHash of its authors' message is wrong");
    for (u64 round = 0; round < size; round++) {
        for (int i = 0; i < BUFFER; i += 4) {
            u32 word = (u32)random_bits(&state);
            memcpy(buffer + i, &word, sizeof word);
        }
        u64 count = BUFFER - round % 17;
        sum = mix(sum, crc32((u32)sum, buffer, count));
        sum = mix(sum, siphash(sum, round, buffer, count));
        sum = mix(sum, cut_points(buffer, count));
    }
    return result("digest", size, sum);
}
