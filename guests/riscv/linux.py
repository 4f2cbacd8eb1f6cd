"""Linux on riscv64 as data: call numbers, structures, flags and the program-start facts of its ABI.

Owns: what `asm-generic` and the riscv headers of Linux fix for a 64-bit program. The module itself is the value
that `dbt.linux` is given. Must not know: how a call is carried out, or anything of the host.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from types import ModuleType

from guests.spec import Decoded

MACHINE = "riscv64"  # what uname says
PAGE_SIZE = 4096

# Registers by role (RISC-V calling convention; Linux takes the number in a7).
CALL_NUMBER = "a7"
CALL_ARGUMENTS = ("a0", "a1", "a2", "a3", "a4", "a5")
CALL_RESULT = "a0"
STACK_POINTER = "sp"
THREAD_POINTER = "tp"
STACK_ALIGNMENT = 16

# Frames of calls: registers by their DWARF numbers (psABI, "DWARF Register Numbers"); the return address, and the frame
# pointer with where the return address and the caller's frame pointer lie from it (psABI, "Frame Pointer Convention").
DWARF_REGISTERS = tuple(f"x{i}" for i in range(32))
RETURN_ADDRESS, FRAME_POINTER = "x1", "x8"
FRAME_RECORD = (-8, -16)

# Signal handlers: number, siginfo, ucontext, return address, stack; where registers lie in a "ucontext" (an array
# holds whole ones, a field of bits holds low parts: register, shift, width).
HANDLER_REGISTERS = ("a0", "a1", "a2", "ra", "sp")
CONTEXT_ARRAYS = {"gregs": ("pc", *(f"x{i}" for i in range(1, 32))), "fpregs": tuple(f"f{i}" for i in range(32))}
CONTEXT_BITS = {"fcsr": (("fflags", 0, 5), ("frm", 5, 3))}

# The vDSO (arch/riscv/kernel/vdso): its name and version, and which system call each function makes. The first one is
# what handlers return to, whose two instructions unwinders look for. `vdso_code` is one function.
VDSO_NAME, VDSO_VERSION = b"linux-vdso.so.1", b"LINUX_4.15"
VDSO = {
    b"__vdso_rt_sigreturn": 139, b"__vdso_gettimeofday": 169, b"__vdso_clock_gettime": 113,
    b"__vdso_clock_getres": 114, b"__vdso_getcpu": 168, b"__vdso_flush_icache": 259, b"__vdso_riscv_hwprobe": 258,
}  # fmt: skip


def vdso_code(number: int) -> bytes:
    """li a7, number; ecall; ret."""
    return struct.pack("<III", number << 20 | 17 << 7 | 0x13, 0x73, 0x8067)



# Executable files.
ELF_MACHINE = 243
ELF_FLAGS = 0x5  # compressed instructions, the double-precision float ABI
CODE_ALIGNMENT = 2
ELF_REFUSED_FLAGS = (  # mask, value, what it means
    (0x6, 0x6, "the quad-precision float ABI"),
    (0x8, 0x8, "the RVE ABI (16 registers)"),
)
PIE_BASE = 0x2AAAAAA000  # two thirds of the address space, as Linux without randomisation


def _letters(extensions: str) -> int:
    return sum(1 << (ord(letter) - ord("A")) for letter in extensions)


HWCAP = _letters("IMAFDC")
AUXILIARY: dict[int, int] = {16: HWCAP}  # AT_HWCAP; riscv has no AT_PLATFORM

# Bits of riscv_hwprobe's key IMA_EXT_0 (linux/uapi/asm/hwprobe.h) for the extensions of the default guest.
IMA_EXTENSIONS = {
    "fd": 0, "c": 1, "zba": 3, "zbb": 4, "zbs": 5, "zicboz": 6, "zbc": 7, "zfhmin": 28, "zfa": 32,
    "zicond": 35, "zihintpause": 36, "zimop": 42, "zcb": 44, "zcmop": 47, "zawrs": 48, "zicntr": 50, "zihpm": 51,
    "zicbom": 55,
}  # fmt: skip


def _bits(numbers: dict[str, int]) -> int:
    return sum(1 << number for number in numbers.values())


# riscv_hwprobe: key -> value. A key that is not here is answered with key -1.
HWPROBE = {
    0: 0,  # MVENDORID
    1: 0,  # MARCHID
    2: 0,  # MIMPID
    3: 1,  # BASE_BEHAVIOR: IMA
    4: _bits(IMA_EXTENSIONS),
    5: 3,  # CPUPERF_0: misaligned accesses are fast
    6: 64,  # ZICBOZ_BLOCK_SIZE
    7: 1 << 38,  # HIGHEST_VIRT_ADDRESS
    8: 10_000_000,  # TIME_CSR_FREQ
    9: 3,  # MISALIGNED_SCALAR_PERF: fast
    10: 4,  # MISALIGNED_VECTOR_PERF: not supported
    11: 0,  # VENDOR_EXT_THEAD_0
    12: 64,  # ZICBOM_BLOCK_SIZE
    13: 0,  # VENDOR_EXT_SIFIVE_0
}
HWPROBE_BITS = frozenset((3, 4, 5, 11, 13))  # keys whose values are sets of bits

# One processor of /proc/cpuinfo.
CPUINFO = "processor\t: {number}\nhart\t\t: {number}\nisa\t\t: {isa}\nmmu\t\t: sv39\nuarch\t\t: dragoman\n\n"

OPEN_FLAGS = {
    "O_WRONLY": 0o1,
    "O_RDWR": 0o2,
    "O_CREAT": 0o100,
    "O_EXCL": 0o200,
    "O_NOCTTY": 0o400,
    "O_TRUNC": 0o1000,
    "O_APPEND": 0o2000,
    "O_NONBLOCK": 0o4000,
    "O_DSYNC": 0o10000,
    "FASYNC": 0o20000,
    "O_DIRECT": 0o40000,
    "O_DIRECTORY": 0o200000,
    "O_NOFOLLOW": 0o400000,
    "O_NOATIME": 0o1000000,
    "O_CLOEXEC": 0o2000000,
    "__O_SYNC": 0o4000000,
    "O_PATH": 0o10000000,
    "__O_TMPFILE": 0o20000000,
}


def prologue(instructions: Iterable[Decoded]) -> tuple[int, int, dict[int, int]] | None:
    """What a function's instructions tell of its frame (guests.riscv.prologue), by DWARF numbers."""
    from guests.riscv.prologue import frame

    return frame(instructions)


def ioctl_rows() -> str:
    """The requests of ioctl (guests.riscv.linux_ioctls); a function, as most programs make none."""
    from guests.riscv.linux_ioctls import ROWS

    return ROWS


# Structures: fields in order with their types, laid out with C's natural alignment. A name that begins with an
# underscore is padding; "64s" is 64 bytes; "u64*3" is an array.
_TIMESPEC = ("tv_sec i64", "tv_nsec i64")
_TIMEVAL = ("tv_sec i64", "tv_usec i64")
_MSGHDR = (
    "name u64",
    "namelen u32",
    "iov u64",
    "iovlen u64",
    "control u64",
    "controllen u64",
    "flags i32",
    "_pad i32",
)
_STACK = ("ss_sp u64", "ss_flags i32", "ss_size u64")
_SIGINFO = ("si_signo i32", "si_errno i32", "si_code i32")
STRUCTS: dict[str, tuple[str, ...]] = {
    "timespec": _TIMESPEC,
    "timeval": _TIMEVAL,
    "iovec": ("base u64", "length u64"),
    "rlimit": ("current u64", "maximum u64"),
    "pollfd": ("fd i32", "events u16", "revents u16"),
    "stat": (
        "st_dev u64",
        "st_ino u64",
        "st_mode u32",
        "st_nlink u32",
        "st_uid u32",
        "st_gid u32",
        "st_rdev u64",
        "_pad1 u64",
        "st_size i64",
        "st_blksize i32",
        "_pad2 i32",
        "st_blocks i64",
        "st_atime i64",
        "st_atime_nsec u64",
        "st_mtime i64",
        "st_mtime_nsec u64",
        "st_ctime i64",
        "st_ctime_nsec u64",
        "_unused u32*2",
    ),
    "statfs": (
        "f_type i64",
        "f_bsize i64",
        "f_blocks u64",
        "f_bfree u64",
        "f_bavail u64",
        "f_files u64",
        "f_ffree u64",
        "f_fsid i32*2",
        "f_namelen i64",
        "f_frsize i64",
        "f_flags i64",
        "_spare i64*4",
    ),
    "utsname": ("sysname 65s", "nodename 65s", "release 65s", "version 65s", "machine 65s", "domainname 65s"),
    "clone_args": (
        "flags u64", "pidfd u64", "child_tid u64", "parent_tid u64", "exit_signal u64", "stack u64", "stack_size u64",
        "tls u64", "set_tid u64", "set_tid_size u64", "cgroup u64",
    ),
    "waitid_info": (
        "si_signo i32", "si_errno i32", "si_code i32", "_pad i32", "si_pid i32", "si_uid u32", "si_status i32",
    ),
    "rusage": (
        "ru_utime_sec i64",
        "ru_utime_usec i64",
        "ru_stime_sec i64",
        "ru_stime_usec i64",
        "ru_maxrss i64",
        "ru_ixrss i64",
        "ru_idrss i64",
        "ru_isrss i64",
        "ru_minflt i64",
        "ru_majflt i64",
        "ru_nswap i64",
        "ru_inblock i64",
        "ru_oublock i64",
        "ru_msgsnd i64",
        "ru_msgrcv i64",
        "ru_nsignals i64",
        "ru_nvcsw i64",
        "ru_nivcsw i64",
    ),
    "sysinfo": (
        "uptime i64",
        "loads u64*3",
        "totalram u64",
        "freeram u64",
        "sharedram u64",
        "bufferram u64",
        "totalswap u64",
        "freeswap u64",
        "procs u16",
        "_pad u16",
        "totalhigh u64",
        "freehigh u64",
        "mem_unit u32",
    ),
    "tms": ("tms_utime i64", "tms_stime i64", "tms_cutime i64", "tms_cstime i64"),
    "termios": ("c_iflag u32", "c_oflag u32", "c_cflag u32", "c_lflag u32", "c_line u8", "c_cc 19s"),
    "winsize": ("ws_row u16", "ws_col u16", "ws_xpixel u16", "ws_ypixel u16"),
    "flock": ("l_type i16", "l_whence i16", "l_start i64", "l_len i64", "l_pid i32"),
    "sigaction": ("handler u64", "flags u64", "mask u64"),  # riscv has no sa_restorer
    "sigaltstack": _STACK,
    "siginfo_kill": (*_SIGINFO, "_align u32", "si_pid i32", "si_uid u32", "_rest 104s"),
    "siginfo_timer": (*_SIGINFO, "_align u32", "si_tid i32", "si_overrun i32", "si_value u64", "_rest 96s"),
    "siginfo_fault": (*_SIGINFO, "_align u32", "si_addr u64", "_rest 104s"),
    "signalfd_siginfo": (
        "ssi_signo u32", "ssi_errno i32", "ssi_code i32", "ssi_pid u32", "ssi_uid u32", "ssi_fd i32", "ssi_tid u32",
        "ssi_band u32", "ssi_overrun u32", "ssi_trapno u32", "ssi_status i32", "ssi_int i32", "ssi_ptr u64",
        "ssi_utime u64", "ssi_stime u64", "ssi_addr u64", "ssi_addr_lsb u16", "_pad u16", "ssi_syscall i32",
        "ssi_call_addr u64", "ssi_arch u32", "_rest 28s",
    ),
    "ucontext": (
        "uc_flags u64", "uc_link u64", *_STACK, "uc_sigmask u64", "_unused 128s",  # room for 1024 signals, and to 16
        "gregs u64*32", "fpregs u64*32", "fcsr u32", "_quad 268s",  # a struct __riscv_q_ext_state holds them
    ),
    "hwprobe": ("key i64", "value u64"),
    "epoll_event": ("events u32", "data u64"),  # packed on x86-64 only
    "itimerspec": ("interval_sec i64", "interval_nsec i64", "value_sec i64", "value_nsec i64"),
    "semid_ds": ("sem_perm 48s", "sem_otime i64", "sem_ctime i64", "sem_nsems u64", "_unused u64*2"),
    "timex": (
        "modes u32",
        "offset i64",
        "freq i64",
        "maxerror i64",
        "esterror i64",
        "status i32",
        "constant i64",
        "precision i64",
        "tolerance i64",
        "time_sec i64",
        "time_usec i64",
        "tick i64",
        "ppsfreq i64",
        "jitter i64",
        "shift i32",
        "stabil i64",
        "jitcnt i64",
        "calcnt i64",
        "errcnt i64",
        "stbcnt i64",
        "tai i32",
        "_reserved i32*11",
    ),
    "msghdr": _MSGHDR,
    "mmsghdr": (*_MSGHDR, "len u32"),
    "cmsghdr": ("len u64", "level i32", "type i32"),
    "sock_fprog": ("len u16", "filter u64"),
    "itimerval": ("interval_sec i64", "interval_usec i64", "value_sec i64", "value_usec i64"),
    "sigevent": ("sigev_value u64", "sigev_signo i32", "sigev_notify i32", "sigev_tid i32", "_rest 44s"),
}


def names() -> ModuleType:
    """Names of flags and constants (`guests.riscv.linux_names`), imported when calls are to be printed."""
    from guests.riscv import linux_names

    return linux_names


def _numbered(text: str) -> dict[int, str]:
    words = text.split()
    return {int(number): name for number, name in zip(words[::2], words[1::2], strict=True)}


# The generic table of Linux 6.16 (asm-generic/unistd.h), with the two calls of riscv's own (258, 259).
CALLS = _numbered("""
    0 io_setup 1 io_destroy 2 io_submit 3 io_cancel 4 io_getevents 5 setxattr 6 lsetxattr 7 fsetxattr 8 getxattr
    9 lgetxattr 10 fgetxattr 11 listxattr 12 llistxattr 13 flistxattr 14 removexattr 15 lremovexattr
    16 fremovexattr 17 getcwd 18 lookup_dcookie 19 eventfd2 20 epoll_create1 21 epoll_ctl 22 epoll_pwait 23 dup
    24 dup3 25 fcntl 26 inotify_init1 27 inotify_add_watch 28 inotify_rm_watch 29 ioctl 30 ioprio_set
    31 ioprio_get 32 flock 33 mknodat 34 mkdirat 35 unlinkat 36 symlinkat 37 linkat 39 umount2 40 mount
    41 pivot_root 42 nfsservctl 43 statfs 44 fstatfs 45 truncate 46 ftruncate 47 fallocate 48 faccessat 49 chdir
    50 fchdir 51 chroot 52 fchmod 53 fchmodat 54 fchownat 55 fchown 56 openat 57 close 58 vhangup 59 pipe2
    60 quotactl 61 getdents64 62 lseek 63 read 64 write 65 readv 66 writev 67 pread64 68 pwrite64 69 preadv
    70 pwritev 71 sendfile 72 pselect6 73 ppoll 74 signalfd4 75 vmsplice 76 splice 77 tee 78 readlinkat
    79 newfstatat 80 fstat 81 sync 82 fsync 83 fdatasync 84 sync_file_range 85 timerfd_create 86 timerfd_settime
    87 timerfd_gettime 88 utimensat 89 acct 90 capget 91 capset 92 personality 93 exit 94 exit_group 95 waitid
    96 set_tid_address 97 unshare 98 futex 99 set_robust_list 100 get_robust_list 101 nanosleep 102 getitimer
    103 setitimer 104 kexec_load 105 init_module 106 delete_module 107 timer_create 108 timer_gettime
    109 timer_getoverrun 110 timer_settime 111 timer_delete 112 clock_settime 113 clock_gettime 114 clock_getres
    115 clock_nanosleep 116 syslog 117 ptrace 118 sched_setparam 119 sched_setscheduler 120 sched_getscheduler
    121 sched_getparam 122 sched_setaffinity 123 sched_getaffinity 124 sched_yield 125 sched_get_priority_max
    126 sched_get_priority_min 127 sched_rr_get_interval 128 restart_syscall 129 kill 130 tkill 131 tgkill
    132 sigaltstack 133 rt_sigsuspend 134 rt_sigaction 135 rt_sigprocmask 136 rt_sigpending 137 rt_sigtimedwait
    138 rt_sigqueueinfo 139 rt_sigreturn 140 setpriority 141 getpriority 142 reboot 143 setregid 144 setgid
    145 setreuid 146 setuid 147 setresuid 148 getresuid 149 setresgid 150 getresgid 151 setfsuid 152 setfsgid
    153 times 154 setpgid 155 getpgid 156 getsid 157 setsid 158 getgroups 159 setgroups 160 uname 161 sethostname
    162 setdomainname 163 getrlimit 164 setrlimit 165 getrusage 166 umask 167 prctl 168 getcpu 169 gettimeofday
    170 settimeofday 171 adjtimex 172 getpid 173 getppid 174 getuid 175 geteuid 176 getgid 177 getegid 178 gettid
    179 sysinfo 180 mq_open 181 mq_unlink 182 mq_timedsend 183 mq_timedreceive 184 mq_notify 185 mq_getsetattr
    186 msgget 187 msgctl 188 msgrcv 189 msgsnd 190 semget 191 semctl 192 semtimedop 193 semop 194 shmget
    195 shmctl 196 shmat 197 shmdt 198 socket 199 socketpair 200 bind 201 listen 202 accept 203 connect
    204 getsockname 205 getpeername 206 sendto 207 recvfrom 208 setsockopt 209 getsockopt 210 shutdown 211 sendmsg
    212 recvmsg 213 readahead 214 brk 215 munmap 216 mremap 217 add_key 218 request_key 219 keyctl 220 clone
    221 execve 222 mmap 223 fadvise64 224 swapon 225 swapoff 226 mprotect 227 msync 228 mlock 229 munlock
    230 mlockall 231 munlockall 232 mincore 233 madvise 234 remap_file_pages 235 mbind 236 get_mempolicy
    237 set_mempolicy 238 migrate_pages 239 move_pages 240 rt_tgsigqueueinfo 241 perf_event_open 242 accept4
    243 recvmmsg 258 riscv_hwprobe 259 riscv_flush_icache 260 wait4 261 prlimit64 262 fanotify_init
    263 fanotify_mark 264 name_to_handle_at 265 open_by_handle_at 266 clock_adjtime 267 syncfs 268 setns
    269 sendmmsg 270 process_vm_readv 271 process_vm_writev 272 kcmp 273 finit_module 274 sched_setattr
    275 sched_getattr 276 renameat2 277 seccomp 278 getrandom 279 memfd_create 280 bpf 281 execveat 282 userfaultfd
    283 membarrier 284 mlock2 285 copy_file_range 286 preadv2 287 pwritev2 288 pkey_mprotect 289 pkey_alloc
    290 pkey_free 291 statx 292 io_pgetevents 293 rseq 294 kexec_file_load 424 pidfd_send_signal
    425 io_uring_setup 426 io_uring_enter 427 io_uring_register 428 open_tree 429 move_mount 430 fsopen
    431 fsconfig 432 fsmount 433 fspick 434 pidfd_open 435 clone3 436 close_range 437 openat2 438 pidfd_getfd
    439 faccessat2 440 process_madvise 441 epoll_pwait2 442 mount_setattr 443 quotactl_fd
    444 landlock_create_ruleset 445 landlock_add_rule 446 landlock_restrict_self 447 memfd_secret
    448 process_mrelease 449 futex_waitv 450 set_mempolicy_home_node 451 cachestat 452 fchmodat2
    453 map_shadow_stack 454 futex_wake 455 futex_wait 456 futex_requeue 457 statmount 458 listmount
    459 lsm_get_self_attr 460 lsm_set_self_attr 461 lsm_list_modules 462 mseal 463 setxattrat 464 getxattrat
    465 listxattrat 466 removexattrat 467 open_tree_attr
""")
