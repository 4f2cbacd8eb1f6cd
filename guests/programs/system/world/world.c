/* world: a thousand world switches, written out in full. What a hypervisor has in its registers before it enters its guest
 * it has again when the guest was left, and so has the guest.
 *
 * switch.S is the switch: 31 registers and six CSRs for each of both. It needs the hypervisor extension. */
#include "bare.h"

enum {
    ROUNDS = 1000, REGISTERS = 32, RA = 1, SP = 2, A0 = 10, /* what the test itself uses */
    FROM_HS = 9, FROM_VS = 10,                              /* causes of ecall */
    MPP = 3 << 11, MPP_SUPERVISOR = 1 << 11, SPP = 1 << 8, SPV = 1 << 7, SPVP = 1 << 8, PMP_ALL = 0x1f,
    LEAF = 0xdf, /* valid, readable, writable, executable, user, accessed, dirty */
    AWAY = 0x40000000, /* by which the guest's addresses are below those of the machine */
};
static const u64 SV39X4 = 8ul << 60, VSXL = 2ul << 32;

/* One side while the other one runs: switch.S knows the places. */
struct side {
    u64 x[REGISTERS], sstatus, hstatus, scounteren, stvec, sscratch, sepc;
};
static struct worlds {
    struct side host, guest;
} worlds;

/* switch.S */
void drop(void);                         /* returns in supervisor mode */
void observe_switch(struct worlds *worlds); /* all registers from `given`, a switch there and back, all to `seen` */
void guest(void), lost(void);
_Noreturn void ask_for_the_end(u64 status);
u64 given[REGISTERS], seen[REGISTERS];

static u64 root[2048] __attribute__((aligned(16384))); /* of the second stage, 1 GiB each */

u64 trap(u64 cause, u64 pc, u64 value) {
    if (cause == FROM_HS)
        finish((int)given[A0]);
    print("trap: cause %lx, pc %lx, value %lx\n", cause, pc, value);
    finish(1);
}

static u64 mixed(u64 digest, u64 value) {
    return (digest ^ value) * 0x100000001b3;
}

static u64 csrs(void) {
    u64 digest = mixed(mixed(0xcbf29ce484222325, read_csr(sstatus)), read_csr(0x600));
    digest = mixed(mixed(digest, read_csr(scounteren)), read_csr(stvec));
    return mixed(mixed(digest, read_csr(sscratch)), read_csr(sepc));
}

static u64 registers(const u64 *x) {
    u64 digest = 0xcbf29ce484222325;
    for (int n = 1; n < REGISTERS; n++)
        if (n != RA && n != SP && n != A0)
            digest = mixed(digest, x[n]);
    return digest;
}

static _Noreturn void end(u64 status) {
    given[A0] = status;
    ask_for_the_end(status);
}

static void into_supervisor_mode(void) {
    write_csr(medeleg, 1 << FROM_VS);
    write_csr(mcounteren, 7);
    write_csr(pmpaddr0, ~0ul >> 10);
    write_csr(pmpcfg0, PMP_ALL);
    clear_csr(mstatus, MPP);
    set_csr(mstatus, MPP_SUPERVISOR);
    drop();
}

int main(void) {
    into_supervisor_mode();
    root[AWAY >> 30] = 0x80000000 >> 12 << 10 | LEAF;
    write_csr(0x680, SV39X4 | (u64)root >> 12); /* hgatp */
    write_csr(stvec, lost);
    write_csr(scounteren, 5);
    worlds.guest.sstatus = SPP;
    worlds.guest.hstatus = VSXL | SPV | SPVP;
    worlds.guest.scounteren = 2;
    worlds.guest.sepc = (u64)guest - AWAY;
    for (int n = 1; n < REGISTERS; n++)
        worlds.guest.x[n] = (u64)n << 32;

    u64 before = 0, after = 0, value = 1;
    for (int round = 0; round < ROUNDS; round++) {
        for (int n = 1; n < REGISTERS; n++)
            given[n] = value = value * 6364136223846793005 + 1442695040888963407;
        write_csr(sscratch, value);
        write_csr(sepc, value & -4);
        before = mixed(mixed(before, registers(given)), csrs());
        observe_switch(&worlds);
        after = mixed(mixed(after, registers(seen)), csrs());
        if (read_csr(scause) != FROM_VS || worlds.guest.sepc % 4096 != ((u64)guest + 124) % 4096) {
            print("the guest was left by cause %lx at %lx\n", read_csr(scause), worlds.guest.sepc);
            end(1);
        }
        worlds.guest.sepc += 4;
    }
    int kept = 0;
    for (int n = 1; n < REGISTERS; n++)
        kept += worlds.guest.x[n] == ((u64)n << 32) + ROUNDS;
    print("world: %d switches\n", ROUNDS);
    print("hypervisor: %016lx before, %016lx after\n", before, after);
    print("guest: %d registers of 31 went on\n", kept);
    end(before != after || kept != 31);
}
