/* recurse: deep and wide recursion: Fibonacci, Ackermann, Takeuchi, towers of Hanoi. */
#include "guest.h"

static u64 fibonacci(u32 n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }

static u32 ackermann(u32 m, u32 n) {
    if (m == 0)
        return n + 1;
    return ackermann(m - 1, n == 0 ? 1 : ackermann(m, n - 1));
}

static i32 takeuchi(i32 x, i32 y, i32 z) {
    if (y >= x)
        return z;
    return takeuchi(takeuchi(x - 1, y, z), takeuchi(y - 1, z, x), takeuchi(z - 1, x, y));
}

static u64 pegs[3];

static void hanoi(int height, int from, int to) {
    if (height == 0)
        return;
    int other = 3 - from - to;
    hanoi(height - 1, from, other);
    pegs[to] = mix(pegs[to], pegs[from] + (u64)height);
    hanoi(height - 1, other, to);
}

int main(int argc, char **argv) {
    u64 size = work_size(argc, argv, 6, 39000), sum = 0;
    for (u64 round = 0; round < size; round++) {
        u32 turn = (u32)(mix(sum, round) % 4);
        sum = mix(sum, fibonacci(13 + turn));
        sum = mix(sum, ackermann(2, 20 + 8 * turn));
        sum = mix(sum, (u64)takeuchi(8 + (i32)turn, 5, (i32)turn));
        hanoi(8 + (int)turn, 0, 2);
        sum = mix(sum, pegs[2]);
    }
    return result("recurse", size, sum);
}
