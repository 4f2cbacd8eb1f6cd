/* Known chains of calls that end in a fault: what a backtrace has to name. The first argument says which. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define OWN __attribute__((noinline, noclone, used))

static volatile int sink;
static int *volatile nowhere;

OWN int leaf(int x) { return *nowhere + x; }

OWN int saves(int x) {
    volatile int room[20];
    room[x & 7] = x;
    return leaf(room[x & 7]) + room[1];
}

OWN int chain(int depth) { return depth ? chain(depth - 1) + 1 : saves(depth) + 1; }

OWN int compare(const void *a, const void *b) { return leaf(*(const int *)a - *(const int *)b) + 1; }

OWN int sorts(void) {
    int values[] = {3, 1, 2};
    qsort(values, 3, sizeof *values, compare);
    return values[0];
}

OWN void handler(int number) { sink = saves(number) + 1; }

OWN int interrupted(int number) {
    signal(number, handler);
    raise(number);
    return sink + 1;
}

static char other_stack[1 << 16];

OWN int elsewhere(void) {
    stack_t stack = {.ss_sp = other_stack, .ss_size = sizeof other_stack};
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_ONSTACK};
    sigaltstack(&stack, 0);
    sigaction(SIGSEGV, &action, 0);
    return leaf(1) + 1;
}

OWN int calls_nothing(void) {
    int (*volatile to)(void) = 0;
    return to() + 1;
}

OWN int gives_up(void) {
    abort();
}

/* In children: a fault each at the same moment, and one that is not anybody's fault. The parent tells how they ended. */
OWN int in_children(int count) {
    int go[2];
    if (pipe(go))
        return 1;
    for (int i = 0; i <= count; i++)
        if (fork() == 0) {
            char byte;
            close(go[1]);
            if (read(go[0], &byte, 1) == 0 && i < count)
                saves(i);
            kill(getpid(), SIGPIPE);
        }
    close(go[0]);
    close(go[1]);
    int status, seen[32] = {0};
    while (wait(&status) > 0)
        seen[WTERMSIG(status)]++;
    printf("%d by SIGSEGV, %d by SIGPIPE\n", seen[SIGSEGV], seen[SIGPIPE]);
    return 0;
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    int status = 1;
    if (!strcmp(what, "chain"))
        status = chain(2);
    else if (!strcmp(what, "deep"))
        status = chain(100);
    else if (!strcmp(what, "qsort"))
        status = sorts();
    else if (!strcmp(what, "handler"))
        status = interrupted(SIGUSR1);
    else if (!strcmp(what, "fault"))
        status = elsewhere();
    else if (!strcmp(what, "null"))
        status = calls_nothing();
    else if (!strcmp(what, "abort"))
        status = gives_up();
    else if (!strcmp(what, "children"))
        status = in_children(6);
    printf("%d\n", status + sink);
    return status;
}
