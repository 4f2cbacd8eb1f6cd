/* One line for each fact about system calls that a program can rely on; qemu-riscv64 and Dragoman must agree.
   The arguments name families of calls. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/sendfile.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#define SHOW(expression) show(#expression, (long)(expression))

static void show(const char *what, long value)
{
    if (value == -1)
        printf("%s = -1 %s\n", what, strerrorname_np(errno));
    else
        printf("%s = %ld\n", what, value);
    errno = 0;
}

static void sockets(void)
{
    int pair[2], other[2], one = 1;
    char data[64] = "sent", control[CMSG_SPACE(sizeof(int))];
    struct iovec part = {data, 4};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    struct sockaddr_in inet = {.sin_family = AF_INET};
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    socklen_t length = sizeof inet;
    int server, client, accepted, type;

    SHOW(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    SHOW(pipe(other));
    *head = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(head), &other[1], sizeof(int));
    SHOW(sendmsg(pair[0], &message, 0));
    memset(control, 0, sizeof control);
    memset(data, 0, sizeof data);
    SHOW(recvmsg(pair[1], &message, MSG_CMSG_CLOEXEC));
    memcpy(&type, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(int));
    SHOW(message.msg_controllen);
    SHOW(fcntl(type, F_GETFD));
    SHOW(write(type, "through", 7));
    SHOW(read(other[0], data, sizeof data));
    puts(data);

    server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    inet.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    SHOW(setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one));
    SHOW(bind(server, (struct sockaddr *)&inet, sizeof inet));
    SHOW(listen(server, 4));
    SHOW(getsockname(server, (struct sockaddr *)&inet, &length));
    SHOW(length);
    client = socket(AF_INET, SOCK_STREAM, 0);
    SHOW(connect(client, (struct sockaddr *)&inet, sizeof inet));
    SHOW((accepted = accept4(server, NULL, NULL, SOCK_NONBLOCK)) >= 0);
    SHOW(recv(accepted, data, 8, 0));
    SHOW(send(client, "request", 7, 0));
    SHOW(poll(&(struct pollfd){accepted, POLLIN, 0}, 1, 1000));
    SHOW(recv(accepted, data, 3, MSG_PEEK));
    SHOW(ioctl(accepted, FIONREAD, &type));
    SHOW(type);
    length = sizeof type;
    SHOW(getsockopt(accepted, SOL_SOCKET, SO_TYPE, &type, &length));
    SHOW(type);
    SHOW(shutdown(client, SHUT_WR));
    SHOW(connect(client, (struct sockaddr *)&inet, sizeof inet));
    SHOW(bind(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&name, 500));
    SHOW(socket(AF_UNIX, 77, 0));
    SHOW(send(pair[0], (void *)8, 10, 0));
}

static void events(void)
{
    struct epoll_event event = {EPOLLIN, {.u64 = 0x123456789abcdefULL}}, found[4];
    struct itimerspec once = {{0, 0}, {0, 1000000}}, left;
    int epoll = epoll_create1(EPOLL_CLOEXEC), counter = eventfd(0, EFD_NONBLOCK), timer;
    unsigned long count = 3;

    SHOW(epoll_ctl(epoll, EPOLL_CTL_ADD, counter, &event));
    SHOW(epoll_wait(epoll, found, 4, 0));
    SHOW(write(counter, &count, sizeof count));
    SHOW(epoll_wait(epoll, found, 4, 0));
    SHOW(found[0].events);
    SHOW(found[0].data.u64 == event.data.u64);
    SHOW(epoll_ctl(epoll, EPOLL_CTL_ADD, counter, &event));
    SHOW(epoll_ctl(epoll, EPOLL_CTL_DEL, eventfd(0, 0), NULL));
    SHOW(read(counter, &count, sizeof count));
    SHOW(count);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    event.data.u64 = 7;
    SHOW(epoll_ctl(epoll, EPOLL_CTL_ADD, timer, &event));
    SHOW(timerfd_settime(timer, 0, &once, &left));
    SHOW(left.it_value.tv_nsec);
    SHOW(epoll_wait(epoll, found, 4, 10000));
    SHOW(found[0].data.u64);
    SHOW(read(timer, &count, sizeof count));
    SHOW(count);
    SHOW(read(timer, &count, sizeof count));
    SHOW(close(counter));
    SHOW(epoll_wait(epoll, found, 4, 0));
    SHOW(epoll_wait(epoll, found, 0, 0));
}

static void objects(void)
{
    struct { long type; char text[32]; } message = {5, "in a queue"};
    struct sembuf operations[] = {{0, 2, 0}, {1, -1, IPC_NOWAIT}};
    struct shmid_ds status;
    struct semid_ds semaphores;
    int shared = shmget(IPC_PRIVATE, 5000, 0600), set = semget(IPC_PRIVATE, 2, 0600), queue = msgget(IPC_PRIVATE, 0600);
    char *first = shmat(shared, NULL, 0), *second = shmat(shared, NULL, SHM_RDONLY);

    strcpy(first + 4990, "seen");
    puts(second + 4990);
    SHOW(shmctl(shared, IPC_STAT, &status));
    SHOW(status.shm_segsz);
    SHOW(status.shm_nattch);
    SHOW(shmdt(first));
    SHOW(shmdt(first));
    SHOW(shmctl(shared, IPC_RMID, NULL));
    SHOW(semctl(set, 1, SETVAL, 1));
    SHOW(semop(set, operations, 2));
    SHOW(semctl(set, 0, GETVAL));
    SHOW(semop(set, operations + 1, 1));
    SHOW(semctl(set, 0, IPC_STAT, &semaphores));
    SHOW(semaphores.sem_nsems);
    SHOW(semctl(set, 0, IPC_RMID));
    SHOW(msgsnd(queue, &message, 11, 0));
    SHOW(msgrcv(queue, &message, 32, 4, IPC_NOWAIT));
    SHOW(msgrcv(queue, &message, 32, 5, IPC_NOWAIT));
    puts(message.text);
    SHOW(msgctl(queue, IPC_RMID, NULL));
    SHOW(msgsnd(queue, &message, 11, 0));
}

static void transfers(void)
{
    int ends[2], file = memfd_create("file", MFD_ALLOW_SEALING), copy = memfd_create("copy", 0);
    char data[64] = {0};
    struct iovec two[2] = {{"one", 3}, {"two", 3}}, into[2] = {{data, 2}, {data + 10, 50}};
    loff_t from = 2;

    SHOW(pipe2(ends, O_NONBLOCK));
    SHOW(writev(file, two, 2));
    SHOW(pwritev(file, two, 1, 6));
    SHOW(preadv(file, into, 2, 1));
    puts(data);
    puts(data + 10);
    SHOW(splice(file, &from, ends[1], NULL, 4, 0));
    SHOW(from);
    SHOW(sendfile(copy, file, &from, 100));
    SHOW(from);
    SHOW(read(ends[0], data, sizeof data));
    SHOW(read(ends[0], data, sizeof data));
    SHOW(vmsplice(ends[1], two, 2, 0));
    SHOW(read(ends[0], data, sizeof data));
    SHOW(fcntl(file, F_ADD_SEALS, F_SEAL_WRITE));
    SHOW(fcntl(file, F_GET_SEALS));
    SHOW(write(file, "x", 1));
    SHOW(pwrite(copy, (void *)8, 4, 0));
    SHOW(read(copy, (void *)8, 0));
    SHOW(close_range(ends[0], ends[0], 0));
    SHOW(read(ends[0], data, 1));
    SHOW(fcntl(copy, F_SETLK, &(struct flock){F_WRLCK, SEEK_SET, 0, 10, 0}));
    SHOW(fcntl(copy, F_OFD_GETLK, &(struct flock){F_WRLCK, SEEK_SET, 0, 10, 0}));
}

static void memory(void)
{
    long page = sysconf(_SC_PAGESIZE);
    char *start = mmap(NULL, 4 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *moved;
    unsigned char there[4];

    start[page] = 1;
    SHOW(madvise(start, 4 * page, MADV_DONTNEED));
    SHOW(start[page]);
    start[page] = 2;
    moved = mremap(start, 2 * page, 8 * page, MREMAP_MAYMOVE);
    SHOW(moved[page]);
    SHOW(mincore(moved + 1, page, there));
    SHOW(mprotect(moved + page, 100 * page, PROT_READ) == -1 && errno == ENOMEM);
    SHOW(msync(moved, page, MS_SYNC | MS_ASYNC));
    SHOW(mlock(moved, page));
    SHOW(munlock(moved, page));
    SHOW(mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED && errno == EINVAL);
    SHOW(munmap(moved + 1, page));
    SHOW(munmap(moved, 8 * page));
}

static void terminals(void)
{
    int main_end = posix_openpt(O_RDWR | O_NOCTTY), other;
    struct winsize size = {30, 90, 0, 0};
    struct termios modes;
    char data[16] = {0};

    SHOW(unlockpt(main_end));
    other = open(ptsname(main_end), O_RDWR | O_NOCTTY);
    SHOW(ioctl(main_end, TIOCSWINSZ, &size));
    size.ws_row = 0;
    SHOW(ioctl(other, TIOCGWINSZ, &size));
    SHOW(size.ws_row);
    SHOW(tcgetattr(other, &modes));
    SHOW(cfgetospeed(&modes) == B38400);
    cfmakeraw(&modes);
    SHOW(tcsetattr(other, TCSANOW, &modes));
    SHOW(write(other, "raw\n", 4));
    SHOW(read(main_end, data, sizeof data));
    SHOW(isatty(other));
    SHOW(tcgetattr(memfd_create("none", 0), &modes));
}

static const struct {
    const char *name;
    void (*run)(void);
} families[] = {{"sockets", sockets}, {"events", events},       {"objects", objects},
                {"memory", memory},   {"transfers", transfers}, {"terminals", terminals}};

int main(int count, char **words)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int each = 1; each < count; each++)
        for (unsigned index = 0; index < sizeof families / sizeof *families; index++)
            if (!strcmp(families[index].name, words[each]))
                families[index].run();
    return 0;
}
