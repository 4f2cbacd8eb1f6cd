/* Traps: what makes a process enter the kernel, and what waits while the kernel has nothing to do.
 *
 * Owns: causes, the timer, and who is told of an interrupt. Priv. 10.1 has all the registers. */
#include "kernel.h"

extern u8 trampoline[];
extern void user_trap_entry(void), user_enter(struct frame *frame, u64 satp);

enum {
    SIE_TIMER = 1 << 5, SIE_EXTERNAL = 1 << 9,
    COUNTER_TIME = 1 << 1, /* which user mode may read */
    SSTATUS_SPP = 1 << 8, SSTATUS_SPIE = 1 << 5,
    CALL = 8, FETCH_PAGE_FAULT = 12, LOAD_PAGE_FAULT = 13, STORE_PAGE_FAULT = 15,
};
static const u64 INTERRUPT = 1ul << 63;

static const char *const cause_names[] = {
    "instruction address misaligned", "instruction access fault", "illegal instruction", "breakpoint",
    "load address misaligned", "load access fault", "store address misaligned", "store access fault",
    [FETCH_PAGE_FAULT] = "instruction page fault", "load page fault", [STORE_PAGE_FAULT] = "store page fault",
};

static const char *cause_name(u64 cause) {
    const char *name = cause < LENGTH(cause_names) ? cause_names[cause] : 0;
    return name ? name : "trap";
}

/* The kernel has no traps but by mistakes of its own. */
static _Noreturn __attribute__((aligned(4))) void kernel_trap(void) {
    print("kernel: %s at pc %lx, address %lx\n", cause_name(read_csr(scause)), read_csr(sepc), read_csr(stval));
    panic("it has made a mistake");
}

void trap_start(void) {
    write_csr(stvec, kernel_trap);
    write_csr(sscratch, 0);
    timer_set(NEVER);
    write_csr(scounteren, COUNTER_TIME);
    write_csr(sie, SIE_TIMER | SIE_EXTERNAL);
}

/* When `time` reaches this, the timer interrupts: by stimecmp (Priv. 12) or by the SBI's set_timer, chapter 6. */
void timer_set(u64 when) {
    if (board.sstc) {
        write_csr(0x14d, when);
        return;
    }
    register u64 a0 __asm__("a0") = when, a1 __asm__("a1");
    register u64 a6 __asm__("a6") = 0, a7 __asm__("a7") = 0x54494d45;
    __asm__ volatile("ecall" : "+r"(a0), "=r"(a1) : "r"(a6), "r"(a7) : "memory");
}

/* What is pending is seen to here, whether or not it trapped. The timer's stays pending until it is set again, which
 * the scheduler does. */
void take_interrupts(void) {
    if (read_csr(sip) & SIE_EXTERNAL)
        plic_interrupt();
}

static void user_trap(void) {
    write_csr(stvec, kernel_trap);
    struct process *p = current;
    u64 cause = read_csr(scause), address = read_csr(stval);
    u64 access = cause == LOAD_PAGE_FAULT ? R : cause == STORE_PAGE_FAULT ? W : cause == FETCH_PAGE_FAULT ? X : 0;
    if (cause & INTERRUPT) {
        take_interrupts();
        if (read_csr(sip) & SIE_TIMER)
            yield();
    } else if (cause == CALL) {
        p->frame->pc += 4;
        system_call();
    } else if (!access || !space_fault(p, address, access)) {
        print("process %d (%s): %s at pc %lx, address %lx\n", p->pid, p->name, cause_name(cause), p->frame->pc, address);
        p->killed = 1;
    }
    user_return();
}

_Noreturn void user_return(void) {
    struct process *p = current;
    if (p->killed)
        process_exit(KILLED);
    p->frame->kernel_satp = space_satp(0);
    p->frame->kernel_stack = (u64)p->stack + PAGE;
    p->frame->kernel_entry = (u64)user_trap;
    write_csr(stvec, TRAMPOLINE + ((u64)user_trap_entry - (u64)trampoline));
    clear_csr(sstatus, SSTATUS_SPP);
    set_csr(sstatus, SSTATUS_SPIE);
    void (*enter)(u64, u64) = (void (*)(u64, u64))(TRAMPOLINE + ((u64)user_enter - (u64)trampoline));
    enter(FRAME, space_satp(p->space));
    __builtin_unreachable();
}
