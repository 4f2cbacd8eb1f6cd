/* shell: reads a line, and does what its first word says: a command of its own, or a program, from the disk or linked
 * into the kernel. A line that ends with & does not wait for its program. */
#include "user.h"

enum { LINE = 128 };

static int argc;
static char *argv[ARGUMENTS + 1];

static int failed(const char *what) {
    print("%s: cannot %s %s\n", argv[0], what, argc > 1 ? argv[1] : "");
    return 1;
}

static int help(void);

static int ls(void) {
    struct file_facts facts;
    for (long next = 0; (next = call(CALL_FILE, (u64)next, (u64)&facts, 0)) > 0;)
        print("%8u %s%s\n", facts.size, facts.name, facts.linked ? " (in the kernel)" : "");
    return 0;
}

static int copy(int from, int to) {
    char part[512];
    long count;
    while ((count = read(from, part, sizeof part)) > 0)
        if (write(to, part, (u64)count) != count)
            return -1;
    return (int)count;
}

static int cat(void) {
    int file = open(argv[1], OPEN_READ);
    if (file < 0)
        return failed("open");
    int result = copy(file, 1);
    close(file);
    return result < 0 ? failed("read") : 0;
}

static int cp(void) {
    int from = open(argv[1], OPEN_READ), to = from < 0 ? -1 : open(argv[2], OPEN_CREATE);
    int result = to < 0 ? -1 : copy(from, to);
    if (from >= 0)
        close(from);
    if (to >= 0 && close(to) < 0)
        result = -1;
    return result < 0 ? failed("copy") : 0;
}

/* write NAME [WORD...]: the words, or what is typed until ^D; `append` does not cut the file before. */
static int put_into(int mode) {
    int file = open(argv[1], mode), result = 0;
    if (file < 0)
        return failed("open");
    for (int i = 2; i < argc && result >= 0; i++)
        if (write(file, argv[i], strlen(argv[i])) < 0 || write(file, i + 1 < argc ? " " : "\n", 1) < 0)
            result = -1;
    if (argc == 2)
        result = copy(0, file);
    if (close(file) < 0)
        result = -1;
    return result < 0 ? failed("write") : 0;
}

static int write_file(void) {
    return put_into(OPEN_CREATE);
}

static int append(void) {
    return put_into(OPEN_APPEND);
}

static int rm(void) {
    return remove(argv[1]) < 0 ? failed("remove") : 0;
}

static int echo(void) {
    for (int i = 1; i < argc; i++)
        print("%s%s", argv[i], i + 1 < argc ? " " : "");
    print("\n");
    return 0;
}

static int ps(void) {
    struct process_facts facts;
    print("  pid parent state pages   ms turns name\n");
    for (long next = 0; (next = call(CALL_PROCESS, (u64)next, (u64)&facts, 0)) > 0;)
        print("%5d %6d %5c %5lu %4lu %5lu %s\n", facts.pid, facts.parent, facts.state, facts.pages, facts.milliseconds,
              facts.turns, facts.name);
    return 0;
}

static int mem(void) {
    struct memory_facts facts;
    call(CALL_MEMORY, (u64)&facts, 0, 0);
    print("%lu pages, %lu free, %lu shared\n", facts.pages, facts.free, facts.shared);
    return 0;
}

static int kill_process(void) {
    long pid = number_of(argv[1]);
    return pid < 0 || kill((int)pid) < 0 ? failed("kill") : 0;
}

static int sleep_for(void) {
    long milliseconds = number_of(argv[1]);
    if (milliseconds < 0)
        return failed("sleep");
    sleep((u64)milliseconds);
    return 0;
}

static void report(int pid, int status) {
    if (status == KILLED)
        print("process %d was killed\n", pid);
    else if (status != 0)
        print("process %d: status %d\n", pid, status);
}

static int wait_all(void) {
    int status;
    for (int pid; (pid = wait(0, &status)) > 0;)
        report(pid, status);
    return 0;
}

static int stop(void) {
    call(CALL_SHUTDOWN, argc > 1 ? (u64)number_of(argv[1]) : 0, 0, 0);
    return 0;
}

static const struct command { const char *name; int words; int (*act)(void); const char *about; } commands[] = {
    {"help", 1, help, "this list"},
    {"ls", 1, ls, "files, and programs in the kernel"},
    {"cat", 2, cat, "NAME: what is in a file"},
    {"write", 2, write_file, "NAME [WORD...]: a file of these words, or of what is typed until ^D"},
    {"append", 2, append, "NAME [WORD...]: the same, after what is there"},
    {"cp", 3, cp, "NAME NAME: copies a file, or a program of the kernel, to the disk"},
    {"rm", 2, rm, "NAME: removes a file"},
    {"echo", 1, echo, "[WORD...]"},
    {"ps", 1, ps, "processes"},
    {"mem", 1, mem, "memory"},
    {"kill", 2, kill_process, "PID: ends a process"},
    {"sleep", 2, sleep_for, "MILLISECONDS"},
    {"wait", 1, wait_all, "for all programs that were started with &"},
    {"shutdown", 1, stop, "[STATUS]: ends the machine"},
};

static int help(void) {
    for (u32 i = 0; i < LENGTH(commands); i++)
        print("%-9s %s\n", commands[i].name, commands[i].about);
    print("[run] PROGRAM [WORD...] [&]: fault, forks, primes, spin, wild, or one from the disk; ^C ends it\n");
    return 0;
}

static void run(char **words, int background) {
    int child = fork(), status = 0;
    if (child == 0) {
        exec(words[0], words);
        print("%s: no such command or program\n", words[0]);
        exit(127);
    }
    if (child < 0)
        print("%s: no process is free for it\n", words[0]);
    else if (background)
        print("process %d\n", child);
    else if (wait(child, &status) == child && status != 127)
        report(child, status);
}

static int is_space(char c) {
    return c == ' ' || c == '\n';
}

/* Words of a line into argv; more than there is room for are left out. */
static void split(char *c) {
    argc = 0;
    while (*c && argc < ARGUMENTS) {
        while (is_space(*c))
            *c++ = 0;
        if (*c)
            argv[argc++] = c;
        while (*c && !is_space(*c))
            c++;
    }
    *c = 0;
    argv[argc] = 0;
}

static void act(void) {
    for (u32 i = 0; i < LENGTH(commands); i++)
        if (strcmp(argv[0], commands[i].name) == 0) {
            if (argc < commands[i].words)
                print("%s %s\n", commands[i].name, commands[i].about);
            else
                commands[i].act();
            return;
        }
    int background = strcmp(argv[argc - 1], "&") == 0, skip = strcmp(argv[0], "run") == 0;
    if (background)
        argv[--argc] = 0;
    if (argc > skip)
        run(argv + skip, background);
}

int main(void) {
    static char line[LINE];
    for (;;) {
        print("$ ");
        long count = read(0, line, LINE - 1);
        if (count <= 0)
            return 0;
        line[count] = 0;
        split(line);
        if (argc > 0)
            act();
    }
}
