/* lz: compresses generated text with back references found by hash chains, and expands it again. */
#include "guest.h"

enum { BLOCK = 1 << 12, HASHES = 1 << 11, CHAIN = 8, SHORTEST = 4, LONGEST = 66 };

static u8 plain[BLOCK + 8], packed[2 * BLOCK], again[BLOCK + LONGEST];
static i32 newest[HASHES], older[BLOCK];

static u32 hash_at(u32 at) {
    u32 word = plain[at] | (u32)plain[at + 1] << 8 | (u32)plain[at + 2] << 16 | (u32)plain[at + 3] << 24;
    return word * 2654435761u >> 21;
}

static u32 match_length(u32 a, u32 b) {
    u32 length = 0;
    while (length < LONGEST && b + length < BLOCK && plain[a + length] == plain[b + length])
        length++;
    return length;
}

static void remember(u32 at) {
    u32 hash = hash_at(at);
    older[at] = newest[hash];
    newest[hash] = (i32)at;
}

/* A byte below 192 begins a run of that many + 1 literals; any other, a match: length, then two bytes of distance. */
static u32 pack(void) {
    u32 out = 0, literals = 0;
    memset(newest, 0xff, sizeof newest);
    for (u32 at = 0; at < BLOCK;) {
        u32 best = 0, from = 0;
        i32 candidate = newest[hash_at(at)];
        for (int tries = 0; candidate >= 0 && tries < CHAIN; tries++, candidate = older[candidate]) {
            u32 length = match_length((u32)candidate, at);
            if (length > best) {
                best = length;
                from = (u32)candidate;
            }
        }
        if (best >= SHORTEST) {
            packed[out++] = (u8)(192 + best - SHORTEST);
            packed[out++] = (u8)(at - from);
            packed[out++] = (u8)((at - from) >> 8);
            literals = 0;
        } else {
            if (literals == 0 || literals == 192) {
                literals = 0;
                packed[out++] = 0;
            }
            packed[out - literals - 1] = (u8)literals;
            packed[out++] = plain[at];
            literals++;
            best = 1;
        }
        while (best-- > 0)
            remember(at++);
    }
    return out;
}

static u32 unpack(u32 count) {
    u32 out = 0;
    for (u32 in = 0; in < count;) {
        u32 first = packed[in++];
        if (first < 192) {
            memcpy(again + out, packed + in, first + 1);
            out += first + 1;
            in += first + 1;
        } else {
            u32 length = first - 192 + SHORTEST, distance = packed[in] | (u32)packed[in + 1] << 8;
            in += 2;
            for (; length-- > 0; out++)         /* byte by byte: source and target may overlap */
                again[out] = again[out - distance];
        }
    }
    return out;
}

/* Phrases made of earlier phrases, with some noise. */
static void write_plain(u64 *state) {
    for (u32 at = 0; at < BLOCK;) {
        u32 length = 3 + random_below(state, 20);
        u32 from = at < 64 || random_below(state, 4) == 0 ? BLOCK : random_below(state, at);
        for (; length-- > 0 && at < BLOCK; at++, from++)
            plain[at] = from < at ? plain[from] : (u8)('a' + (random_bits(state) & random_bits(state) & 31));
    }
}

int main(int argc, char **argv) {
    u64 size = work_size(argc, argv, 1, 22500), sum = 0, state = 0x7b54a41dc25a59b5u;
    for (u64 round = 0; round < size; round++) {
        write_plain(&state);
        u32 count = pack();
        if (unpack(count) != BLOCK || memcmp(plain, again, BLOCK) != 0)
            die("the text changed");
        for (u32 i = 0; i < count; i += 5)
            sum = mix(sum, packed[i]);
        sum = mix(sum, count);
    }
    return result("lz", size, sum);
}
