/* The second stage of address translation: from guest-physical addresses to physical ones. Priv. 18.5.1.
 *
 * RAM is where it is, so that devices that are passed through reach it at the addresses that their driver tells them.
 * It comes in pages of 2 MiB, each at its first use. The virtio transports are the guest's; the other devices are not in
 * the tables, so that each access comes to devices.c. Owns: the tables. Must not know: what faults are. */
#include "hypervisor.h"

enum { LEAF = 0xdf /* valid, readable, writable, executable, user, accessed, dirty */, POINTER = 1 };
static const u64 SV39X4 = 8ul << 60;

static u64 root[2048] __attribute__((aligned(4 * PAGE))); /* of 1 GiB each */
static u64 ram[512] __attribute__((aligned(PAGE)));        /* of 2 MiB, from 2 GiB on */
static u64 low[512] __attribute__((aligned(PAGE)));        /* of 2 MiB, from 0 on */
static u64 devices[512] __attribute__((aligned(PAGE)));    /* of 4 KiB, from the UART on */

static u64 entry(u64 address, u64 flags) {
    return address >> 12 << 10 | flags;
}

void stage_start(void) {
    root[0] = entry((u64)low, POINTER);
    root[2] = entry((u64)ram, POINTER);
    low[UART >> 21] = entry((u64)devices, POINTER);
    for (u64 at = VIRTIO; at < VIRTIO + VIRTIOS * PAGE; at += PAGE)
        devices[at >> 12 & 511] = entry(at, LEAF);
    write_csr(hgatp, SV39X4 | (u64)root >> 12);
}

int stage_fault(u64 address) {
    u64 *place = &ram[address >> 21 & 511];
    if (address < GUEST_RAM || address >= GUEST_RAM_END || *place)
        return 0;
    *place = entry(address & -(2ul << 20), LEAF);
    return 1;
}
