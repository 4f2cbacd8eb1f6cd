/* The disk: a virtio block device behind registers in memory. Virtio 1.2: 4.2 registers, 2.7 split queue, 5.2 blocks.
 *
 * One request at a time, of one sector; who waits for it sleeps. Devices of the legacy interface (version 1) are passed
 * over. Owns: the queue. Must not know: what is in a sector. */
#include "kernel.h"

enum { /* registers */
    MAGIC = 0x000, VERSION = 0x004, DEVICE = 0x008, DEVICE_FEATURES = 0x010, DEVICE_FEATURES_SELECT = 0x014,
    FEATURES = 0x020, FEATURES_SELECT = 0x024, QUEUE_SELECT = 0x030, QUEUE_MOST = 0x034, QUEUE_SIZE = 0x038,
    QUEUE_READY = 0x044, QUEUE_NOTIFY = 0x050, INTERRUPTS = 0x060, INTERRUPT_DONE = 0x064, STATUS = 0x070,
    DESCRIPTORS = 0x080, AVAILABLE = 0x090, USED = 0x0a0, CAPACITY = 0x100,
};
enum { VIRT = 0x74726976, BLOCK_DEVICE = 2 };
enum { ACKNOWLEDGED = 1, DRIVER = 2, DRIVER_OK = 4, FEATURES_OK = 8 };
enum { CAN_FLUSH = 1 << 9, VERSION_1 = 1 << 0 }; /* features 9 and 32: the latter is bit 0 of the second word */
enum { QUEUE = 4 };
enum { IN = 0, OUT = 1, FLUSH = 4, OK = 0 };
enum { NEXT = 1, DEVICE_WRITES = 2 };

struct descriptor { u64 address; u32 length; u16 flags, next; };
static struct descriptor descriptors[QUEUE] __attribute__((aligned(16)));
static struct { u16 flags; volatile u16 index, ring[QUEUE]; } available __attribute__((aligned(2)));
static struct { u16 flags; volatile u16 index; struct { u32 id, length; } ring[QUEUE]; } used __attribute__((aligned(4)));
static struct { u32 type, reserved; u64 sector; } header;
static volatile u8 status;

static u64 base;
static u32 interrupt_number;
static u64 sectors;
static int can_flush, busy;

static volatile u32 *reg(u32 offset) {
    return reg32(base + offset);
}

static void put_address(u32 offset, const void *what) {
    *reg(offset) = (u32)(u64)what;
    *reg(offset + 4) = (u32)((u64)what >> 32);
}

static void fence(void) { /* memory before device: what is written is seen before the notification */
    __asm__ volatile("fence" : : : "memory");
}

/* Whether the device at `base` is a disk that can be used; the order of steps is that of 3.1.1. */
static int start(void) {
    *reg(STATUS) = 0;
    *reg(STATUS) = ACKNOWLEDGED;
    *reg(STATUS) = ACKNOWLEDGED | DRIVER;
    *reg(DEVICE_FEATURES_SELECT) = 0;
    can_flush = (*reg(DEVICE_FEATURES) & CAN_FLUSH) != 0;
    *reg(FEATURES_SELECT) = 0;
    *reg(FEATURES) = can_flush ? CAN_FLUSH : 0;
    *reg(FEATURES_SELECT) = 1;
    *reg(FEATURES) = VERSION_1;
    *reg(STATUS) = ACKNOWLEDGED | DRIVER | FEATURES_OK;
    *reg(QUEUE_SELECT) = 0;
    if (!(*reg(STATUS) & FEATURES_OK) || *reg(QUEUE_MOST) < QUEUE)
        return 0;
    *reg(QUEUE_SIZE) = QUEUE;
    put_address(DESCRIPTORS, descriptors);
    put_address(AVAILABLE, &available);
    put_address(USED, &used);
    *reg(QUEUE_READY) = 1;
    *reg(STATUS) = ACKNOWLEDGED | DRIVER | FEATURES_OK | DRIVER_OK;
    sectors = *reg(CAPACITY) | (u64)*reg(CAPACITY + 4) << 32;
    return 1;
}

void disk_start(void) {
    for (int i = 0; i < board.virtios && !sectors; i++) {
        base = board.virtio[i];
        interrupt_number = board.virtio_interrupt[i];
        if (*reg(MAGIC) != VIRT || *reg(DEVICE) != BLOCK_DEVICE)
            continue;
        if (*reg(VERSION) != 2)
            print("disk at %lx: the legacy interface of virtio is not supported\n", base);
        else if (!start())
            print("disk at %lx: its features or its queue do not do\n", base);
        else
            plic_enable(interrupt_number);
    }
}

u64 disk_sectors(void) {
    return sectors;
}

static int request(u32 type, u64 sector, u64 data) {
    while (busy)
        sleep_on(&busy, NEVER);
    busy = 1;
    header.type = type;
    header.sector = sector;
    status = 0xff;
    u16 last = data ? 2 : 1;
    descriptors[0] = (struct descriptor){(u64)&header, sizeof header, NEXT, 1};
    descriptors[1] = (struct descriptor){data, SECTOR, NEXT | (type == IN ? DEVICE_WRITES : 0), 2};
    descriptors[last] = (struct descriptor){(u64)&status, 1, DEVICE_WRITES, 0};
    u16 before = used.index;
    available.ring[available.index % QUEUE] = 0;
    fence();
    available.index++;
    fence();
    *reg(QUEUE_NOTIFY) = 0;
    while (used.index == before)
        sleep_on(&used, NEVER);
    fence();
    int good = status == OK;
    busy = 0;
    wake(&busy);
    return good;
}

int disk_read(u64 sector, void *to) {
    return request(IN, sector, (u64)to);
}

int disk_write(u64 sector, const void *from) {
    return request(OUT, sector, (u64)from);
}

int disk_flush(void) {
    return !can_flush || request(FLUSH, 0, 0);
}

void disk_interrupt(u32 interrupt) {
    if (interrupt != interrupt_number)
        return;
    *reg(INTERRUPT_DONE) = *reg(INTERRUPTS);
    wake(&used);
}
