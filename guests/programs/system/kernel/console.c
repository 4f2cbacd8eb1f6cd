/* The console: the 16550 UART, text of the kernel, and lines that a user types.
 *
 * Bytes that arrive interrupt, and wait in a ring until a process reads; only then they are echoed, and backspace
 * (which takes one back), ^U (all of them) and ^D (the end) mean something. So what is typed ahead appears where it is
 * read. When the ring is full the UART is asked for nothing more, and holds its sender back. ^C acts at once, on what
 * the shell waits for or is about to wait for.
 * Must not know: file descriptors, user memory. */
#include "kernel.h"

enum { /* registers, and bits of them */
    DATA = 0, INTERRUPT_ENABLE = 1, LINE_CONTROL = 3, LINE_STATUS = 5,
    ON_RECEIVE = 1 << 0, EIGHT_BITS = 3, HAS_BYTE = 1 << 0, CAN_SEND = 1 << 5,
};
enum { RING = 256 };

static u8 ring[RING];
static u32 arrived, taken; /* counts; their difference is in the ring */

static volatile u8 *uart(u32 index) {
    return reg8(board.uart + index);
}

static void send(char c) {
    while (!(*uart(LINE_STATUS) & CAN_SEND))
        ;
    *uart(DATA) = (u8)c;
}

void console_put(char c) {
    if (c == '\n')
        send('\r');
    send(c);
}

void print(const char *text, ...) {
    va_list values;
    va_start(values, text);
    format(console_put, text, values);
    va_end(values);
}

_Noreturn void panic(const char *why) {
    print("kernel: %s\n", why);
    board_stop(1);
}

/* The FIFOs stay as they are, as a change would lose what was typed already. */
void console_start(void) {
    *uart(LINE_CONTROL) = EIGHT_BITS;
    *uart(INTERRUPT_ENABLE) = ON_RECEIVE;
}

void console_interrupt(void) {
    while (arrived - taken < RING && *uart(LINE_STATUS) & HAS_BYTE) {
        u8 byte = *uart(DATA);
        if (byte == 'C' - '@')
            process_interrupt();
        else
            ring[arrived++ % RING] = byte;
    }
    if (arrived - taken == RING)
        *uart(INTERRUPT_ENABLE) = 0;
    wake(ring);
}

/* The next byte, or -1 if the process is to end. */
static int next(void) {
    while (arrived == taken) {
        process_forget_interrupt();
        if (current->killed)
            return -1;
        sleep_on(ring, NEVER);
    }
    u8 byte = ring[taken++ % RING];
    *uart(INTERRUPT_ENABLE) = ON_RECEIVE;
    return byte;
}

static void erase(size_t count) {
    while (count-- > 0)
        print("\b \b");
}

/* A line with its end, or as much of it as there is room for; -1 if the process is to end. */
long console_read(char *line, size_t count) {
    size_t length = 0;
    while (length < count) {
        int c = next();
        if (c == '\r')
            c = '\n';
        if (c < 0) {
            return -1;
        } else if (c == 'D' - '@') {
            break;
        } else if (c == 'U' - '@') {
            erase(length);
            length = 0;
        } else if (c == '\b' || c == 0x7f) {
            erase(length > 0);
            length -= length > 0;
        } else if (c == '\n' || c >= ' ') {
            console_put((char)c);
            line[length++] = (char)c;
            if (c == '\n')
                break;
        }
    }
    return (long)length;
}
