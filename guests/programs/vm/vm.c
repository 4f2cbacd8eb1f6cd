/* vm: a bytecode interpreter with computed goto, running a program that counts primes and mixes numbers. */
#include "guest.h"

enum { CONST, MOVE, ADD, SUB, MUL, REM, XOR, SHIFT, LOAD, STORE, LESS, ZERO, JUMP, CALL, RETURN, HALT };

/* A word of code: operation, then up to three operands (registers, or a signed constant in the last two). */
struct word {
    u8 op, a;
    union {
        struct { u8 b, c; };
        i16 constant;
    };
};

#define R(op, a, b, c) {op, a, {{b, c}}}
#define I(op, a, value) {op, a, {.constant = value}}

/* Registers: 0 limit, 1 candidate, 2 divisor, 3 count, 4 checksum, 5 scratch, 6 one, 7 three, 8 flag, 9 slot. */
static const struct word program[] = {
    /*  0 */ I(CONST, 1, 2),   I(CONST, 3, 0),   I(CONST, 4, 1),   I(CONST, 6, 1),
    /*  4 */ I(CONST, 7, 3),   I(CALL, 0, 13),   R(ADD, 3, 3, 8),  I(CALL, 0, 26),
    /*  8 */ R(ADD, 1, 1, 6),  R(LESS, 5, 1, 0), I(ZERO, 5, 12),   I(JUMP, 0, 5),
    /* 12 */ I(HALT, 0, 0),
    /* is register 1 prime? the answer is register 8 */
    /* 13 */ I(CONST, 8, 1),   I(CONST, 2, 2),
    /* 15 */ R(MUL, 5, 2, 2),  R(LESS, 5, 1, 5), I(ZERO, 5, 19),   I(RETURN, 0, 0),
    /* 19 */ R(REM, 5, 1, 2),  I(ZERO, 5, 23),   R(ADD, 2, 2, 6),  I(JUMP, 0, 15),
    /* 23 */ I(CONST, 8, 0),   I(RETURN, 0, 0),  I(HALT, 0, 0),
    /* fold candidate and count into the checksum, through memory */
    /* 26 */ R(MUL, 4, 4, 7),  R(XOR, 4, 4, 1),  R(SHIFT, 5, 4, 7), R(ADD, 4, 4, 5),
    /* 30 */ I(CONST, 9, 63),  R(REM, 9, 1, 9),  R(LOAD, 5, 9, 0), R(ADD, 5, 5, 8),
    /* 34 */ R(STORE, 5, 9, 0), R(XOR, 4, 4, 5), R(SUB, 4, 4, 3),  I(RETURN, 0, 0),
};

static u64 run(u64 limit, u64 *executed) {
    static const void *const handlers[] = {
        &&constant, &&move, &&add, &&sub, &&mul, &&rem, &&xor, &&shift,
        &&load, &&store, &&less, &&zero, &&jump, &&call, &&leave, &&halt,
    };
    static u64 reg[16], memory[64];
    static u16 stack[32];
    u32 depth = 0;
    u64 steps = 0;
    const struct word *pc = program, *at;
    reg[0] = limit;

#define NEXT do { at = pc++; steps++; goto *handlers[at->op]; } while (0)

    NEXT;
constant:
    reg[at->a] = (u64)(i64)at->constant;
    NEXT;
move:
    reg[at->a] = reg[at->b];
    NEXT;
add:
    reg[at->a] = reg[at->b] + reg[at->c];
    NEXT;
sub:
    reg[at->a] = reg[at->b] - reg[at->c];
    NEXT;
mul:
    reg[at->a] = reg[at->b] * reg[at->c];
    NEXT;
rem:
    reg[at->a] = reg[at->b] % reg[at->c];
    NEXT;
xor:
    reg[at->a] = reg[at->b] ^ reg[at->c];
    NEXT;
shift:
    reg[at->a] = reg[at->b] >> (reg[at->c] & 63);
    NEXT;
load:
    reg[at->a] = memory[reg[at->b] & 63];
    NEXT;
store:
    memory[reg[at->b] & 63] = reg[at->a];
    NEXT;
less:
    reg[at->a] = reg[at->b] < reg[at->c];
    NEXT;
zero:
    if (reg[at->a] == 0)
        pc = program + at->constant;
    NEXT;
jump:
    pc = program + at->constant;
    NEXT;
call:
    stack[depth++] = (u16)(pc - program);
    pc = program + at->constant;
    NEXT;
leave:
    pc = program + stack[--depth];
    NEXT;
halt:
    *executed = steps;
    return mix(reg[4], reg[3]);
}

int main(int argc, char **argv) {
    u64 size = work_size(argc, argv, 400, 540000), steps = 0;
    u64 sum = run(size, &steps);
    return result("vm", size, mix(sum, steps));
}
