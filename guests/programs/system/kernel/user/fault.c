/* fault KIND: does what a process must not. The kernel ends it; nothing else should notice. */
#include "user.h"

static const int constant = 1;

static int deep(volatile char *above, int levels) {
    volatile char page[4096];
    page[0] = above[0];
    return levels > 0 ? deep(page, levels - 1) + page[0] : 0;
}

int main(int argc, char **argv) {
    const char *kind = argc == 2 ? argv[1] : "";
    if (strcmp(kind, "load") == 0)
        *(volatile int *)8;
    else if (strcmp(kind, "store") == 0)
        *(volatile int *)&constant = 2;
    else if (strcmp(kind, "jump") == 0)
        ((void (*)(void))0x20000000)();
    else if (strcmp(kind, "execute") == 0)
        ((void (*)(void))&argv)();
    else if (strcmp(kind, "kernel") == 0)
        *(volatile int *)0x80000000;
    else if (strcmp(kind, "trampoline") == 0)
        *(volatile int *)0x3ffffff000;
    else if (strcmp(kind, "illegal") == 0)
        __asm__ volatile("unimp");
    else if (strcmp(kind, "privileged") == 0)
        read_csr(sstatus);
    else if (strcmp(kind, "float") == 0)
        __asm__ volatile(".word 0x02007053"); /* fadd.d f0, f0, f0: the kernel keeps floating point off */
    else if (strcmp(kind, "breakpoint") == 0)
        __asm__ volatile("ebreak");
    else if (strcmp(kind, "stack") == 0)
        return deep((char[]){1}, 100);
    else
        print("fault: load, store, jump, execute, kernel, trampoline, illegal, privileged, float, breakpoint or stack\n");
    return 1;
}
