/* uart: the smallest program of a machine. It greets, sends back a line, and ends.
 *
 * Shows: loads and stores that reach a device, the 16550 UART, in place of memory. */
#include "bare.h"

enum { UART_HAS_BYTE = 1 << 0 };

static char get(void) {
    while (!(*reg8(UART_LINE_STATUS) & UART_HAS_BYTE))
        ;
    return (char)*reg8(UART_DATA);
}

int main(void) {
    print("Hello from machine mode!\n");
    print("a line, please: ");
    for (char c = 0; c != '\n';) {
        c = get();
        if (c == '\r')
            c = '\n';
        put(c);
    }
    return 0;
}
