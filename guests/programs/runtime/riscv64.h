/* RISC-V facts for runtime.c: the entry point, the system call stub, the call numbers. Nothing else. */

#define MACHINE "RISC-V"

enum { SYS_read = 63, SYS_write = 64, SYS_exit_group = 94, SYS_brk = 214, SYS_mmap = 222 };

__asm__(".section .text._start, \"ax\"\n"
        ".globl _start\n"
        ".type _start, @function\n"
        "_start:\n"
        "  .option push\n"
        "  .option norelax\n"
        "  la gp, __global_pointer$\n"
        "  .option pop\n"
        "  li ra, 0\n"
        "  mv a0, sp\n"
        "  andi sp, sp, -16\n"
        "  call begin\n"
        ".size _start, . - _start\n"
        ".text\n");

static long system_call(long number, long a, long b, long c, long d, long e, long f) {
    register long a0 __asm__("a0") = a;
    register long a1 __asm__("a1") = b;
    register long a2 __asm__("a2") = c;
    register long a3 __asm__("a3") = d;
    register long a4 __asm__("a4") = e;
    register long a5 __asm__("a5") = f;
    register long a7 __asm__("a7") = number;
    __asm__ volatile("ecall"
                     : "+r"(a0)
                     : "r"(a1), "r"(a2), "r"(a3), "r"(a4), "r"(a5), "r"(a7)
                     : "memory");
    return a0;
}
