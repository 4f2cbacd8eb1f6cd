/* wild SEED: children that make system calls with arguments that mean little or nothing. Some of them the kernel ends;
 * when all are gone, so is all that they had, but files. */
#include "user.h"

enum { CHILDREN = 40, CALLS = 300 };

static u64 state;
static const char *const names[] = {"a", "b", "c", "", "primes", "a-name-that-is-longer-than-names-may-be"};
static char data[3 * 4096];

static u64 any(u64 limit) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (state >> 11) % limit;
}

/* A small number, a name, a place in the data, at the end of the stack, where nothing is, or at the kernel's own. */
static u64 argument(void) {
    static const u64 places[] = {0, 0x10000, 0x40000000, 0x3fffffe000, 0x3ffffff000, 1ul << 38, 0x80000000, ~0ul};
    switch (any(5)) {
    case 0: return any(600);
    case 1: return (u64)names[any(LENGTH(names))];
    case 2: return (u64)data + any(sizeof data);
    case 3: return 0x40000000 - any(70000);
    default: return places[any(LENGTH(places))] + any(65) - 32;
    }
}

/* Not what would end others, or wait for long. */
static int is_harmless(u64 number) {
    return number != CALL_EXIT && number != CALL_KILL && number != CALL_SLEEP && number != CALL_SHUTDOWN &&
           (number != CALL_FORK || any(8) == 0);
}

int main(int argc, char **argv) {
    long seed = argc == 2 ? number_of(argv[1]) : -1;
    if (seed < 0) {
        print("wild: it takes a number\n");
        return 1;
    }
    for (int i = 0; i < CHILDREN; i++) {
        int child = fork(), status;
        if (child > 0 && wait(child, &status) != child)
            return 2;
        if (child != 0)
            continue;
        for (int file = 0; file < 3; file++)
            close(file); /* the console is for others */
        state = (u64)seed * 1000003 + (u64)i + 1;
        for (int done = 0; done < CALLS; done++) {
            u64 number = any(CALL_SHUTDOWN + 3);
            if (is_harmless(number))
                call((enum call)number, argument(), argument(), argument());
        }
        exit(0);
    }
    return 0;
}
