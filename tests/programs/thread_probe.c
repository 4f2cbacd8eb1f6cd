/* Threads as Linux has them: each word of the command line is one probe, which prints the same wherever it is right,
 * whatever order threads run in. Numbers of threads and processes are never printed. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/rseq.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "say.h"

static const char *self;

static pthread_t begin(void *(*body)(void *), void *argument) {
    pthread_t made;
    int error = pthread_create(&made, 0, body, argument);
    if (error)
        say("pthread_create: %d\n", error);
    return made;
}

static long end(pthread_t thread) {
    void *result = 0;
    int error = pthread_join(thread, &result);
    if (error)
        say("pthread_join: %d\n", error);
    return (long)result;
}

static void rest(long microseconds) {
    struct timespec time = {microseconds / 1000000, microseconds % 1000000 * 1000};
    while (nanosleep(&time, &time) && errno == EINTR) {
    }
}

static const char *ended(int status) {
    static char text[64];
    if (WIFEXITED(status))
        sprintf(text, "exit %d", WEXITSTATUS(status));
    else
        sprintf(text, "signal %d", WTERMSIG(status));
    return text;
}

/* Run a body in a child, and say how that ended. */
static void child(const char *name, void (*body)(void)) {
    pid_t made = fork();
    if (!made) {
        body();
        _exit(98);
    }
    int status;
    pid_t found = waitpid(made, &status, 0);
    say("%s: %s\n", name, found == made ? ended(status) : "lost");
}

static int tasks(void) {
    DIR *folder = opendir("/proc/self/task");
    int count = 0;
    struct dirent *entry;
    while ((entry = readdir(folder)))
        count += entry->d_name[0] != '.';
    closedir(folder);
    return count;
}

/* 64 threads, one mutex, and a variable of each one's own. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static long total;
static __thread long own = 7;

static void *add(void *argument) {
    for (int i = 0; i < 100; i++) {
        pthread_mutex_lock(&mutex);
        long seen = total;
        if (i % 50 == (long)argument % 50)
            sched_yield();
        total = seen + 1;
        pthread_mutex_unlock(&mutex);
        own += (long)argument;
    }
    return (void *)own;
}

static void many(void) {
    pthread_t made[64];
    long sum = 0;
    for (long i = 0; i < 64; i++)
        made[i] = begin(add, (void *)i);
    for (int i = 0; i < 64; i++)
        sum += end(made[i]);
    say("total %ld, own %ld, mine %ld\n", total, sum, own);
}

/* A bounded buffer: four producers, three consumers, two conditions. */
static pthread_cond_t filled = PTHREAD_COND_INITIALIZER, emptied = PTHREAD_COND_INITIALIZER;
static int buffer[5], count, first;

static void *produce(void *argument) {
    for (int i = 1; i <= 100; i++) {
        pthread_mutex_lock(&mutex);
        while (count == 5)
            pthread_cond_wait(&emptied, &mutex);
        buffer[(first + count++) % 5] = (long)argument * 1000 + i;
        pthread_cond_signal(&filled);
        pthread_mutex_unlock(&mutex);
    }
    return 0;
}

static void *consume(void *argument) {
    long sum = 0;
    for (;;) {
        pthread_mutex_lock(&mutex);
        while (!count)
            pthread_cond_wait(&filled, &mutex);
        int value = buffer[first];
        if (value) {
            first = (first + 1) % 5;
            count--;
        }
        pthread_cond_signal(&emptied);
        if (!value)
            pthread_cond_broadcast(&filled); /* the end stays for the others */
        pthread_mutex_unlock(&mutex);
        if (!value)
            return (void *)sum;
        sum += value;
    }
}

static void conditions(void) {
    pthread_t makers[4], takers[3];
    long sum = 0;
    for (long i = 0; i < 3; i++)
        takers[i] = begin(consume, 0);
    for (long i = 0; i < 4; i++)
        makers[i] = begin(produce, (void *)i);
    for (int i = 0; i < 4; i++)
        end(makers[i]);
    pthread_mutex_lock(&mutex);
    while (count == 5)
        pthread_cond_wait(&emptied, &mutex);
    buffer[(first + count++) % 5] = 0;
    pthread_cond_broadcast(&filled);
    pthread_mutex_unlock(&mutex);
    for (int i = 0; i < 3; i++)
        sum += end(takers[i]);
    say("consumed %ld\n", sum);
    struct timespec soon;
    clock_gettime(CLOCK_REALTIME, &soon);
    soon.tv_nsec += 3000000;
    if (soon.tv_nsec >= 1000000000)
        soon.tv_sec++, soon.tv_nsec -= 1000000000;
    pthread_mutex_lock(&mutex);
    count = 0;
    int error = pthread_cond_timedwait(&filled, &mutex, &soon);
    pthread_mutex_unlock(&mutex);
    say("timed out: %d\n", error == ETIMEDOUT);
}

/* Rounds that nobody begins before all have ended the last one. */
static pthread_barrier_t barrier;
static atomic_int arrived;

static void *rounds(void *argument) {
    long wrong = 0;
    for (int round = 1; round <= 30; round++) {
        atomic_fetch_add(&arrived, 1);
        pthread_barrier_wait(&barrier);
        wrong += atomic_load(&arrived) != 8 * round;
        pthread_barrier_wait(&barrier);
    }
    return (void *)wrong;
}

static void barriers(void) {
    pthread_t made[8];
    long wrong = 0;
    pthread_barrier_init(&barrier, 0, 8);
    for (int i = 0; i < 8; i++)
        made[i] = begin(rounds, 0);
    for (int i = 0; i < 8; i++)
        wrong += end(made[i]);
    say("wrong %ld, arrived %d\n", wrong, atomic_load(&arrived));
}

/* Instructions that are atomic, and loops of load-reserved and store-conditional. */
static long words[3];

static void *atomics(void *argument) {
    for (int i = 0; i < 5000; i++) {
        long old, failed;
        __atomic_fetch_add(&words[0], 3, __ATOMIC_SEQ_CST);
#ifdef __riscv
        __asm__ volatile("1: lr.d %0, (%2)\n addi %0, %0, 5\n sc.d %1, %0, (%2)\n bnez %1, 1b"
                         : "=&r"(old), "=&r"(failed) : "r"(&words[1]) : "memory");
#else
        old = 0, failed = old;
        __atomic_fetch_add(&words[1], 5 + failed, __ATOMIC_SEQ_CST);
#endif
        old = __atomic_load_n(&words[2], __ATOMIC_RELAXED);
        while (!__atomic_compare_exchange_n(&words[2], &old, old + 7, 1, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) {
        }
    }
    return 0;
}

static void atomic(void) {
    pthread_t made[6];
    for (int i = 0; i < 6; i++)
        made[i] = begin(atomics, 0);
    for (int i = 0; i < 6; i++)
        end(made[i]);
    say("%ld %ld %ld\n", words[0], words[1], words[2]);
}

/* Keys and their destructors, names, numbers, an initialisation that runs once, read and write locks, semaphores. */
static pthread_key_t key;
static atomic_int destroyed, initialised, readers, most;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
static sem_t semaphore;
static long guarded[2];

static void destroy(void *value) {
    atomic_fetch_add(&destroyed, (int)(long)value);
}

static void initialise(void) {
    rest(500);
    atomic_fetch_add(&initialised, 1);
}

static void *locals(void *argument) {
    long number = (long)argument, wrong = 0;
    char name[16], found[16];
    pthread_setspecific(key, (void *)number);
    snprintf(name, sizeof name, "thread %ld", number);
    pthread_setname_np(pthread_self(), name);
    pthread_once(&once, initialise);
    for (int i = 0; i < 20; i++) {
        pthread_rwlock_rdlock(&lock);
        wrong += guarded[0] != guarded[1];
        pthread_rwlock_unlock(&lock);
        if (i % 5 == number % 5) {
            pthread_rwlock_wrlock(&lock);
            guarded[0]++;
            sched_yield();
            guarded[1]++;
            pthread_rwlock_unlock(&lock);
        }
        sem_wait(&semaphore);
        int now = atomic_fetch_add(&readers, 1) + 1;
        if (now > atomic_load(&most))
            atomic_store(&most, now);
        sched_yield();
        atomic_fetch_sub(&readers, 1);
        sem_post(&semaphore);
    }
    pthread_getname_np(pthread_self(), found, sizeof found);
    wrong += strcmp(name, found) != 0;
    wrong += gettid() == getpid();
    return (void *)wrong;
}

static void tls(void) {
    pthread_t made[10];
    long wrong = 0;
    pthread_key_create(&key, destroy);
    sem_init(&semaphore, 0, 3);
    for (long i = 0; i < 10; i++)
        made[i] = begin(locals, (void *)(i + 1));
    for (int i = 0; i < 10; i++)
        wrong += end(made[i]);
    say("wrong %ld, destroyed %d, initialised %d, guarded %ld, at most three: %d\n", wrong, destroyed, initialised,
        guarded[0], atomic_load(&most) <= 3);
    char name[16];
    pthread_getname_np(pthread_self(), name, sizeof name);
    say("%d, %d task, my own name: %d\n", gettid() == getpid(), tasks(), strcmp(name, "thread 1") != 0);
}

/* Ends, in every order. */
static void *sleeper(void *argument) {
    rest((long)argument);
    return argument;
}

static void *leaves(void *argument) {
    rest(2000);
    exit((int)(long)argument);
}

static void *ends_raw(void *argument) {
    rest(2000);
    syscall(SYS_exit, 6);
    return 0;
}

static void *kills(void *argument) {
    rest(1000);
    abort();
}

static void main_first(void) {
    begin(sleeper, (void *)3000);
    begin(leaves, (void *)5);
    pthread_exit(0);
}

static void all_by_themselves(void) {
    begin(sleeper, (void *)3000);
    begin(sleeper, (void *)1000);
    pthread_exit(0);
}

static void main_raw(void) {
    begin(ends_raw, 0);
    syscall(SYS_exit, 4);
}

static void main_last(void) {
    pthread_t made = begin(sleeper, (void *)1000);
    end(made);
    exit(3);
}

static void main_while_others(void) {
    begin(sleeper, (void *)100000000);
    begin(sleeper, (void *)200000000);
    exit(2);
}

static void aborted(void) {
    begin(kills, 0);
    rest(100000000);
}

static void *exits_group(void *argument) {
    syscall(SYS_exit_group, 9);
    return 0;
}

static void group(void) {
    begin(exits_group, 0);
    pause();
}

static void executes(void *(*body)(void *)) {
    begin(sleeper, (void *)100000000);
    begin(body, 0);
    pause();
}

static void *execute(void *argument) {
    execl(self, self, "report", (char *)0);
    return 0;
}

static void exec_thread(void) {
    executes(execute);
}

static void report(void) {
    say("executed: %d task, first %d\n", tasks(), gettid() == getpid());
    _exit(11);
}

static void ends(void) {
    child("main first", main_first);
    child("each by itself", all_by_themselves);
    child("the bare call", main_raw);
    child("main last", main_last);
    child("main while others sleep", main_while_others);
    child("aborted", aborted);
    child("exit_group", group);
    child("exec in a thread", exec_thread);
    pthread_t made[9];
    pthread_attr_t detached;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    for (int i = 0; i < 9; i++)
        pthread_create(&made[i], &detached, sleeper, (void *)(long)(i * 300));
    rest(20000);
    for (int i = 0; i < 200 && tasks() > 1; i++)
        rest(1000);
    say("detached: %d task\n", tasks());
}

/* A fork in a threaded program: the caller alone lives on in the child, which may make threads again. */
static void *forks(void *argument) {
    own = 40 + (long)argument;
    pid_t made = fork();
    if (!made) {
        int alone = tasks();
        pthread_t other = begin(sleeper, (void *)100);
        long result = end(other);
        _exit(alone == 1 && result == 100 && gettid() == getpid() && own == 40 + (long)argument ? own : 1);
    }
    int status;
    waitpid(made, &status, 0);
    return (void *)(long)(WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

static atomic_int stop;

static void *spins(void *argument) {
    long turns = 0;
    while (!atomic_load(&stop)) {
        turns++;
        if (turns % 1000 == 0)
            sched_yield();
    }
    return (void *)(long)(turns > 0);
}

static void *waits(void *argument) {
    int status;
    pid_t found = waitpid(-1, &status, 0);
    return (void *)(long)(found > 0 ? WEXITSTATUS(status) : -errno);
}

static void fork_probe(void) {
    pthread_t made[4], spinner = begin(spins, 0);
    for (long i = 0; i < 4; i++)
        made[i] = begin(forks, (void *)i);
    long sum = 0;
    for (int i = 0; i < 4; i++)
        sum += end(made[i]);
    say("children %ld\n", sum);
    pid_t late = fork();
    if (!late) {
        rest(5000);
        _exit(21);
    }
    pthread_t waiter = begin(waits, 0);
    say("waited by a thread: %ld\n", end(waiter));
    atomic_store(&stop, 1);
    say("spun: %ld\n", end(spinner));
}

/* Signals: to a thread, to whoever lets them through, waited for, by faults, by timers, while calls wait. */
static atomic_int caught[4], interrupted;
static __thread int number;
static sigjmp_buf *_Atomic landing;

static void note(int signal) {
    atomic_store(&caught[signal == SIGUSR1 ? 0 : signal == SIGUSR2 ? 1 : 2], number + 1);
}

static void repair(int signal) {
    atomic_fetch_add(&caught[3], 1);
    siglongjmp(*(sigjmp_buf *)landing, number);
}

static void *faults(void *argument) {
    sigjmp_buf here;
    number = 3;
    landing = &here;
    int came = sigsetjmp(here, 1);
    if (!came)
        *(volatile int *)8 = 1;
    return (void *)(long)came;
}

static void *blocked_wait(void *argument) {
    sigset_t set;
    int found = 0;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGRTMIN);
    sigwait(&set, &found);
    return (void *)(long)(found == SIGTERM ? 1 : found == SIGRTMIN ? 2 : -1);
}

static int pair[2];

static void *reads_pipe(void *argument) {
    char byte;
    number = (int)(long)argument;
    long got = read(pair[0], &byte, 1);
    got = got < 0 ? -(long)errno : got;
    atomic_fetch_add(&interrupted, 1);
    return (void *)got;
}

static void signals(void) {
    struct sigaction action = {.sa_handler = note};
    sigaction(SIGUSR1, &action, 0);
    sigaction(SIGUSR2, &action, 0);
    if (pipe(pair))
        return;
    pthread_t reader = begin(reads_pipe, (void *)4L);
    do {
        rest(2000);
        pthread_kill(reader, SIGUSR1);
    } while (!atomic_load(&interrupted));
    long result = end(reader);
    say("interrupted: %d, by the reader's handler: %d\n", result == -EINTR, atomic_load(&caught[0]) == 5);
    sigset_t all, usr1, usr2;
    reader = begin(reads_pipe, (void *)5L);
    sigemptyset(&usr2);
    sigaddset(&usr2, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &usr2, 0);
    do {
        rest(2000);
        kill(getpid(), SIGUSR2); /* the reader alone lets it through */
    } while (atomic_load(&interrupted) < 2);
    result = end(reader);
    say("the other one: %d %d\n", result == -EINTR, atomic_load(&caught[1]) == 6);
    pthread_sigmask(SIG_UNBLOCK, &usr2, 0);
    sigemptyset(&all);
    sigaddset(&all, SIGTERM);
    sigaddset(&all, SIGRTMIN);
    pthread_sigmask(SIG_BLOCK, &all, 0);
    pthread_t waiter = begin(blocked_wait, 0);
    rest(2000);
    kill(getpid(), SIGTERM);
    say("waited for: %ld\n", end(waiter));
    waiter = begin(blocked_wait, 0);
    rest(2000);
    pthread_kill(waiter, SIGRTMIN);
    say("waited for: %ld\n", end(waiter));
    action.sa_handler = repair;
    action.sa_flags = SA_NODEFER;
    sigaction(SIGSEGV, &action, 0);
    pthread_t faulty = begin(faults, 0);
    result = end(faulty);
    say("fault: %ld, %d\n", result, atomic_load(&caught[3]));
    pthread_t sleeping = begin(sleeper, (void *)100000000);
    pthread_cancel(sleeping);
    say("cancelled: %d\n", end(sleeping) == (long)PTHREAD_CANCELED);
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    struct itimerspec soon = {.it_value = {0, 3000000}};
    atomic_store(&caught[0], 0);
    number = 8;
    timer_create(CLOCK_MONOTONIC, &event, &timer);
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &usr1, 0);
    pthread_t spinner = begin(spins, 0); /* which does not let it through */
    pthread_sigmask(SIG_UNBLOCK, &usr1, 0);
    timer_settime(timer, 0, &soon, 0);
    for (int i = 0; i < 2000 && !atomic_load(&caught[0]); i++)
        rest(1000);
    atomic_store(&stop, 1);
    end(spinner);
    say("timer: %d\n", atomic_load(&caught[0]) == 9);
    result = syscall(SYS_tgkill, getpid(), (1 << 30) - 1, 0);
    say("no thread: %ld %d\n", result, errno == ESRCH);
}

/* Calls that wait do not keep others from running. */
static char large[300000];

static void *writes_large(void *argument) {
    return (void *)(long)write(pair[1], large, sizeof large);
}

static void *reads_large(void *argument) {
    static char part[7000];
    long sum = 0, got;
    while (sum < (long)sizeof large && (got = read(pair[0], part, sizeof part)) > 0)
        sum += got;
    return (void *)sum;
}

static void *polls(void *argument) {
    struct pollfd wanted = {pair[0], POLLIN, 0};
    int found = poll(&wanted, 1, -1);
    return (void *)(long)(found == 1 && wanted.revents == POLLIN);
}

static void *polls_briefly(void *argument) {
    struct pollfd wanted = {pair[0], POLLIN, 0};
    return (void *)(long)poll(&wanted, 1, 2);
}

static void *waits_epoll(void *argument) {
    struct epoll_event event;
    return (void *)(long)epoll_wait((int)(long)argument, &event, 1, -1);
}

static void *counts(void *argument) {
    unsigned long value = 0;
    long got = read((int)(long)argument, &value, 8);
    return (void *)(long)(got == 8 ? value : 0);
}

static struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "thread_probe.socket"};

static void *serves(void *argument) {
    char text[6] = "";
    int made = accept((int)(long)argument, 0, 0);
    long got = read(made, text, 5);
    got += write(made, "world", 5);
    close(made);
    return (void *)(long)(got == 10 && !strcmp(text, "hello"));
}

static void *locks(void *argument) {
    int file = open("thread_probe.lock", O_RDWR | O_CREAT, 0600);
    int error = flock(file, LOCK_EX);
    close(file);
    return (void *)(long)error;
}

static void waiting(void) {
    if (pipe(pair))
        return;
    pthread_t spinner = begin(spins, 0), writer = begin(writes_large, 0), reader = begin(reads_large, 0);
    say("through a pipe: %ld %ld\n", end(writer), end(reader));
    pthread_t poller = begin(polls, 0), brief = begin(polls_briefly, 0);
    say("in vain: %ld\n", end(brief));
    rest(1000);
    say("one byte: %zd\n", write(pair[1], "x", 1));
    say("polled: %ld\n", end(poller));
    int instance = epoll_create1(0), events = eventfd(0, 0);
    struct epoll_event event = {.events = EPOLLIN};
    epoll_ctl(instance, EPOLL_CTL_ADD, events, &event);
    pthread_t waiter = begin(waits_epoll, (void *)(long)instance);
    rest(1000);
    unsigned long five = 5;
    if (write(events, &five, 8) != 8)
        return;
    say("epoll: %ld\n", end(waiter));
    pthread_t counter = begin(counts, (void *)(long)events);
    say("counted: %ld\n", end(counter));
    unlink(name.sun_path);
    int listening = socket(AF_UNIX, SOCK_STREAM, 0), calling = socket(AF_UNIX, SOCK_STREAM, 0);
    bind(listening, (struct sockaddr *)&name, sizeof name);
    listen(listening, 1);
    pthread_t server = begin(serves, (void *)(long)listening);
    rest(1000);
    char text[6] = "";
    connect(calling, (struct sockaddr *)&name, sizeof name);
    long sent = write(calling, "hello", 5), got = read(calling, text, 5);
    say("served: %ld, %ld %ld %s\n", end(server), sent, got, text);
    unlink(name.sun_path);
    int file = open("thread_probe.lock", O_RDWR | O_CREAT, 0600);
    flock(file, LOCK_EX);
    pthread_t locker = begin(locks, 0);
    rest(2000);
    flock(file, LOCK_UN);
    say("locked: %ld\n", end(locker));
    unlink("thread_probe.lock");
    atomic_store(&stop, 1);
    say("spun: %ld\n", end(spinner));
}

/* The bare futex, robust mutexes, mutexes that are handed over, memory that is shared with another process. */
static int word, second;

static long futex(int *at, int operation, int value, void *time, int *other, int third) {
    long result = syscall(SYS_futex, at, operation, value, time, other, third);
    return result < 0 ? -(long)errno : result;
}

static void *waits_word(void *argument) {
    return (void *)futex(&word, FUTEX_WAIT_PRIVATE, 0, 0, 0, 0);
}

static void *waits_bits(void *argument) {
    return (void *)futex(&word, FUTEX_WAIT_BITSET_PRIVATE, 0, 0, 0, (int)(long)argument);
}

static void *holds(void *argument) {
    pthread_mutex_lock(argument);
    return 0;
}

static void *handed(void *argument) {
    int error = pthread_mutex_lock(argument);
    total++;
    pthread_mutex_unlock(argument);
    return (void *)(long)error;
}

struct shared {
    pthread_mutex_t robust, plain;
    pthread_cond_t condition;
    sem_t semaphore;
    int turn, sum;
};

static void robust_mutex(pthread_mutex_t *made, int shared, int protocol) {
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    if (shared)
        pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setprotocol(&attributes, protocol);
    pthread_mutex_init(made, &attributes);
}

static void *takes_turns(void *argument) {
    struct shared *both = argument;
    for (int i = 0; i < 20; i++) {
        pthread_mutex_lock(&both->plain);
        while (both->turn != 1)
            pthread_cond_wait(&both->condition, &both->plain);
        both->sum += i;
        both->turn = 0;
        pthread_cond_broadcast(&both->condition);
        pthread_mutex_unlock(&both->plain);
    }
    return 0;
}

static void futexes(void) {
    struct timespec brief = {0, 2000000};
    say("value %ld, time %ld, nobody %ld, odd %ld\n", futex(&word, FUTEX_WAIT_PRIVATE, 1, 0, 0, 0),
        futex(&word, FUTEX_WAIT_PRIVATE, 0, &brief, 0, 0), futex(&word, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0),
        futex((int *)((char *)&word + 1), FUTEX_WAIT_PRIVATE, 0, 0, 0, 0));
    pthread_t made[5];
    for (int i = 0; i < 5; i++)
        made[i] = begin(waits_word, 0);
    rest(100000);
    long moved = futex(&word, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)2L, &second, 0);
    long wrong = futex(&word, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)2L, &second, 9);
    say("moved %ld, wrong %ld", moved, wrong);
    say(", there %ld", futex(&second, FUTEX_WAKE_PRIVATE, 9, 0, 0, 0));
    say(", here %ld\n", futex(&word, FUTEX_WAKE_OP_PRIVATE, 9, (void *)1L, &second,
                              FUTEX_OP(FUTEX_OP_ADD, 6, FUTEX_OP_CMP_EQ, 0)));
    long sum = 0;
    for (int i = 0; i < 5; i++)
        sum += end(made[i]);
    say("results %ld, changed %d\n", sum, second);
    for (long i = 0; i < 2; i++)
        made[i] = begin(waits_bits, (void *)(1L << i));
    rest(100000);
    say("by bits: %ld", futex(&word, FUTEX_WAKE_BITSET_PRIVATE, 9, 0, 0, 4));
    say(" %ld", futex(&word, FUTEX_WAKE_BITSET_PRIVATE, 9, 0, 0, 2));
    say(" %ld\n", futex(&word, FUTEX_WAKE_BITSET_PRIVATE, 9, 0, 0, -1));
    for (int i = 0; i < 2; i++)
        end(made[i]);
    static pthread_mutex_t robust, inheriting;
    robust_mutex(&robust, 0, PTHREAD_PRIO_NONE);
    end(begin(holds, &robust));
    say("the owner died: %d\n", pthread_mutex_lock(&robust) == EOWNERDEAD);
    pthread_mutex_consistent(&robust);
    pthread_mutex_unlock(&robust);
    robust_mutex(&inheriting, 0, PTHREAD_PRIO_INHERIT);
    total = 0;
    pthread_mutex_lock(&inheriting);
    for (int i = 0; i < 5; i++)
        made[i] = begin(handed, &inheriting);
    rest(5000);
    say("busy: %d\n", pthread_mutex_trylock(&inheriting) == EBUSY || total == 0);
    pthread_mutex_unlock(&inheriting);
    for (int i = 0; i < 5; i++)
        sum += end(made[i]);
    say("handed over: %ld, %ld\n", total, sum);
    end(begin(holds, &inheriting));
    say("its owner died: %d\n", pthread_mutex_lock(&inheriting) == EOWNERDEAD);
}

/* Waits that are moved to a lock, and waits for several words. */
static void *waits_lock(void *argument) {
    long result = futex(&word, FUTEX_WAIT_REQUEUE_PI_PRIVATE, 0, 0, &second, 0);
    if (!result) {
        total += (second & FUTEX_TID_MASK) == syscall(SYS_gettid);
        result = futex(&second, FUTEX_UNLOCK_PI_PRIVATE, 0, 0, 0, 0);
    }
    return (void *)result;
}

static long moves(int wakes, long most, int expected) {
    return futex(&word, FUTEX_CMP_REQUEUE_PI_PRIVATE, wakes, (void *)most, &second, expected);
}

static void moved_to_locks(void) {
    struct timespec past = {1, 0};
    pthread_t made[4];
    say("wrong: %ld %ld %ld %ld, time %ld, nobody %ld, moves %ld %ld\n",
        futex(&word, FUTEX_WAIT_REQUEUE_PI_PRIVATE, 0, 0, &word, 0),
        futex(&word, FUTEX_WAIT_REQUEUE_PI_PRIVATE, 1, 0, &second, 0),
        futex(&word, FUTEX_WAIT_REQUEUE_PI_PRIVATE, 0, 0, (int *)((char *)&second + 2), 0),
        futex(&word, FUTEX_CMP_REQUEUE_PI_PRIVATE, 1, (void *)1L, &word, 0),
        futex(&word, FUTEX_WAIT_REQUEUE_PI_PRIVATE, 0, &past, &second, 0), moves(1, 3, 0), moves(2, 1, 0),
        moves(1, 1, 7));
    for (int locked = 1; locked >= 0; locked--) {
        total = 0;
        if (locked)
            say("locked %ld, ", futex(&second, FUTEX_LOCK_PI_PRIVATE, 0, 0, 0, 0));
        for (int i = 0; i < 4; i++)
            made[i] = begin(waits_lock, 0);
        rest(100000);
        say("woken %ld, ", futex(&word, FUTEX_WAKE_PRIVATE, 9, 0, 0, 0));
        say("moved %ld", moves(1, 2, 0));
        if (locked) {
            say(", had by nobody %ld, wakes %ld", total, futex(&second, FUTEX_WAKE_PRIVATE, 9, 0, 0, 0));
            say(", unlocked %ld", futex(&second, FUTEX_UNLOCK_PI_PRIVATE, 0, 0, 0, 0));
        }
        rest(50000);
        say(", had by %ld", total);
        say(", moved %ld", moves(1, 100, 0));
        long sum = 0;
        for (int i = 0; i < 4; i++)
            sum += end(made[i]);
        say(", had by %ld, %ld, free %d\n", total, sum, second);
    }
    made[0] = begin(waits_word, 0);
    rest(50000);
    say("a plain one: %ld", moves(1, 9, 0));
    say(" %ld", futex(&word, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0));
    say(", %ld\n", end(made[0]));
}

static long vector(struct futex_waitv *words, unsigned count, unsigned flags, void *time, int clock) {
    long result = syscall(449, words, count, flags, time, clock);
    return result < 0 ? -(long)errno : result;
}

static struct futex_waitv in_words[3];

static void *waits_vector(void *argument) {
    return (void *)vector(in_words, 3, 0, argument, CLOCK_MONOTONIC);
}

static void vectors(void) {
    static int at[3];
    struct timespec past = {1, 0}, soon;
    for (int i = 0; i < 3; i++)
        in_words[i] = (struct futex_waitv){.val = i, .uaddr = (long)&at[i], .flags = 2 | 128};
    say("changed %ld", vector(in_words, 3, 0, 0, 0));
    for (int i = 0; i < 3; i++)
        at[i] = i;
    say(", none %ld, many %ld, flags %ld, no array %ld, bad array %ld, clock %ld, time %ld",
        vector(in_words, 0, 0, 0, 0), vector(in_words, 129, 0, 0, 0), vector(in_words, 3, 1, 0, 0),
        vector(0, 1, 0, 0, 0), vector((void *)8, 1, 0, 0, 0), vector(in_words, 3, 0, &past, CLOCK_BOOTTIME),
        vector(in_words, 3, 0, &past, CLOCK_MONOTONIC));
    in_words[1].flags = 1;
    say(", of a byte %ld", vector(in_words, 3, 0, &past, CLOCK_REALTIME));
    in_words[1].flags = 2 | 128, in_words[1].__reserved = 1;
    say(", reserved %ld\n", vector(in_words, 3, 0, &past, CLOCK_REALTIME));
    in_words[1].__reserved = 0;
    for (int i = 2; i >= 0; i--) {
        clock_gettime(CLOCK_MONOTONIC, &soon);
        soon.tv_sec += 1000;
        pthread_t made = begin(waits_vector, i ? &soon : 0);
        rest(50000);
        long woken = futex(&at[i], FUTEX_WAKE_PRIVATE, 9, 0, 0, 0);
        say("by %ld: %ld,", woken, end(made));
        say(" left %ld %ld\n", futex(&at[0], FUTEX_WAKE_PRIVATE, 9, 0, 0, 0),
            futex(&at[1], FUTEX_WAKE_PRIVATE, 9, 0, 0, 0));
    }
    int *both = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0), status;
    in_words[1] = (struct futex_waitv){.val = 0, .uaddr = (long)both, .flags = 2};
    pid_t child = fork();
    if (!child) { /* where a seed decides, time passes in each process apart, and the word may have changed before */
        long result = vector(in_words, 3, 0, 0, 0);
        _exit(result == -EAGAIN && *both ? 1 : result);
    }
    rest(50000);
    *both = 1;
    futex(both, FUTEX_WAKE, 1, 0, 0, 0);
    waitpid(child, &status, 0);
    say("by another process: %s\n", ended(status));
}

/* Restartable sequences. The C library must have been told to register none (GLIBC_TUNABLES=glibc.pthread.rseq=0). */
#ifdef __riscv
#define SECTION(area, count, out, before) __asm__ volatile( \
    ".pushsection sections, \"aw\"\n .balign 32\n3: .word 0, 0\n .dword 1f, 2f - 1f, 4f\n .popsection\n" \
    " la t0, 3b\n sd t0, 8(%2)\n" \
    "1: ld t1, 0(%3)\n addi t1, t1, 1\n sd t1, 0(%3)\n j 1b\n" \
    "2: j 5f\n .balign 4\n .word " before "\n4: li %0, 1\n5:\n" \
    : "=&r"(out), "+m"(*(count)) : "r"(area), "r"(count) : "t0", "t1", "memory")
#define GOOD "0xf1401073"
enum { SIGNATURE = 0xf1401073 };
#else
#define SECTION(area, count, out, before) __asm__ volatile( \
    ".pushsection sections, \"aw\"\n .balign 32\n3: .long 0, 0\n .quad 1f, 2f - 1f, 4f\n .popsection\n" \
    " leaq 3b(%%rip), %%rax\n movq %%rax, 8(%2)\n" \
    "1: incq (%3)\n jmp 1b\n" \
    "2: jmp 5f\n .byte 0x0f, 0xb9, 0x3d\n .long " before "\n4: movl $1, %0\n5:\n" \
    : "=&r"(out), "+m"(*(count)) : "r"(area), "r"(count) : "rax", "memory")
#define GOOD "0x53053053"
enum { SIGNATURE = 0x53053053 };
#endif

static _Thread_local _Alignas(32) struct rseq area;

static long registers(struct rseq *at, unsigned size, int flags, unsigned signature) {
    return syscall(SYS_rseq, at, size, flags, signature) ? -(long)errno : 0;
}

static void *spins_inside(void *spun) {
    int out = 0;
    long known = registers(&area, 32, 0, SIGNATURE);
    SECTION(&area, (long *)spun, out, GOOD);
    return (void *)(out && !area.rseq_cs ? known : 1);
}

static volatile sig_atomic_t alarms, in_handler, over;

static void *comes_between(void *argument) {
    while (!over)
        rest(2000);
    return argument;
}

static void noted(int number) {
    alarms++;
    in_handler += area.rseq_cs == 0;
}

static void sequences(void) {
    static _Alignas(32) struct rseq other[2];
    struct rseq *mine = &area;
    say("off %ld, odd %ld, small %ld, flags %ld %ld", registers(mine, 32, 1, SIGNATURE),
        registers((void *)((char *)other + 8), 32, 0, SIGNATURE), registers(other, 16, 0, SIGNATURE),
        registers(mine, 32, 2, SIGNATURE), registers(mine, 32, 3, SIGNATURE));
    say(", on %ld", registers(mine, 32, 0, SIGNATURE));
    say(": %d %d", mine->cpu_id == mine->cpu_id_start, (int)mine->cpu_id == sched_getcpu());
    say(", again %ld %ld %ld, size %ld", registers(mine, 32, 0, SIGNATURE), registers(other, 32, 0, SIGNATURE),
        registers(mine, 32, 0, 1), registers(mine, 64, 0, SIGNATURE));
    say(", off %ld %ld", registers(other, 32, 1, SIGNATURE), registers(mine, 32, 1, 1));
    say(" %ld", registers(mine, 32, 1, SIGNATURE));
    say(": %d %d, twice %ld\n", mine->cpu_id_start, (int)mine->cpu_id, registers(mine, 32, 1, SIGNATURE));

    static long spun[2];
    struct itimerval soon = {{0, 0}, {0, 20000}};
    signal(SIGVTALRM, noted);
    setitimer(ITIMER_VIRTUAL, &soon, 0);
    say("by a signal %ld", (long)spins_inside(&spun[0]));
    while (!alarms) { /* the host may have taken the processor away before */
    }
    say(", %d handled, %d cleared before, spun %d\n", alarms, in_handler, spun[0] > 0);

    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    sched_setaffinity(0, sizeof one, &one);
    pthread_t both[2] = {begin(spins_inside, &spun[0]), begin(spins_inside, &spun[1])};
    pthread_t third = begin(comes_between, 0);
    long first = end(both[0]);
    say("by another's turn %ld %ld, spun %d\n", first, end(both[1]), spun[1] > 0);
    over = 1;
    end(third);

    pid_t child = fork();
    int status, out = 0;
    if (!child) {
        signal(SIGVTALRM, noted);
        setitimer(ITIMER_VIRTUAL, &soon, 0);
        SECTION(&area, &spun[0], out, "0x12345678");
        _exit(out);
    }
    waitpid(child, &status, 0);
    say("without a signature: %s\n", ended(status));
}

static void shared_memory(void) {
    struct shared *both = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_mutexattr_t attributes;
    pthread_condattr_t condition;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(&both->plain, &attributes);
    pthread_condattr_init(&condition);
    pthread_condattr_setpshared(&condition, PTHREAD_PROCESS_SHARED);
    pthread_cond_init(&both->condition, &condition);
    robust_mutex(&both->robust, 1, PTHREAD_PRIO_NONE);
    sem_init(&both->semaphore, 1, 0);
    pid_t made = fork();
    if (!made) {
        pthread_t other = begin(takes_turns, both);
        pthread_mutex_lock(&both->robust);
        sem_post(&both->semaphore);
        end(other);
        _exit(7); /* with the lock */
    }
    pthread_t spinner = begin(spins, 0);
    sem_wait(&both->semaphore);
    for (int i = 0; i < 20; i++) {
        pthread_mutex_lock(&both->plain);
        while (both->turn != 0)
            pthread_cond_wait(&both->condition, &both->plain);
        both->turn = 1;
        pthread_cond_broadcast(&both->condition);
        pthread_mutex_unlock(&both->plain);
    }
    int status;
    say("dead: %d\n", pthread_mutex_lock(&both->robust) == EOWNERDEAD);
    waitpid(made, &status, 0);
    atomic_store(&stop, 1);
    end(spinner);
    say("%s, sum %d\n", ended(status), both->sum);
}

static void *lists(void *argument) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%d/comm", gettid());
    pthread_barrier_wait(&barrier);
    int there = tasks(), file = open(path, O_RDONLY);
    char text[32] = "";
    long got = file < 0 ? 0 : read(file, text, 31);
    pthread_barrier_wait(&barrier);
    return (void *)(there * 100 + got);
}

static void proc(void) {
    pthread_t made[3];
    pthread_barrier_init(&barrier, 0, 4);
    for (int i = 0; i < 3; i++)
        made[i] = begin(lists, 0);
    pthread_barrier_wait(&barrier);
    int there = tasks();
    char text[4096] = "";
    int file = open("/proc/self/status", O_RDONLY);
    long got = read(file, text, sizeof text - 1);
    char *line = strstr(text, "Threads:");
    pthread_barrier_wait(&barrier);
    long sum = 0;
    for (int i = 0; i < 3; i++)
        sum += end(made[i]);
    cpu_set_t here, other;
    say("%d, %d, %.10s, %ld\n", there, got > 0, line ? line : "none", sum);
    sched_getaffinity(0, sizeof here, &here);
    sched_getaffinity(getpid(), sizeof other, &other);
    say("same processors: %d\n", CPU_EQUAL(&here, &other));
}

/* A lock that is held nearly always, as Python's: who releases it wakes another one, makes a call that could have waited
 * and need not, and takes it again. */
static atomic_int held, got_it;

static void take(void) {
    while (atomic_exchange(&held, 1))
        syscall(SYS_futex, &held, FUTEX_WAIT_PRIVATE, 1, 0, 0, 0);
}

static void release(void) {
    atomic_store(&held, 0);
    syscall(SYS_futex, &held, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0);
}

static void *takes(void *argument) {
    for (int i = 0; i < 100; i++) {
        take();
        got_it++;
        release();
    }
    return argument;
}

static void convoy(void) {
    long rounds = 0;
    int ends[2], made_pipe = pipe(ends);
    struct pollfd there = {.fd = ends[0], .events = POLLIN};
    if (made_pipe || write(ends[1], "x", 1) != 1)
        return;
    take();
    pthread_t made = begin(takes, 0);
    while (got_it < 100) {
        for (volatile int i = 0; i < 20000; i++)
            ;
        release();
        poll(&there, 1, -1);
        take();
        rounds++;
    }
    release();
    end(made);
    say("%ld rounds\n", rounds);
}

static void slow(void) {
    pthread_t made[2] = {begin(sleeper, (void *)1000000), begin(sleeper, (void *)2000000)};
    say("slept %ld\n", (end(made[0]) + end(made[1])) / 1000);
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        void (*run)(void);
    } probes[] = {
        {"many", many}, {"conditions", conditions}, {"barriers", barriers}, {"atomic", atomic}, {"tls", tls},
        {"ends", ends}, {"fork", fork_probe}, {"signals", signals}, {"waiting", waiting}, {"futexes", futexes},
        {"shared", shared_memory}, {"locks", moved_to_locks}, {"vectors", vectors}, {"sequences", sequences}, {"proc", proc}, {"report", report}, {"slow", slow},
        {"convoy", convoy},
    };
    self = argv[0];
    alarm(100);
    for (int i = 1; i < argc; i++)
        for (unsigned j = 0; j < sizeof probes / sizeof *probes; j++)
            if (!strcmp(argv[i], probes[j].name))
                probes[j].run();
    return 0;
}
