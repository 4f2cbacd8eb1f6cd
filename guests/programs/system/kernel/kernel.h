/* All that one file of the kernel may use of another, file by file.
 *
 * The kernel runs in supervisor mode with interrupts off, on one hart: it is interrupted at two places only, where a
 * process was in user mode and where there is nothing to do. So nothing in it needs a lock but what waits in between. */
#ifndef KERNEL_H
#define KERNEL_H

#include "base.h"
#include "calls.h"

enum { PAGE = 4096, PROCESSES = 16, OPEN_FILES = 8, SECTOR = 512, DISKS = 8 };

/* board.c: what the device tree says. */
struct board {
    u64 memory, memory_end; /* RAM */
    u64 clock;              /* of `time`, in Hz */
    u64 clint, plic, uart, finisher;
    u32 plic_context;       /* of supervisor mode of this hart */
    u32 uart_interrupt;
    u64 virtio[DISKS];
    u32 virtio_interrupt[DISKS];
    int virtios;
    int sstc;               /* whether stimecmp is there */
};
extern struct board board;
void board_read(const void *tree, u64 hart);
_Noreturn void board_stop(int status);

/* machine.c: what is done in machine mode. */
void machine_leave(void);

/* console.c */
void print(const char *text, ...) FORMAT(1, 2);
_Noreturn void panic(const char *why);
void console_start(void);
void console_interrupt(void);
long console_read(char *line, size_t count);
void console_put(char c);

/* pages.c: physical memory, page by page. */
void pages_start(void);
void *page_new(void);            /* zeroed; 0 if there is none */
void page_share(void *page);     /* one more user */
void page_drop(void *page);      /* one less; free when there is none */
int page_users(void *page);
void pages_facts(struct memory_facts *facts);

/* space.c: page tables of Sv39. */
typedef u64 pte;
enum { V = 1 << 0, R = 1 << 1, W = 1 << 2, X = 1 << 3, U = 1 << 4, A = 1 << 6, D = 1 << 7, COPY = 1 << 8 };
#define SPACE_END (1ul << 38)             /* of the lower half of the addresses */
#define TRAMPOLINE (SPACE_END - PAGE)     /* the same in all spaces */
#define FRAME (TRAMPOLINE - PAGE)         /* the trap frame of a process, in its space */
#define STACK_END 0x40000000ul
#define STACK_START (STACK_END - 16 * PAGE)
struct process;
void space_start(void);
u64 space_satp(const pte *space);
pte *space_new(void *frame);                                   /* with trampoline and frame; 0 if memory is out */
int space_copy(pte *from, pte *to);                            /* pages are shared until written to */
void space_free(pte *space);
int space_map(pte *space, u64 at, void *page, u64 bits);       /* one new page, which it takes over */
int space_fault(struct process *p, u64 at, u64 access);        /* whether the access may be made again */
u64 space_pages(const pte *space);
int copy_in(struct process *p, void *to, u64 from, u64 count); /* whether all of it could be read */
int copy_out(struct process *p, u64 to, const void *from, u64 count);
int copy_text(struct process *p, char *to, u64 from, u64 size); /* ends with a 0 within `size` bytes */

/* process.c */
struct frame { /* what trampoline.S knows by its offsets */
    u64 kernel_satp;  /* in place of x0 */
    u64 x[31];        /* x1 to x31 */
    u64 pc;           /* at 256 */
    u64 kernel_stack; /* at 264 */
    u64 kernel_entry; /* at 272 */
};
enum { X_SP = 2 - 1, X_A0 = 10 - 1, X_A1, X_A2, X_A7 = 17 - 1 }; /* in frame.x */
struct context { u64 ra, sp, s[12]; }; /* what switch_context of start.S keeps */
struct open_file { enum { CLOSED, CONSOLE, ON_DISK, LINKED } kind; u32 number, offset; };
enum state { NONE, READY, RUNNING, SLEEPING, ZOMBIE };
struct process {
    enum state state;
    int pid, parent, killed, status;
    const void *waits_for;      /* while sleeping */
    int waits_child;            /* the only one whose end is waited for */
    u64 wakes;                  /* no later than this time */
    u64 used, turns;            /* time in user and supervisor mode; how often it was given the hart */
    pte *space;
    struct frame *frame;
    void *stack;                /* in the kernel: one page */
    struct context context;
    u64 data_end;               /* where memory can grow */
    u64 data_start;
    struct open_file files[OPEN_FILES];
    char name[NAME];
};
extern struct process *current; /* 0 while the kernel has nothing to run */
extern struct process processes[PROCESSES];
void process_first(const char *name);
_Noreturn void schedule(void);
void yield(void);
void sleep_on(const void *what, u64 until);
void wake(const void *what);
int process_fork(void);
int process_wait(int pid, int *status);
int process_kill(int pid);
void process_interrupt(void); /* ^C: ends the child that the first process waits for, or is about to */
void process_forget_interrupt(void); /* there was nothing to end */
_Noreturn void process_exit(int status);

/* exec.c */
int exec(const char *name, char *const argv[], int argc);

/* trap.c, timer in it */
#define NEVER (~0ul)
void trap_start(void);
void take_interrupts(void);
_Noreturn void user_return(void);
void timer_set(u64 when);

/* call.c */
void system_call(void);

/* plic.c */
void plic_start(void);
void plic_enable(u32 interrupt);
void plic_interrupt(void);

/* disk.c */
void disk_start(void);
u64 disk_sectors(void);         /* 0 without a disk */
int disk_read(u64 sector, void *to);
int disk_write(u64 sector, const void *from);
int disk_flush(void);
void disk_interrupt(u32 interrupt);

/* files.c: names, on the disk and linked into the kernel. */
void files_start(void);
int file_open(const char *name, int mode, struct open_file *file);      /* 0, or -1 */
long file_read(struct open_file *file, void *to, size_t count);         /* at most a sector's rest */
long file_write(struct open_file *file, const void *from, size_t count); /* the same */
int file_close(struct open_file *file); /* what was written is on the disk now; -1 if it could not be */
int file_remove(const char *name);
int file_facts(u32 index, struct file_facts *facts);

/* programs.c: ELF files in the kernel's own data. */
struct program { const char *name; const u8 *bytes; u32 size; };
extern const struct program programs[];
extern const u32 program_count;

#endif
