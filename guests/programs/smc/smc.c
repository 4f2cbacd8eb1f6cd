/* smc: code that writes over code it has already run, without a fence and with one; as "smc itself": in the block
 * that runs.
 *
 * Each routine returns a constant that is a part of its code. It is called often enough to be translated, and then
 * the constant is changed. A machine whose instruction fetches see all stores prints 2 everywhere. One that sees
 * them after a fence only may print 1 where there is none; a translator that never looks prints 1 everywhere. */
#include "guest.h"

enum { CALLS = 200 };

/* PATCH is where the constant is in the code of a routine, SCALE what it is multiplied with there. */
#ifdef __riscv
enum { PATCH = 2, SCALE = 16 };
#define RETURN_1 "  .option push\n  .option norvc\n  li a0, 1\n  ret\n  .option pop\n"
__asm__(".section .patched, \"awx\", @progbits\n"
        "itself:\n"
        "  .option push\n"
        "  .option norvc\n"
        "  sb a1, 4 + 2(a0)\n" /* PATCH, one instruction further on */
        "  li a0, 1\n"
        "  ret\n"
        "  .option pop\n");
enum { ITSELF = 4 };
static void fence(void) { __asm__ volatile("fence.i" ::: "memory"); }
#else
enum { PATCH = 1, SCALE = 1 };
#define RETURN_1 "  movl $1, %eax\n  ret\n"
__asm__(".section .patched, \"awx\", @progbits\n"
        "itself:\n"
        "  movb %sil, 4 + 1(%rdi)\n"
        "  movl $1, %eax\n"
        "  ret\n");
enum { ITSELF = 4 };
static void fence(void) {}
#endif

__asm__(".balign 64\nunfenced:\n" RETURN_1
        ".balign 64\nfenced:\n" RETURN_1
        ".text\n");

typedef int Routine(u8 *self, int value);
extern u8 unfenced[], fenced[], itself[];

static int call(u8 *routine, int value) {
    int last = 0;
    for (int i = 0; i < CALLS; i++)
        last = ((Routine *)(void *)routine)(routine, value * SCALE);
    return last;
}

static void patch(volatile u8 *routine, int value) {
    routine[PATCH] = (u8)(value * SCALE);
}

static int patched_by_itself(void) {
    int last = 0;
    for (int i = 0; i < CALLS; i++) {
        patch(itself + ITSELF, 1);
        last = ((Routine *)(void *)itself)(itself, 2 * SCALE);
    }
    return last;
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "itself") == 0) {
        print("smc in its own block: %d\n", patched_by_itself());
        return 0;
    }
    call(unfenced, 0);
    patch(unfenced, 2);
    print("smc without a fence: %d\n", call(unfenced, 0));
    call(fenced, 0);
    patch(fenced, 2);
    fence();
    print("smc with a fence: %d\n", call(fenced, 0));
    return 0;
}
