/* chase: follows pointers round one random cycle of nodes and, on the way, down short side lists. */
#include "guest.h"

enum { MOST = 1 << 14 };

struct node {
    struct node *next, *side;
    u64 value, visits;
};

int main(int argc, char **argv) {
    u64 size = work_size(argc, argv, 20000, 340000000), state = 0xc0ac29b7c97c50ddu;
    u32 count = size / 16 < MOST ? (u32)(size / 16) + 2 : MOST;
    struct node *nodes = pages(count * sizeof *nodes);
    u32 *order = pages(count * sizeof *order);
    for (u32 i = 0; i < count; i++)
        order[i] = i;
    for (u32 i = count - 1; i > 0; i--) {
        u32 j = random_below(&state, i + 1), keep = order[i];
        order[i] = order[j];
        order[j] = keep;
    }
    for (u32 i = 0; i < count; i++) {
        struct node *node = &nodes[order[i]];
        node->next = &nodes[order[i + 1 == count ? 0 : i + 1]];
        node->side = i % 4 ? &nodes[order[i - 1]] : 0;
        node->value = random_bits(&state);
    }
    u64 sum = 0;
    struct node *at = nodes;
    for (u64 step = 0; step < size; step++) {
        sum += at->value ^ at->visits++;
        if ((at->value & 7) == 0)
            for (struct node *aside = at->side; aside; aside = aside->side)
                sum = (sum << 1 | sum >> 63) ^ aside->visits;
        at = at->next;
    }
    return result("chase", size, mix(sum, (u64)(at - nodes)));
}
