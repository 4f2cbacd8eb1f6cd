/* The vDSO as a program finds it: its object by AT_SYSINFO_EHDR, its functions by name and version, and what they do. */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#include <unwind.h>

static const char *base, *strings;
static const Elf64_Sym *symbols;
static const unsigned *buckets;
static const unsigned short *versions;
static const Elf64_Verdef *definitions;

static unsigned hash(const char *name) {
    unsigned h = 0;
    for (; *name; name++) {
        h = (h << 4) + (unsigned char)*name;
        h ^= (h & 0xf0000000) >> 24;
        h &= 0x0fffffff;
    }
    return h;
}

/* A symbol by the hash table, if its version is the one that C libraries ask for. */
static void *find(const char *name) {
    unsigned count = buckets[0];
    for (unsigned i = buckets[2 + hash(name) % count]; i; i = buckets[2 + count + i]) {
        if (strcmp(strings + symbols[i].st_name, name))
            continue;
        const Elf64_Verdef *at = definitions;
        while ((at->vd_flags & VER_FLG_BASE || at->vd_ndx != (versions[i] & 0x7fff)) && at->vd_next)
            at = (const void *)((const char *)at + at->vd_next);
        const Elf64_Verdaux *version = (const void *)((const char *)at + at->vd_aux);
        if (at->vd_hash == hash("LINUX_4.15") && !strcmp(strings + version->vda_name, "LINUX_4.15"))
            return (void *)(base + symbols[i].st_value);
    }
    return 0;
}

static int object(struct dl_phdr_info *info, size_t size, void *found) {
    if (info->dlpi_addr == (unsigned long)base)
        *(int *)found = !strcmp(info->dlpi_name, "linux-vdso.so.1");
    return 0;
}

static int reached, depth;

static _Unwind_Reason_Code step(struct _Unwind_Context *context, void *start) {
    depth++;
    reached |= (void *)_Unwind_GetRegionStart(context) == start;
    return _URC_NO_REASON;
}

__attribute__((noinline)) static void interrupted(void) {
    raise(SIGUSR1);
    __asm__ volatile("" ::: "memory");
}

static void handler(int number) { _Unwind_Backtrace(step, (void *)interrupted); }

int main(void) {
    base = (const char *)getauxval(AT_SYSINFO_EHDR);
    if (!base)
        return 1;
    const Elf64_Ehdr *head = (const void *)base;
    const Elf64_Phdr *rows = (const void *)(base + head->e_phoff);
    printf("object %d machine %d type %d\n", !memcmp(head->e_ident, ELFMAG, SELFMAG), head->e_machine, head->e_type);
    long load = 0;
    const Elf64_Dyn *dynamic = 0;
    for (int i = 0; i < head->e_phnum; i++) {
        if (rows[i].p_type == PT_LOAD)
            load = rows[i].p_offset - rows[i].p_vaddr;
        if (rows[i].p_type == PT_DYNAMIC)
            dynamic = (const void *)(base + rows[i].p_offset);
    }
    printf("loaded as it lies %d\n", load == 0);
    for (; dynamic->d_tag; dynamic++) {
        const void *at = base + dynamic->d_un.d_ptr;
        if (dynamic->d_tag == DT_STRTAB)
            strings = at;
        if (dynamic->d_tag == DT_SYMTAB)
            symbols = at;
        if (dynamic->d_tag == DT_HASH)
            buckets = at;
        if (dynamic->d_tag == DT_VERSYM)
            versions = at;
        if (dynamic->d_tag == DT_VERDEF)
            definitions = at;
    }
    struct timespec before, now, after, resolution, wanted;
    struct timeval day;
    int (*gettime)(clockid_t, struct timespec *) = find("__vdso_clock_gettime");
    for (int clock = 0; clock < 2; clock++) {
        syscall(SYS_clock_gettime, clock, &before);
        int result = gettime(clock, &now);
        syscall(SYS_clock_gettime, clock, &after);
#define NANOSECONDS(t) ((t).tv_sec * 1000000000 + (t).tv_nsec)
        printf("clock_gettime %d %d\n", result,
               NANOSECONDS(before) <= NANOSECONDS(now) && NANOSECONDS(now) <= NANOSECONDS(after));
    }
    printf("no such clock %d\n", gettime(77, &now) == -EINVAL);
    int (*getres)(clockid_t, struct timespec *) = find("__vdso_clock_getres");
    syscall(SYS_clock_getres, 1, &wanted);
    printf("clock_getres %d %d\n", getres(1, &resolution), NANOSECONDS(wanted) == NANOSECONDS(resolution));
    int (*getday)(struct timeval *, void *) = find("__vdso_gettimeofday");
    syscall(SYS_clock_gettime, 0, &before);
    int result = getday(&day, 0);
    long passed = day.tv_sec * 1000000 + day.tv_usec - NANOSECONDS(before) / 1000;
    printf("gettimeofday %d %d\n", result, passed >= 0 && passed < 1000000);
    unsigned cpu = 9999;
    int (*getcpu)(unsigned *, unsigned *, void *) = find("__vdso_getcpu");
    result = getcpu(&cpu, 0, 0);
    printf("getcpu %d %d\n", result, cpu < 9999);
    long (*flush)(unsigned long, unsigned long, unsigned long) = find("__vdso_flush_icache");
    static unsigned code[2];
    printf("flush_icache %ld %d\n", flush((long)code, (long)(code + 2), 0), flush(0, 8, 2) == -EINVAL);
    printf("rt_sigreturn %d\n", find("__vdso_rt_sigreturn") != 0);
    int found = 0;
    dl_iterate_phdr(object, &found);
    printf("known to the C library %d\n", found);
    signal(SIGUSR1, handler);
    interrupted();
    printf("unwound through a handler %d\n", reached && depth > 3);
    long (*probe)(long *, long, long, void *, unsigned) = find("__vdso_riscv_hwprobe");
    if (probe) {
        long pairs[4] = {4, 0, 8, 0}, same[4] = {4, 0, 8, 0};
        result = probe(pairs, 2, 0, 0, 0);
        syscall(258, same, 2, 0, 0, 0);
        printf("riscv_hwprobe %d %d\n", result, !memcmp(pairs, same, sizeof pairs));
    }
    return 0;
}
