/* What a bundled guest program may use: fixed-width names, output, memory, random numbers, the result line.
 *
 * Owns: the contract between a program and runtime.c. Programs include this file and nothing else but the
 * compiler's own freestanding headers. Must not know: any architecture; those facts are in riscv64.h and x86_64.h. */
#ifndef GUEST_H
#define GUEST_H

#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t i8;
typedef int16_t i16;
typedef int32_t i32;
typedef int64_t i64;

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

/* System. Each returns what Linux returns: a negative errno on failure. */
_Noreturn void sys_exit(int status);
long sys_write(int fd, const void *bytes, size_t count);
long sys_read(int fd, void *bytes, size_t count);
void *sys_brk(void *end);

/* Memory. `pages` maps zeroed memory and never fails (it exits with a message); `more` moves the program break. */
void *pages(size_t bytes);
void *more(size_t bytes);
void *memcpy(void *to, const void *from, size_t count);
void *memmove(void *to, const void *from, size_t count);
void *memset(void *to, int byte, size_t count);
int memcmp(const void *a, const void *b, size_t count);
size_t strlen(const char *text);
int strcmp(const char *a, const char *b);

/* Output to stdout. print knows %s %c %d %u %x, the latter three also as %ld %lu %lx, and widths such as %016lx. */
void print(const char *format, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void die(const char *message);

/* The name of the machine the program was built for. */
extern const char *const machine;

/* The work size: argv[1] is "small" (also when absent), "large", or a decimal number. */
u64 work_size(int argc, char **argv, u64 small, u64 large);

/* The one line a compute program prints. Returns main's exit status. */
int result(const char *name, u64 size, u64 checksum);

/* Folds a value into a checksum, so that the order of values matters too. */
static inline u64 mix(u64 sum, u64 value) {
    sum = (sum ^ value) * 0x9e6c63d0676a9a99u;
    return sum ^ (sum >> 29);
}

static inline u64 bits_of(double value) {
    union { double d; u64 u; } both = {.d = value};
    return both.u;
}

static inline u32 bits_of_float(float value) {
    union { float f; u32 u; } both = {.f = value};
    return both.u;
}

/* Random numbers: a 64-bit xorshift; the state is any number but 0. */
static inline u64 random_bits(u64 *state) {
    u64 x = *state;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return *state = x;
}

/* Between 0 and limit - 1. */
static inline u32 random_below(u64 *state, u32 limit) {
    return (u32)(((random_bits(state) >> 32) * limit) >> 32);
}

/* In [0, 1). */
static inline double random_unit(u64 *state) {
    return (double)(i64)(random_bits(state) >> 11) * 0x1p-53;
}

#endif
