/* edit: edit distance, longest common subsequence and local alignment of random strands, by dynamic programming. */
#include "guest.h"

enum { LONGEST = 96 };

static u8 a[LONGEST], b[LONGEST];
static u16 table[LONGEST + 1][LONGEST + 1];

static u16 least(u16 x, u16 y) { return x < y ? x : y; }
static u16 most(u16 x, u16 y) { return x > y ? x : y; }

static u16 distance(u32 rows, u32 columns) {
    for (u32 j = 0; j <= columns; j++)
        table[0][j] = (u16)j;
    for (u32 i = 1; i <= rows; i++) {
        table[i][0] = (u16)i;
        for (u32 j = 1; j <= columns; j++) {
            u16 change = (u16)(table[i - 1][j - 1] + (a[i - 1] != b[j - 1]));
            table[i][j] = least(change, (u16)(1 + least(table[i - 1][j], table[i][j - 1])));
        }
    }
    return table[rows][columns];
}

static u64 common(u32 rows, u32 columns) {
    for (u32 i = 0; i <= rows; i++)
        for (u32 j = 0; j <= columns; j++)
            if (i == 0 || j == 0)
                table[i][j] = 0;
            else if (a[i - 1] == b[j - 1])
                table[i][j] = (u16)(table[i - 1][j - 1] + 1);
            else
                table[i][j] = most(table[i - 1][j], table[i][j - 1]);
    u64 path = 0;                       /* walks back from the corner: the subsequence itself */
    for (u32 i = rows, j = columns; i > 0 && j > 0;)
        if (a[i - 1] == b[j - 1])
            path = mix(path, a[i - 1]), i--, j--;
        else if (table[i - 1][j] >= table[i][j - 1])
            i--;
        else
            j--;
    return path + table[rows][columns];
}

static i32 alignment(u32 rows, u32 columns) {
    i32 row[LONGEST + 1] = {0}, best = 0;
    for (u32 i = 1; i <= rows; i++) {
        i32 diagonal = 0;
        for (u32 j = 1; j <= columns; j++) {
            i32 score = diagonal + (a[i - 1] == b[j - 1] ? 3 : -2);
            i32 gap = (row[j] > row[j - 1] ? row[j] : row[j - 1]) - 2;
            diagonal = row[j];
            score = score > gap ? score : gap;
            row[j] = score > 0 ? score : 0;
            best = row[j] > best ? row[j] : best;
        }
    }
    return best;
}

int main(int argc, char **argv) {
    u64 size = work_size(argc, argv, 2, 31000), sum = 0, state = 0xb3916cf724e40c71u;
    for (u64 round = 0; round < size; round++) {
        u32 rows = LONGEST / 2 + random_below(&state, LONGEST / 2), columns = 0;
        for (u32 i = 0; i < rows; i++) {
            a[i] = "ACGT"[random_below(&state, 4)];
            if (columns < LONGEST && random_below(&state, 8))   /* b: a with losses and changes */
                b[columns++] = random_below(&state, 5) ? a[i] : "ACGT"[random_below(&state, 4)];
        }
        sum = mix(sum, distance(rows, columns));
        sum = mix(sum, common(rows, columns));
        sum = mix(sum, (u64)alignment(rows, columns));
    }
    return result("edit", size, sum);
}
