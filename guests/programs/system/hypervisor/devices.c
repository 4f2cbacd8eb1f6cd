/* What the guest takes for devices: a UART and a finisher that are made of the hypervisor's, and a PLIC in between, which
 * hands on the interrupts of the devices that are passed through.
 *
 * Owns: what they would remember, and hvip's external interrupt. Must not know: instructions, guest-physical tables. */
#include "hypervisor.h"

enum { DATA = 0, INTERRUPT_ENABLE = 1, LINE_STATUS = 5, ON_RECEIVE = 1, HAS_BYTE = 1, CAN_SEND = 1 << 5, EMPTY = 1 << 6 };
enum { CONTEXT = 1 /* supervisor mode of hart 0 */, ENABLE = 0x2080, THRESHOLD = 0x201000, CLAIM = 0x201004 };
enum { UART_INTERRUPT = 10, SOURCES = 32, RING = 64, VSEIP = 1 << 10 };

static u8 ring[RING], enabled;
static u32 arrived, taken;        /* counts; their difference is in the ring */
static u32 waiting, served;       /* interrupts, as bits: that the guest may claim, that it has not completed yet */

void console_put(char c) {
    while (!(*reg8(UART + LINE_STATUS) & CAN_SEND))
        ;
    *reg8(UART + DATA) = (u8)c;
}

void print(const char *text, ...) {
    va_list values;
    va_start(values, text);
    format(console_put, text, values);
    va_end(values);
}

_Noreturn void finish(int status) {
    *reg32(FINISHER) = status == 0 ? 0x5555 : (u32)status << 16 | 0x3333;
    for (;;)
        wait_for_interrupt();
}

void devices_start(void) {
    *reg8(UART + INTERRUPT_ENABLE) = ON_RECEIVE;
    *reg32(PLIC + 4 * UART_INTERRUPT) = 1;
    *reg32(PLIC + ENABLE) = 1 << UART_INTERRUPT;
    *reg32(PLIC + THRESHOLD) = 0;
}

/* The guest's external interrupt is pending for as long as it has something to claim. */
static void update(void) {
    u32 uart = 1u << UART_INTERRUPT;
    if (arrived != taken && enabled & ON_RECEIVE && !(served & uart))
        waiting |= uart;
    if (waiting)
        set_csr(hvip, VSEIP);
    else
        clear_csr(hvip, VSEIP);
}

/* Bytes that there is no room for wait in the UART, which is asked for nothing more until there is. */
static void receive(void) {
    while (arrived - taken < RING && *reg8(UART + LINE_STATUS) & HAS_BYTE)
        ring[arrived++ % RING] = *reg8(UART + DATA);
    *reg8(UART + INTERRUPT_ENABLE) = arrived - taken < RING ? ON_RECEIVE : 0;
}

/* What the PLIC has for the guest is completed when the guest does so, since its driver has to quiet the device first. */
void devices_interrupt(void) {
    for (u32 source; (source = *reg32(PLIC + CLAIM)) != 0;) {
        if (source == UART_INTERRUPT) {
            receive();
            *reg32(PLIC + CLAIM) = source;
        } else {
            waiting |= 1u << source % SOURCES;
        }
    }
    update();
}

static u64 uart_load(u64 offset) {
    if (offset == DATA && arrived != taken) {
        u8 byte = ring[taken++ % RING];
        receive();
        return byte;
    }
    if (offset == LINE_STATUS)
        return CAN_SEND | EMPTY | (arrived != taken ? HAS_BYTE : 0);
    return offset == INTERRUPT_ENABLE ? enabled : 0;
}

static void uart_store(u64 offset, u64 value) {
    if (offset == DATA)
        console_put((char)value);
    else if (offset == INTERRUPT_ENABLE)
        enabled = (u8)value;
}

static u64 claim(void) {
    if (!waiting)
        return 0;
    u32 source = (u32)__builtin_ctz(waiting);
    waiting &= ~(1u << source);
    served |= 1u << source;
    return source;
}

static void complete(u64 source) {
    served &= ~(1u << source % SOURCES);
    if (source != UART_INTERRUPT)
        *reg32(PLIC + CLAIM) = (u32)source;
}

int device_load(u64 address, u64 *value) {
    if (address - UART < PAGE)
        *value = uart_load(address - UART);
    else if (address == PLIC + CLAIM)
        *value = claim();
    else if (address - PLIC < PLIC_SIZE)
        *value = *reg32(address);
    else
        return 0;
    update();
    return 1;
}

int device_store(u64 address, u64 value) {
    if (address == FINISHER) {
        int status = value == 0x5555 ? 0 : (int)(value >> 16);
        print("hypervisor: the guest has ended with status %d\n", status);
        finish(status);
    } else if (address - UART < PAGE) {
        uart_store(address - UART, value);
    } else if (address == PLIC + CLAIM) {
        complete(value);
    } else if (address == PLIC + ENABLE) {
        *reg32(address) = (u32)value | 1 << UART_INTERRUPT;
    } else if (address - PLIC < PLIC_SIZE) {
        *reg32(address) = (u32)value;
    } else {
        return 0;
    }
    update();
    return 1;
}
