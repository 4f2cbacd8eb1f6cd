/* A guest's load or store that its hypervisor has to make: the instruction is read as the guest would fetch it, since
 * harts need not say in htinst what it was. Owns: this decoding. Must not know: what is at any address. */
#include "world.h"

enum { LOAD = 0x03, STORE = 0x23 };

static u64 instruction(u64 pc, u32 *length) {
    u64 word = guest_parcel(pc);
    *length = (word & 3) == 3 ? 4 : 2;
    return *length == 4 ? word | (u64)guest_parcel(pc + 2) << 16 : word;
}

int access_at(u64 pc, struct access *access) {
    u64 word = instruction(pc, &access->length);
    u32 size = word >> 12 & 7;
    access->number = word >> 7 & 31;
    access->store = (word & 0x7f) == STORE;
    if (access->length == 2) { /* c.lw, c.ld, c.sw, c.sd */
        u32 kind = word >> 13 & 7;
        if (word & 3 || (kind & 2) == 0)
            return 0;
        size = (kind & 3) == 3 ? 3 : 2;
        access->number = 8 + (word >> 2 & 7);
        access->store = kind >> 2;
    } else if (access->store) {
        access->number = word >> 20 & 31;
    } else if ((word & 0x7f) != LOAD) {
        return 0;
    }
    access->bytes = 1 << (size & 3);
    access->is_signed = !(size & 4);
    return 1;
}

void access_done(struct guest *guest, const struct access *access, u64 value) {
    u32 unused = 64 - 8 * access->bytes;
    if (!access->store && access->number)
        guest->x[access->number] =
            access->is_signed ? (u64)((i64)(value << unused) >> unused) : value << unused >> unused;
    guest->pc += access->length;
}
