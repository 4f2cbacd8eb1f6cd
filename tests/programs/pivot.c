/* Another root folder, an empty one, and then calls that were not made before: nothing of who runs us is to be found. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile int seen;

static void handler(int number) { seen++; }

static void say(const char *what, long result) {
    printf("%s: %ld %s\n", what, result, result < 0 ? strerrorname_np(errno) : "-");
}

int main(int argc, char **argv) {
    setvbuf(stdout, 0, _IONBF, 0);
    say("unshare", unshare(CLONE_NEWUSER | CLONE_NEWNS));
    say("mount", mount("none", argv[1], "tmpfs", 0, 0));
    say("chdir", chdir(argv[1]));
    say("pivot_root", syscall(SYS_pivot_root, ".", "."));
    say("umount", umount2(".", MNT_DETACH));
    say("chdir", chdir("/"));
    say("nothing is here", open("/usr", O_RDONLY));
    say("mkdir", mkdir("/made", 0700));
    struct epoll_event event = {.events = EPOLLIN};
    int timer = timerfd_create(CLOCK_MONOTONIC, 0), poller = epoll_create1(0), pair[2];
    say("epoll_ctl", epoll_ctl(poller, EPOLL_CTL_ADD, timer, &event));
    struct itimerspec soon = {.it_value = {0, 1000}};
    say("timerfd_settime", timerfd_settime(timer, 0, &soon, 0));
    say("epoll_wait", epoll_wait(poller, &event, 1, 5000));
    say("socketpair", socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    say("sendmsg", send(pair[0], "text", 4, 0));
    signal(SIGUSR1, handler);
    raise(SIGUSR1);
    say("handlers", seen);
    char text[4];
    struct iovec from = {"text", 4}, to = {text, 4};
    say("process_vm_readv", process_vm_readv(getpid(), &to, 1, &from, 1, 0));
    pid_t child = fork();
    if (child == 0)
        _exit(7);
    int status;
    say("waitpid", waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 7);
    if ((child = fork()) == 0)
        raise(SIGKILL);
    say("waitpid", waitpid(child, &status, 0) == child && WTERMSIG(status) == SIGKILL);
    return 5;
}
