/* Address spaces: page tables of Sv39, three levels of 512 entries (Priv. 10.3, 10.4).
 *
 * The kernel's own space has all addresses as they are, in pages as large as they can be (4 KiB, 2 MiB, 1 GiB). That of
 * a process has its program and data, its stack, and at the top two pages that only the kernel may use: its trap frame,
 * and the trampoline (trampoline.S), which all spaces have at one address, so that code in it can change satp.
 * Pages of a process come when they are touched; after a fork they are shared, and copied when one is written to.
 * A and D are set from the start, so that hardware that faults to have them set (Svade) does not. */
#include "kernel.h"

static const u64 SV39 = 8ul << 60;
extern u8 _start[], text_end[], trampoline[];

static pte *kernel_space;

static void *page_of(pte entry) {
    return (void *)(entry >> 10 << 12);
}

static pte entry_of(const void *page, u64 bits) {
    return (u64)page >> 12 << 10 | bits | V;
}

static int is_leaf(pte entry) {
    return (entry & (R | W | X)) != 0;
}

static u64 index_of(u64 at, int level) {
    return at >> (12 + 9 * level) & 511;
}

static u64 satp_of(const pte *space) {
    return SV39 | (u64)space >> 12;
}

/* The entry for an address at a level, whose tables are made if `make`; 0 if they are not there, or memory is out. */
static pte *entry_at(pte *table, u64 at, int level, int make) {
    for (int above = 2; above > level; above--) {
        pte *entry = &table[index_of(at, above)];
        if (!(*entry & V)) {
            void *page = make ? page_new() : 0;
            if (!page)
                return 0;
            *entry = entry_of(page, 0);
        }
        table = page_of(*entry);
    }
    return &table[index_of(at, level)];
}

static void map_range(u64 at, u64 end, u64 bits) {
    while (at < end) {
        int level = 2;
        while (level > 0 && (at & ((PAGE << 9 * level) - 1) || at + (PAGE << 9 * level) > end))
            level--;
        pte *entry = entry_at(kernel_space, at, level, 1);
        if (!entry)
            panic("no memory for the kernel's page table");
        *entry = entry_of((void *)at, bits);
        at += PAGE << 9 * level;
    }
}

void space_start(void) {
    kernel_space = page_new();
    map_range(0, 1ul << 30, R | W | A | D); /* devices */
    map_range((u64)_start, (u64)text_end, R | X | A);
    map_range((u64)text_end, board.memory_end, R | W | A | D);
    *entry_at(kernel_space, TRAMPOLINE, 0, 1) = entry_of(trampoline, R | X | A);
    write_csr(satp, satp_of(kernel_space));
    __asm__ volatile("sfence.vma" : : : "memory");
}

u64 space_satp(const pte *space) {
    return satp_of(space ? space : kernel_space);
}

int space_map(pte *space, u64 at, void *page, u64 bits) {
    pte *entry = page ? entry_at(space, at, 0, 1) : 0;
    int good = entry && !(*entry & V);
    if (good)
        *entry = entry_of(page, bits | A | D);
    else if (page)
        page_drop(page);
    return good;
}

pte *space_new(void *frame) {
    pte *space = page_new();
    pte *entry = space ? entry_at(space, TRAMPOLINE, 0, 1) : 0; /* the tables for FRAME, too, as it is next to it */
    if (!entry) {
        if (space)
            space_free(space);
        return 0;
    }
    *entry = entry_of(trampoline, R | X | A);
    *entry_at(space, FRAME, 0, 1) = entry_of(frame, R | W | A | D);
    return space;
}

static void drop_level(pte *table, int level) {
    for (int i = 0; i < 512; i++)
        if (table[i] & V && !is_leaf(table[i]))
            drop_level(page_of(table[i]), level - 1);
        else if (table[i] & U)
            page_drop(page_of(table[i]));
    page_drop(table);
}

void space_free(pte *space) {
    drop_level(space, 2);
}

static u64 count_level(const pte *table, int level) {
    u64 count = 0;
    for (int i = 0; i < 512; i++)
        if (level > 0 && table[i] & V)
            count += count_level(page_of(table[i]), level - 1);
        else
            count += (table[i] & U) != 0;
    return count;
}

u64 space_pages(const pte *space) {
    return count_level(space, 2);
}

static int copy_level(pte *from, pte *root, u64 at, int level) {
    for (int i = 0; i < 512; i++, at += PAGE << 9 * level) {
        if (!(from[i] & V)) {
            continue;
        } else if (level > 0) {
            if (!copy_level(page_of(from[i]), root, at, level - 1))
                return 0;
        } else if (from[i] & U) {
            pte *entry = entry_at(root, at, 0, 1);
            if (!entry)
                return 0;
            if (from[i] & W)
                from[i] = (from[i] & ~(u64)W) | COPY;
            *entry = from[i];
            page_share(page_of(from[i]));
        }
    }
    return 1;
}

int space_copy(pte *from, pte *to) {
    return copy_level(from, to, 0, 2);
}

/* A write to a shared page: its last user keeps it, others get a copy. */
static int unshare(pte *entry) {
    void *page = page_of(*entry);
    if (page_users(page) > 1) {
        void *copy = page_new();
        if (!copy)
            return 0;
        memcpy(copy, page, PAGE);
        page_drop(page);
        page = copy;
    }
    *entry = entry_of(page, R | W | U | A | D);
    return 1;
}

int space_fault(struct process *p, u64 at, u64 access) {
    if (at >= FRAME)
        return 0;
    pte *entry = entry_at(p->space, at, 0, 0);
    if (entry && *entry & V)
        return *entry & access ? 1 : access == W && *entry & COPY ? unshare(entry) : 0;
    int data = at >= p->data_start && at < p->data_end;
    int stack = at >= STACK_START && at < STACK_END;
    return access != X && (data || stack) && space_map(p->space, at, page_new(), R | W | U);
}

/* Where the kernel finds a byte of a process, which is made ready for the access; 0 if the process may not. */
static u8 *reach(struct process *p, u64 at, u64 access) {
    if (!space_fault(p, at, access))
        return 0;
    return (u8 *)page_of(*entry_at(p->space, at, 0, 0)) + at % PAGE;
}

static u64 rest_of_page(u64 at, u64 count) {
    u64 rest = PAGE - at % PAGE;
    return rest < count ? rest : count;
}

int copy_in(struct process *p, void *to, u64 from, u64 count) {
    for (u64 part; count > 0; from += part, to = (u8 *)to + part, count -= part) {
        u8 *bytes = reach(p, from, R);
        if (!bytes)
            return 0;
        memcpy(to, bytes, part = rest_of_page(from, count));
    }
    return 1;
}

int copy_out(struct process *p, u64 to, const void *from, u64 count) {
    for (u64 part; count > 0; to += part, from = (const u8 *)from + part, count -= part) {
        u8 *bytes = reach(p, to, W);
        if (!bytes)
            return 0;
        memcpy(bytes, from, part = rest_of_page(to, count));
    }
    return 1;
}

int copy_text(struct process *p, char *to, u64 from, u64 size) {
    for (; size > 0; size--, from++, to++) {
        u8 *byte = reach(p, from, R);
        if (!byte)
            return 0;
        if (!(*to = (char)*byte))
            return 1;
    }
    return 0;
}
