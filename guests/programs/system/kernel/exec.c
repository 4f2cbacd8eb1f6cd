/* exec: a new program in place of the one that a process runs.
 *
 * A program is an ELF file for RISC-V, linked to fixed addresses: its segments that are to be loaded become pages that
 * are as readable, writable and executable as their flags say. The arguments are copied to the top of the stack. All is
 * made beside the old program, which goes on if anything is wrong. Owns: what an executable file is. */
#include "kernel.h"

enum { LOAD = 1, FLAG_X = 1, FLAG_W = 2, FLAG_R = 4, EXECUTABLE = 2, RISCV = 243 };

struct elf {
    u8 magic[16];
    u16 type, machine;
    u32 version;
    u64 entry, segments, sections;
    u32 flags;
    u16 size, segment_size, segment_count;
};
struct segment {
    u32 type, flags;
    u64 offset, at, physical, in_file, in_memory, alignment;
};

static int read_at(struct open_file *file, u64 offset, void *to, u64 count) {
    file->offset = (u32)offset;
    for (long done; count > 0; to = (u8 *)to + done, count -= (u64)done)
        if ((done = file_read(file, to, count)) <= 0)
            return 0;
    return 1;
}

/* Segments share no page: the bits of one would not be those of the other. */
static int load(pte *space, struct open_file *file, const struct segment *s) {
    u64 bits = (s->flags & FLAG_R ? R : 0) | (s->flags & FLAG_W ? R | W : 0) | (s->flags & FLAG_X ? X : 0) | U;
    if (s->in_file > s->in_memory || s->at % PAGE || s->at == 0 || s->at >= STACK_START ||
        s->in_memory > STACK_START - s->at || s->offset + s->in_file > UINT32_MAX)
        return 0;
    for (u64 done = 0; done < s->in_memory; done += PAGE) {
        u8 *page = page_new();
        u64 rest = done < s->in_file ? s->in_file - done : 0;
        if (page && !read_at(file, s->offset + done, page, rest < PAGE ? rest : PAGE)) {
            page_drop(page);
            return 0;
        }
        if (!space_map(space, s->at + done, page, bits))
            return 0;
    }
    return 1;
}

/* Strings, then the addresses of them, in the last page of the stack. Returns the stack pointer, 0 if it is too much. */
static u64 arguments(pte *space, char *const argv[], int argc) {
    u8 *page = page_new();
    u64 used = 0, list[ARGUMENTS + 1] = {0};
    for (int i = 0; page && i < argc; i++) {
        u64 size = strlen(argv[i]) + 1;
        if (used + size > PAGE / 2) {
            page_drop(page);
            return 0;
        }
        memcpy(page + PAGE - (used += size), argv[i], size);
        list[i] = STACK_END - used;
    }
    u64 top = PAGE - ((used + sizeof list + 15) & ~15ul);
    if (page)
        memcpy(page + top, list, sizeof list);
    return space_map(space, STACK_END - PAGE, page, R | W | U) ? STACK_END - PAGE + top : 0;
}

static int load_all(pte *space, struct open_file *file, struct elf *elf, u64 *data_end) {
    if (!read_at(file, 0, elf, sizeof *elf) || elf->magic[0] != 0x7f || elf->magic[1] != 'E' || elf->magic[2] != 'L' ||
        elf->magic[3] != 'F' || elf->type != EXECUTABLE || elf->machine != RISCV ||
        elf->segment_size != sizeof(struct segment))
        return 0;
    for (int i = 0; i < elf->segment_count; i++) {
        struct segment s;
        if (!read_at(file, elf->segments + (u64)i * sizeof s, &s, sizeof s))
            return 0;
        if (s.type != LOAD || !s.in_memory)
            continue;
        if (!load(space, file, &s))
            return 0;
        u64 end = (s.at + s.in_memory + PAGE - 1) & ~(u64)(PAGE - 1);
        *data_end = end > *data_end ? end : *data_end;
    }
    return *data_end > 0;
}

int exec(const char *name, char *const argv[], int argc) {
    struct process *p = current;
    struct open_file file = {0};
    struct elf elf;
    u64 data_end = 0, stack = 0;
    pte *space = file_open(name, OPEN_READ, &file) < 0 ? 0 : space_new(p->frame);
    if (!space)
        return -1;
    if (!load_all(space, &file, &elf, &data_end) || !(stack = arguments(space, argv, argc))) {
        space_free(space);
        return -1;
    }
    space_free(p->space);
    p->space = space;
    p->data_start = p->data_end = data_end;
    memset(p->frame, 0, sizeof *p->frame);
    p->frame->pc = elf.entry;
    p->frame->x[X_SP] = stack;
    p->frame->x[X_A0] = (u64)argc;
    p->frame->x[X_A1] = stack;
    u32 length = 0;
    for (; length < NAME - 1 && name[length]; length++)
        p->name[length] = name[length];
    p->name[length] = 0;
    __asm__ volatile("fence.i" : : : "memory"); /* what was written is now fetched: "Zifencei", volume I */
    return argc;
}
