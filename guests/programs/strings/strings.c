/* strings: writes a text, splits it into words, counts them in a hash table, searches it, and formats numbers. */
#include "guest.h"

enum { TEXT = 1 << 12, SLOTS = 1 << 9, WORD = 16 };

static char text[TEXT];
static struct slot {
    char word[WORD];
    u32 count;
} slots[SLOTS];
static u64 state = 0xf12c7f9924a19947u;

/* A word of one to four syllables; short words come more often. */
static u32 write_word(char *out) {
    static const char syllables[16][5] = {"ba", "ko", "lin", "ter", "sha", "mu",   "dre", "gor",
                                          "an", "vi", "pol", "este", "ru", "qua", "ix",  "no"};
    u32 length = 0, count = 1 + random_below(&state, 1 + random_below(&state, 4));
    while (count-- > 0)
        for (const char *s = syllables[random_below(&state, 16)]; *s; s++)
            if (length < WORD - 1)
                out[length++] = *s;
    return length;
}

static u32 write_text(void) {
    u32 length = 0;
    while (length < TEXT - WORD - 8) {
        u32 start = length;
        length += write_word(text + length);
        if (random_below(&state, 8) == 0)
            text[start] = (char)(text[start] - 'a' + 'A');
        if (random_below(&state, 6) == 0)
            text[length++] = ",.;!"[random_below(&state, 4)];
        text[length++] = random_below(&state, 12) ? ' ' : '\n';
    }
    text[length] = 0;
    return length;
}

static int is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

static void count_word(const char *word) {
    u32 hash = 2166136261u;
    for (const char *c = word; *c; c++)
        hash = (hash ^ (u8)*c) * 16777619u;
    for (;; hash++) {
        struct slot *slot = &slots[hash % SLOTS];
        if (slot->count == 0)
            memcpy(slot->word, word, strlen(word) + 1);
        if (strcmp(slot->word, word) == 0) {
            slot->count++;
            return;
        }
    }
}

/* Counts the words, until the table is three quarters full. */
static u32 tokenise(void) {
    u32 words = 0;
    for (const char *at = text; *at && words < SLOTS * 3 / 4;) {
        char word[WORD];
        u32 length = 0;
        for (; is_letter(*at); at++)
            word[length++] = (char)(*at | 0x20);
        if (length == 0) {
            at++;
            continue;
        }
        word[length] = 0;
        count_word(word);
        words++;
    }
    return words;
}

static u32 plain_search(u32 length, const char *pattern) {
    u32 found = 0;
    u64 width = strlen(pattern);
    for (u32 i = 0; i + width <= length; i++)
        if (text[i] == pattern[0] && memcmp(text + i, pattern, width) == 0)
            found++;
    return found;
}

/* Horspool's search: skips by the last byte of the window. */
static u32 skip_search(u32 length, const char *pattern) {
    u32 width = (u32)strlen(pattern), found = 0;
    u8 skip[256];
    memset(skip, (int)width, sizeof skip);
    for (u32 i = 0; i + 1 < width; i++)
        skip[(u8)pattern[i]] = (u8)(width - 1 - i);
    for (u32 at = 0; at + width <= length; at += skip[(u8)text[at + width - 1]])
        if (memcmp(text + at, pattern, width) == 0)
            found++;
    return found;
}

/* Writes the number in decimal and reads it again, in which it must survive. */
static u64 there_and_back(u64 number) {
    char digits[24];
    int at = sizeof digits - 1;
    u64 left = number, again = 0;
    digits[at] = 0;
    do
        digits[--at] = (char)('0' + left % 10);
    while (left /= 10);
    for (const char *c = digits + at; *c; c++)
        again = again * 10 + (u64)(*c - '0');
    if (again != number)
        die("a number changed");
    return strlen(digits + at);
}

int main(int argc, char **argv) {
    static const char *const patterns[] = {"ter", "sha mu", "linko", "quaan", "este ru", "ix, "};
    u64 size = work_size(argc, argv, 1, 11000), sum = 0;
    for (u64 round = 0; round < size; round++) {
        u32 length = write_text();
        memset(slots, 0, sizeof slots);
        sum = mix(sum, tokenise());
        for (u32 i = 0; i < SLOTS; i++)
            if (slots[i].count)
                sum = mix(sum, slots[i].count + there_and_back(sum >> (i & 63)));
        for (u32 i = 0; i < LENGTH(patterns); i++)
            sum = mix(sum, plain_search(length, patterns[i]) + 64 * skip_search(length, patterns[i]));
    }
    return result("strings", size, sum);
}
