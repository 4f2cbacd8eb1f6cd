/* forks: children of children, to see that memory is copied when it is written to, and all of it comes back.
 *
 * Each of the processes adds its share to a sum in memory that its parent cannot see, and answers by its exit status. */
#include "user.h"

enum { DEPTH = 3 };

static int below[1024] = {1}; /* a page that all share until they write */

static int tree(int depth) {
    int sum = 1;
    below[depth] = depth;
    for (int i = 0; depth > 0 && i < 2; i++) {
        int child = fork(), status = 0;
        if (child == 0)
            exit(tree(depth - 1));
        if (child < 0 || wait(child, &status) != child || status < 0 || below[depth] != depth || below[depth - 1])
            return 100;
        sum += status;
    }
    return sum;
}

int main(void) {
    struct memory_facts before, after;
    below[0] = 0;
    call(CALL_MEMORY, (u64)&before, 0, 0);
    int count = tree(DEPTH);
    call(CALL_MEMORY, (u64)&after, 0, 0);
    int lost = (int)(before.free - after.free);
    print("%d processes, %d pages lost\n", count, lost);
    return count != (2 << DEPTH) - 1 || lost != 0;
}
