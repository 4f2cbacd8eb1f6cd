/* Processes: who runs, who waits for what, who is whose child.
 *
 * Each process has a page of stack in the kernel, and gives the hart up in the kernel only: in yield, sleep_on and
 * process_exit, by a switch to the scheduler, which runs on the stack that the kernel started with. Owns: the table of
 * processes. Must not know: what files, devices or page tables are like. */
#include "kernel.h"

enum { TURNS = 1000, LEAST = 5000 }; /* turns in a second, if a process comes to so many instructions in one */

extern void switch_context(struct context *from, const struct context *to);

struct process *current;
struct process processes[PROCESSES];
static struct context scheduler;
static int last_pid;

static void leave(enum state state) {
    struct process *p = current;
    p->state = state;
    switch_context(&p->context, &scheduler);
}

/* READY whoever's time has come; returns when that will be for the next one. */
static u64 wake_by_time(u64 now) {
    u64 next = NEVER;
    for (struct process *p = processes; p < processes + PROCESSES; p++)
        if (p->state == SLEEPING && p->wakes <= now)
            p->state = READY;
        else if (p->state == SLEEPING && p->wakes < next)
            next = p->wakes;
    return next;
}

/* Where the clock is fast and the hart slow, as in an interpreter, turns become longer: else they would be over before
 * the process is back in user mode, and it would come to nothing. */
static void run(struct process *p) {
    static u64 turn;
    u64 start = time_now(), executed = read_csr(instret);
    if (!turn)
        turn = board.clock / TURNS;
    timer_set(start + turn);
    p->turns++;
    p->state = RUNNING;
    current = p;
    switch_context(&scheduler, &p->context);
    current = 0;
    p->used += time_now() - start;
    if (p->state == READY && read_csr(instret) - executed < LEAST)
        turn *= 2;
}

/* Round robin. When nobody is ready, the hart sleeps until a device or the next sleeper's time wakes it. */
_Noreturn void schedule(void) {
    for (struct process *p = processes;; p = p + 1 < processes + PROCESSES ? p + 1 : processes) {
        if (p == processes) {
            u64 next = wake_by_time(time_now());
            int ready = 0;
            for (u32 i = 0; i < PROCESSES; i++)
                ready |= processes[i].state == READY;
            if (!ready) {
                timer_set(next);
                wait_for_interrupt();
            }
            take_interrupts();
        }
        if (p->state == READY)
            run(p);
    }
}

void yield(void) {
    leave(READY);
}

/* Before there are processes, the hart sleeps in place of one. */
void sleep_on(const void *what, u64 until) {
    if (!current) {
        wait_for_interrupt();
        take_interrupts();
        return;
    }
    current->waits_for = what;
    current->wakes = until;
    leave(SLEEPING);
}

void wake(const void *what) {
    for (struct process *p = processes; p < processes + PROCESSES; p++)
        if (p->state == SLEEPING && p->waits_for == what)
            p->state = READY;
}

static void release(struct process *p) {
    if (p->space)
        space_free(p->space);
    if (p->frame)
        page_drop(p->frame);
    if (p->stack)
        page_drop(p->stack);
    p->state = NONE;
}

/* A process that begins in the kernel, there; 0 if the table is full or memory is out. */
static struct process *process_new(void (*begin)(void)) {
    for (struct process *p = processes; p < processes + PROCESSES; p++) {
        if (p->state != NONE)
            continue;
        memset(p, 0, sizeof *p);
        p->frame = page_new();
        p->stack = page_new();
        if (!p->frame || !p->stack || !(p->space = space_new(p->frame))) {
            release(p);
            return 0;
        }
        p->pid = ++last_pid;
        p->context.ra = (u64)begin;
        p->context.sp = (u64)p->stack + PAGE;
        return p;
    }
    return 0;
}

static const char *first_name;

static void begin_first(void) {
    char *argv[] = {(char *)first_name};
    if (exec(first_name, argv, 1) < 0)
        panic("the first program cannot be executed");
    user_return();
}

void process_first(const char *name) {
    first_name = name;
    struct process *p = process_new(begin_first);
    for (int i = 0; i < 3; i++)
        p->files[i].kind = CONSOLE;
    p->state = READY;
}

int process_fork(void) {
    struct process *child = process_new(user_return);
    if (!child)
        return -1;
    if (!space_copy(current->space, child->space)) {
        release(child);
        return -1;
    }
    *child->frame = *current->frame;
    child->frame->x[X_A0] = 0;
    child->parent = current->pid;
    child->data_start = current->data_start;
    child->data_end = current->data_end;
    memcpy(child->files, current->files, sizeof child->files);
    memcpy(child->name, current->name, NAME);
    child->state = READY;
    return child->pid;
}

/* Without its first process the machine has nothing to do: its end is the machine's. */
_Noreturn void process_exit(int status) {
    for (int i = 0; i < OPEN_FILES; i++)
        file_close(&current->files[i]);
    if (current->pid == 1)
        board_stop(status & 0xff);
    struct process *first = processes;
    for (struct process *p = processes; p < processes + PROCESSES; p++)
        if (p->state != NONE && p->parent == current->pid)
            p->parent = first->pid;
    for (struct process *p = processes; p < processes + PROCESSES; p++)
        if (p->state != NONE && p->pid == current->parent)
            wake(p);
    wake(first);
    current->status = status;
    leave(ZOMBIE);
    __builtin_unreachable();
}

/* ^C came while the first process waited for no one: it ends whom that waits for next. */
static int interrupted;

int process_wait(int pid, int *status) {
    for (;;) {
        int children = 0;
        for (struct process *p = processes; p < processes + PROCESSES; p++) {
            if (p->state == NONE || p->parent != current->pid || (pid && p->pid != pid))
                continue;
            children++;
            if (p->state == ZOMBIE) {
                *status = p->status;
                release(p);
                return p->pid;
            }
        }
        if (!children || current->killed)
            return -1;
        if (interrupted && pid && current == processes) {
            interrupted = 0;
            process_kill(pid);
        }
        current->waits_child = pid;
        sleep_on(current, NEVER);
        current->waits_child = 0;
    }
}

int process_kill(int pid) {
    for (struct process *p = processes; p < processes + PROCESSES; p++)
        if (p->state != NONE && p->state != ZOMBIE && p->pid == pid) {
            p->killed = 1;
            if (p->state == SLEEPING)
                p->state = READY;
            return 0;
        }
    return -1;
}

void process_interrupt(void) {
    interrupted = process_kill(processes[0].waits_child) < 0;
}

void process_forget_interrupt(void) {
    interrupted = 0;
}
