/* x86-64 facts for runtime.c: the entry point, the system call stub, the call numbers, and fma. Nothing else. */

#define MACHINE "x86-64"

enum { SYS_read = 0, SYS_write = 1, SYS_exit_group = 231, SYS_brk = 12, SYS_mmap = 9 };

__asm__(".section .text._start, \"ax\"\n"
        ".globl _start\n"
        ".type _start, @function\n"
        "_start:\n"
        "  xorl %ebp, %ebp\n"
        "  movq %rsp, %rdi\n"
        "  andq $-16, %rsp\n"
        "  call begin\n"
        ".size _start, . - _start\n"
        ".text\n");

static long system_call(long number, long a, long b, long c, long d, long e, long f) {
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long answer;
    __asm__ volatile("syscall"
                     : "=a"(answer)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return answer;
}

/* The base x86-64 has no fused multiply-add, so the compiler calls these, as it would call libm's. */
__attribute__((target("fma"))) double fma(double a, double b, double c) { return __builtin_fma(a, b, c); }
__attribute__((target("fma"))) float fmaf(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
