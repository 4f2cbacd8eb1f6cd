/* The device tree: where memory and devices are. And the end, which is a device's, too.
 *
 * The format is that of the Devicetree Specification 0.4, chapter 5: a header, a stream of tokens, and the names of
 * properties. Numbers are big-endian. Addresses and sizes are of two cells each, as they are on all 64-bit boards that
 * are known to us; what the tree leaves open is as on QEMU's `virt`. Owns: `board`. Must not know: any driver. */
#include "kernel.h"

struct board board = {
    .memory = 0x80000000, .memory_end = 0x80000000 + (16 << 20), .clock = 10000000, .clint = 0x2000000,
    .plic = 0xc000000, .plic_context = 1, .uart = 0x10000000, .uart_interrupt = 10,
};

enum { MAGIC = 0xd00dfeed, BEGIN_NODE = 1, END_NODE = 2, PROPERTY = 3, NOP = 4 };
enum { SUPERVISOR_EXTERNAL = 9 };

struct property { const char *bytes; u32 size; };
struct node { struct property compatible, type, reg, interrupts, extended, isa, extensions, timebase; };

static u32 number(const void *at) {
    return __builtin_bswap32(*(const u32 *)at);
}

static u64 wide(const char *at) {
    return (u64)number(at) << 32 | number(at + 4);
}

/* Whether a property's list of strings has this one. */
static int lists(struct property list, const char *word) {
    for (u32 at = 0; at < list.size; at += strlen(list.bytes + at) + 1)
        if (strcmp(list.bytes + at, word) == 0)
            return 1;
    return 0;
}

/* Whether an ISA string, such as rv64imac_sstc, has this word. */
static int names(struct property isa, const char *word) {
    size_t length = strlen(word);
    for (u32 at = 0; at + length < isa.size; at++) {
        size_t same = 0;
        while (same < length && isa.bytes[at + same] == word[same])
            same++;
        if (same == length)
            return 1;
    }
    return 0;
}

/* The PLIC's list tells of each context, in order, whose interrupt it raises: pairs of a hart and a cause. */
static u32 context_of(struct property pairs, u64 hart) {
    for (u32 i = 0; i < pairs.size / 8; i++)
        if (number(pairs.bytes + 8 * i + 4) == SUPERVISOR_EXTERNAL && hart-- == 0)
            return i;
    return board.plic_context;
}

static void take(const struct node *n, u64 hart) {
    if (n->timebase.size)
        board.clock = number(n->timebase.bytes);
    if (names(n->isa, "_sstc") || lists(n->extensions, "sstc"))
        board.sstc = 1;
    if (n->reg.size < 16)
        return;
    u64 at = wide(n->reg.bytes);
    u32 interrupt = n->interrupts.size ? number(n->interrupts.bytes) : 0;
    if (lists(n->type, "memory")) {
        board.memory = at;
        board.memory_end = at + wide(n->reg.bytes + 8);
    } else if (lists(n->compatible, "riscv,clint0") || lists(n->compatible, "sifive,clint0")) {
        board.clint = at;
    } else if (lists(n->compatible, "riscv,plic0") || lists(n->compatible, "sifive,plic-1.0.0")) {
        board.plic = at;
        board.plic_context = context_of(n->extended, hart);
    } else if (lists(n->compatible, "ns16550a")) {
        board.uart = at;
        board.uart_interrupt = interrupt;
    } else if (lists(n->compatible, "sifive,test0")) {
        board.finisher = at;
    } else if (lists(n->compatible, "virtio,mmio") && board.virtios < DISKS) {
        board.virtio[board.virtios] = at;
        board.virtio_interrupt[board.virtios++] = interrupt;
    }
}

void board_read(const void *tree, u64 hart) {
    const char *base = tree;
    if (!tree || number(tree) != MAGIC)
        return;
    const char *token = base + number(base + 8), *strings = base + number(base + 12);
    const char *end = token + number(base + 36);
    struct node node = {0};
    while (token < end) {
        u32 kind = number(token);
        token += 4;
        if (kind == PROPERTY) {
            const struct { const char *name; struct property *property; } known[] = {
                {"compatible", &node.compatible}, {"device_type", &node.type}, {"reg", &node.reg},
                {"interrupts", &node.interrupts}, {"interrupts-extended", &node.extended}, {"riscv,isa", &node.isa},
                {"riscv,isa-extensions", &node.extensions}, {"timebase-frequency", &node.timebase},
            };
            struct property property = {token + 8, number(token)};
            for (u32 i = 0; i < LENGTH(known); i++)
                if (strcmp(strings + number(token + 4), known[i].name) == 0)
                    *known[i].property = property;
            token += 8 + ((property.size + 3) & ~3u);
        } else if (kind == BEGIN_NODE || kind == END_NODE) { /* properties come before the nodes within */
            take(&node, hart);
            node = (struct node){0};
            if (kind == BEGIN_NODE)
                token += (strlen(token) + 4) & ~3ul;
        } else if (kind != NOP) {
            return;
        }
    }
}

/* A board without a finisher goes on drawing power, but does nothing any more. */
_Noreturn void board_stop(int status) {
    if (board.finisher)
        *reg32(board.finisher) = status == 0 ? 0x5555 : (u32)status << 16 | 0x3333;
    for (;;)
        wait_for_interrupt();
}
