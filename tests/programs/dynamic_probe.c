/* What a dynamically linked program finds: its auxiliary vector, its libraries, its own description in /proc. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

extern void _start(void);
extern const ElfW(Ehdr) __ehdr_start;

static int loader_at_base;

static int object(struct dl_phdr_info *info, size_t size, void *count) {
    ++*(int *)count;
    if (info->dlpi_addr == getauxval(AT_BASE) && strstr(info->dlpi_name, "ld-linux"))
        loader_at_base = 1;
    return 0;
}

static size_t contents(const char *path, char *buffer, size_t size) {
    int fd = open(path, O_RDONLY);
    size_t length = 0;
    ssize_t got;
    while (fd >= 0 && (got = read(fd, buffer + length, size - 1 - length)) > 0)
        length += got;
    buffer[length] = 0;
    close(fd);
    return length;
}

int main(int argc, char **argv) {
    static char text[1 << 16];
    char path[64];
    int objects = 0;
    size_t length;

    const ElfW(Phdr) *headers = (const void *)getauxval(AT_PHDR);
    printf("entry %d\n", getauxval(AT_ENTRY) == (unsigned long)_start);
    printf("headers %d %lu %d\n", (const char *)headers == (const char *)&__ehdr_start + __ehdr_start.e_phoff,
           getauxval(AT_PHENT), getauxval(AT_PHNUM) == __ehdr_start.e_phnum);
    dl_iterate_phdr(object, &objects);
    printf("objects without the vDSO %d, loader where AT_BASE says: %d\n", objects - (getauxval(AT_SYSINFO_EHDR) != 0),
           loader_at_base);
    printf("execfn ends %d, secure %lu\n", strstr((char *)getauxval(AT_EXECFN), "dynamic") != NULL,
           getauxval(AT_SECURE));

    void *library = dlopen("libm.so.6", RTLD_NOW);
    double (*cosine)(double) = (double (*)(double))dlsym(library, "cos");
    printf("cos %.17g\n", cosine(1.0));
    printf("no library: %s\n", dlopen("libnonesuch.so.1", RTLD_NOW) ? "found" : dlerror());

    length = contents("/proc/self/cmdline", text, sizeof text);
    printf("cmdline %d, last %s\n", !strcmp(text, argv[0]), text + length - strlen(argv[argc - 1]) - 1);
    contents("/proc/self/comm", text, sizeof text);
    printf("comm %s", text);
    snprintf(path, sizeof path, "/proc/%d/stat", getpid());
    contents(path, text, sizeof text);
    printf("stat %d\n", atoi(text) == getpid());
    length = contents("/proc/self/environ", text, sizeof text);
    printf("environ %d\n", memmem(text, length, "PROBE=set", 10) != NULL);
    length = contents("/proc/self/auxv", text, sizeof text);
    printf("auxv %d\n", ((ElfW(auxv_t) *)text)[length / 16 - 1].a_type == AT_NULL);
    contents("/proc/self/maps", text, sizeof text);
    printf("maps %d %d %d\n", strstr(text, "libc.so.6") != NULL, strstr(text, "ld-linux") != NULL,
           strstr(text, "[stack]") != NULL);
    length = readlink("/proc/self/exe", text, sizeof text);
    text[length] = 0;
    printf("exe %s\n", strrchr(text, '/'));
    return argc;
}
