/* pagefault: three page faults of Sv39, each of them repaired so that the access is made again and succeeds.
 *
 * Shows: a page table of three levels (Priv. 10.4), the faults of an absent page, of a store to a read-only one and of
 * one beyond the page table's reach, and mstatus.MPRV (Priv. 3.1.6.3), by which machine mode loads and stores as user
 * mode would; so that the whole of it needs no second mode. */
#include "bare.h"

enum {
    V = 1 << 0, R = 1 << 1, W = 1 << 2, U = 1 << 4, A = 1 << 6, D = 1 << 7, /* of a page table entry */
    LOAD_PAGE_FAULT = 13,
    STORE_PAGE_FAULT = 15,
    MSTATUS_MPRV = 1 << 17,
    MSTATUS_MPP = 3 << 11,
};
static const u64 SV39 = 8ul << 60;
static const u64 AT = 0x40000000;      /* where the page is to be */
static const u64 BEYOND = 1ul << 38;   /* no canonical address of Sv39: it faults whatever the table says */

static u64 root[512] __attribute__((aligned(4096)));
static u64 middle[512] __attribute__((aligned(4096)));
static u64 last[512] __attribute__((aligned(4096)));
static u64 page[512] __attribute__((aligned(4096)));
static int faults;

static u64 entry_for(const void *where, u64 bits) {
    return (u64)where >> 12 << 10 | bits | V;
}

/* The access is alone between the two changes of MPRV, as others would be translated too. */
static u64 load_as_user(u64 address) {
    u64 value;
    __asm__ volatile("csrs mstatus, %2\n ld %0, (%1)\n csrc mstatus, %2"
                     : "=&r"(value) : "r"(address), "r"((u64)MSTATUS_MPRV) : "memory");
    return value;
}
static void store_as_user(u64 address, u64 value) {
    __asm__ volatile("csrs mstatus, %2\n sd %1, (%0)\n csrc mstatus, %2"
                     : : "r"(address), "r"(value), "r"((u64)MSTATUS_MPRV) : "memory");
}

u64 trap(u64 cause, u64 pc, u64 value) {
    faults++;
    if (cause == LOAD_PAGE_FAULT && value == AT) {
        print("load page fault at %lx: mapped, read-only\n", value);
        last[0] = entry_for(page, R | U | A);
    } else if (cause == STORE_PAGE_FAULT && value == AT + 8) {
        print("store page fault at %lx: now writable\n", value);
        last[0] = entry_for(page, R | W | U | A | D);
    } else if (cause == LOAD_PAGE_FAULT && value == BEYOND) {
        print("load page fault at %lx: stepped over\n", value);
        return pc + ((*(const u16 *)pc & 3) == 3 ? 4 : 2);
    } else {
        print("pagefault: cause %lx, pc %lx, value %lx were not expected\n", cause, pc, value);
        finish(1);
    }
    __asm__ volatile("sfence.vma" : : : "memory"); /* the old entry may be remembered */
    return pc;
}

int main(void) {
    write_csr(pmpaddr0, ~0ul >> 10); /* user mode may access all of memory: Priv. 3.7.1 */
    write_csr(pmpcfg0, 0x1f);
    root[AT >> 30] = entry_for(middle, 0);
    middle[0] = entry_for(last, 0);
    write_csr(satp, SV39 | (u64)root >> 12);
    clear_csr(mstatus, MSTATUS_MPP); /* the mode that MPRV stands for: user */
    page[0] = 0x1234;
    u64 read = load_as_user(AT);
    store_as_user(AT + 8, 0x5678);
    load_as_user(BEYOND);
    print("%d page faults; read %lx, wrote %lx\n", faults, read, page[1]);
    return !(faults == 3 && read == 0x1234 && page[1] == 0x5678);
}
