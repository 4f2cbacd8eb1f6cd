/* The whole runtime of the bundled guest programs: entry, system calls, memory, print, the result line.
 *
 * Owns: everything guest.h declares, for every architecture. Must not know: any single program, nor what an
 * architecture header can say instead. */
#include "guest.h"

#include <stdarg.h>

#if defined(__riscv)
#include "riscv64.h"
#elif defined(__x86_64__)
#include "x86_64.h"
#else
#error "add a header with this architecture's entry point and system calls"
#endif

/* Loops in these must not be turned into calls of the very functions they define. */
#define PLAIN __attribute__((no_builtin))

int main(int argc, char **argv);

const char *const machine = MACHINE;

_Noreturn __attribute__((used)) void begin(long *stack) {
    sys_exit(main((int)stack[0], (char **)(stack + 1)));
}

/* System calls. */

_Noreturn void sys_exit(int status) {
    for (;;)
        system_call(SYS_exit_group, status, 0, 0, 0, 0, 0);
}

long sys_write(int fd, const void *bytes, size_t count) {
    return system_call(SYS_write, fd, (long)bytes, (long)count, 0, 0, 0);
}

long sys_read(int fd, void *bytes, size_t count) {
    return system_call(SYS_read, fd, (long)bytes, (long)count, 0, 0, 0);
}

void *sys_brk(void *end) {
    return (void *)system_call(SYS_brk, (long)end, 0, 0, 0, 0, 0);
}

/* Memory. */

void *pages(size_t bytes) {
    enum { READ_WRITE = 1 | 2, PRIVATE_ANONYMOUS = 2 | 0x20 };
    long at = system_call(SYS_mmap, 0, (long)bytes, READ_WRITE, PRIVATE_ANONYMOUS, -1, 0);
    if (at < 0 && at > -4096)
        die("mmap failed");
    return (void *)at;
}

void *more(size_t bytes) {
    static char *end;
    if (!end)
        end = (char *)(((uintptr_t)sys_brk(0) + 15) & ~(uintptr_t)15);
    char *start = end;
    end += (bytes + 15) & ~(size_t)15;
    if ((char *)sys_brk(end) < end)
        die("brk failed");
    return start;
}

static int all_aligned(const void *a, const void *b, size_t count) {
    return (((uintptr_t)a | (uintptr_t)b | count) & 7) == 0;
}

typedef u64 __attribute__((may_alias)) word;

PLAIN void *memcpy(void *to, const void *from, size_t count) {
    if (all_aligned(to, from, count)) {
        for (size_t i = 0; i < count / 8; i++)
            ((word *)to)[i] = ((const word *)from)[i];
    } else {
        for (size_t i = 0; i < count; i++)
            ((u8 *)to)[i] = ((const u8 *)from)[i];
    }
    return to;
}

PLAIN void *memmove(void *to, const void *from, size_t count) {
    if ((uintptr_t)to - (uintptr_t)from >= count)
        return memcpy(to, from, count);
    while (count-- > 0)
        ((u8 *)to)[count] = ((const u8 *)from)[count];
    return to;
}

PLAIN void *memset(void *to, int byte, size_t count) {
    if (all_aligned(to, to, count)) {
        word value = (u8)byte * 0x0101010101010101u;
        for (size_t i = 0; i < count / 8; i++)
            ((word *)to)[i] = value;
    } else {
        for (size_t i = 0; i < count; i++)
            ((u8 *)to)[i] = (u8)byte;
    }
    return to;
}

PLAIN int memcmp(const void *a, const void *b, size_t count) {
    const u8 *x = a, *y = b;
    for (size_t i = 0; i < count; i++)
        if (x[i] != y[i])
            return x[i] - y[i];
    return 0;
}

PLAIN size_t strlen(const char *text) {
    size_t count = 0;
    while (text[count])
        count++;
    return count;
}

PLAIN int strcmp(const char *a, const char *b) {
    while (*a && *a == *b)
        a++, b++;
    return (u8)*a - (u8)*b;
}

/* Output. */

static char line[512];
static size_t used;

static void flush(void) {
    for (size_t done = 0; done < used;) {
        long count = sys_write(1, line + done, used - done);
        if (count <= 0)
            sys_exit(3);
        done += (size_t)count;
    }
    used = 0;
}

static void put(char c) {
    if (used == sizeof line)
        flush();
    line[used++] = c;
}

static void put_number(u64 value, unsigned base, int width, char pad) {
    char digits[24];
    int count = 0;
    do
        digits[count++] = "0123456789abcdef"[value % base];
    while (value /= base);
    for (int i = count; i < width; i++)
        put(pad);
    while (count > 0)
        put(digits[--count]);
}

void print(const char *format, ...) {
    va_list rest;
    va_start(rest, format);
    for (; *format; format++) {
        if (*format != '%') {
            put(*format);
            continue;
        }
        char pad = ' ';
        int width = 0, is_long = 0;
        if (*++format == '0')
            pad = '0';
        for (; *format >= '0' && *format <= '9'; format++)
            width = width * 10 + (*format - '0');
        for (; *format == 'l'; format++)
            is_long = 1;
        switch (*format) {
        case 's':
            for (const char *text = va_arg(rest, const char *); *text; text++)
                put(*text);
            break;
        case 'c':
            put((char)va_arg(rest, int));
            break;
        case 'd': {
            i64 value = is_long ? va_arg(rest, long) : va_arg(rest, int);
            if (value < 0)
                put('-');
            put_number(value < 0 ? 0 - (u64)value : (u64)value, 10, width, pad);
            break;
        }
        case 'u':
        case 'x':
            put_number(is_long ? va_arg(rest, unsigned long) : va_arg(rest, unsigned), *format == 'u' ? 10 : 16,
                       width, pad);
            break;
        default:
            put(*format);
        }
    }
    va_end(rest);
    flush();
}

_Noreturn void die(const char *message) {
    sys_write(2, message, strlen(message));
    sys_write(2, "\n", 1);
    sys_exit(2);
}

/* The command line and the result line. */

u64 work_size(int argc, char **argv, u64 small, u64 large) {
    if (argc < 2 || strcmp(argv[1], "small") == 0)
        return small;
    if (strcmp(argv[1], "large") == 0)
        return large;
    u64 size = 0;
    for (const char *c = argv[1]; *c; c++) {
        if (*c < '0' || *c > '9')
            die("the work size must be small, large, or a decimal number");
        size = size * 10 + (u64)(*c - '0');
    }
    if (size == 0)
        die("the work size must be at least 1");
    return size;
}

int result(const char *name, u64 size, u64 checksum) {
    print("%s %lu %016lx\n", name, size, checksum);
    return 0;
}
