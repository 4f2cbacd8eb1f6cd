"""Linux on x86-64: call numbers, and the machine code by which a signal ends a system call without a race.

`call(number, a1 .. a6)` makes a system call unless FLAG is set; then, or if a signal comes before the call has begun
to wait, the result is -512 (-ERESTARTSYS). `handler(signal, info, context)` is a signal action: it sets FLAG, moves an
interrupted pc that lies between the test and the end of the call to `interrupted`, and appends the siginfo to a ring
of ENTRIES at RING. When the ring is nearly full it leaves signals blocked (HELD_BACK: all but faults, and the two by
which the C library talks to its threads), so that the kernel keeps what comes: who empties the ring unblocks them. A
fault of our own (ILL, TRAP, BUS, FPE, SEGV or SYS that the kernel sent) gets its default action back, and happens
again. `waker` ends the call as well, and goes on in another action, whose address is at NEXT. The data lie PAGE behind
the code.

Owns: facts of the host (arch/x86/entry/syscalls/syscall_64.tbl; the System V ABI's ucontext). Must not know: guests.
"""

from __future__ import annotations

PAGE = 4096
FLAG, HEAD, TAIL, NEXT = 0, 8, 16, 56  # byte offsets in the data; entries that were begun, and that were read
HELD_BACK = 0xFFFFFFFE7FFFFB27  # what waits while the handler runs: not ILL, TRAP, BUS, FPE, SEGV, 32, 33
RING, ENTRIES, ENTRY = 4096, 1024, 128  # byte offset, number and size of what the handler appends
ROOM = 960  # entries from which on signals stay blocked; each thread can still be in one handler
SIGACTION = (0, 8, 136, 152)  # byte offsets in libc's struct sigaction: handler, mask, flags; its size

# What CODE is the assembly of (AT&T syntax; `data` is at PAGE). 168 and 296 are uc_mcontext.rip and uc_sigmask, 8 of
# a siginfo is si_code, 13 is rt_sigaction, and the 32 bytes from data+24 on stay zero: the default action.
TEXT = """
call:
    mov %rdi, %rax
    mov %rsi, %rdi
    mov %rdx, %rsi
    mov %rcx, %rdx
    mov %r8, %r10
    mov %r9, %r8
    mov 8(%rsp), %r9
begin:
    cmpl $0, data+0(%rip)
    jne interrupted
    syscall
end:
    ret
interrupted:
    mov $-512, %rax
    ret
handler:
    mov $0x800009b0, %eax
    bt %rdi, %rax
    jnc note
    cmpl $0, 8(%rsi)
    jg fatal
note:
    call stop
    mov $1, %eax
    lock xadd %rax, data+8(%rip)
    mov %rax, %rcx
    sub data+16(%rip), %rcx
    cmp $960, %rcx
    jb copy
    movabs $0xfffffffe7ffffb27, %rcx
    mov %rcx, 296(%rdx)
copy:
    and $1023, %eax
    shl $7, %eax
    lea data+4096(%rip), %rdi
    add %rax, %rdi
    mov $16, %ecx
    rep movsq
    ret
fatal:
    mov $13, %eax
    lea data+24(%rip), %rsi
    xor %edx, %edx
    mov $8, %r10d
    syscall
    ret
waker:
    call stop
    jmp *data+56(%rip)
stop:
    movl $1, data+0(%rip)
    mov 168(%rdx), %rax
    lea begin(%rip), %rcx
    sub %rcx, %rax
    cmp $end-begin, %rax
    jae stopped
    lea interrupted(%rip), %rcx
    mov %rcx, 168(%rdx)
stopped:
    ret
.balign 4096
data:
"""
CODE = bytes.fromhex("""
    4889f84889f74889d64889ca4d89c24d89c84c8b4c2408833de20f00000075030f05c348
    c7c000feffffc3b8b0090080480fa3f87306837e08007f52e86f000000b801000000f048
    0fc105b90f00004889c1482b0db70f00004881f9c0030000721148b927fbff7ffeffffff
    48898a2801000025ff030000c1e007488d3d7e1f00004801c7b910000000f348a5c3b80d
    000000488d357e0f000031d241ba080000000f05c3e806000000ff25880f0000c705460f
    000001000000488b82a8000000488d0d4fffffff4829c84883f80b730e488d0d4bffffff
    48898aa8000000c3
""")
CALL, HANDLER, WAKER = 0, 0x2B, 0xA5  # byte offsets in CODE

EPOLL_EVENT = (12, 4)  # size of struct epoll_event, byte offset of its data
SEMID_DS = (104, 48, 64, 80)  # size of struct semid64_ds, byte offsets of sem_otime, sem_ctime and sem_nsems

CALLS = {
    "read": 0, "write": 1, "pread64": 17, "pwrite64": 18, "readv": 19, "writev": 20, "preadv": 295, "pwritev": 296,
    "preadv2": 327, "pwritev2": 328, "openat": 257, "ioctl": 16, "fcntl": 72, "flock": 73, "fsync": 74,
    "fdatasync": 75, "sendfile": 40, "splice": 275, "tee": 276, "vmsplice": 278, "copy_file_range": 326,
    "ppoll": 271, "pselect6": 270, "epoll_pwait": 281, "epoll_pwait2": 441, "io_getevents": 208,
    "accept": 43, "accept4": 288, "connect": 42, "sendto": 44, "recvfrom": 45, "sendmsg": 46, "recvmsg": 47,
    "sendmmsg": 307, "recvmmsg": 299, "wait4": 61, "waitid": 247, "futex": 202, "futex_waitv": 449,
    "clock_nanosleep": 230, "rt_sigtimedwait": 128, "rt_sigsuspend": 130, "getrandom": 318,
    "msgrcv": 70, "msgsnd": 69, "semop": 65, "semtimedop": 220, "mq_timedsend": 242, "mq_timedreceive": 243,
    "process_vm_readv": 310, "rt_sigqueueinfo": 129, "rt_tgsigqueueinfo": 297, "tgkill": 234,
    "adjtimex": 159, "bind": 49, "capget": 125, "capset": 126, "clock_adjtime": 305, "epoll_create1": 291,
    "epoll_ctl": 233, "getpeername": 52, "getsockname": 51, "getsockopt": 55, "inotify_add_watch": 254,
    "inotify_init1": 294, "inotify_rm_watch": 255, "ioprio_get": 252, "ioprio_set": 251, "kcmp": 312, "listen": 50,
    "madvise": 28, "mount": 165, "mq_getsetattr": 245, "mq_notify": 244, "mq_open": 240, "mq_unlink": 241,
    "msgctl": 71, "msgget": 68, "name_to_handle_at": 303, "open_by_handle_at": 304, "pivot_root": 155,
    "remap_file_pages": 216, "sched_getattr": 315, "sched_getparam": 143, "sched_getscheduler": 145,
    "sched_rr_get_interval": 148, "sched_setattr": 314, "sched_setparam": 142, "sched_setscheduler": 144, "semctl": 66,
    "semget": 64, "setdomainname": 171, "sethostname": 170, "setns": 308, "setsockopt": 54, "shmat": 30, "shmctl": 31,
    "shmdt": 67, "shmget": 29, "shutdown": 48, "socket": 41, "socketpair": 53, "sync_file_range": 277, "syslog": 103,
    "timerfd_create": 283, "timerfd_gettime": 287, "timerfd_settime": 286, "umount2": 166, "unshare": 272,
    "vhangup": 153, "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433,
    "pidfd_open": 434, "openat2": 437, "pidfd_getfd": 438, "process_madvise": 440, "mount_setattr": 442,
    "process_mrelease": 448, "cachestat": 451, "fchmodat2": 452, "statmount": 457, "listmount": 458, "setxattrat": 463,
    "getxattrat": 464, "listxattrat": 465, "removexattrat": 466, "open_tree_attr": 467, "pidfd_send_signal": 424,
}  # fmt: skip
