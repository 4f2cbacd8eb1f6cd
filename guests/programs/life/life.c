/* life: Conway's game on a torus, once byte by byte and once 64 cells at a time, which must agree. */
#include "guest.h"

enum { ROWS = 64 };         /* and 64 columns, one machine word */

static u8 cells[ROWS][64], before[ROWS][64];
static u64 words[ROWS];

static void step_cells(void) {
    memcpy(before, cells, sizeof cells);
    for (u32 r = 0; r < ROWS; r++) {
        const u8 *up = before[(r + ROWS - 1) % ROWS], *row = before[r], *down = before[(r + 1) % ROWS];
        for (u32 c = 0; c < 64; c++) {
            u32 left = (c + 63) % 64, right = (c + 1) % 64;
            u32 above = (u32)up[left] + up[c] + up[right], under = (u32)down[left] + down[c] + down[right];
            u32 around = above + row[left] + row[right] + under;
            cells[r][c] = around == 3 || (around == 2 && row[c]);
        }
    }
}

/* Adds three bits in each column: the ones and the twos of their sums. */
static void add(u64 a, u64 b, u64 c, u64 *ones, u64 *twos) {
    *ones = a ^ b ^ c;
    *twos = (a & b) | (c & (a ^ b));
}

static u64 left(u64 x) { return x << 1 | x >> 63; }
static u64 right(u64 x) { return x >> 1 | x << 63; }

static void step_words(void) {
    u64 first = words[0], up = words[ROWS - 1];
    for (u32 r = 0; r < ROWS; r++) {
        u64 row = words[r], down = r + 1 < ROWS ? words[r + 1] : first;
        u64 one_up, two_up, one_down, two_down, ones, carry, twos, fours;
        add(left(up), up, right(up), &one_up, &two_up);
        add(left(down), down, right(down), &one_down, &two_down);
        add(one_up, one_down, left(row) ^ right(row), &ones, &carry);
        add(two_up, two_down, carry, &twos, &fours);
        u64 beside = left(row) & right(row);
        fours |= twos & beside;
        twos ^= beside;
        words[r] = twos & ~fours & (ones | row);
        up = row;
    }
}

int main(int argc, char **argv) {
    u64 size = work_size(argc, argv, 5, 66000), sum = 0, state = 0xa458fea3f4933d7eu;
    for (u32 r = 0; r < ROWS; r++)
        words[r] = random_bits(&state) & random_bits(&state);
    for (u64 generation = 0; generation < size; generation++) {
        if (generation % 64 == 0) {                 /* new life at times, so that the board never settles */
            words[generation / 64 % ROWS] ^= random_bits(&state);
            for (u32 r = 0; r < ROWS; r++)
                for (u32 c = 0; c < 64; c++)
                    cells[r][c] = words[r] >> c & 1;
        }
        step_cells();
        step_words();
        for (u32 r = 0; r < ROWS; r++)
            sum = mix(sum, words[r]);
    }
    for (u32 r = 0; r < ROWS; r++)
        for (u32 c = 0; c < 64; c++)
            if (cells[r][c] != (words[r] >> c & 1))
                die("the two boards differ");
    return result("life", size, sum);
}
