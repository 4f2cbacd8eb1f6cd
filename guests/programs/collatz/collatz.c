/* collatz: the longest 3n+1 chain that starts below the size, and the sum of all chain lengths. */
#include "guest.h"

int main(int argc, char **argv) {
    u64 size = work_size(argc, argv, 1000, 7500000);
    u64 longest = 0, where = 0, total = 0, highest = 0;
    for (u64 start = 1; start < size; start++) {
        u64 n = start, steps = 0;
        while (n != 1) {
            if (n & 1) {
                n = 3 * n + 1;
                if (n > highest)
                    highest = n;
            } else {
                n >>= 1;
            }
            steps++;
        }
        total += steps;
        if (steps > longest) {
            longest = steps;
            where = start;
        }
    }
    return result("collatz", size, mix(mix(mix(longest, where), total), highest));
}
