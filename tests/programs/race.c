/* Three mistakes that only some schedules show, and one program without: two threads that add without a lock, two that
 * take two locks in different orders, and one that waits for a condition without looking whether it holds already. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static pthread_mutex_t first = PTHREAD_MUTEX_INITIALIZER, second = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t told = PTHREAD_COND_INITIALIZER;
static volatile long total;
static int guarded;

static __attribute__((noinline)) long more(long value) {
    return value + 1;
}

static void *add(void *argument) {
    for (int i = 0; i < 200; i++) {
        if (guarded)
            pthread_mutex_lock(&first);
        long seen = total;
        total = more(seen);
        if (guarded)
            pthread_mutex_unlock(&first);
    }
    return argument;
}

static void *take(void *argument) {
    pthread_mutex_t *one = argument, *other = one == &first ? &second : &first;
    for (int i = 0; i < 50; i++) {
        pthread_mutex_lock(one);
        pthread_mutex_lock(other);
        total++;
        pthread_mutex_unlock(other);
        pthread_mutex_unlock(one);
    }
    return 0;
}

static void *tell(void *argument) {
    pthread_mutex_lock(&first);
    pthread_cond_signal(&told);
    pthread_mutex_unlock(&first);
    return argument;
}

static void *wait_for_it(void *argument) {
    for (volatile int i = 0; i < 2000; i++) {
    }
    pthread_mutex_lock(&first);
    pthread_cond_wait(&told, &first);
    pthread_mutex_unlock(&first);
    return argument;
}

int main(int argc, char **argv) {
    const char *name = argc > 1 ? argv[1] : "race";
    pthread_t made[2];
    guarded = !strcmp(name, "guarded");
    if (!strcmp(name, "locks")) {
        pthread_create(&made[0], 0, take, &first);
        pthread_create(&made[1], 0, take, &second);
    } else if (!strcmp(name, "condition")) {
        pthread_create(&made[0], 0, wait_for_it, 0);
        pthread_create(&made[1], 0, tell, 0);
    } else {
        pthread_create(&made[0], 0, add, 0);
        pthread_create(&made[1], 0, add, 0);
    }
    for (int i = 0; i < 2; i++)
        pthread_join(made[i], 0);
    printf("total %ld\n", total);
    return 0;
}
