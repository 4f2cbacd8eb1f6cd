/* System calls whose lines are compared with those of Linux's strace: built for the host and for the guest. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define CALL(name, ...) syscall(SYS_##name, __VA_ARGS__)

/* Sockets, and descriptors that tell of events. */
static void newer_calls(void)
{
    char buffer[64];
    int pair[2], one = 1;
    unsigned size = 128;
    struct sockaddr_un local = {AF_UNIX, "/tmp/no/socket"};
    struct sockaddr_in there = {AF_INET, htons(9), {htonl(INADDR_LOOPBACK)}};
    struct sockaddr_storage name;
    struct iovec parts[2] = {{"he", 2}, {"llo", 3}};
    struct msghdr message = {0, 0, parts, 2, 0, 0, 0};
    struct epoll_event event = {EPOLLIN | EPOLLET, {.u64 = 7}};

    int stream = CALL(socket, AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    CALL(setsockopt, stream, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    CALL(getsockopt, stream, SOL_SOCKET, SO_TYPE, &one, &size);
    CALL(bind, -1, &there, sizeof there);
    CALL(connect, -1, &local, sizeof local);
    CALL(listen, -1, 5);
    CALL(accept4, -1, 0, 0, SOCK_CLOEXEC);
    CALL(socketpair, AF_UNIX, SOCK_SEQPACKET, 0, pair);
    CALL(sendmsg, pair[0], &message, MSG_NOSIGNAL);
    CALL(recvfrom, pair[1], buffer, sizeof buffer, MSG_DONTWAIT, 0, 0);
    CALL(sendto, pair[0], "data", 4, 0, 0, 0);
    CALL(recvfrom, pair[0], buffer, sizeof buffer, MSG_DONTWAIT, 0, 0);
    size = sizeof name;
    CALL(getsockname, -1, &name, &size);
    CALL(shutdown, pair[0], SHUT_WR);
    int waits = CALL(epoll_create1, EPOLL_CLOEXEC);
    CALL(epoll_ctl, waits, EPOLL_CTL_ADD, pair[1], &event);
    CALL(epoll_ctl, waits, EPOLL_CTL_DEL, -1, 0);
    CALL(timerfd_create, CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
}

int main(void)
{
    char buffer[256];
    int pair[2];
    struct stat status;
    struct timespec moment = {0, 1000};
    struct rlimit limit;
    struct { void *handler; unsigned long flags; unsigned long rest[2]; } action = {SIG_IGN, 0, {0, 0}};
    unsigned long set = 1UL << (SIGUSR1 - 1) | 1UL << (SIGINT - 1);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 10};

    CALL(chdir, "/tmp");
    int file = CALL(openat, AT_FDCWD, "strace-probe", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    CALL(write, file, "a \"quoted\" line\n\tand \0019 bytes\377", 31);
    CALL(pwrite64, file, "more than thirty-two bytes, so that it is cut", 45, 100L);
    struct iovec parts[2] = {{"one\n", 4}, {"two", 3}};
    CALL(writev, file, parts, 2);
    CALL(lseek, file, -3L, SEEK_END);
    CALL(read, file, buffer, 100);
    CALL(pread64, file, buffer, 5, 0L);
    CALL(read, -1, buffer, 100);
    CALL(lseek, file, 0L, SEEK_SET);
    CALL(read, file, (void *)16, 4);
    CALL(openat, file, "none", O_RDONLY | O_NOFOLLOW);
    CALL(openat, AT_FDCWD, (void *)16, O_WRONLY | O_APPEND | O_NONBLOCK);
    CALL(fstat, -1, &status);
    CALL(newfstatat, file, "", &status, AT_EMPTY_PATH);
    CALL(newfstatat, AT_FDCWD, "/none", &status, AT_SYMLINK_NOFOLLOW);
    CALL(fcntl, file, F_SETFD, 0);
    CALL(fcntl, file, F_DUPFD_CLOEXEC, 50);
    CALL(fcntl, file, F_SETLK, &lock);
    CALL(flock, file, LOCK_SH | LOCK_NB);
    CALL(ftruncate, file, 10L);
    CALL(fchmod, file, 0600);
    CALL(fchown, file, -1, -1);
    CALL(faccessat, AT_FDCWD, "strace-probe", R_OK | W_OK);
    CALL(mkdirat, AT_FDCWD, "/tmp", 0755);
    CALL(linkat, AT_FDCWD, "/none", AT_FDCWD, "other", AT_SYMLINK_FOLLOW);
    CALL(renameat2, AT_FDCWD, "/none", AT_FDCWD, "other", 1);
    CALL(readlinkat, AT_FDCWD, "/none", buffer, 100);
    CALL(unlinkat, AT_FDCWD, "strace-probe", 0);
    CALL(unlinkat, AT_FDCWD, "/none", AT_REMOVEDIR);
    CALL(getcwd, buffer, 100);
    CALL(pipe2, pair, O_CLOEXEC | O_NONBLOCK);
    CALL(dup3, pair[0], 60, O_CLOEXEC);
    CALL(nanosleep, &moment, 0);
    CALL(clock_nanosleep, CLOCK_MONOTONIC, 0, &moment, 0);
    CALL(rt_sigprocmask, SIG_BLOCK, &set, 0, 8);
    CALL(rt_sigprocmask, SIG_SETMASK, 0, &set, 8);
    CALL(rt_sigprocmask, SIG_UNBLOCK, &set, 0, 9);
    CALL(rt_sigaction, SIGSTOP, &action, 0, 9);
    CALL(sigaltstack, 0, &action);
    CALL(prlimit64, 0, RLIMIT_NOFILE, 0, &limit);
    CALL(prlimit64, 0, RLIMIT_CORE, 0, 0);
    void *memory = (void *)CALL(mmap, 0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0L);
    CALL(madvise, memory, 4096, MADV_DONTNEED);
    CALL(mremap, memory, 8192, 4096, MREMAP_MAYMOVE);
    CALL(mprotect, memory, 4096, PROT_READ | PROT_EXEC);
    CALL(munmap, memory, 4096);
    CALL(mmap, 0, 0, PROT_NONE, MAP_SHARED, file, 0L);
    CALL(utimensat, AT_FDCWD, "/none", 0, AT_SYMLINK_NOFOLLOW);
    CALL(umask, 022);
    CALL(kill, 0, 0);
    CALL(close, 777);
    CALL(getpgid, 0);
    CALL(getpriority, PRIO_PROCESS, 0);
    CALL(memfd_create, "a name", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    CALL(eventfd2, 3, 0);
    CALL(fallocate, -1, 1, 0L, 10L);
    CALL(fadvise64, -1, 0L, 0L, POSIX_FADV_WILLNEED);
    CALL(getrandom, buffer, 0, 1);
    newer_calls();
    CALL(exit_group, 3);
}
