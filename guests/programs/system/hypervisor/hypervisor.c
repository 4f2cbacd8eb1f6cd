/* hypervisor: runs the small kernel as a guest, in VS mode, on QEMU's board `virt`. It needs the hypervisor extension.
 *
 * Read on in: world.S (in and out), stage.c (the guest's memory), access.c, devices.c and calls.c (what it finds there,
 * and whom it asks). This file has the order of the start, and what is done for each exit. */
#include "hypervisor.h"

enum {
    MISA_H = 1 << 7, MPP = 3 << 11, MPP_SUPERVISOR = 1 << 11,
    EXCEPTIONS = 0xf0b5ff, /* all that guests and their supervisor cause, but ecall of the latter */
    GUESTS_OWN = 0xb1ff,   /* of these, what a guest's kernel sees to by itself */
    INTERRUPTS = 0x222, GUEST_INTERRUPTS = 0x444, COUNTERS = 7, PMP_ALL = 0x1f,
    SIE_EXTERNAL = 1 << 9, SSTATUS_SPP = 1 << 8, SPV = 1 << 7, SPVP = 1 << 8,
    CALL = 10, FETCH_FAULT = 20, LOAD_FAULT = 21, STORE_FAULT = 23, EXTERNAL = 9,
};
static const u64 STCE = 1ul << 63, ADUE = 1ul << 61, INTERRUPT = 1ul << 63;

static const u8 image[] = {
#embed "guest.elf"
};
static struct guest guest;

static void leave_machine_mode(void) {
    write_csr(medeleg, EXCEPTIONS);
    write_csr(mideleg, INTERRUPTS);
    write_csr(mcounteren, COUNTERS);
    set_csr(0x30a, STCE | ADUE); /* menvcfg */
    write_csr(pmpaddr0, ~0ul >> 10);
    write_csr(pmpcfg0, PMP_ALL);
    clear_csr(mstatus, MPP);
    set_csr(mstatus, MPP_SUPERVISOR);
    drop();
}

struct elf { u8 ident[24]; u64 entry, segments; u8 rest[14]; u16 segment_size, count; };
struct segment { u32 type, flags; u64 offset, virtual, physical, file_size, memory_size, align; };

/* Puts the parts of an ELF file where they belong; returns where it begins. */
static u64 load(const u8 *file) {
    struct elf head;
    memcpy(&head, file, sizeof head);
    for (u32 i = 0; i < head.count; i++) {
        struct segment part;
        memcpy(&part, file + head.segments + i * head.segment_size, sizeof part);
        if (part.type == 1)
            memcpy((void *)part.physical, file + part.offset, part.file_size);
    }
    return head.entry;
}

/* The guest is not to know of stimecmp, so that it asks for its timer: the word goes from the device tree. */
static void hide_timer(char *tree) {
    u32 size = __builtin_bswap32(*(u32 *)(tree + 4));
    for (u32 at = 0; at + 4 < size; at++)
        if (tree[at] == 's' && tree[at + 1] == 's' && tree[at + 2] == 't' && tree[at + 3] == 'c')
            memcpy(tree + at, "none", 4);
}

/* A load or store of the guest's, to an address that is a device's: what it does, and on behind it. 0 if it cannot. */
static int device_access(u64 address) {
    struct access access;
    u64 value = 0;
    if (!access_at(guest.pc, &access))
        return 0;
    if (access.store ? !device_store(address, guest.x[access.number]) : !device_load(address, &value))
        return 0;
    access_done(&guest, &access, value);
    return 1;
}

static void exit_of(u64 cause) {
    u64 address = read_csr(htval) << 2 | (read_csr(stval) & 3);
    int done = 1;
    if (cause == (INTERRUPT | EXTERNAL))
        devices_interrupt();
    else if (cause == CALL)
        answer(&guest);
    else if (cause == LOAD_FAULT || cause == STORE_FAULT)
        done = stage_fault(address) || device_access(address);
    else
        done = cause == FETCH_FAULT && stage_fault(address);
    if (!done) {
        print("hypervisor: exit %lx at %lx, address %lx\n", cause, guest.pc, address);
        finish(1);
    }
}

/* start.S calls it, in machine mode. */
_Noreturn void hypervisor(u64 hart, char *tree) {
    if (!(read_csr(misa) & MISA_H)) {
        print("hypervisor: this hart has no hypervisor extension\n");
        finish(1);
    }
    leave_machine_mode();
    hide_timer(tree);
    guest.pc = load(image);
    guest.x[A0] = hart;
    guest.x[A1] = (u64)tree;
    print("hypervisor: a guest begins at %lx\n", guest.pc);
    stage_start();
    devices_start();
    timer_set(~0ul);
    write_csr(hedeleg, GUESTS_OWN);
    write_csr(hideleg, GUEST_INTERRUPTS);
    write_csr(hcounteren, COUNTERS);
    write_csr(0x60a, STCE | ADUE); /* henvcfg */
    write_csr(sie, SIE_EXTERNAL);
    set_csr(hstatus, SPV | SPVP);
    set_csr(sstatus, SSTATUS_SPP);
    for (;;) {
        world_enter(&guest);
        exit_of(read_csr(scause));
    }
}
