/* What every program of a machine may use: fixed-width names, CSRs, device registers, memory, formatted text.
 *
 * Owns: the contract with library.c, and the few lines of assembly that C has no words for. Must not know: any board.
 * "Priv." in comments is the RISC-V manual, volume II, privileged architecture, version 20240411. */
#ifndef BASE_H
#define BASE_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int64_t i64;

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

/* Control and status registers by name, or by number as a string such as 0x14d: "Zicsr", volume I. */
#define read_csr(csr) ({ u64 value_; __asm__ volatile("csrr %0, " #csr : "=r"(value_) : : "memory"); value_; })
#define write_csr(csr, value) __asm__ volatile("csrw " #csr ", %0" : : "r"((u64)(value)) : "memory")
#define set_csr(csr, bits) __asm__ volatile("csrs " #csr ", %0" : : "r"((u64)(bits)) : "memory")
#define clear_csr(csr, bits) __asm__ volatile("csrc " #csr ", %0" : : "r"((u64)(bits)) : "memory")

/* Until an interrupt that is enabled in mie or sie is pending, whether or not it would be taken: Priv. 3.3.3. */
static inline void wait_for_interrupt(void) {
    __asm__ volatile("wfi" : : : "memory");
}

static inline u64 time_now(void) {
    return read_csr(time);
}

/* Registers of devices are read and written in the order of the program, and never twice. */
static inline volatile u8 *reg8(u64 address) {
    return (volatile u8 *)address;
}
static inline volatile u32 *reg32(u64 address) {
    return (volatile u32 *)address;
}
static inline volatile u64 *reg64(u64 address) {
    return (volatile u64 *)address;
}

/* library.c */
void *memcpy(void *to, const void *from, size_t count);
void *memset(void *to, int byte, size_t count);
size_t strlen(const char *text);
int strcmp(const char *a, const char *b);

/* `put` gets the text, a character at a time. %s %c %d %u %x, the latter three also as %ld %lu %lx; widths: %-12s %8u
 * %016lx. */
void format(void (*put)(char), const char *text, va_list values);
#define FORMAT(text, values) __attribute__((format(printf, text, values)))

#endif
