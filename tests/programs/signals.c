/* Signals: `signals CASE [MICROSECONDS]` does one thing and prints what it saw. Most are for any Linux: the host itself is
   asked. A signal that is to come while a call waits comes after so many microseconds. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <fenv.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static volatile sig_atomic_t seen, depth, deepest;
static volatile long order[64];
static char *page;
static sigjmp_buf back;

static void set(int number, void (*handler)(int, siginfo_t *, void *), int flags, int masked) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags};
    sigemptyset(&action.sa_mask);
    if (masked)
        sigaddset(&action.sa_mask, masked);
    if (sigaction(number, &action, 0))
        perror("sigaction");
}

static void block(int how, int number) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, number);
    sigprocmask(how, &set, 0);
}

static void count(int number, siginfo_t *info, void *context) { seen++; }

static void note(int number, siginfo_t *info, void *context) {
    order[seen++] = number * 1000 + info->si_value.sival_int;
}

/* Siginfo, and the mask inside a handler and after it. */
static void told(int number, siginfo_t *info, void *context) {
    sigset_t now;
    sigprocmask(0, 0, &now);
    printf("signal %d code %d pid %d uid %d masked %d %d\n", number, info->si_code, info->si_pid == getpid(),
           info->si_uid == getuid(), sigismember(&now, number), sigismember(&now, SIGUSR2));
}

static void case_info(void) {
    set(SIGUSR1, told, 0, SIGUSR2);
    raise(SIGUSR1);
    kill(getpid(), SIGUSR1);
    sigset_t now;
    sigprocmask(0, 0, &now);
    printf("after %d\n", sigismember(&now, SIGUSR1));
    set(SIGUSR1, told, SA_NODEFER, 0);
    raise(SIGUSR1);
    struct sigaction old;
    set(SIGUSR1, told, SA_RESETHAND, 0);
    raise(SIGUSR1);
    sigaction(SIGUSR1, 0, &old);
    printf("reset %d\n", old.sa_handler == SIG_DFL);
    sigqueue(getpid(), 0, (union sigval){1});
}

/* Real-time signals come lowest number first, and in order; a standard one once. */
static void case_order(void) {
    int numbers[] = {SIGRTMIN + 3, SIGRTMIN + 1, SIGUSR1, SIGRTMIN + 3, SIGUSR1, SIGRTMIN + 1, SIGUSR2};
    sigset_t all, pending;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, 0);
    for (int i = 0; i < 7; i++) {
        set(numbers[i], note, 0, 0);
        sigqueue(getpid(), numbers[i], (union sigval){i + 1});
    }
    sigpending(&pending);
    printf("pending %d %d %d\n", sigismember(&pending, SIGUSR1), sigismember(&pending, SIGRTMIN + 1),
           sigismember(&pending, SIGRTMIN + 2));
    struct timespec none = {0, 0};
    siginfo_t info;
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, SIGRTMIN + 1);
    int got = sigtimedwait(&one, &info, &none);
    printf("taken %d %d %d\n", got - SIGRTMIN, info.si_code, info.si_value.sival_int);
    sigprocmask(SIG_UNBLOCK, &all, 0);
    for (int i = 0; i < seen; i++)
        printf("%ld ", order[i] > 30000 ? order[i] - SIGRTMIN * 1000 : order[i]);
    printf("\n");
    sigprocmask(SIG_BLOCK, &one, 0);
    got = sigtimedwait(&one, &info, &none);
    printf("none %d %d\n", got, errno == EAGAIN);
}

/* Handlers inside handlers. */
static void nest(int number, siginfo_t *info, void *context) {
    depth++;
    if (depth > deepest)
        deepest = depth;
    if (depth < 5)
        raise(depth & 1 ? SIGUSR2 : SIGUSR1);
    depth--;
    seen++;
}

static void case_nested(void) {
    set(SIGUSR1, nest, SA_NODEFER, 0);
    set(SIGUSR2, nest, SA_NODEFER, 0);
    raise(SIGUSR1);
    printf("deepest %d handlers %d\n", deepest, seen);
}

#ifdef __riscv
/* All registers survive a handler, floating-point ones and the rounding mode too. */
static void spoil(int number, siginfo_t *info, void *context) {
    fesetround(FE_DOWNWARD);
    volatile double x = 1.0, y = 3.0;
    x /= y;
    seen++;
}

static void case_registers(void) {
    set(SIGUSR1, spoil, 0, 0);
    long ints[12], want[12];
    double floats[12], wanted[12];
    long pid = getpid(), bad = 0;
    for (int i = 0; i < 12; i++) {
        want[i] = 0x0123456789abcdefL * (i + 1);
        wanted[i] = 1.0 / (i + 3);
    }
    fesetround(FE_UPWARD);
    __asm__ volatile(
        "ld s2, 0(%2)\n ld s3, 8(%2)\n ld s4, 16(%2)\n ld s5, 24(%2)\n ld s6, 32(%2)\n ld s7, 40(%2)\n"
        "ld t3, 48(%2)\n ld t4, 56(%2)\n ld t5, 64(%2)\n ld t6, 72(%2)\n ld a4, 80(%2)\n ld a5, 88(%2)\n"
        "fld ft0, 0(%3)\n fld ft1, 8(%3)\n fld fs2, 16(%3)\n fld fs3, 24(%3)\n fld fa4, 32(%3)\n fld fa5, 40(%3)\n"
        "fld ft8, 48(%3)\n fld ft9, 56(%3)\n fld fs10, 64(%3)\n fld fs11, 72(%3)\n fld ft6, 80(%3)\n fld ft7, 88(%3)\n"
        "mv a0, %4\n li a1, 10\n li a7, 129\n ecall\n"
        "sd s2, 0(%0)\n sd s3, 8(%0)\n sd s4, 16(%0)\n sd s5, 24(%0)\n sd s6, 32(%0)\n sd s7, 40(%0)\n"
        "sd t3, 48(%0)\n sd t4, 56(%0)\n sd t5, 64(%0)\n sd t6, 72(%0)\n sd a4, 80(%0)\n sd a5, 88(%0)\n"
        "fsd ft0, 0(%1)\n fsd ft1, 8(%1)\n fsd fs2, 16(%1)\n fsd fs3, 24(%1)\n fsd fa4, 32(%1)\n fsd fa5, 40(%1)\n"
        "fsd ft8, 48(%1)\n fsd ft9, 56(%1)\n fsd fs10, 64(%1)\n fsd fs11, 72(%1)\n fsd ft6, 80(%1)\n fsd ft7, 88(%1)\n"
        :
        : "r"(ints), "r"(floats), "r"(want), "r"(wanted), "r"(pid)
        : "a0", "a1", "a7", "s2", "s3", "s4", "s5", "s6", "s7", "t3", "t4", "t5", "t6", "a4", "a5", "ft0", "ft1", "fs2",
          "fs3", "fa4", "fa5", "ft8", "ft9", "fs10", "fs11", "ft6", "ft7", "memory");
    for (int i = 0; i < 12; i++)
        bad += ints[i] != want[i] || memcmp(&floats[i], &wanted[i], 8);
    printf("handlers %d differing %ld rounding %d\n", seen, bad, fegetround() == FE_UPWARD);
}

/* A handler that repairs what faulted, in a loop that is hot. */
static void repair(int number, siginfo_t *info, void *context) {
    ucontext_t *at = context;
    char *address = info->si_addr;
    if (number == SIGSEGV && address >= page && address < page + 0x10000) {
        order[0] += info->si_code;
        mprotect((void *)((uintptr_t)address & -4096), 4096, PROT_READ | PROT_WRITE);
    } else {
        at->uc_mcontext.__gregs[REG_PC] += 4;
        order[1] += number;
    }
    seen++;
}

__attribute__((noinline)) static long fill(volatile char *at, long bytes) {
    long sum = 0;
    for (long i = 0; i < bytes; i++) {
        at[i] = i;
        sum += at[i];
    }
    return sum;
}

static void case_repair(void) {
    page = mmap(0, 0x10000, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    set(SIGSEGV, repair, 0, 0);
    set(SIGILL, repair, 0, 0);
    set(SIGTRAP, repair, 0, 0);
    long sum = 0;
    for (int round = 0; round < 6; round++) {
        sum += fill(page, 0x10000);
        mprotect(page, 0x10000, round & 1 ? PROT_READ : PROT_NONE);
    }
    printf("sum %ld faults %d codes %ld\n", sum, seen, order[0]);
    seen = 0;
    __asm__ volatile(".option push\n.option norvc\n .word 0\n ebreak\n .option pop");
    printf("repaired %d %ld\n", seen, order[1]);
}

/* Faults, one each: number, code and address. */
static void fault(int number, siginfo_t *info, void *context) {
    ucontext_t *at = context;
    long pc = at->uc_mcontext.__gregs[REG_PC], address = (long)info->si_addr;
    printf("signal %d code %d address %s\n", number, info->si_code,
           address == pc ? "pc" : address == (long)page ? "page" : address < 4096 ? "low" : "other");
    siglongjmp(back, 1);
}

static void case_faults(void) {
    set(SIGSEGV, fault, 0, 0);
    set(SIGBUS, fault, 0, 0);
    set(SIGILL, fault, 0, 0);
    set(SIGTRAP, fault, 0, 0);
    int file = memfd_create("x", 0);
    if (ftruncate(file, 4096))
        perror("ftruncate");
    char *mapped = mmap(0, 0x8000, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    char *constant = mmap(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    page = (char *)16;
    if (!sigsetjmp(back, 1))
        *(volatile char *)page = 1;
    page = constant;
    if (!sigsetjmp(back, 1))
        *(volatile char *)page = 1;
    page = mapped + 0x4000;
    if (!sigsetjmp(back, 1))
        *(volatile char *)page;
    page = constant;
    if (!sigsetjmp(back, 1))
        ((void (*)(void))page)();
    if (!sigsetjmp(back, 1))
        __asm__ volatile(".word 0");
    if (!sigsetjmp(back, 1))
        __asm__ volatile("ebreak");
    sigset_t now;
    sigprocmask(0, 0, &now);
    printf("masked %d\n", sigismember(&now, SIGSEGV));
}

/* Atomics at addresses that are no multiple of their size, within a line and across two; nothing is changed. */
static long words[16] __attribute__((aligned(64)));

#define MISALIGNED(instruction, offset)                                                                             \
    do {                                                                                                            \
        page = (char *)words + (offset);                                                                            \
        register long found __asm__("a3") = 77;                                                                     \
        if (!sigsetjmp(back, 1))                                                                                    \
            __asm__ volatile(instruction : "+r"(found) : "r"(page), "r"(5L) : "memory");                            \
    } while (0)

static void case_misaligned(void) {
    set(SIGBUS, fault, 0, 0);
    set(SIGSEGV, fault, 0, 0);
    for (int i = 0; i < 16; i++)
        words[i] = i * 0x0101010101010101;
    MISALIGNED("amoadd.w %0, %2, (%1)", 2);
    MISALIGNED("amoadd.d %0, %2, (%1)", 4);
    MISALIGNED("amoswap.d %0, %2, (%1)", 60);
    MISALIGNED("amomax.w.aqrl %0, %2, (%1)", 63);
    MISALIGNED("lr.w %0, (%1)", 1);
    MISALIGNED("lr.d %0, (%1)", 12);
    int same = 0;
    for (int i = 0; i < 16; i++)
        same += words[i] == i * 0x0101010101010101;
    printf("same %d\n", same);
}

#endif

/* A stack that overflows is handled on another one. */
static char stack[65536];

static void overflow(int number, siginfo_t *info, void *context) {
    char here;
    stack_t now;
    sigaltstack(0, &now);
    printf("overflow: on it %d flags %d code %d\n", &here >= stack && &here < stack + sizeof stack, now.ss_flags,
           info->si_code);
    stack_t other = {.ss_sp = stack, .ss_size = sizeof stack};
    int result = sigaltstack(&other, 0);
    printf("changing it %d %d\n", result, errno == EPERM);
    siglongjmp(back, 1);
}

__attribute__((noinline)) static long deep(long n) {
    volatile char room[4096];
    room[n & 4095] = n;
    return (n < 0 ? 0 : deep(n + 1)) + room[n & 4095];
}

static void case_stack(void) {
    stack_t wanted = {.ss_sp = stack, .ss_size = sizeof stack}, now;
    sigaltstack(&wanted, 0);
    set(SIGSEGV, overflow, SA_ONSTACK, 0);
    for (int i = 0; i < 3; i++)
        if (!sigsetjmp(back, 1))
            deep(0);
    sigaltstack(0, &now);
    printf("flags %d size %zu\n", now.ss_flags, now.ss_size);
    wanted.ss_flags = SS_DISABLE;
    sigaltstack(&wanted, 0);
    sigaltstack(0, &now);
    printf("disabled %d\n", now.ss_flags);
}

/* Out of handlers by longjmp, many times. */
static void leap(int number, siginfo_t *info, void *context) { siglongjmp(back, number); }

static void case_longjmp(void) {
    set(SIGUSR1, leap, 0, 0);
    int times = 0;
    for (volatile int i = 0; i < 200; i++)
        if (sigsetjmp(back, 1))
            times++;
        else
            raise(SIGUSR1);
    printf("leaps %d\n", times);
}

/* What an interrupted call gives, with SA_RESTART and without. */
static long pause_before = 20000;

static void after(long microseconds) {
    struct itimerval value = {{0, 0}, {0, microseconds}};
    setitimer(ITIMER_REAL, &value, 0);
}

static int pipes[2];

static void tick(int number, siginfo_t *info, void *context) {
    seen++;
    if (write(pipes[1], "x", 1) != 1)
        _exit(9);
}

static void try(const char *name, int flags, int (*call)(void)) {
    seen = 0;
    set(SIGALRM, tick, flags, 0);
    after(pause_before);
    errno = 0;
    int result = call();
    printf("%s %s: %d %s handlers %d\n", name, flags ? "restart" : "plain", result, errno ? strerrorname_np(errno) : "-",
           seen);
    fcntl(pipes[0], F_SETFL, O_NONBLOCK);
    char rest[16];
    while (read(pipes[0], rest, sizeof rest) > 0) {
    }
    fcntl(pipes[0], F_SETFL, 0);
}

static int by_read(void) {
    char c;
    return read(pipes[0], &c, 1);
}

static int by_poll(void) {
    struct pollfd wanted = {.fd = -1};
    return poll(&wanted, 1, -1);
}

static int by_select(void) {
    struct timeval limit = {5, 0};
    return select(0, 0, 0, 0, &limit);
}

static int by_sleep(void) {
    struct timespec wanted = {5, 0}, left = {0, 0};
    int result = nanosleep(&wanted, &left);
    printf("left %d ", left.tv_sec == 4 && left.tv_nsec > 500000000);
    return result;
}

static int by_pause(void) { return pause(); }

static int by_suspend(void) {
    sigset_t none;
    sigemptyset(&none);
    return sigsuspend(&none);
}

static int by_wait(void) {
    sigset_t other;
    sigemptyset(&other);
    sigaddset(&other, SIGUSR2);
    return sigwaitinfo(&other, 0);
}

static void case_restart(void) {
    if (pipe(pipes))
        return;
    for (int flags = 0; flags <= SA_RESTART; flags += SA_RESTART) {
        try("read", flags, by_read);
        try("poll", flags, by_poll);
        try("select", flags, by_select);
        try("nanosleep", flags, by_sleep);
        try("pause", flags, by_pause);
        try("sigsuspend", flags, by_suspend);
        try("sigwaitinfo", flags, by_wait);
    }
}

/* The same for calls that wait for other things. The first handler brings about what its call waits for. */
static void (*bring)(void);
static int ends[2], other = -1;
static pid_t child;
static unsigned word;
static char full[1 << 16], *fifo = "signals.fifo";

static void bringing(int number, siginfo_t *info, void *context) {
    int kept = errno;
    if (seen++ == 0)
        bring();
    errno = kept;
}

static void with(const char *name, int (*call)(void), void (*what)(void)) {
    for (int flags = 0; flags <= SA_RESTART; flags += SA_RESTART) {
        seen = 0;
        bring = what;
        set(SIGALRM, bringing, flags, 0);
        after(pause_before);
        errno = 0;
        int result = call();
        printf("%s %s: %d %s handlers %d\n", name, flags ? "restart" : "plain", result < 0 ? -1 : result > 0,
               errno ? strerrorname_np(errno) : "-", seen);
        if (child > 0) {
            kill(child, SIGKILL);
            while (waitpid(child, 0, 0) < 0 && errno == EINTR) {
            }
        }
        child = 0;
        if (other >= 0)
            close(other);
        other = -1;
    }
}

/* A child that has got hold of a file, by `locks`, and keeps it. */
static int held;

static void hold(int (*locks)(int file)) {
    int ready[2];
    char byte;
    after(0);
    if (pipe(ready))
        exit(3);
    if ((child = fork()) == 0) {
        int file = open("signals.lock", O_RDWR | O_CREAT, 0600);
        if (locks(file) || write(ready[1], "x", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    if (read(ready[0], &byte, 1) != 1)
        exit(3);
    close(ready[0]);
    close(ready[1]);
    other = held = open("signals.lock", O_RDWR);
    after(pause_before);
}

static void let_go(void) { kill(child, SIGKILL); }

static int whole(int file) { return flock(file, LOCK_EX); }

static int range(int file) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    return fcntl(file, F_SETLKW, &lock);
}

static int by_flock(void) { return hold(whole), whole(held); }

static int by_lock(void) { return hold(range), range(held); }

static int by_write(void) {
    fcntl(pipes[1], F_SETFL, O_NONBLOCK);
    while (write(pipes[1], full, sizeof full) > 0) {
    }
    fcntl(pipes[1], F_SETFL, 0);
    errno = 0;
    return write(pipes[1], full, 1);
}

static void drain(void) {
    if (read(pipes[0], full, sizeof full) < 1)
        _exit(9);
}

static int by_child(void) {
    after(0);
    if ((child = fork()) == 0)
        for (;;)
            pause();
    after(pause_before);
    int status;
    return waitpid(child, &status, 0);
}

static int by_receive(void) {
    char byte;
    while (recv(ends[0], &byte, 1, MSG_DONTWAIT) > 0) {
    }
    errno = 0;
    return recv(ends[0], &byte, 1, 0);
}

static void deliver(void) {
    if (write(ends[1], "x", 1) != 1)
        _exit(9);
}

/* A socket with a timeout is not asked again. */
static int by_limited(void) {
    struct timeval limit = {5, 0}, none = {0, 0};
    setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    int result = by_receive(), found = errno;
    setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &none, sizeof none);
    errno = found;
    return result;
}

static int listener;

static int by_accept(void) {
    fcntl(listener, F_SETFL, O_NONBLOCK);
    for (int before; (before = accept(listener, 0, 0)) >= 0;)
        close(before);
    fcntl(listener, F_SETFL, 0);
    errno = 0;
    int result = accept(listener, 0, 0), found = errno;
    if (result >= 0)
        close(result);
    errno = found;
    return result;
}

static void arrive(void) {
    struct sockaddr_un address = {0};
    socklen_t size = sizeof address;
    getsockname(listener, (struct sockaddr *)&address, &size);
    other = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(other, (struct sockaddr *)&address, size))
        _exit(9);
}

static int by_epoll(void) {
    struct epoll_event event = {.events = EPOLLIN};
    int poller = epoll_create1(0);
    epoll_ctl(poller, EPOLL_CTL_ADD, ends[0], &event);
    int result = epoll_wait(poller, &event, 1, 5000), found = errno;
    close(poller);
    errno = found;
    return result;
}

static int by_futex(void) { return syscall(SYS_futex, &word, 128, word, 0, 0, 0); }

static int by_limited_futex(void) {
    struct timespec limit = {5, 0};
    return syscall(SYS_futex, &word, 128, word, &limit, 0, 0);
}

static void change(void) { word++; }

static int by_open(void) { return other = open(fifo, O_RDONLY); }

static void opposite(void) {
    if ((child = fork()) == 0) {
        int file = open(fifo, O_WRONLY);
        pause();
        _exit(file);
    }
}

static int queue, semaphore;

static int by_message(void) {
    struct { long kind; char text[8]; } message;
    return msgrcv(queue, &message, sizeof message.text, 0, 0);
}

static int by_semaphore(void) {
    struct sembuf wanted = {0, -1, 0};
    return semop(semaphore, &wanted, 1);
}

static void nothing(void) {}

static void case_families(void) {
    char folder[] = "/tmp/signals-XXXXXX";
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (!mkdtemp(folder) || chdir(folder) || pipe(pipes) || socketpair(AF_UNIX, SOCK_STREAM, 0, ends) || mkfifo(fifo, 0600))
        return;
    listener = socket(AF_UNIX, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&address, sizeof(sa_family_t)) || listen(listener, 4))
        return;
    queue = msgget(IPC_PRIVATE, 0600);
    semaphore = semget(IPC_PRIVATE, 1, 0600);
    with("write", by_write, drain);
    with("waitpid", by_child, let_go);
    with("recv", by_receive, deliver);
    with("recv with a timeout", by_limited, nothing);
    with("accept", by_accept, arrive);
    with("epoll_wait", by_epoll, nothing);
    with("futex", by_futex, change);
    with("futex with a timeout", by_limited_futex, change);
    with("flock", by_flock, let_go);
    with("fcntl", by_lock, let_go);
    with("open", by_open, opposite);
    with("msgrcv", by_message, nothing);
    with("semop", by_semaphore, nothing);
    msgctl(queue, IPC_RMID, 0);
    semctl(semaphore, 0, IPC_RMID);
    unlink(fifo);
    unlink("signals.lock");
    if (chdir("/") || rmdir(folder))
        perror(folder);
}

/* What is pending, blocked and ignored stays over execve, and a handler does not; a forked child has nothing pending. */
static void waiting(const char *who) {
    sigset_t pending, now;
    struct sigaction handled, ignored;
    sigpending(&pending);
    sigprocmask(0, 0, &now);
    sigaction(SIGUSR1, 0, &handled);
    sigaction(SIGUSR2, 0, &ignored);
    printf("%s: pending %d %d, blocked %d %d %d, default %d, ignored %d\n", who, sigismember(&pending, SIGUSR1),
           sigismember(&pending, SIGRTMIN + 4), sigismember(&now, SIGUSR1), sigismember(&now, SIGRTMIN + 4),
           sigismember(&now, SIGTERM), handled.sa_handler == SIG_DFL, ignored.sa_handler == SIG_IGN);
}

static void case_exec(void) {
    static stack_t wanted = {.ss_sp = full, .ss_size = sizeof full};
    sigaltstack(&wanted, 0);
    set(SIGUSR1, note, SA_ONSTACK, 0);
    signal(SIGUSR2, SIG_IGN);
    block(SIG_BLOCK, SIGUSR1);
    block(SIG_BLOCK, SIGRTMIN + 4);
    sigqueue(getpid(), SIGUSR1, (union sigval){1});
    for (int i = 2; i < 5; i++)
        sigqueue(getpid(), SIGRTMIN + 4, (union sigval){i});
    waiting("before");
    if ((child = fork()) == 0) {
        waiting("child");
        _exit(0);
    }
    waitpid(child, 0, 0);
    execl("/proc/self/exe", "signals", "executed", (char *)0);
}

static void case_executed(void) {
    stack_t now;
    waiting("executed");
    sigaltstack(0, &now);
    set(SIGUSR1, note, 0, 0);
    set(SIGRTMIN + 4, note, 0, 0);
    block(SIG_UNBLOCK, SIGUSR1);
    block(SIG_UNBLOCK, SIGRTMIN + 4);
    printf("stack %d handlers %d:", now.ss_flags == SS_DISABLE, seen);
    for (int i = 0; i < seen; i++)
        printf(" %ld", order[i] % 1000);
    printf("\n");
}

/* ppoll and pselect put in a mask for as long as they wait. */
static void case_masks(void) {
    set(SIGUSR1, count, 0, 0);
    block(SIG_BLOCK, SIGUSR1);
    raise(SIGUSR1);
    printf("blocked %d\n", seen);
    sigset_t none, now;
    sigemptyset(&none);
    struct timespec limit = {5, 0};
    int result = ppoll(0, 0, &limit, &none);
    sigprocmask(0, 0, &now);
    printf("ppoll %d %d handlers %d blocked %d\n", result, errno == EINTR, seen, sigismember(&now, SIGUSR1));
    raise(SIGUSR1);
    result = pselect(0, 0, 0, 0, &limit, &none);
    sigprocmask(0, 0, &now);
    printf("pselect %d %d handlers %d blocked %d\n", result, errno == EINTR, seen, sigismember(&now, SIGUSR1));
    struct timespec zero = {0, 0};
    result = ppoll(0, 0, &zero, &none);
    printf("ppoll %d\n", result);
    raise(SIGUSR1);
    result = sigsuspend(&none);
    sigprocmask(0, 0, &now);
    printf("sigsuspend %d handlers %d blocked %d\n", result, seen, sigismember(&now, SIGUSR1));
    signal(SIGUSR1, SIG_IGN);
    block(SIG_UNBLOCK, SIGUSR1);
    raise(SIGUSR1);
    printf("ignored %d\n", seen);
}

/* Timers. */
static timer_t timer;

static void expired(int number, siginfo_t *info, void *context) {
    order[0] = info->si_code;
    order[1] = info->si_value.sival_int;
    order[2] = info->si_overrun;
    if (info->si_code == SI_TIMER) {
        order[3] = timer_getoverrun(timer);
        timer_settime(timer, 0, &(struct itimerspec){0}, 0);
    }
    seen++;
}

static void case_timers(void) {
    set(SIGALRM, count, 0, 0);
    struct itimerval value = {{0, 10000}, {0, 10000}}, old;
    setitimer(ITIMER_REAL, &value, 0);
    while (seen < 5)
        pause();
    getitimer(ITIMER_REAL, &old);
    printf("interval %ld left %d\n", (long)old.it_interval.tv_usec, old.it_value.tv_usec <= 10000);
    setitimer(ITIMER_REAL, &(struct itimerval){0}, &old);
    getitimer(ITIMER_REAL, &old);
    printf("off %ld %ld\n", (long)old.it_value.tv_sec, (long)old.it_value.tv_usec);
    set(SIGRTMIN + 2, expired, 0, 0);
    seen = 0;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 2, .sigev_value.sival_int = 77};
    if (timer_create(CLOCK_MONOTONIC, &event, &timer))
        perror("timer_create");
    struct itimerspec wanted = {{0, 1000000}, {0, 1000000}}, left;
    block(SIG_BLOCK, SIGRTMIN + 2);
    timer_settime(timer, 0, &wanted, 0);
    struct timespec pause = {0, 50000000};
    nanosleep(&pause, 0);
    block(SIG_UNBLOCK, SIGRTMIN + 2);
    printf("timer %d code %ld value %ld overrun %d %d\n", seen, order[0], order[1], order[3] == order[2],
           order[3] > 20 && order[3] < 80);
    wanted = (struct itimerspec){{0, 0}, {0, 1000000}};
    block(SIG_BLOCK, SIGRTMIN + 2);
    timer_settime(timer, 0, &wanted, 0);
    nanosleep(&pause, 0);
    wanted = (struct itimerspec){0};
    timer_settime(timer, 0, &wanted, 0);
    block(SIG_UNBLOCK, SIGRTMIN + 2);
    printf("taken back %d\n", seen);
    timer_gettime(timer, &left);
    printf("off %ld\n", left.it_value.tv_nsec);
    int deleted = timer_delete(timer);
    printf("deleted %d %d\n", deleted, timer_settime(timer, 0, &wanted, 0));
    set(SIGVTALRM, count, 0, 0);
    set(SIGPROF, count, 0, 0);
    seen = 0;
    value = (struct itimerval){{0, 0}, {0, 5000}};
    setitimer(ITIMER_VIRTUAL, &value, 0);
    while (seen < 1) {
    }
    setitimer(ITIMER_PROF, &value, 0);
    while (seen < 2) {
    }
    alarm(100);
    printf("alarm %d\n", alarm(0) > 90);
}

/* A loop that only signals can end. */
static void case_loop(void) {
    set(SIGALRM, count, 0, 0);
    struct itimerval value = {{0, 2000}, {0, 2000}};
    setitimer(ITIMER_REAL, &value, 0);
    long n = 0;
    while (seen < 20)
        n++;
    setitimer(ITIMER_REAL, &(struct itimerval){0}, 0);
    printf("twenty\n");
}

/* Where a loop is when timers end: the same in every deterministic run. */
static void case_ticks(void) {
    set(SIGALRM, count, 0, 0);
    struct itimerval value = {{0, 7}, {0, 7}};
    setitimer(ITIMER_REAL, &value, 0);
    long n = 0, at[5];
    for (int before = 0; before < 5; n++)
        if (seen > before)
            at[before++] = n;
    setitimer(ITIMER_REAL, &(struct itimerval){0}, 0);
    printf("%ld %ld %ld %ld %ld\n", at[0], at[1], at[2], at[3], at[4]);
}

/* Ends, one each. */
static void case_blocked_fault(void) {
    set(SIGSEGV, count, 0, 0);
    block(SIG_BLOCK, SIGSEGV);
    *(volatile char *)8 = 1;
}

static void case_ignored_fault(void) {
    signal(SIGSEGV, SIG_IGN);
    *(volatile char *)8 = 1;
}

#ifdef __riscv
static void case_no_stack(void) {
    set(SIGSEGV, count, 0, 0);
    __asm__ volatile("li sp, 0\n sd zero, 0(zero)");
}
#endif

static void case_term(void) { raise(SIGTERM); }

static void case_abort(void) { abort(); }

static void case_queue(void) {
    siginfo_t info = {.si_code = SI_USER};
    long queued = syscall(SYS_rt_sigqueueinfo, getppid(), SIGCONT, &info);
    printf("queue %ld %s\n", queued, strerrorname_np(errno));
    printf("numbers %d %d\n", kill(getpid(), 65), kill(getpid(), 0));
    set(SIGUSR1, expired, 0, 0);
    info = (siginfo_t){.si_code = -40, .si_value.sival_int = 9};
    syscall(SYS_rt_tgsigqueueinfo, getpid(), getpid(), SIGUSR1, &info);
    printf("code %ld value %ld\n", order[0], order[1]);
}

static const struct {
    const char *name;
    void (*run)(void);
} cases[] = {
    {"info", case_info}, {"order", case_order}, {"nested", case_nested}, {"stack", case_stack},
    {"longjmp", case_longjmp}, {"restart", case_restart}, {"masks", case_masks}, {"timers", case_timers},
    {"families", case_families}, {"exec", case_exec}, {"executed", case_executed}, {"loop", case_loop}, {"ticks", case_ticks}, {"queue", case_queue}, {"blocked_fault", case_blocked_fault},
    {"ignored_fault", case_ignored_fault}, {"term", case_term}, {"abort", case_abort},
#ifdef __riscv
    {"registers", case_registers}, {"repair", case_repair}, {"faults", case_faults}, {"misaligned", case_misaligned},
    {"no_stack", case_no_stack},
#endif
};

int main(int argc, char **argv) {
    setvbuf(stdout, 0, _IOLBF, 0);
    if (argc > 2)
        pause_before = atol(argv[2]);
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++)
        if (argc > 1 && !strcmp(argv[1], cases[i].name)) {
            cases[i].run();
            return 0;
        }
    return 2;
}
