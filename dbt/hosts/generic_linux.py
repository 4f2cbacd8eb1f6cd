"""Linux on hosts that take the kernel's common table of call numbers (aarch64, riscv64): no machine code of ours.

Owns: the numbers (include/uapi/asm-generic/unistd.h). Must not know: guests.
"""

from __future__ import annotations

CALLS = {
    "read": 63, "write": 64, "pread64": 67, "pwrite64": 68, "readv": 65, "writev": 66, "preadv": 69, "pwritev": 70,
    "preadv2": 286, "pwritev2": 287, "openat": 56, "ioctl": 29, "fcntl": 25, "flock": 32, "fsync": 82,
    "fdatasync": 83, "sendfile": 71, "splice": 76, "tee": 77, "vmsplice": 75, "copy_file_range": 285,
    "ppoll": 73, "pselect6": 72, "epoll_pwait": 22, "epoll_pwait2": 441, "io_getevents": 4,
    "accept": 202, "accept4": 242, "connect": 203, "sendto": 206, "recvfrom": 207, "sendmsg": 211, "recvmsg": 212,
    "sendmmsg": 269, "recvmmsg": 243, "wait4": 260, "waitid": 95, "futex": 98, "futex_waitv": 449,
    "clock_nanosleep": 115, "rt_sigtimedwait": 137, "rt_sigsuspend": 133, "getrandom": 278,
    "msgrcv": 188, "msgsnd": 189, "semop": 193, "semtimedop": 192, "mq_timedsend": 182, "mq_timedreceive": 183,
    "rt_sigqueueinfo": 138, "rt_tgsigqueueinfo": 240,
}  # fmt: skip
