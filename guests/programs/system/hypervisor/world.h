/* A guest while it does not run; the switch to it; and its loads and stores, where they are left to its hypervisor.
 *
 * Owns: what hypervisors share. Must not know: devices, tables, where anything is. */
#ifndef WORLD_H
#define WORLD_H

#include "base.h"

enum { A0 = 10, A1 = 11, A6 = 16, A7 = 17 };

/* world.S knows the places of all fields. */
struct guest {
    u64 x[32], pc;
    u64 host_sp;
};

/* world.S. A trap of the hypervisor itself goes to `lost`, which is the hypervisor's to have. */
void world_enter(struct guest *guest); /* returns when the guest has trapped */
u32 guest_parcel(u64 address);         /* 16 bits of an instruction at a guest's address */

/* access.c */
struct access {
    u32 length, bytes, number; /* of the instruction; of what is accessed; of the register */
    int store, is_signed;
};
int access_at(u64 pc, struct access *access); /* 0 if the instruction there is no load or store of integers */
void access_done(struct guest *guest, const struct access *access, u64 value); /* what was loaded, and on behind it */

#endif
