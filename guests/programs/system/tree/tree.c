/* tree: walks the device tree that it was handed, and shows the memory, serial ports and virtio transports found there.
 *
 * Shows: what a board tells a program of itself: the hart's number in a0, the tree's address in a1. The format is that
 * of the Devicetree Specification 0.4, chapter 5; addresses are of two cells, as on QEMU's `virt`. Boards list nodes in
 * different orders, so the nodes are shown by their addresses. */
#include "bare.h"

enum { MAGIC = 0xd00dfeed, BEGIN_NODE = 1, END_NODE = 2, PROPERTY = 3, NOP = 4 };
enum { MOST = 32 };

static const char *const kinds[] = {"memory", "serial", "virtio_mmio"};
static struct found { const char *name; u64 at; } found[MOST];
static u32 count;

static u32 number(const void *at) {
    return __builtin_bswap32(*(const u32 *)at);
}

/* The kind of a node, by its name up to the @; LENGTH(kinds) for those that are not shown. */
static u32 kind_of(const char *name) {
    for (u32 kind = 0; kind < LENGTH(kinds); kind++) {
        size_t at = 0;
        while (kinds[kind][at] && kinds[kind][at] == name[at])
            at++;
        if (!kinds[kind][at] && name[at] == '@')
            return kind;
    }
    return LENGTH(kinds);
}

/* By kind, and within one by address. */
static int before(struct found a, struct found b) {
    u32 kind_a = kind_of(a.name), kind_b = kind_of(b.name);
    return kind_a < kind_b || (kind_a == kind_b && a.at < b.at);
}

static void add(struct found node) {
    u32 place = count;
    if (count == MOST)
        return;
    for (count++; place > 0 && before(node, found[place - 1]); place--)
        found[place] = found[place - 1];
    found[place] = node;
}

static void walk(const char *base) {
    const char *token = base + number(base + 8), *strings = base + number(base + 12);
    const char *end = token + number(base + 36), *name = "";
    while (token < end) {
        u32 kind = number(token);
        token += 4;
        if (kind == BEGIN_NODE) {
            name = token;
            token += (strlen(token) + 4) & ~3ul;
        } else if (kind == PROPERTY) { /* properties come before the nodes within */
            u32 size = number(token);
            if (strcmp(strings + number(token + 4), "reg") == 0 && size >= 16 && kind_of(name) < LENGTH(kinds))
                add((struct found){name, (u64)number(token + 8) << 32 | number(token + 12)});
            token += 8 + ((size + 3) & ~3u);
        } else if (kind != END_NODE && kind != NOP) {
            return;
        }
    }
}

int main(u64 hart, const void *tree) {
    if (!tree || number(tree) != MAGIC) {
        print("hart %lu was given no device tree\n", hart);
        return 1;
    }
    print("hart %lu, a device tree of version %u\n", hart, number((const char *)tree + 20));
    walk(tree);
    for (u32 i = 0; i < count; i++) {
        print("%s at %lx", found[i].name, found[i].at);
        if (kind_of(found[i].name) == 2) { /* its first register is a word: "virt" */
            u32 magic = *reg32(found[i].at);
            print(": %c%c%c%c", magic & 255, magic >> 8 & 255, magic >> 16 & 255, magic >> 24);
        }
        print("\n");
    }
    return 0;
}
