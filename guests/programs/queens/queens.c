/* queens: counts the ways to place eight queens on boards where random squares are forbidden. */
#include "guest.h"

enum { WIDTH = 8 };

static u8 forbidden[WIDTH];     /* one bit for each column */
static i8 column_of[WIDTH];
static u64 placed;

static int safe(int row, int column) {
    if (forbidden[row] >> column & 1)
        return 0;
    for (int above = 0; above < row; above++) {
        int apart = column - column_of[above];
        if (apart == 0 || apart == row - above || apart == above - row)
            return 0;
    }
    return 1;
}

static u32 solutions(int row) {
    if (row == WIDTH)
        return 1;
    u32 count = 0;
    for (int column = 0; column < WIDTH; column++) {
        if (safe(row, column)) {
            column_of[row] = (i8)column;
            placed++;
            count += solutions(row + 1);
        }
    }
    return count;
}

int main(int argc, char **argv) {
    u64 size = work_size(argc, argv, 2, 19000), sum = 0, state = 0x3f84d5b5b5470917u;
    for (u64 board = 0; board < size; board++) {
        for (int row = 0; row < WIDTH; row++)
            forbidden[row] = (u8)(random_bits(&state) & random_bits(&state) & random_bits(&state));
        sum = mix(sum, solutions(0));
    }
    return result("queens", size, mix(sum, placed));
}
