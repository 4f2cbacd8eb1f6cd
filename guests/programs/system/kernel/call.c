/* System calls: arguments are taken out of registers and user memory, checked, and handed to those who act on them.
 * Owns: the table by number, calls.h. Results go into a0; -1 is every error. */
#include "kernel.h"

typedef long handler(u64 a, u64 b, u64 c);

static struct open_file *file_of(u64 descriptor) {
    struct open_file *file = descriptor < OPEN_FILES ? &current->files[descriptor] : 0;
    return file && file->kind != CLOSED ? file : 0;
}

static long call_exit(u64 status, u64, u64) {
    process_exit((int)status);
}

static long call_fork(u64, u64, u64) {
    return process_fork();
}

/* The strings are kept in a page while the old program's memory goes away. */
static long call_exec(u64 name, u64 list, u64) {
    char text[NAME], *argv[ARGUMENTS], *page = page_new();
    u64 at = 1, used = 0;
    int argc = 0;
    long result = -1;
    if (page && copy_text(current, text, name, sizeof text)) {
        while (argc < ARGUMENTS && copy_in(current, &at, list + 8 * (u64)argc, sizeof at) && at &&
               copy_text(current, argv[argc] = page + used, at, PAGE - used))
            used += strlen(argv[argc++]) + 1;
        if (at == 0 || argc == ARGUMENTS)
            result = exec(text, argv, argc);
    }
    if (page)
        page_drop(page);
    return result;
}

static long call_wait(u64 pid, u64 where, u64) {
    int status = 0, found = process_wait((int)pid, &status);
    return found > 0 && where && !copy_out(current, where, &status, sizeof status) ? -1 : found;
}

static long call_kill(u64 pid, u64, u64) {
    return process_kill((int)pid);
}

static long call_getpid(u64, u64, u64) {
    return current->pid;
}

static long call_sleep(u64 milliseconds, u64, u64) {
    u64 until = time_now() + (u32)milliseconds * (board.clock / 1000);
    while (time_now() < until && !current->killed)
        sleep_on(0, until); /* nothing but time wakes it */
    return 0;
}

/* Only the addresses are given; pages come when they are touched. */
static long call_grow(u64 bytes, u64, u64) {
    u64 start = current->data_end;
    if (bytes > STACK_START - start)
        return -1;
    current->data_end += bytes;
    return (long)start;
}

static long call_open(u64 name, u64 mode, u64) {
    char text[NAME];
    if (!copy_text(current, text, name, sizeof text))
        return -1;
    for (int i = 0; i < OPEN_FILES; i++)
        if (current->files[i].kind == CLOSED)
            return file_open(text, (int)mode, &current->files[i]) < 0 ? -1 : i;
    return -1;
}

static long call_close(u64 descriptor, u64, u64) {
    struct open_file *file = file_of(descriptor);
    if (!file)
        return -1;
    return file_close(file);
}

static long call_read(u64 descriptor, u64 to, u64 count) {
    struct open_file *file = file_of(descriptor);
    u8 chunk[SECTOR];
    u64 most = count < sizeof chunk ? count : sizeof chunk, total = 0;
    if (!file)
        return -1;
    if (file->kind == CONSOLE) {
        long done = console_read((char *)chunk, most);
        return done > 0 && !copy_out(current, to, chunk, (u64)done) ? -1 : done;
    }
    while (total < count) {
        most = count - total < sizeof chunk ? count - total : sizeof chunk;
        long done = file_read(file, chunk, most);
        if (done < 0 || !copy_out(current, to + total, chunk, (u64)done))
            return -1;
        if (done == 0)
            break;
        total += (u64)done;
    }
    return (long)total;
}

static long call_write(u64 descriptor, u64 from, u64 count) {
    struct open_file *file = file_of(descriptor);
    u8 chunk[SECTOR];
    if (!file)
        return -1;
    for (u64 total = 0, most; total < count; total += most) {
        most = count - total < sizeof chunk ? count - total : sizeof chunk;
        if (!copy_in(current, chunk, from + total, most))
            return -1;
        if (file->kind == CONSOLE) {
            for (u64 i = 0; i < most; i++)
                console_put((char)chunk[i]);
        } else {
            long done = file_write(file, chunk, most);
            if (done < 0)
                return -1;
            most = (u64)done;
        }
    }
    return (long)count;
}

static long call_remove(u64 name, u64, u64) {
    char text[NAME];
    return copy_text(current, text, name, sizeof text) ? file_remove(text) : -1;
}

static long call_file(u64 index, u64 to, u64) {
    struct file_facts facts = {0};
    int next = file_facts((u32)index, &facts);
    return next > 0 && !copy_out(current, to, &facts, sizeof facts) ? -1 : next;
}

static long call_process(u64 index, u64 to, u64) {
    while (index < PROCESSES && processes[index].state == NONE)
        index++;
    if (index >= PROCESSES)
        return 0;
    const struct process *p = &processes[index];
    struct process_facts facts = {
        .pid = p->pid, .parent = p->parent, .state = "-RrSZ"[p->state], .milliseconds = p->used / (board.clock / 1000),
        .turns = p->turns, .pages = space_pages(p->space),
    };
    memcpy(facts.name, p->name, NAME);
    return copy_out(current, to, &facts, sizeof facts) ? (long)index + 1 : -1;
}

static long call_memory(u64 to, u64, u64) {
    struct memory_facts facts;
    pages_facts(&facts);
    return copy_out(current, to, &facts, sizeof facts) ? 0 : -1;
}

static long call_shutdown(u64 status, u64, u64) {
    board_stop((int)(status & 0xff));
}

static handler *const handlers[] = {
    [CALL_EXIT] = call_exit, [CALL_FORK] = call_fork, [CALL_EXEC] = call_exec, [CALL_WAIT] = call_wait,
    [CALL_KILL] = call_kill, [CALL_GETPID] = call_getpid, [CALL_SLEEP] = call_sleep, [CALL_GROW] = call_grow,
    [CALL_OPEN] = call_open, [CALL_CLOSE] = call_close, [CALL_READ] = call_read, [CALL_WRITE] = call_write,
    [CALL_REMOVE] = call_remove, [CALL_FILE] = call_file, [CALL_PROCESS] = call_process, [CALL_MEMORY] = call_memory,
    [CALL_SHUTDOWN] = call_shutdown,
};

void system_call(void) {
    u64 *x = current->frame->x;
    handler *handle = x[X_A7] < LENGTH(handlers) ? handlers[x[X_A7]] : 0;
    x[X_A0] = handle ? (u64)handle(x[X_A0], x[X_A1], x[X_A2]) : (u64)-1;
}
