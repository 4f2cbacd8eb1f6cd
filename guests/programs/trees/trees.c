/* trees: its own malloc and free, under full binary trees and a search tree that grows and shrinks. */
#include "guest.h"

/* The allocator: blocks of 16 to 2048 bytes by powers of two, one free list for each, refilled from the break. */

enum { CLASSES = 8, REFILL = 1 << 14 };

struct block {
    struct block *next;     /* while free */
    u64 class;              /* always; the user's bytes begin after it, so that they stay aligned to 16 */
};

static struct block *free_blocks[CLASSES];
static u64 live;

static void refill(u32 class) {
    u64 bytes = sizeof(struct block) + (16u << class);
    char *area = more(REFILL);
    for (u64 at = 0; at + bytes <= REFILL; at += bytes) {
        struct block *block = (struct block *)(area + at);
        block->class = class;
        block->next = free_blocks[class];
        free_blocks[class] = block;
    }
}

static void *allocate(u64 bytes) {
    u32 class = 0;
    while ((16u << class) < bytes)
        class++;
    if (class >= CLASSES)
        die("too large a block");
    if (!free_blocks[class])
        refill(class);
    struct block *block = free_blocks[class];
    free_blocks[class] = block->next;
    live++;
    return block + 1;
}

static void release(void *bytes) {
    struct block *block = (struct block *)bytes - 1;
    block->next = free_blocks[block->class];
    free_blocks[block->class] = block;
    live--;
}

/* Full trees. */

struct tree {
    struct tree *left, *right;
};

static struct tree *grow(u32 depth) {
    struct tree *tree = allocate(sizeof *tree);
    tree->left = depth ? grow(depth - 1) : 0;
    tree->right = depth ? grow(depth - 1) : 0;
    return tree;
}

static u64 fell(struct tree *tree) {
    u64 count = tree->left ? 1 + fell(tree->left) + fell(tree->right) : 1;
    release(tree);
    return count;
}

/* A search tree with random priorities (a treap) and strings of varying length at its nodes. */

struct node {
    struct node *child[2];
    u32 key, priority;
    u8 *name;
};

static struct node *root;
static u64 state = 0x0801f2e2858efc16u;

static void turn(struct node **at, int side) {      /* the child on the side becomes the parent */
    struct node *node = *at, *up = node->child[side];
    node->child[side] = up->child[!side];
    up->child[!side] = node;
    *at = up;
}

static void insert(struct node **at, u32 key) {
    if (!*at) {
        struct node *node = allocate(sizeof *node);
        u64 length = 8 + key % 120;
        u8 *name = allocate(length);
        memset(name, (int)key, length);
        *node = (struct node){{0, 0}, key, (u32)random_bits(&state), name};
        *at = node;
    } else if (key != (*at)->key) {
        int side = key > (*at)->key;
        insert(&(*at)->child[side], key);
        if ((*at)->child[side]->priority > (*at)->priority)
            turn(at, side);
    }
}

static u64 erase(u32 key) {
    struct node **at = &root;
    while (*at && (*at)->key != key)
        at = &(*at)->child[key > (*at)->key];
    if (!*at)
        return 0;
    while ((*at)->child[0] || (*at)->child[1]) {
        struct node *left = (*at)->child[0], *right = (*at)->child[1];
        int side = !left || (right && right->priority > left->priority);
        turn(at, side);
        at = &(*at)->child[!side];
    }
    struct node *gone = *at;
    *at = 0;
    u64 name = gone->name[key % 8];
    release(gone->name);
    release(gone);
    return name + 1;
}

static u64 walk(const struct node *node, u64 sum) {
    return node ? walk(node->child[1], mix(walk(node->child[0], sum), node->key)) : sum;
}

int main(int argc, char **argv) {
    u64 size = work_size(argc, argv, 3, 33000), sum = 0;
    for (u64 round = 0; round < size; round++) {
        struct tree *kept = grow(5 + (u32)(round % 5));
        for (int i = 0; i < 150; i++) {
            insert(&root, random_below(&state, 2000));
            sum = mix(sum, erase(random_below(&state, 2000)));
        }
        u64 felled = fell(kept);
        sum = mix(sum, felled + fell(grow(6)));
        if (round % 16 == 0)
            sum = walk(root, sum);
    }
    return result("trees", size, mix(walk(root, sum), live));
}
