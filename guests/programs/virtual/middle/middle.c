/* middle: a hypervisor in the middle. It is the guest of a virtual machine, begins in HS mode, and runs one guest of
 * its own in VS mode, whose memory somebody has put into its own, AWAY from where the guest has it.
 *
 * Shows: exits at two levels. What its guest is left for is the hypervisor's affair; devices and calls that are not its
 * to answer go on to whoever runs it. world.S and access.c are those of the hypervisor of a machine
 * (system/hypervisor). It needs the hypervisor extension. */
#include "guest.h"
#include "world.h"

enum {
    ILLEGAL = 2, OWN = 8 /* below: a guest's own */, CALL = 10, LOAD_FAULT = 21, VIRTUAL = 22, STORE_FAULT = 23,
    GUESTS_OWN = 0xb109, /* exceptions that it takes without us: those that Linux's KVM leaves to it */
    GUEST_INTERRUPTS = 0x444, ALL_COUNTERS = -1,
    SPP = 1 << 8, SPIE = 1 << 5, SIE = 1 << 1, FS = 3 << 13, /* of sstatus */
    SPV = 1 << 7, SPVP = 1 << 8, VTW = 1 << 21,                /* of hstatus */
    CACHE_BLOCKS = 0xf0,                                        /* of henvcfg */
    WAIT = 0x10500073, POINTER = 1,
    LEAF = 0xdf, /* valid, readable, writable, executable, user, accessed, dirty */
};
enum {
    SET_TIMER = 0, PUT = 1, GET = 2, SHUTDOWN = 8, TIME = 0x54494d45, RESET = 0x53525354, CONSOLE = 0x4442434e,
    MARK = 0x08000000, CONSOLE_MEMORY = 2, /* functions below it name memory */
    NOT_SUPPORTED = -2, INVALID_PARAM = -3, FAILURE = 1,
};
static const u64 RAM = 0x80000000, SIZE = 8 << 20, AWAY = 8 << 20, LARGE = 2 << 20, SV39X4 = 8ul << 60;
static const u64 STCE = 1ul << 63, PBMTE = 1ul << 62, ADUE = 1ul << 61;

static u64 root[2048] __attribute__((aligned(16384))); /* of the second stage, 1 GiB each */
static u64 ram[512] __attribute__((aligned(4096)));     /* of 2 MiB, from RAM on */
static struct guest guest;

struct answer {
    u64 error, value;
};

/* A call of whoever runs us, with these arguments: a0 to a2. */
static struct answer ask(u64 extension, u64 function, const u64 *arguments) {
    register u64 a7 __asm__("a7") = extension;
    register u64 a6 __asm__("a6") = function;
    register u64 a0 __asm__("a0") = arguments[0];
    register u64 a1 __asm__("a1") = arguments[1];
    register u64 a2 __asm__("a2") = arguments[2];
    __asm__ volatile("ecall" : "+r"(a0), "+r"(a1) : "r"(a2), "r"(a6), "r"(a7) : "memory");
    return (struct answer){a0, a1};
}

static _Noreturn void give_up(void) {
    for (;;)
        ask(RESET, 0, (const u64[]){0, FAILURE, 0});
}

/* A trap of our own, for world.S. */
_Noreturn __attribute__((aligned(4))) void lost(void) {
    give_up();
}

static void map_memory(void) {
    root[RAM >> 30] = (u64)ram >> 12 << 10 | POINTER;
    for (u64 at = 0; at < SIZE; at += LARGE)
        ram[at >> 21] = (RAM + AWAY + at) >> 12 << 10 | LEAF;
    write_csr(0x680, SV39X4 | (u64)root >> 12); /* hgatp */
}

/* The guest's own handler takes a trap: what the hart would have done. Priv. 18.6.2. */
static void reflect(u64 cause, u64 value) {
    u64 status = read_csr(0x200), privilege = read_csr(sstatus) & SPP; /* vsstatus; where the guest was */
    u64 kept = status & SIE ? SPIE : 0;
    write_csr(0x200, (status & ~(u64)(SPP | SPIE | SIE)) | kept | privilege);
    write_csr(0x241, guest.pc); /* vsepc */
    write_csr(0x242, cause);    /* vscause */
    write_csr(0x243, value);    /* vstval */
    set_csr(sstatus, SPP);
    set_csr(hstatus, SPVP);
    guest.pc = read_csr(0x205) & -4ul; /* vstvec */
}

/* What the guest finds at an address that is no memory of its own: what we find there, but for memory of ours. */
static u64 load(u64 address, u32 bytes) {
    if (address - RAM < SIZE + AWAY)
        return 0;
    if (bytes == 1)
        return *reg8(address);
    if (bytes == 2)
        return *(volatile u16 *)address;
    return bytes == 4 ? *reg32(address) : *reg64(address);
}

static void store(u64 address, u32 bytes, u64 value) {
    if (address - RAM < SIZE + AWAY)
        return;
    if (bytes == 1)
        *reg8(address) = (u8)value;
    else if (bytes == 2)
        *(volatile u16 *)address = (u16)value;
    else if (bytes == 4)
        *reg32(address) = (u32)value;
    else
        *reg64(address) = value;
}

static int device_access(u64 address) {
    struct access access;
    u64 value = 0;
    if (!access_at(guest.pc, &access))
        return 0;
    if (access.store)
        store(address, access.bytes, guest.x[access.number]);
    else
        value = load(address, access.bytes);
    access_done(&guest, &access, value);
    return 1;
}

/* A call that is not for us to answer. The memory that it names is elsewhere for whom we ask. */
static struct answer forwarded(u64 extension, u64 function, const u64 *x) {
    u64 arguments[] = {x[A0], x[A1], x[A0 + 2]};
    if (extension == CONSOLE && function < CONSOLE_MEMORY) {
        u64 at = arguments[1] - RAM;
        if (at >= SIZE || arguments[0] > SIZE - at)
            return (struct answer){(u64)INVALID_PARAM, 0};
        arguments[1] += AWAY;
    }
    return ask(extension, function, arguments);
}

static struct answer answered(const u64 *x) {
    u64 extension = x[A7], function = x[A6];
    switch (extension) {
    case TIME:
        if (function != 0)
            break;
        [[fallthrough]];
    case SET_TIMER:
        write_csr(0x24d, x[A0]); /* vstimecmp: its interrupt comes without us */
        return (struct answer){0, 0};
    case PUT:
    case GET:
    case SHUTDOWN:
    case RESET:
    case CONSOLE:
    case MARK:
        return forwarded(extension, function, x);
    }
    return (struct answer){(u64)NOT_SUPPORTED, 0};
}

static void call(void) {
    struct answer found = answered(guest.x);
    guest.pc += 4;
    guest.x[A0] = found.error;
    if (guest.x[A7] > SHUTDOWN) /* those of version 0.1 have one word */
        guest.x[A1] = found.value;
}

static void wait_as_guest(void) {
    wait_for_interrupt(); /* what the guest waits for is pending for us as well */
    guest.pc += 4;
}

static void exit_of(u64 cause) {
    u64 value = read_csr(stval), address = read_csr(htval) << 2 | (value & 3);
    if (cause == CALL)
        call();
    else if (cause == VIRTUAL && value == WAIT)
        wait_as_guest();
    else if (cause == VIRTUAL)
        reflect(ILLEGAL, value);
    else if (cause < OWN)
        reflect(cause, value);
    else if ((cause != LOAD_FAULT && cause != STORE_FAULT) || !device_access(address))
        give_up();
}

/* Where the guest begins is in a0. */
int main(u64 entry) {
    map_memory();
    write_csr(hedeleg, GUESTS_OWN);
    write_csr(hideleg, GUEST_INTERRUPTS);
    write_csr(hcounteren, ALL_COUNTERS);
    write_csr(0x60a, STCE | PBMTE | ADUE | CACHE_BLOCKS); /* henvcfg */
    write_csr(0x24d, ~0ul);                              /* vstimecmp */
    set_csr(hstatus, SPV | SPVP | VTW);
    set_csr(sstatus, SPP | FS); /* so that vsstatus alone says whether the guest has floating point */
    guest.pc = entry;
    for (;;) {
        world_enter(&guest);
        exit_of(read_csr(scause));
    }
}
