/* What others send: `sent CASE` says "ready" and waits. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t seen, last, code, own;

static void note(int number, siginfo_t *info, void *context) {
    seen++;
    last = number;
    code = info->si_code;
    own = info->si_pid == getppid();
}

int main(int argc, char **argv) {
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGSEGV, SIGBUS, SIGCHLD, SIGWINCH, SIGTSTP, SIGCONT};
    setvbuf(stdout, 0, _IOLBF, 0);
    struct sigaction action = {.sa_sigaction = note, .sa_flags = SA_SIGINFO};
    int wanted = argc > 2 ? atoi(argv[2]) : 1;
    if (strcmp(argv[1], "default"))
        for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++)
            sigaction(numbers[i], &action, 0);
    printf("ready\n");
    if (!strcmp(argv[1], "loop"))
        while (seen < wanted) {
        }
    else if (!strcmp(argv[1], "read") || !strcmp(argv[1], "default")) {
        char c;
        while (seen < wanted && (read(0, &c, 1) < 0 && errno == EINTR)) {
        }
    } else if (!strcmp(argv[1], "wild")) {
        volatile long sum = 0;
        for (;;) { /* faults of its own go on to be faults */
            sum++;
            if (seen >= wanted)
                break;
        }
        signal(SIGSEGV, SIG_DFL);
        *(volatile char *)argc = 1;
    } else if (!strcmp(argv[1], "blocked")) {
        sigset_t all;
        sigfillset(&all);
        sigprocmask(SIG_BLOCK, &all, 0);
        printf("blocked\n");
        char c;
        while (read(0, &c, 1) > 0 && c != 'x') {
        }
        printf("seen %d\n", seen);
        sigprocmask(SIG_UNBLOCK, &all, 0);
    }
    printf("seen %d last %d code %d parent %d\n", seen, last, code, own);
    return 0;
}
