/* Signals read from a descriptor: `signalfd CASE` prints what it saw, which is the same on any Linux. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static sigset_t of(int first, int second, int third) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, first);
    if (second)
        sigaddset(&set, second);
    if (third)
        sigaddset(&set, third);
    return set;
}

/* Block signals, and read them from a new descriptor. */
static int opened(int flags, int first, int second, int third) {
    sigset_t set = of(first, second, third);
    sigprocmask(SIG_BLOCK, &set, 0);
    return signalfd(-1, &set, flags);
}

static int ready(int fd, int timeout) {
    struct pollfd one = {.fd = fd, .events = POLLIN};
    int found = poll(&one, 1, timeout);
    return found * 100 + one.revents;
}

static void show(int fd, size_t size, int other) {
    struct signalfd_siginfo found[8];
    memset(found, 0x55, sizeof found);
    ssize_t got = read(fd, found, size);
    if (got < 0) {
        printf("read: %s\n", strerrorname_np(errno));
        return;
    }
    printf("read %zd\n", got);
    for (int i = 0; i < got / 128; i++) {
        struct signalfd_siginfo *s = found + i;
        printf("  %u errno %d code %d pid %d uid %d status %d int %d ptr %llx fd %d tid %u addr %llx\n", s->ssi_signo,
               s->ssi_errno, s->ssi_code, s->ssi_pid == getpid() ? 1 : (int)s->ssi_pid == other ? 2 : (int)s->ssi_pid,
               s->ssi_uid == getuid(), s->ssi_status, s->ssi_int, (unsigned long long)s->ssi_ptr, s->ssi_fd,
               s->ssi_tid, (unsigned long long)s->ssi_addr);
    }
}

static void case_reads(void) {
    int low = SIGRTMIN, fd = opened(SFD_NONBLOCK | SFD_CLOEXEC, SIGUSR1, low, low + 1);
    printf("flags %d %d\n", !!(fcntl(fd, F_GETFL) & O_NONBLOCK), fcntl(fd, F_GETFD));
    show(fd, 128, 0);
    printf("ready %d\n", ready(fd, 0));
    kill(getpid(), SIGUSR1);
    kill(getpid(), SIGUSR1);
    for (int i = 0; i < 3; i++)
        sigqueue(getpid(), low + (i == 0), (union sigval){.sival_int = 5 + i});
    raise(low);
    printf("ready %d %d\n", ready(fd, 0), ready(fd, 0));
    show(fd, 100, 0);
    show(fd, 130, 0);
    printf("ready %d\n", ready(fd, 0));
    show(fd, 1024, 0);
    show(fd, 128, 0);
    printf("ready %d\n", ready(fd, 0));
    sigset_t pending;
    kill(getpid(), SIGUSR1);
    sigpending(&pending);
    printf("pending %d\n", sigismember(&pending, SIGUSR1));
    int other = dup(fd);
    close(fd);
    show(other, 128, 0);
    sigpending(&pending);
    printf("pending %d\n", sigismember(&pending, SIGUSR1));
}

static void failed(long result) { printf("%ld %s\n", result, strerrorname_np(errno)); }

static void case_update(void) {
    int fd = opened(SFD_NONBLOCK, SIGUSR1, SIGUSR2, 0);
    sigset_t one = of(SIGUSR1, SIGKILL, SIGSTOP), two = of(SIGUSR2, 0, 0);
    printf("%d\n", signalfd(fd, &one, 0) == fd);
    raise(SIGUSR2);
    printf("ready %d\n", ready(fd, 0));
    show(fd, 128, 0);
    printf("%d\n", signalfd(fd, &two, 0) == fd);
    printf("ready %d\n", ready(fd, 0));
    show(fd, 128, 0);
    failed(signalfd(1, &two, 0));
    failed(signalfd(99, &two, 0));
    failed(signalfd(-1, &two, 1));
    failed(syscall(SYS_signalfd4, -1, &two, 4L, 0L));
    failed(syscall(SYS_signalfd4, -1, 8L, 8L, 0L));
}

static int later(int number, int microseconds) {
    int parent = getpid(), child = fork();
    if (child == 0) {
        usleep(microseconds);
        if (number)
            kill(parent, number);
        _exit(7);
    }
    return child;
}

static void case_waits(void) {
    int fd = opened(0, SIGUSR1, SIGCHLD, 0);
    int child = later(SIGUSR1, 50000);
    show(fd, 128, child);
    show(fd, 128, child);
    waitpid(child, 0, 0);
    child = later(SIGUSR1, 50000);
    printf("ready %d\n", ready(fd, 5000));
    waitpid(child, 0, 0);
    show(fd, 1024, child);
}

static int seen;
static void count(int number) { seen++; }

/* A signal that is there before the call interrupts nothing, so they come until one does: hosts may be busy. */
static void case_interrupted(void) {
    int fd = opened(0, SIGUSR1, 0, 0);
    struct itimerval often = {.it_value = {.tv_usec = 50000}, .it_interval = {.tv_usec = 50000}}, never = {0};
    struct sigaction action = {.sa_handler = count};
    sigaction(SIGALRM, &action, 0);
    setitimer(ITIMER_REAL, &often, 0);
    show(fd, 128, 0);
    setitimer(ITIMER_REAL, &never, 0);
    printf("seen %d\n", seen > 0);
    seen = 0;
    action.sa_flags = SA_RESTART;
    sigaction(SIGALRM, &action, 0);
    setitimer(ITIMER_REAL, &often, 0);
    int child = later(SIGUSR1, 200000);
    show(fd, 128, child);
    printf("seen %d\n", seen > 0);
}

static void case_epoll(void) {
    int fd = opened(SFD_NONBLOCK, SIGUSR1, SIGALRM, 0), instance = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = 77}, found = {0};
    epoll_ctl(instance, EPOLL_CTL_ADD, fd, &event);
    printf("%d\n", epoll_wait(instance, &found, 1, 0));
    raise(SIGUSR1);
    printf("%d", epoll_wait(instance, &found, 1, 0));
    printf(" %d %d\n", found.events, (int)found.data.u64);
    show(fd, 128, 0);
    printf("%d\n", epoll_wait(instance, &found, 1, 0));
    struct itimerval soon = {.it_value = {.tv_usec = 50000}};
    setitimer(ITIMER_REAL, &soon, 0);
    printf("%d\n", epoll_wait(instance, &found, 1, 5000));
    show(fd, 128, 0);
}

static void case_fork(void) {
    int fd = opened(SFD_NONBLOCK, SIGUSR1, SIGUSR2, 0);
    raise(SIGUSR1);
    fflush(stdout);
    int child = fork();
    if (child == 0) {
        printf("ready %d\n", ready(fd, 0));
        show(fd, 128, 0);
        raise(SIGUSR2);
        printf("ready %d\n", ready(fd, 0));
        show(fd, 1024, 0);
        fflush(stdout);
        _exit(0);
    }
    waitpid(child, 0, 0);
    printf("ready %d\n", ready(fd, 0));
    show(fd, 1024, 0);
}

static void case_exec(char *self) {
    int fd = opened(SFD_NONBLOCK, SIGUSR1, SIGUSR2, 0);
    char number[16];
    sprintf(number, "%d", fd);
    raise(SIGUSR1);
    execl(self, self, "read", number, (char *)0);
}

static void case_ignored(void) {
    signal(SIGUSR1, SIG_IGN);
    int fd = opened(SFD_NONBLOCK, SIGUSR1, SIGWINCH, 0);
    sigset_t set = of(SIGUSR2, 0, 0);
    int open_to_all = signalfd(-1, &set, SFD_NONBLOCK);
    kill(getpid(), SIGUSR1);
    raise(SIGWINCH);
    show(fd, 1024, 0);
    signal(SIGUSR2, count);
    raise(SIGUSR2);
    show(open_to_all, 128, 0);
    printf("seen %d\n", seen);
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    if (!strcmp(what, "reads"))
        case_reads();
    else if (!strcmp(what, "update"))
        case_update();
    else if (!strcmp(what, "waits"))
        case_waits();
    else if (!strcmp(what, "interrupted"))
        case_interrupted();
    else if (!strcmp(what, "epoll"))
        case_epoll();
    else if (!strcmp(what, "fork"))
        case_fork();
    else if (!strcmp(what, "exec"))
        case_exec(argv[0]);
    else if (!strcmp(what, "ignored"))
        case_ignored();
    else if (!strcmp(what, "read"))
        show(atoi(argv[2]), 1024, 0);
    else
        return 2;
    return 0;
}
