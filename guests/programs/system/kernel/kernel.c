/* kernel: a small operating system for QEMU's board `virt`, from reset to a shell. This file is the order of its start.
 *
 * Read on in: start.S, board.c, machine.c (how it comes to supervisor mode); pages.c, space.c, trampoline.S, trap.c
 * (memory and the way in and out of processes); process.c, exec.c, call.c (processes and what they may ask for);
 * console.c, plic.c, disk.c, files.c (devices). user/ has the programs. */
#include "kernel.h"

/* start.S calls it: in machine mode, or in supervisor mode under firmware. */
_Noreturn void kernel(u64 hart, const void *tree, int machine) {
    board_read(tree, hart);
    if (machine)
        machine_leave();
    trap_start();
    console_start();
    print("kernel: started in %s mode%s\n", machine ? "machine" : "supervisor", board.sstc ? "" : ", without stimecmp");
    pages_start();
    space_start();
    plic_start();
    disk_start();
    files_start();
    process_first("shell");
    schedule();
}
