"""Linux on hosts that take the kernel's common table of call numbers (aarch64, riscv64): no machine code of ours.

Owns: the numbers (include/uapi/asm-generic/unistd.h). Must not know: guests.
"""

from __future__ import annotations

EPOLL_EVENT = (16, 8)  # size of struct epoll_event, byte offset of its data
SEMID_DS = (88, 48, 56, 64)  # size of struct semid64_ds, byte offsets of sem_otime, sem_ctime and sem_nsems

CALLS = {
    "read": 63, "write": 64, "pread64": 67, "pwrite64": 68, "readv": 65, "writev": 66, "preadv": 69, "pwritev": 70,
    "preadv2": 286, "pwritev2": 287, "openat": 56, "ioctl": 29, "fcntl": 25, "flock": 32, "fsync": 82,
    "fdatasync": 83, "sendfile": 71, "splice": 76, "tee": 77, "vmsplice": 75, "copy_file_range": 285,
    "ppoll": 73, "pselect6": 72, "epoll_pwait": 22, "epoll_pwait2": 441, "io_getevents": 4,
    "accept": 202, "accept4": 242, "connect": 203, "sendto": 206, "recvfrom": 207, "sendmsg": 211, "recvmsg": 212,
    "sendmmsg": 269, "recvmmsg": 243, "wait4": 260, "waitid": 95, "futex": 98, "futex_waitv": 449,
    "clock_nanosleep": 115, "rt_sigtimedwait": 137, "rt_sigsuspend": 133, "getrandom": 278,
    "msgrcv": 188, "msgsnd": 189, "semop": 193, "semtimedop": 192, "mq_timedsend": 182, "mq_timedreceive": 183,
    "process_vm_readv": 270, "rt_sigqueueinfo": 138, "rt_tgsigqueueinfo": 240, "tgkill": 131,
    "adjtimex": 171, "bind": 200, "capget": 90, "capset": 91, "clock_adjtime": 266, "epoll_create1": 20,
    "epoll_ctl": 21, "getpeername": 205, "getsockname": 204, "getsockopt": 209, "inotify_add_watch": 27,
    "inotify_init1": 26, "inotify_rm_watch": 28, "ioprio_get": 31, "ioprio_set": 30, "kcmp": 272, "listen": 201,
    "madvise": 233, "mount": 40, "mq_getsetattr": 185, "mq_notify": 184, "mq_open": 180, "mq_unlink": 181,
    "msgctl": 187, "msgget": 186, "name_to_handle_at": 264, "open_by_handle_at": 265, "pivot_root": 41,
    "remap_file_pages": 234, "sched_getattr": 275, "sched_getparam": 121, "sched_getscheduler": 120,
    "sched_rr_get_interval": 127, "sched_setattr": 274, "sched_setparam": 118, "sched_setscheduler": 119,
    "semctl": 191, "semget": 190, "setdomainname": 162, "sethostname": 161, "setns": 268, "setsockopt": 208,
    "shmat": 196, "shmctl": 195, "shmdt": 197, "shmget": 194, "shutdown": 210, "socket": 198, "socketpair": 199,
    "sync_file_range": 84, "syslog": 116, "timerfd_create": 85, "timerfd_gettime": 87, "timerfd_settime": 86,
    "umount2": 39, "unshare": 97, "vhangup": 58, "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431,
    "fsmount": 432, "fspick": 433, "pidfd_open": 434, "openat2": 437, "pidfd_getfd": 438, "process_madvise": 440,
    "mount_setattr": 442, "process_mrelease": 448, "cachestat": 451, "fchmodat2": 452, "statmount": 457,
    "listmount": 458, "setxattrat": 463, "getxattrat": 464, "listxattrat": 465, "removexattrat": 466,
    "open_tree_attr": 467, "pidfd_send_signal": 424,
}  # fmt: skip
