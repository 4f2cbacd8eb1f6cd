/* Processes as Linux has them: each word of the command line is one probe, which prints the same wherever it is right.
 * Numbers of processes are never printed. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "say.h"

extern char **environ;
static const char *self;

static const char *ended(int status) {
    static char text[64];
    if (WIFEXITED(status))
        sprintf(text, "exit %d", WEXITSTATUS(status));
    else if (WIFSIGNALED(status))
        sprintf(text, "signal %d", WTERMSIG(status));
    else if (WIFSTOPPED(status))
        sprintf(text, "stopped %d", WSTOPSIG(status));
    else
        sprintf(text, "continued %d", WIFCONTINUED(status) != 0);
    return text;
}

static int wait_for(pid_t child) {
    int status = -1;
    pid_t found = waitpid(child, &status, 0);
    if (found != child)
        say("waitpid gave another: %d\n", errno);
    return status;
}

/* A tree of forks; each process returns how many there are at and below it. */
static int tree(int depth) {
    int count = 1;
    if (depth == 0)
        return 1;
    for (int i = 0; i < 2; i++) {
        pid_t child = fork();
        if (child == 0)
            _exit(tree(depth - 1));
        count += WEXITSTATUS(wait_for(child));
    }
    return count;
}

static void probe_tree(void) {
    say("tree %d\n", tree(4));
    int variable = 1;
    pid_t child = fork();
    if (child == 0) {
        variable = 2;
        _exit(variable == 2 && getppid() > 0 ? 7 : 8);
    }
    say("child %s, here %d\n", ended(wait_for(child)), variable);
    int deep = 0;
    for (; deep < 200; deep++) { /* each the child of the one before */
        child = fork();
        if (child != 0)
            break;
    }
    if (deep == 200)
        _exit(42);
    int status = wait_for(child);
    if (deep > 0)
        _exit(WEXITSTATUS(status));
    say("a chain of 200 ends with %s\n", ended(status));
}

static void probe_pipes(void) {
    int first[2], second[2];
    char text[64];
    if (pipe(first) || pipe(second))
        return;
    pid_t upper = fork();
    if (upper == 0) {
        close(first[1]);
        close(second[0]);
        ssize_t length;
        while ((length = read(first[0], text, sizeof text)) > 0) {
            for (ssize_t i = 0; i < length; i++)
                text[i] -= text[i] >= 'a' && text[i] <= 'z' ? 32 : 0;
            if (write(second[1], text, length) != length)
                _exit(1);
        }
        _exit(3);
    }
    close(first[0]);
    close(second[1]);
    for (int i = 0; i < 1000; i++)
        if (write(first[1], "some words ", 11) != 11)
            say("write\n");
    close(first[1]);
    unsigned long sum = 0, bytes = 0;
    ssize_t length;
    while ((length = read(second[0], text, sizeof text)) > 0)
        for (ssize_t i = 0; i < length; i++, bytes++)
            sum = sum * 31 + text[i];
    say("pipes %lu %lu, %s\n", bytes, sum, ended(wait_for(upper)));
    close(second[0]);
    if (pipe(first))
        return;
    close(first[0]);
    pid_t child = fork();
    if (child == 0) { /* dies of SIGPIPE */
        if (write(first[1], "x", 1) == 1)
            _exit(1);
        _exit(2);
    }
    close(first[1]);
    say("nobody reads: %s\n", ended(wait_for(child)));
}

static void probe_vfork(void) {
    volatile int shared = 1;
    static int elsewhere[5000];
    pid_t child = vfork();
    if (child == 0) {
        shared = 2;
        elsewhere[4000] = 3;
        _exit(5);
    }
    int status = wait_for(child);
    say("vfork %s, %d %d\n", ended(status), shared, elsewhere[4000]);
    child = vfork();
    if (child == 0) {
        execl("/nonesuch", "nonesuch", NULL);
        shared = errno;
        execl(self, self, "child", "by vfork", NULL);
        _exit(6);
    }
    status = wait_for(child);
    say("vfork %s, %s\n", ended(status), strerror(shared));
}

static void probe_spawn(void) {
    pid_t child = -1;
    char *arguments[] = {(char *)self, "child", "by posix_spawn", NULL};
    int failed = posix_spawn(&child, self, NULL, NULL, arguments, environ);
    say("spawn %d, %s\n", failed, ended(wait_for(child)));
    failed = posix_spawn(&child, "/nonesuch/program", NULL, NULL, arguments, environ);
    say("spawn nothing: %s\n", strerror(failed));
    failed = posix_spawn(&child, "/", NULL, NULL, arguments, environ);
    say("spawn a folder: %s\n", strerror(failed));

    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t set;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 5, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, 5, 6);
    posix_spawn_file_actions_addclose(&actions, 5);
    posix_spawnattr_init(&attributes);
    sigfillset(&set);
    posix_spawnattr_setsigdefault(&attributes, &set);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    posix_spawnattr_setsigmask(&attributes, &set);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
    char *inspect[] = {(char *)self, "inspect", NULL};
    signal(SIGUSR2, SIG_IGN);
    failed = posix_spawn(&child, self, &actions, &attributes, inspect, environ);
    say("spawn %d, %s\n", failed, ended(wait_for(child)));
    signal(SIGUSR2, SIG_DFL);
    for (int i = 0; i < 20; i++) {
        if (posix_spawn(&child, self, NULL, NULL, (char *[]){(char *)self, "quiet", NULL}, environ))
            say("spawn failed\n");
        if (wait_for(child) != 0x900)
            say("it did not end with 9\n");
    }
    FILE *stream = popen("exit 4", "r");
    say("popen %s\n", ended(stream ? pclose(stream) : -1));
    say("system %s\n", ended(system("exit 3")));
}

static void probe_orphans(void) {
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    int pair[2], subreaper = 0;
    prctl(PR_GET_CHILD_SUBREAPER, &subreaper);
    if (pipe(pair))
        return;
    pid_t own = getpid(), child = fork();
    if (child == 0) {
        pid_t middle = getpid();
        if (fork() == 0) {
            while (getppid() == middle)
                usleep(1000);
            char adopted = getppid() == own ? 'y' : 'n';
            if (write(pair[1], &adopted, 1) != 1)
                _exit(1);
            _exit(11);
        }
        _exit(10);
    }
    char adopted = '?';
    say("middle %s\n", ended(wait_for(child)));
    if (read(pair[0], &adopted, 1) != 1)
        say("read\n");
    int status = 0;
    pid_t found = wait(&status);
    say("adopted %c, subreaper %d, another %d, %s\n", adopted, subreaper, found > 0 && found != child, ended(status));
    say("wait %d\n", wait(NULL) == -1 && errno == ECHILD);
    prctl(PR_SET_CHILD_SUBREAPER, 0);
    close(pair[0]);
    close(pair[1]);
}

static void probe_zombies(void) {
    siginfo_t info;
    pid_t child = fork();
    if (child == 0)
        _exit(12);
    memset(&info, 0, sizeof info);
    int result = waitid(P_PID, child, &info, WEXITED | WNOWAIT);
    say("waitid %d %d %d %d %d\n", result, info.si_pid == child, info.si_signo, info.si_code, info.si_status);
    say("zombie %d\n", kill(child, 0));
    int status = 0;
    struct rusage usage;
    memset(&usage, 0xff, sizeof usage);
    pid_t found = wait4(child, &status, 0, &usage);
    say("wait4 %d, %s, %d\n", found == child, ended(status), usage.ru_utime.tv_sec >= 0);
    result = kill(child, 0);
    say("gone %d %s\n", result, strerror(errno));
    found = waitpid(child, &status, 0);
    say("again %d %s\n", found, strerror(errno));
    signal(SIGCHLD, SIG_IGN);
    child = fork();
    if (child == 0)
        _exit(13);
    found = waitpid(child, &status, 0);
    say("ignored %d %s\n", found, strerror(errno));
    signal(SIGCHLD, SIG_DFL);
}

static int *lost = (int *)8;

static void probe_waits(void) {
    int pair[2], status = 0;
    char byte;
    if (pipe(pair))
        return;
    pid_t child = fork();
    if (child == 0) {
        close(pair[1]);
        if (read(pair[0], &byte, 1) == 0)
            kill(getpid(), SIGSTOP);
        for (;;)
            pause();
    }
    say("nothing yet %d\n", waitpid(child, &status, WNOHANG));
    siginfo_t info = {.si_pid = 1};
    int result = waitid(P_ALL, 0, &info, WEXITED | WNOHANG);
    say("nothing yet %d %d\n", result, info.si_pid);
    close(pair[0]);
    close(pair[1]);
    pid_t found = waitpid(child, &status, WUNTRACED);
    say("stop %d, %s\n", found == child, ended(status));
    kill(child, SIGCONT);
    found = waitpid(child, &status, WCONTINUED);
    say("continue %d, %s\n", found == child, ended(status));
    kill(child, SIGUSR1);
    found = waitpid(-1, &status, 0);
    say("end %d, %s\n", found == child, ended(status));
    for (int number = 1; number < 16; number += 7) {
        child = fork();
        if (child == 0)
            for (;;)
                pause();
        kill(child, number);
        say("killed: %s\n", ended(wait_for(child)));
    }
    child = fork();
    if (child == 0)
        abort();
    say("abort: %s\n", ended(wait_for(child) & ~0x80));
    child = fork();
    if (child == 0)
        *(volatile int *volatile)lost = 1;
    say("fault: %s\n", ended(wait_for(child) & ~0x80));
    found = waitpid(-1, &status, 0x100);
    say("bad options %d %s\n", found, strerror(errno));
    found = waitpid(-1, &status, WNOHANG);
    say("none %d %s\n", found, strerror(errno));
}

static void probe_groups(void) {
    int pair[2];
    char byte;
    if (pipe(pair))
        return;
    pid_t child = fork();
    if (child == 0) {
        close(pair[1]);
        if (read(pair[0], &byte, 1))
            _exit(1);
        int own = getpgrp() == getpid();
        pid_t session = setsid();
        _exit(own && session == -1 && errno == EPERM ? 15 : 16);
    }
    int result = setpgid(child, child);
    say("setpgid %d %d\n", result, getpgid(child) == child);
    say("session %d\n", getsid(child) == getsid(0));
    close(pair[0]);
    close(pair[1]);
    int status = 0;
    pid_t found = waitpid(-child, &status, 0);
    say("by group %d, %s\n", found == child, ended(status));
    child = fork();
    if (child == 0)
        _exit(setsid() == getpid() && getsid(0) == getpid() && getpgrp() == getpid() ? 17 : 18);
    say("setsid %s\n", ended(wait_for(child)));
    pid_t leader = 0;
    for (int i = 0; i < 3; i++) {
        child = fork();
        if (child == 0)
            for (;;)
                pause();
        leader = leader ? leader : child;
        setpgid(child, leader);
    }
    say("kill the group %d\n", kill(-leader, SIGTERM));
    for (int i = 0; i < 3; i++) {
        found = waitpid(-leader, &status, 0);
        say("%d %s\n", found > 0, ended(status));
    }
    result = kill(-leader, SIGTERM);
    say("no such group %d %s\n", result, strerror(errno));
}

static void probe_memory(void) {
    _Atomic long *counter = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    long *own = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char name[] = "probe-XXXXXX";
    int fd = mkstemp(name);
    if (fd < 0 || ftruncate(fd, 4096))
        say("no file\n");
    _Atomic int *words = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    unlink(name);
    pid_t children[4];
    for (int i = 0; i < 4; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            for (int j = 0; j < 20000; j++) {
                atomic_fetch_add(counter, 1);
                long seen = atomic_load(counter + 1);
                while (!atomic_compare_exchange_weak(counter + 1, &seen, seen + 3))
                    ;
                atomic_fetch_add(words + 5, 2);
                atomic_fetch_xor(words + 6, j);
                *own += 1;
            }
            _exit(*own == 20000 ? 19 : 20);
        }
        say("%s\n", ended(wait_for(children[i])));
    }
    int in_file[7] = {0};
    if (pread(fd, in_file, sizeof in_file, 0) != sizeof in_file)
        say("pread\n");
    say("shared %ld %ld, private %ld, file %d %d %d\n", counter[0], counter[1], *own, words[5], in_file[5], in_file[6]);
    close(fd);
}

/* Semaphores in memory that processes share: who waits sleeps in the kernel until another process posts. */
static void probe_semaphores(void) {
    sem_t *both = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    sem_init(both, 1, 0);
    sem_init(both + 1, 1, 0);
    int *turns = (int *)(both + 2);
    pid_t child = fork();
    if (child == 0) {
        for (int i = 0; i < 50; i++) {
            sem_wait(both);
            usleep(i % 10 == 0 ? 2000 : 0);
            *turns = *turns * 3 + i;
            sem_post(both + 1);
        }
        _exit(33);
    }
    for (int i = 0; i < 50; i++) {
        *turns += 1;
        sem_post(both);
        sem_wait(both + 1);
    }
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_nsec += 20000000;
    end.tv_sec += end.tv_nsec / 1000000000;
    end.tv_nsec %= 1000000000;
    int result = sem_timedwait(both, &end);
    say("semaphores %d, %d %s", *turns, result, strerror(errno));
    say(", %s\n", ended(wait_for(child)));
}

static void attempt(const char *what, const char *path) {
    char *arguments[] = {"name", "child", "not to be run", NULL};
    int result = execve(path, arguments, environ);
    say("%s: %d %s\n", what, result, strerror(errno));
}

static void probe_exec(void) {
    char folder[] = "exec-XXXXXX", path[64];
    if (!mkdtemp(folder) || chdir(folder))
        return;
    int fd = open("plain", O_CREAT | O_WRONLY, 0644);
    if (write(fd, "#!/bin/sh\n", 10) != 10)
        say("write\n");
    close(fd);
    fd = open("text", O_CREAT | O_WRONLY, 0755);
    if (write(fd, "echo this is no program\n", 24) != 24)
        say("write\n");
    close(fd);
    fd = open("broken", O_CREAT | O_WRONLY, 0755);
    if (write(fd, "\177ELF\2\1\1", 7) != 7)
        say("write\n");
    close(fd);
    if (symlink("loop", "loop") || mkdir("folder", 0755))
        say("symlink\n");
    fd = open("script", O_CREAT | O_WRONLY, 0755);
    dprintf(fd, "#!%s  child of a script \nrest\n", self);
    close(fd);
    fd = open("lost", O_CREAT | O_WRONLY, 0755);
    dprintf(fd, "#!/nonesuch/interpreter\n");
    close(fd);
    attempt("nothing", "nonesuch");
    attempt("no name", "");
    attempt("a folder", "folder");
    attempt("below a file", "text/below");
    attempt("no right", "plain");
    attempt("no program", "text");
    attempt("a broken one", "broken");
    attempt("a circle", "loop");
    attempt("no interpreter", "lost");
    attempt("a bad pointer", (char *)16);
    size_t length = 300000;
    char *large = malloc(length);
    memset(large, 'x', length - 1);
    large[length - 1] = 0;
    char *arguments[] = {"name", large, NULL};
    int result = execve(self, arguments, environ);
    say("long: %d %s\n", result, strerror(errno));
    large[100000] = 0;
    char *many[201] = {0};
    for (int i = 0; i < 200; i++)
        many[i] = large;
    result = execve(self, many, environ);
    say("many: %d %s\n", result, strerror(errno));
    free(large);

    pid_t child = fork();
    if (child == 0) {
        execl("script", "other name", "more", NULL);
        _exit(21);
    }
    say("script %s\n", ended(wait_for(child)));
    child = fork();
    if (child == 0) {
        char *none[] = {NULL};
        execve(self, none, none);
        _exit(22);
    }
    say("without arguments %s\n", ended(wait_for(child)));
    child = fork();
    if (child == 0) {
        fd = open(self, O_RDONLY | O_CLOEXEC);
        fexecve(fd, (char *[]){"by descriptor", "child", "of fexecve", NULL}, environ);
        _exit(23);
    }
    say("fexecve %s\n", ended(wait_for(child)));
    child = fork();
    if (child == 0) {
        fd = open(".", O_RDONLY | O_DIRECTORY);
        char *words[] = {"x", NULL};
        syscall(SYS_execveat, fd, "loop", words, environ, AT_SYMLINK_NOFOLLOW);
        int first = errno;
        syscall(SYS_execveat, fd, "text", words, environ, 0);
        _exit(first == ELOOP && errno == ENOEXEC ? 24 : 25);
    }
    say("execveat %s\n", ended(wait_for(child)));
    child = fork();
    if (child == 0) {
        int null = open("/dev/null", O_RDONLY), closing = open("/dev/null", O_RDONLY | O_CLOEXEC);
        dup2(null, 6);
        dup3(closing, 7, O_CLOEXEC);
        fcntl(closing, F_SETFD, FD_CLOEXEC);
        close(null);
        close(closing);
        struct sigaction action = {.sa_handler = SIG_IGN};
        sigaction(SIGUSR2, &action, NULL);
        action.sa_handler = (void (*)(int))attempt; /* any handler */
        sigaction(SIGWINCH, &action, NULL);
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, SIGUSR1);
        sigprocmask(SIG_BLOCK, &set, NULL);
        raise(SIGUSR1);
        setpgid(0, 0);
        setenv("PROBE", "kept", 1);
        snprintf(path, sizeof path, "%d", getpid());
        setenv("PID", path, 1);
        prctl(PR_SET_NAME, "another");
        execl(self, self, "inspect", NULL);
        _exit(26);
    }
    say("exec %s\n", ended(wait_for(child)));
    if (unlink("plain") || unlink("text") || unlink("broken") || unlink("loop") || unlink("script") || unlink("lost") ||
        rmdir("folder") || chdir("..") || rmdir(folder))
        say("unlink\n");
}

static void probe_clone(void) {
    pid_t parent_tid = 0;
    static pid_t *child_tid;
    child_tid = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
#ifdef __riscv
    long child = syscall(SYS_clone, CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | SIGCHLD, NULL, &parent_tid, NULL, child_tid);
#else /* x86-64 has the last two the other way round */
    long child = syscall(SYS_clone, CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | SIGCHLD, NULL, &parent_tid, child_tid, NULL);
#endif
    if (child == 0)
        _exit(*(volatile pid_t *)child_tid == getpid() && syscall(SYS_gettid) == getpid() ? 27 : 28);
    int status = wait_for(child);
    say("clone %s, %d %d\n", ended(status), parent_tid == child, *child_tid == child);
    struct {
        unsigned long flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
    } wanted = {.exit_signal = SIGCHLD, .flags = CLONE_PIDFD};
    int pidfd = -1;
    wanted.pidfd = (unsigned long)&pidfd;
    child = syscall(SYS_clone3, &wanted, sizeof wanted);
    if (child == 0)
        _exit(29);
    struct pollfd watched = {.fd = pidfd, .events = POLLIN};
    int polled = poll(&watched, 1, 10000);
    siginfo_t info;
    int waited = waitid((idtype_t)3, pidfd, &info, WEXITED);
    say("clone3 %d %d, %d %d %d\n", polled, watched.revents, waited, info.si_pid == child, info.si_status);
    close(pidfd);
    wanted.flags = 0;
    child = syscall(SYS_clone3, &wanted, 8);
    say("short %ld %s\n", child, strerror(errno));
    child = fork();
    if (child == 0)
        for (;;)
            pause();
    pidfd = syscall(SYS_pidfd_open, (int)child, 0);
    say("pidfd %d %d", pidfd >= 0, (fcntl(pidfd, F_GETFD) & FD_CLOEXEC) != 0);
    say(" %ld", syscall(SYS_pidfd_send_signal, pidfd, SIGTERM, NULL, 0));
    say(" %s\n", ended(wait_for(child)));
    long late = syscall(SYS_pidfd_send_signal, pidfd, SIGTERM, NULL, 0);
    say("late %ld %s\n", late, strerror(errno));
    close(pidfd);
    int death = -1;
    prctl(PR_SET_PDEATHSIG, SIGUSR1);
    prctl(PR_GET_PDEATHSIG, &death);
    say("death %d", death);
    child = fork();
    if (child == 0) {
        prctl(PR_GET_PDEATHSIG, &death);
        _exit(death);
    }
    say(", of a child %s\n", ended(wait_for(child)));
    prctl(PR_SET_PDEATHSIG, 0);
}

static void probe_short(void) {
    pid_t child = fork();
    if (child == 0) {
        say("child\n");
        _exit(4);
    }
    say("%s\n", ended(wait_for(child)));
}

static void probe_again(void) {
    execv(self, (char *[]){(char *)self, "child", "of execv", NULL});
}

/* The only probe that says numbers: they are for runs in which a seed decides them. */
static void probe_numbers(void) {
    int pair[2];
    pid_t seen = 0;
    if (pipe(pair))
        return;
    pid_t child = fork();
    if (child == 0) {
        seen = getpid();
        if (write(pair[1], &seen, sizeof seen) != sizeof seen || getpgid(seen) != getpgid(0))
            _exit(1);
        _exit(0);
    }
    if (read(pair[0], &seen, sizeof seen) != sizeof seen || kill(child, 0) || wait_for(child))
        say("wrong ");
    say("%d %d %d\n", getpid(), child, seen);
}

static volatile sig_atomic_t caught, reaped;

static void on_child(int number, siginfo_t *info, void *context) {
    int status, before = errno;
    while (waitpid(-1, &status, WNOHANG) > 0)
        reaped++;
    caught += info->si_code == CLD_EXITED && info->si_status == 5;
    errno = before;
}

/* The end of a child arrives as a signal: it ends what waits, or lets it go on, and may be waited for in the handler. */
static void probe_sigchld(void) {
    struct sigaction action = {.sa_sigaction = on_child, .sa_flags = SA_SIGINFO}, before;
    sigset_t set, old;
    sigaction(SIGCHLD, &action, &before);
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, &old);
    for (int i = 0; i < 10; i++) {
        if (fork() == 0) {
            usleep(1000);
            _exit(5);
        }
        while (reaped == i)
            sigsuspend(&old);
    }
    sigprocmask(SIG_SETMASK, &old, NULL);
    say("reaped %d, told of %d\n", reaped, caught);
    reaped = 0;
    if (fork() == 0) {
        usleep(50000);
        _exit(5);
    }
    int result = usleep(20000000);
    say("slept %d %s, reaped %d\n", result, strerror(errno), reaped);
    action.sa_flags |= SA_NOCLDWAIT;
    sigaction(SIGCHLD, &action, NULL);
    pid_t child = fork();
    if (child == 0)
        _exit(6);
    pid_t found;
    do
        found = waitpid(child, NULL, 0);
    while (found == -1 && errno == EINTR);
    say("no zombie %d %s\n", found, strerror(errno));
    action.sa_flags = SA_SIGINFO | SA_NOCLDSTOP | SA_RESTART;
    sigaction(SIGCHLD, &action, NULL);
    caught = reaped = 0;
    child = fork();
    if (child == 0) {
        kill(getpid(), SIGSTOP);
        _exit(5);
    }
    int status = 0;
    waitpid(child, &status, WUNTRACED);
    say("%s, told of %d\n", ended(status), caught);
    kill(child, SIGCONT);
    while (!reaped)
        usleep(1000);
    say("told of %d\n", caught);
    sigaction(SIGCHLD, &before, NULL);
}

static void inspect(void) {
    const char *pid = getenv("PID");
    struct sigaction two, window;
    sigset_t blocked, pending;
    char name[16];
    sigaction(SIGUSR2, NULL, &two);
    sigaction(SIGWINCH, NULL, &window);
    sigprocmask(SIG_BLOCK, NULL, &blocked);
    sigpending(&pending);
    prctl(PR_GET_NAME, name);
    say("6 open %d, 7 open %d, ignored %d, default %d, blocked %d, pending %d, leads %d, name %s, %s, same %d\n",
        fcntl(6, F_GETFD), fcntl(7, F_GETFD), two.sa_handler == SIG_IGN, window.sa_handler == SIG_DFL,
        sigismember(&blocked, SIGUSR1), sigismember(&pending, SIGUSR1), getpgrp() == getpid(), name,
        getenv("PROBE") ? getenv("PROBE") : "nothing", pid && atoi(pid) == getpid());
    _exit(31);
}

static const struct {
    const char *name;
    void (*run)(void);
} probes[] = {{"tree", probe_tree},       {"pipes", probe_pipes},   {"vfork", probe_vfork}, {"spawn", probe_spawn},
              {"orphans", probe_orphans}, {"zombies", probe_zombies}, {"waits", probe_waits}, {"groups", probe_groups},
              {"memory", probe_memory},   {"exec", probe_exec},     {"clone", probe_clone}, {"inspect", inspect},
              {"short", probe_short},     {"again", probe_again},   {"numbers", probe_numbers},
              {"sigchld", probe_sigchld}, {"semaphores", probe_semaphores}};

int main(int argc, char **argv) {
    static char path[4096];
    if (argc == 1 && argv[0][0] == 0) {
        say("no arguments but an empty name\n");
        return 32;
    }
    if (argc > 1 && !strcmp(argv[1], "quiet"))
        return 9;
    if (argc > 1 && !strncmp(argv[1], "child", 5)) {
        for (int i = 1; i < argc; i++)
            say("%s%s", i > 1 ? " | " : "", i == 2 && strchr(argv[i], '/') ? strrchr(argv[i], '/') : argv[i]);
        say("\n");
        return 30;
    }
    if (!realpath(argv[0], path))
        return 98;
    self = path;
    for (int i = 1; i < argc; i++)
        for (size_t j = 0; j < sizeof probes / sizeof *probes; j++)
            if (!strcmp(argv[i], probes[j].name))
                probes[j].run();
    return 0;
}
