/* Memory and text for programs that have no C library. Owns: what base.h declares. Must not know: who puts the text. */
#include "base.h"

/* Loops in these must not be turned into calls of the very functions they define. */
#define PLAIN __attribute__((no_builtin))

typedef u64 __attribute__((may_alias)) word;

static int aligned(const void *a, const void *b, size_t count) {
    return (((uintptr_t)a | (uintptr_t)b | count) & 7) == 0;
}

PLAIN void *memcpy(void *to, const void *from, size_t count) {
    if (aligned(to, from, count))
        for (size_t i = 0; i < count / 8; i++)
            ((word *)to)[i] = ((const word *)from)[i];
    else
        for (size_t i = 0; i < count; i++)
            ((u8 *)to)[i] = ((const u8 *)from)[i];
    return to;
}

PLAIN void *memset(void *to, int byte, size_t count) {
    word value = (u8)byte * 0x0101010101010101u;
    if (aligned(to, to, count))
        for (size_t i = 0; i < count / 8; i++)
            ((word *)to)[i] = value;
    else
        for (size_t i = 0; i < count; i++)
            ((u8 *)to)[i] = (u8)byte;
    return to;
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

static void fill(void (*put)(char), char c, i64 count) {
    while (count-- > 0)
        put(c);
}

static void put_number(void (*put)(char), u64 value, unsigned base, int negative, i64 width, char pad) {
    char digits[24];
    int count = 0;
    do
        digits[count++] = "0123456789abcdef"[value % base];
    while (value /= base);
    if (negative)
        digits[count++] = '-';
    fill(put, pad, width - count);
    while (count > 0)
        put(digits[--count]);
}

static void put_text(void (*put)(char), const char *text, i64 width, int left) {
    i64 rest = width - (i64)strlen(text);
    fill(put, ' ', left ? 0 : rest);
    while (*text)
        put(*text++);
    fill(put, ' ', left ? rest : 0);
}

void format(void (*put)(char), const char *text, va_list values) {
    for (; *text; text++) {
        if (*text != '%') {
            put(*text);
            continue;
        }
        int left = *++text == '-';
        text += left;
        char pad = *text == '0' ? '0' : ' ';
        int width = 0, is_long = 0;
        for (; *text >= '0' && *text <= '9'; text++)
            width = width * 10 + (*text - '0');
        for (; *text == 'l'; text++)
            is_long = 1;
        switch (*text) {
        case 's':
            put_text(put, va_arg(values, const char *), width, left);
            break;
        case 'c':
            put((char)va_arg(values, int));
            break;
        case 'd': {
            i64 value = is_long ? va_arg(values, long) : va_arg(values, int);
            put_number(put, value < 0 ? 0 - (u64)value : (u64)value, 10, value < 0, width, pad);
            break;
        }
        case 'u':
        case 'x': {
            u64 value = is_long ? va_arg(values, unsigned long) : va_arg(values, unsigned);
            put_number(put, value, *text == 'u' ? 10 : 16, 0, width, pad);
            break;
        }
        default:
            put(*text);
        }
    }
}
