/* Processes that hammer the same words of shared memory: `shared_atomics WHAT ROUNDS` prints what must come out.
   Every line is the same in every run, unless an atomic instruction or a fence is none between processes. */
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PROCESSES = 3 };

static struct shared {
    _Alignas(64) int words[2];
    _Alignas(64) long doubles[2];
    _Alignas(64) long plain;
    _Alignas(64) int arrived[PROCESSES][16];
    _Alignas(64) int flags[2][16];
    int seen[2];
    int wrong;
    long held[PROCESSES];
    pthread_mutex_t mutex;
    sem_t semaphore;
} *s;

static int rounds;

#define AMO(name, place, operand) ({ \
    typeof(*(place)) old_; \
    __asm__ volatile(name " %0, %2, %1" : "=r"(old_), "+A"(*(place)) : "r"(operand) : "memory"); \
    old_; })

/* Until all of so many are here for the time of this number. */
static void meet(int number, int many, int time) {
    __atomic_store_n(&s->arrived[number][0], time, __ATOMIC_RELEASE);
    for (int other = 0; other < many; other++)
        for (int tries = 0; __atomic_load_n(&s->arrived[other][0], __ATOMIC_ACQUIRE) < time; tries++)
            if (tries > 200)
                sched_yield();
}

static void wrong_if(int wrong) {
    if (wrong)
        __atomic_fetch_add(&s->wrong, 1, __ATOMIC_RELAXED);
}

static void add(int number) {
    for (int i = 0; i < rounds; i++) {
        AMO("amoadd.w", &s->words[0], 1);
        AMO("amoadd.d", &s->doubles[0], 1L << 32);
    }
    (void)number;
}

/* What goes into the word comes out once: the processes' values and the word's only change places. */
static void swap(int number) {
    long held = number + 1;
    for (int i = 0; i < rounds; i++)
        held = AMO("amoswap.d", &s->doubles[0], held);
    s->held[number] = held;
}

/* What is the greatest stays so. */
static void max(int number) {
    long last = -1, lastu = 0;
    for (int i = 0; i < rounds; i++) {
        long value = (long)i * PROCESSES + number;
        long old = AMO("amomax.d", &s->doubles[0], value);
        wrong_if(old < last);
        last = old > value ? old : value;
        unsigned oldu = AMO("amomaxu.w", (unsigned *)&s->words[0], (unsigned)value);
        wrong_if(oldu < lastu);
        lastu = oldu > value ? oldu : value;
    }
}

/* Each has a bit of its own, which nobody else changes. */
static void bits(int number) {
    int mine = 1 << number, set = 0;
    for (int i = 0; i < rounds; i++) {
        int old = AMO("amoxor.w", &s->words[0], mine);
        wrong_if((old & mine) != set);
        set ^= mine;
        old = i & 1 ? AMO("amoand.w", &s->words[1], ~mine) : AMO("amoor.w", &s->words[1], mine);
        wrong_if((old & mine) != (i & 1 ? mine : 0));
    }
}

static void reserved(int number) {
    for (int i = 0; i < rounds; i++) {
        long value;
        int failed;
        do
            __asm__ volatile("lr.d %0, %2\n addi %0, %0, 3\n sc.d %1, %0, %2\n"
                             : "=&r"(value), "=&r"(failed), "+A"(s->doubles[0]) : : "memory");
        while (failed);
        do
            __asm__ volatile("lr.w.aq %0, %2\n addi %0, %0, 5\n sc.w.rl %1, %0, %2\n"
                             : "=&r"(value), "=&r"(failed), "+A"(s->words[0]) : : "memory");
        while (failed);
    }
    (void)number;
}

static void mutex(int number) {
    for (int i = 0; i < rounds; i++) {
        pthread_mutex_lock(&s->mutex);
        s->plain += 7;
        pthread_mutex_unlock(&s->mutex);
    }
    (void)number;
}

static void semaphore(int number) {
    for (int i = 0; i < rounds; i++) {
        sem_wait(&s->semaphore);
        s->plain += 7;
        sem_post(&s->semaphore);
    }
    (void)number;
}

/* Two processes store, and then load what the other one stores: not both may find the old value. */
static void order(int number) {
    if (number > 1)
        return;
    for (int i = 1; i <= rounds; i++) {
        int *mine = &s->flags[number][0], *other = &s->flags[!number][0], found;
        meet(number, 2, 3 * i - 1);
        __asm__ volatile("sw %1, 0(%2)\n fence rw, rw\n lw %0, 0(%3)"
                         : "=&r"(found) : "r"(i), "r"(mine), "r"(other) : "memory");
        s->seen[number] = found;
        meet(number, 2, 3 * i);
        wrong_if(number == 0 && s->seen[0] != i && s->seen[1] != i);
        meet(number, 2, 3 * i + 1);
    }
}

/* A word that was written between a load-reserved and its store-conditional: what the latter says. */
static long between(long *place, long written) {
    long value, failed;
    __asm__ volatile("lr.d %0, %2\n sd %3, %2\n sc.d %1, %0, %2"
                     : "=&r"(value), "=&r"(failed), "+A"(*place) : "r"(written) : "memory");
    return failed;
}

static sigjmp_buf back;
static void *fault;

static void caught(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)context;
    fault = info->si_addr;
    siglongjmp(back, 1);
}

/* Alone, in memory of its own and in shared memory; and where nothing may be stored. */
static void single(void) {
    static long own = 5;
    long value, failed;
    s->doubles[0] = 5;
    printf("own %ld %ld, shared %ld %ld", between(&own, 6), between(&own, own), between(s->doubles, 6),
           between(s->doubles, s->doubles[0]));
    printf(", now %ld %ld\n", own, s->doubles[0]);
    struct sigaction action = {.sa_sigaction = caught, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    long *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    page[3] = 9;
    mprotect(page, 4096, PROT_READ);
    munmap(page + 512, 4096);
    for (int i = 0; i < 4; i++) {
        long *place = page + (i & 1 ? 512 : 3);
        if (sigsetjmp(back, 1)) {
            printf("fault at %td, %ld\n", (long *)fault - page, page[3]);
            continue;
        }
        if (i < 2)
            AMO("amoadd.d", place, 1L);
        else
            __asm__ volatile("lr.d %0, %3\n sc.d %1, %0, %2" : "=&r"(value), "=&r"(failed), "+A"(*place)
                             : "A"(page[3]) : "memory");
        printf("no fault\n");
    }
}

static const struct what {
    const char *name;
    void (*work)(int);
} all[] = {{"add", add}, {"swap", swap}, {"max", max}, {"bits", bits}, {"reserved", reserved}, {"mutex", mutex},
           {"semaphore", semaphore}, {"order", order}};

int main(int argc, char **argv) {
    if (argc != 3)
        return 2;
    rounds = atoi(argv[2]);
    s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(&s->mutex, &attributes);
    sem_init(&s->semaphore, 1, 1);
    if (!strcmp(argv[1], "single")) {
        for (int i = 0; i < rounds; i++)
            single();
        return 0;
    }
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (strcmp(all[i].name, argv[1]))
            continue;
        for (int number = 0; number < PROCESSES; number++)
            if (fork() == 0) {
                meet(number, PROCESSES, 1);
                all[i].work(number);
                _exit(0);
            }
        while (wait(NULL) > 0)
            ;
        long held = s->doubles[0];
        for (int number = 0; number < PROCESSES; number++)
            held += s->held[number];
        if (all[i].work == swap)
            s->doubles[0] = 0;
        printf("%d %ld, %ld, held %ld, %d wrong\n", s->words[0], s->doubles[0], s->plain, held, s->wrong);
        return 0;
    }
    return 2;
}
