/* What user.h declares, and where programs begin. */
#include "user.h"

int main(int argc, char **argv);

/* The kernel has put the arguments into a0 and a1, and the stack pointer below them. */
_Noreturn __attribute__((used)) void _start(int argc, char **argv) {
    exit(main(argc, argv));
}

long call(enum call number, u64 a, u64 b, u64 c) {
    register u64 a0 __asm__("a0") = a, a1 __asm__("a1") = b, a2 __asm__("a2") = c, a7 __asm__("a7") = number;
    __asm__ volatile("ecall" : "+r"(a0) : "r"(a1), "r"(a2), "r"(a7) : "memory");
    return (long)a0;
}

_Noreturn void exit(int status) {
    for (;;)
        call(CALL_EXIT, (u64)status, 0, 0);
}

static char line[128];
static u64 used;

static void put(char c) {
    line[used++] = c;
    if (used == sizeof line) {
        write(1, line, used);
        used = 0;
    }
}

void print(const char *text, ...) {
    va_list values;
    va_start(values, text);
    format(put, text, values);
    va_end(values);
    write(1, line, used);
    used = 0;
}

long number_of(const char *text) {
    long value = 0;
    const char *digit = text;
    for (; *digit >= '0' && *digit <= '9' && value < 1l << 50; digit++)
        value = value * 10 + (*digit - '0');
    return *text && !*digit ? value : -1;
}
