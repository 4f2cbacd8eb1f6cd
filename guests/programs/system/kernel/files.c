/* Files: a flat list of names on the disk, and the programs that are linked into the kernel.
 *
 * On the disk: a header, 64 entries, and a table that says for each sector which one follows it in its file. These are
 * 69 sectors, kept in memory; the rest is data. Order of writes: data and table before the entry that names them, so
 * that a machine that stops in between has lost sectors at most, never gained wrong ones. A disk of zeros is formatted;
 * one that has something else is left alone. One process at a time is in here, as disks make it wait.
 * Owns: the format. Must not know: user memory, how sectors travel. */
#include "kernel.h"

enum { FILES = 64, MOST_SECTORS = 16384 };
enum { FREE = 0, LAST = 1 }; /* in the table, in place of a sector that follows */

struct entry { char name[NAME]; u32 first, size; }; /* no name: no file; no first sector: empty */

static struct {
    struct { char magic[8]; u32 sectors; u8 unused[SECTOR - 12]; } header;
    struct entry entries[FILES];
    u16 next[MOST_SECTORS];
} disk;
enum { METADATA = sizeof disk / SECTOR };

static const char MAGIC[8] = "TABLEFS";
static u8 buffer[SECTOR];
static int mounted, locked, unflushed;

static void lock(void) {
    while (locked)
        sleep_on(&locked, NEVER);
    locked = 1;
}

static long unlock(long result) {
    locked = 0;
    wake(&locked);
    return result;
}

/* Writes the sector that this part of `disk` is in. */
static int save(const void *part) {
    u64 sector = (u64)((const u8 *)part - (const u8 *)&disk) / SECTOR;
    unflushed = 1;
    return disk_write(sector, (const u8 *)&disk + sector * SECTOR);
}

static int read_metadata(void) {
    for (u64 i = 0; i < METADATA; i++)
        if (!disk_read(i, (u8 *)&disk + i * SECTOR))
            return 0;
    return 1;
}

static int format_disk(u64 sectors) {
    memset(&disk, 0, sizeof disk);
    memcpy(disk.header.magic, MAGIC, sizeof MAGIC);
    disk.header.sectors = (u32)(sectors < MOST_SECTORS ? sectors : MOST_SECTORS);
    for (u64 i = METADATA; i-- > 0;) /* the header last: before, this is no file system */
        if (!disk_write(i, (u8 *)&disk + i * SECTOR))
            return 0;
    return disk_flush();
}

static int is_empty(void) {
    for (u32 i = 0; i < SECTOR; i++)
        if (((const u8 *)&disk.header)[i])
            return 0;
    return 1;
}

void files_start(void) {
    u64 sectors = disk_sectors();
    if (sectors <= METADATA) {
        print(sectors ? "disk: too small\n" : "disk: none\n");
    } else if (!read_metadata()) {
        print("disk: cannot be read\n");
    } else if (is_empty()) {
        mounted = format_disk(sectors);
        print(mounted ? "disk: %lu sectors, formatted\n" : "disk: %lu sectors, cannot be written\n", sectors);
    } else {
        disk.header.magic[7] = 0;
        mounted = strcmp(disk.header.magic, MAGIC) == 0 && disk.header.sectors <= sectors &&
                  disk.header.sectors <= MOST_SECTORS;
        print(mounted ? "disk: %lu sectors\n" : "disk: %lu sectors of something else, left alone\n", sectors);
    }
}

static int is_data(u32 sector) {
    return sector >= METADATA && sector < disk.header.sectors;
}

static u32 allocate(void) {
    for (u32 i = METADATA; i < disk.header.sectors; i++)
        if (disk.next[i] == FREE) {
            disk.next[i] = LAST;
            return save(&disk.next[i]) ? i : 0;
        }
    return 0;
}

/* The file's sector of this index, with new ones up to there if `grow`; 0 if there is none, or the table is wrong. */
static u32 sector_at(struct entry *e, u32 index, int grow) {
    if (!e->first && grow)
        e->first = allocate();
    u32 at = e->first;
    while (is_data(at) && index-- > 0) {
        if (disk.next[at] == LAST && grow) {
            u32 added = allocate();
            if (!added)
                return 0;
            disk.next[at] = (u16)added;
            if (!save(&disk.next[at]))
                return 0;
        }
        at = disk.next[at];
    }
    return is_data(at) ? at : 0;
}

/* After the entry has let go of them. */
static int free_sectors(u32 at) {
    while (is_data(at)) {
        u32 next = disk.next[at];
        disk.next[at] = FREE;
        if (!save(&disk.next[at]))
            return 0;
        at = next;
    }
    return 1;
}

static struct entry *find(const char *name) {
    for (struct entry *e = disk.entries; mounted && e < disk.entries + FILES; e++)
        if (e->name[0] && strcmp(e->name, name) == 0)
            return e;
    return 0;
}

static int find_linked(const char *name) {
    for (u32 i = 0; i < program_count; i++)
        if (strcmp(programs[i].name, name) == 0)
            return (int)i;
    return -1;
}

static int is_name(const char *name) {
    for (const char *c = name; *c; c++)
        if (*c <= ' ' || *c > '~')
            return 0;
    return *name && strlen(name) < NAME;
}

static struct entry *create(const char *name) {
    size_t length = strlen(name);
    for (struct entry *e = disk.entries; mounted && is_name(name) && e < disk.entries + FILES; e++)
        if (!e->name[0]) {
            *e = (struct entry){0};
            memcpy(e->name, name, length);
            return save(e) ? e : 0;
        }
    return 0;
}

static int cut(struct entry *e) {
    u32 first = e->first;
    e->first = e->size = 0;
    return save(e) && free_sectors(first);
}

static int open_locked(const char *name, int mode, struct open_file *file) {
    struct entry *e = find(name);
    int linked = find_linked(name);
    if (!e && linked >= 0) {
        if (mode != OPEN_READ)
            return -1;
        *file = (struct open_file){LINKED, (u32)linked, 0};
        return 0;
    }
    if (!e && mode != OPEN_READ)
        e = create(name);
    if (!e || (mode == OPEN_CREATE && !cut(e)))
        return -1;
    *file = (struct open_file){ON_DISK, (u32)(e - disk.entries), mode == OPEN_APPEND ? e->size : 0};
    return 0;
}

int file_open(const char *name, int mode, struct open_file *file) {
    lock();
    return (int)unlock(open_locked(name, mode, file));
}

static u32 least(u64 a, u64 b) {
    return (u32)(a < b ? a : b);
}

static long read_locked(struct open_file *file, void *to, size_t count) {
    struct entry *e = &disk.entries[file->number];
    u32 within = file->offset % SECTOR;
    if (file->offset >= e->size)
        return 0;
    u32 part = least(least(count, SECTOR - within), e->size - file->offset);
    u32 sector = sector_at(e, file->offset / SECTOR, 0);
    if (!sector || !disk_read(sector, buffer))
        return -1;
    memcpy(to, buffer + within, part);
    file->offset += part;
    return part;
}

long file_read(struct open_file *file, void *to, size_t count) {
    if (file->kind == LINKED) {
        const struct program *p = &programs[file->number];
        u32 part = file->offset < p->size ? least(count, p->size - file->offset) : 0;
        memcpy(to, p->bytes + file->offset, part);
        file->offset += part;
        return part;
    }
    lock();
    return unlock(read_locked(file, to, count));
}

static long write_locked(struct open_file *file, const void *from, size_t count) {
    struct entry *e = &disk.entries[file->number];
    u32 within = file->offset % SECTOR, part = least(count, SECTOR - within);
    if (file->offset > e->size)
        return -1;
    u32 sector = sector_at(e, file->offset / SECTOR, 1);
    if (!sector || (file->offset - within < e->size && !disk_read(sector, buffer)))
        return -1;
    memcpy(buffer + within, from, part);
    if (!disk_write(sector, buffer))
        return -1;
    file->offset += part;
    if (file->offset > e->size)
        e->size = file->offset;
    return save(e) ? part : -1;
}

long file_write(struct open_file *file, const void *from, size_t count) {
    if (file->kind != ON_DISK)
        return -1;
    lock();
    return unlock(write_locked(file, from, count));
}

int file_close(struct open_file *file) {
    int result = 0;
    if (file->kind == ON_DISK && unflushed) {
        unflushed = 0;
        result = disk_flush() ? 0 : -1;
    }
    *file = (struct open_file){0};
    return result;
}

static int remove_locked(struct entry *e) {
    for (struct process *p = processes; e && p < processes + PROCESSES; p++)
        for (int i = 0; i < OPEN_FILES; i++)
            if (p->state != NONE && p->files[i].kind == ON_DISK && &disk.entries[p->files[i].number] == e)
                return -1;
    if (!e)
        return -1;
    u32 first = e->first;
    *e = (struct entry){0};
    return save(e) && free_sectors(first) && disk_flush() ? 0 : -1;
}

int file_remove(const char *name) {
    lock();
    return (int)unlock(remove_locked(find(name)));
}

int file_facts(u32 index, struct file_facts *facts) {
    while (index < FILES && !(mounted && disk.entries[index].name[0]))
        index++;
    facts->linked = index >= FILES;
    if (index < FILES) {
        memcpy(facts->name, disk.entries[index].name, NAME);
        facts->size = disk.entries[index].size;
    } else if (index - FILES < program_count) {
        const struct program *p = &programs[index - FILES];
        memcpy(facts->name, p->name, strlen(p->name));
        facts->size = p->size;
    } else {
        return 0;
    }
    return (int)index + 1;
}
