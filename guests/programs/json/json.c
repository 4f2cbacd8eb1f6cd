/* json: writes JSON documents, reads them with a table-driven lexer and a recursive parser, and sums them up. */
#include "guest.h"

enum { TEXT = 1 << 14, DEPTH = 5 };

static char text[TEXT + 64];
static u32 length;
static u64 state = 0x636920d871574e69u;

/* Writing. */

static void put(char c) {
    if (length < TEXT)
        text[length++] = c;
}

static void put_text(const char *s) {
    while (*s)
        put(*s++);
}

static void put_number(u64 value) {
    if (value >= 10)
        put_number(value / 10);
    put((char)('0' + value % 10));
}

static void put_string(void) {
    put('"');
    for (u32 count = 2 + random_below(&state, 10); count > 0; count--) {
        if (random_below(&state, 16) == 0)
            put_text("\\n");
        else
            put((char)('a' + random_below(&state, 26)));
    }
    put('"');
}

static void put_value(u32 depth) {
    static const char *const words[] = {"true", "false", "null"};
    u32 kind = random_below(&state, depth ? 8 : 4), count = 2 + random_below(&state, 5);
    switch (kind) {
    case 0:
        put_text(words[random_below(&state, LENGTH(words))]);
        break;
    case 1:
        put_string();
        break;
    case 2:
    case 3:
        if (kind == 3)
            put('-');
        put_number(random_below(&state, 1000000));
        if (kind == 3 && depth & 1) {
            put('.');
            put_number(random_below(&state, 1000));
        }
        break;
    case 4:
    case 5:
        put('[');
        for (u32 i = 0; i < count; i++) {
            put_text(i ? ", " : "");
            put_value(depth - 1);
        }
        put(']');
        break;
    default:
        put('{');
        for (u32 i = 0; i < count; i++) {
            put_text(i ? ",\n  " : "\n  ");
            put_string();
            put_text(": ");
            put_value(depth - 1);
        }
        put('}');
    }
}

/* The lexer: classes of bytes, states, and a table from both to the next state. */

enum class { OTHER, SPACE, LETTER, DIGIT, MINUS, DOT, QUOTE, ESCAPE, MARK, CLASSES };
enum state { START, NAME, NUMBER, FRACTION, STRING, ESCAPED, CLOSED, SINGLE, STOP, STATES };

static u8 class_of[256];
static u8 next_state[STATES][CLASSES];
static const char *at;
static u64 token_value;

static void allow(enum state from, enum class on, enum state to) { next_state[from][on] = (u8)to; }

static void make_tables(void) {
    for (int c = 'a'; c <= 'z'; c++)
        class_of[c] = LETTER;
    for (int c = '0'; c <= '9'; c++)
        class_of[c] = DIGIT;
    class_of[' '] = class_of['\n'] = SPACE;
    class_of['-'] = MINUS;
    class_of['.'] = DOT;
    class_of['"'] = QUOTE;
    class_of['\\'] = ESCAPE;
    for (const char *c = "[]{},:"; *c; c++)
        class_of[(u8)*c] = MARK;
    for (int s = 0; s < STATES; s++)
        for (int c = 0; c < CLASSES; c++)
            allow(s, c, s == STRING || s == ESCAPED ? STRING : STOP);
    allow(START, SPACE, START);
    allow(START, LETTER, NAME);
    allow(NAME, LETTER, NAME);
    allow(START, MINUS, NUMBER);
    allow(START, DIGIT, NUMBER);
    allow(NUMBER, DIGIT, NUMBER);
    allow(NUMBER, DOT, FRACTION);
    allow(FRACTION, DIGIT, FRACTION);
    allow(START, QUOTE, STRING);
    allow(STRING, ESCAPE, ESCAPED);
    allow(STRING, QUOTE, CLOSED);
    allow(START, MARK, SINGLE);
}

/* The last state of the next token; its bytes are folded into token_value. */
static enum state token(void) {
    u32 now = START;
    token_value = 0;
    for (;; at++) {
        u32 next = next_state[now][class_of[(u8)*at]];
        if (next == STOP)
            return now;
        if (next != START)
            token_value = token_value * 131 + (u8)*at;
        now = next;
    }
}

/* The parser. One token of look-ahead is in `kind`. */

static enum state kind;

static void advance(void) { kind = token(); }

static void expect(char mark) {
    if (kind != SINGLE || token_value != (u8)mark)
        die("a mark is missing");
    advance();
}

static u64 value(void) {
    u64 sum = token_value;
    switch (kind) {
    case SINGLE:
        if (sum == '[') {
            do {
                advance();
                sum = mix(sum, value());
            } while (kind == SINGLE && token_value == ',');
            expect(']');
        } else if (sum == '{') {
            do {
                advance();
                u64 key = token_value;
                advance();
                expect(':');
                sum += mix(key, value());
            } while (kind == SINGLE && token_value == ',');
            expect('}');
        } else {
            die("a value is missing");
        }
        return sum;
    case NAME:
    case NUMBER:
    case FRACTION:
    case CLOSED:
        advance();
        return mix(sum, kind);
    default:
        die("an unknown token");
    }
}

int main(int argc, char **argv) {
    u64 size = work_size(argc, argv, 12, 186000), sum = 0;
    make_tables();
    for (u64 round = 0; round < size; round++) {
        do {                                        /* a document that was cut off is written anew */
            length = 0;
            put_value(DEPTH);
        } while (length >= TEXT);
        text[length] = 0;
        at = text;
        advance();
        sum = mix(sum, value() + length);
    }
    return result("json", size, sum);
}
