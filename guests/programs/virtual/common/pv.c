/* Calls of a para-virtualized kernel. Owns: what pv.h declares. Must not know: any program. */
#ifdef PV
#include "pv.h"

enum { READ_DEVICE = 0x08000001, CONSOLE = 0x4442434e, MOST = 260, LINE = 128 };

volatile u64 pv_block[11];

u64 pv_queue[MOST][4], pv_queued;
static char line[LINE];
static u64 length;

static u64 call(u64 extension, u64 function, u64 a, u64 b, u64 c) {
    register u64 a7 __asm__("a7") = extension;
    register u64 a6 __asm__("a6") = function;
    register u64 a0 __asm__("a0") = a;
    register u64 a1 __asm__("a1") = b;
    register u64 a2 __asm__("a2") = c;
    __asm__ volatile("ecall" : "+r"(a0), "+r"(a1) : "r"(a2), "r"(a6), "r"(a7) : "memory");
    return a1;
}

u64 pv_call(u64 number, u64 a, u64 b) {
    return call(PV_EXTENSION, number, a, b, 0);
}

void pv_later(u64 number, u64 a, u64 b, u64 c) {
    if (pv_queued == MOST)
        pv_run();
    u64 *entry = pv_queue[pv_queued++];
    entry[0] = number;
    entry[1] = a;
    entry[2] = b;
    entry[3] = c;
}

void pv_run(void) {
    u64 count = pv_queued;
    pv_queued = 0;
    if (count > 0)
        pv_call(PV_MULTICALL, (u64)pv_queue, count);
}

void pv_read_device(u32 *words, int count) {
    call(READ_DEVICE, 0, (u64)words, (u64)count, 0);
}

static void add(char c) {
    if (length < LINE)
        line[length++] = c;
}

void pv_print(const char *text, ...) {
    va_list values;
    va_start(values, text);
    length = 0;
    format(add, text, values);
    va_end(values);
    call(CONSOLE, 0, length, (u64)line, 0);
}
#endif
