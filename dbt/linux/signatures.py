"""What the parameters of each system call are, as one table, for whoever prints calls.

Owns: `SIGNATURES`, `STRUCTURES` and the classes of calls. Must not know: values of names (the architecture's data has
them), how anything is printed (dbt.linux.strace), how a call is carried out.

A line is a call's name, its parameters and, behind `=`, its result where that is not a plain number. A parameter is a
kind: `fd`, `dirfd`, `pid`, `int`, `uint`, `long`, `size`, `octal`, `pointer`, `path`, ...; `flags:SET` and `name:SET`
for the sets of names; the name of a structure for a pointer to one. Before it, `>` says that the call writes it, and
`&` that it reads and writes it; behind it, `*N` says that the parameter N (from 0) counts the elements of an array or
the bytes of a buffer, and `*r` that the result does; `*#2` is an array of two.
Linux's manual pages, section 2, have the prototypes.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple


class Parameter(NamedTuple):
    """One parameter: what it is, and whether the call reads and writes what it points to."""

    kind: str
    length: str = ""  # a parameter's number, "r" for the result, "#2" for a number itself, "" for one element
    reads: bool = True
    writes: bool = False


class Signature(NamedTuple):
    parameters: tuple[Parameter, ...]
    result: Parameter


_TABLE = """
    accept              fd >sockaddr*2 &u32
    accept4             fd >sockaddr*2 &u32 flags:socket
    acct                path
    add_key             string string bytes*3 size int
    adjtimex            pointer
    bind                fd sockaddr*2 uint
    bpf                 int pointer uint
    brk                 pointer = pointer
    cachestat           fd pointer pointer hex
    capget              pointer pointer
    capset              pointer pointer
    chdir               path
    chroot              path
    clock_adjtime       name:clock pointer
    clock_getres        name:clock >timespec
    clock_gettime       name:clock >timespec
    clock_nanosleep     name:clock flags:timer timespec pointer
    clock_settime       name:clock timespec
    clone               clone pointer pointer pointer pointer
    clone3              pointer size
    close               fd
    close_range         uint uint flags:close_range
    connect             fd sockaddr*2 uint
    copy_file_range     fd &u64 fd &u64 size hex
    delete_module       string hex
    dup                 fd
    dup3                fd fd flags:descriptor
    epoll_create1       flags:epoll_create
    epoll_ctl           fd name:epoll_ctl fd epoll_event
    epoll_pwait         fd >epoll_event*r int int sigset*5 size
    epoll_pwait2        fd >epoll_event*r int timespec sigset*5 size
    eventfd2            uint flags:eventfd
    execve              path strings environment
    execveat            dirfd path strings environment flags:at
    exit                int
    exit_group          int
    faccessat           dirfd path flags:access
    faccessat2          dirfd path flags:access flags:at_access
    fadvise64           fd long long name:fadvise
    fallocate           fd flags:fallocate long long
    fanotify_init       hex hex
    fanotify_mark       fd hex hex dirfd path
    fchdir              fd
    fchmod              fd octal
    fchmodat            dirfd path octal
    fchmodat2           dirfd path octal flags:at
    fchown              fd id id
    fchownat            dirfd path id id flags:at
    fcntl               fd name:fcntl fcntl
    fdatasync           fd
    fgetxattr           fd string >bytes*r size
    finit_module        fd string hex
    flistxattr          fd >bytes*r size
    flock               fd flags:flock
    fremovexattr        fd string
    fsconfig            fd uint string pointer int
    fsetxattr           fd string bytes*3 size flags:xattr
    fsmount             fd hex hex
    fsopen              string hex
    fspick              dirfd path hex
    fstat               fd >stat
    fstatfs             fd >statfs
    fsync               fd
    ftruncate           fd long
    futex               pointer name:futex uint futex pointer uint
    futex_requeue       pointer hex int int
    futex_wait          pointer size size hex timespec name:clock
    futex_waitv         pointer uint hex timespec name:clock
    futex_wake          pointer size int hex
    get_mempolicy       pointer pointer size pointer hex
    get_robust_list     int >pointers pointer
    getcpu              >u32 >u32 pointer
    getcwd              >string size
    getdents64          fd >directory*r uint
    getegid
    geteuid
    getgid
    getgroups           int >u32*r
    getitimer           name:itimer >itimerval
    getpeername         fd >sockaddr*2 &u32
    getpgid             pid
    getpid
    getppid
    getpriority         name:priority int
    getrandom           >bytes*r size flags:random
    getresgid           >u32 >u32 >u32
    getresuid           >u32 >u32 >u32
    getrlimit           name:resource >rlimit
    getrusage           name:rusage >rusage
    getsid              pid
    getsockname         fd >sockaddr*2 &u32
    getsockopt          fd name:sol name:so >option*4 &u32
    gettid
    gettimeofday        >timeval pointer
    getuid
    getxattr            path string >bytes*r size
    getxattrat          dirfd path flags:at string pointer size
    init_module         pointer size string
    inotify_add_watch   fd path hex
    inotify_init1       flags:inotify
    inotify_rm_watch    fd int
    io_cancel           pointer pointer pointer
    io_destroy          pointer
    io_getevents        pointer long long pointer timespec
    io_pgetevents       pointer long long pointer timespec pointer
    io_setup            uint pointer
    io_submit           pointer long pointer
    io_uring_enter      fd uint uint hex sigset*5 size
    io_uring_register   fd uint pointer uint
    io_uring_setup      uint pointer
    ioctl               fd name:ioctl ioctl
    ioprio_get          int int
    ioprio_set          int int int
    kcmp                pid pid int size size
    kexec_file_load     fd fd size string hex
    kexec_load          pointer size pointer hex
    keyctl              int size size size size
    kill                pid name:signal
    landlock_add_rule   fd int pointer hex
    landlock_create_ruleset pointer size hex
    landlock_restrict_self fd hex
    lgetxattr           path string >bytes*r size
    linkat              dirfd path dirfd path flags:at
    listen              fd int
    listmount           pointer pointer size hex
    listxattr           path >bytes*r size
    listxattrat         dirfd path flags:at pointer size
    llistxattr          path >bytes*r size
    lookup_dcookie      size pointer size
    lremovexattr        path string
    lseek               fd long name:whence
    lsetxattr           path string bytes*3 size flags:xattr
    lsm_get_self_attr   uint pointer pointer hex
    lsm_list_modules    pointer pointer hex
    lsm_set_self_attr   uint pointer uint hex
    madvise             pointer size name:madvise
    map_shadow_stack    pointer size hex
    mbind               pointer size int pointer size hex
    membarrier          name:membarrier hex int
    memfd_create        string flags:memfd
    memfd_secret        hex
    migrate_pages       pid size pointer pointer
    mincore             pointer size pointer
    mkdirat             dirfd path octal
    mknodat             dirfd path mode device
    mlock               pointer size
    mlock2              pointer size hex
    mlockall            flags:mlockall
    mmap                pointer size flags:prot flags:map fd hex = pointer
    mount               path path string hex pointer
    mount_setattr       dirfd path hex pointer size
    move_mount          dirfd path dirfd path hex
    move_pages          pid size pointer pointer pointer hex
    mprotect            pointer size flags:prot
    mq_getsetattr       fd pointer pointer
    mq_notify           fd pointer
    mq_open             string flags:open octal pointer
    mq_timedreceive     fd pointer size pointer timespec
    mq_timedsend        fd bytes*2 size uint timespec
    mq_unlink           string
    mremap              pointer size size flags:mremap target = pointer
    mseal               pointer size hex
    msgctl              int int pointer
    msgget              int hex
    msgrcv              int pointer size long hex
    msgsnd              int pointer size hex
    msync               pointer size flags:msync
    munlock             pointer size
    munlockall
    munmap              pointer size
    name_to_handle_at   dirfd path pointer pointer hex
    nanosleep           timespec pointer
    newfstatat          dirfd path >stat flags:at
    nfsservctl          int pointer pointer
    open_by_handle_at   fd pointer flags:open
    open_tree           dirfd path hex
    open_tree_attr      dirfd path hex pointer size
    openat              dirfd path flags:open creation
    openat2             dirfd path pointer size
    perf_event_open     pointer pid int fd hex
    personality         hex
    pidfd_getfd         fd int hex
    pidfd_open          pid hex
    pidfd_send_signal   fd name:signal pointer hex
    pipe2               >pair flags:descriptor
    pivot_root          path path
    pkey_alloc          hex hex
    pkey_free           int
    pkey_mprotect       pointer size flags:prot int
    ppoll               &pollfd*1 uint timespec sigset*4 size
    prctl               name:prctl hex hex hex hex
    pread64             fd >bytes*r size long
    preadv              fd >iovec*2 int long
    preadv2             fd >iovec*2 int long hex flags:rwf
    prlimit64           pid name:resource rlimit >rlimit
    process_madvise     fd pointer size name:madvise hex
    process_mrelease    fd hex
    process_vm_readv    pid pointer size pointer size hex
    process_vm_writev   pid pointer size pointer size hex
    pselect6            int &fdset*0 &fdset*0 &fdset*0 timespec pointer
    ptrace              long pid pointer pointer
    pwrite64            fd bytes*2 size long
    pwritev             fd iovec*2 int long
    pwritev2            fd iovec*2 int long hex flags:rwf
    quotactl            int path int pointer
    quotactl_fd         fd int int pointer
    read                fd >bytes*r size
    readahead           fd long size
    readlinkat          dirfd path >bytes*r size
    readv               fd >iovec*2 int
    reboot              hex hex hex pointer
    recvfrom            fd >bytes*r size flags:msg >sockaddr*5 &u32
    recvmmsg            fd pointer uint flags:msg timespec
    recvmsg             fd >msghdr flags:msg
    remap_file_pages    pointer size flags:prot size flags:map
    removexattr         path string
    removexattrat       dirfd path flags:at string
    renameat2           dirfd path dirfd path flags:rename
    request_key         string string string int
    restart_syscall
    riscv_flush_icache  pointer pointer hex
    riscv_hwprobe       &hwprobe*1 size size pointer hex
    rseq                pointer uint hex hex
    rt_sigaction        name:signal sigaction >sigaction size
    rt_sigpending       >sigset*1 size
    rt_sigprocmask      name:sigmask sigset*3 >sigset*3 size
    rt_sigqueueinfo     pid name:signal siginfo
    rt_sigreturn
    rt_sigsuspend       sigset*1 size
    rt_sigtimedwait     sigset*3 >siginfo timespec size
    rt_tgsigqueueinfo   pid pid name:signal siginfo
    sched_get_priority_max name:policy
    sched_get_priority_min name:policy
    sched_getaffinity   pid size >processors*r
    sched_getattr       pid pointer size hex
    sched_getparam      pid >u32
    sched_getscheduler  pid
    sched_rr_get_interval pid >timespec
    sched_setaffinity   pid size processors*1
    sched_setattr       pid pointer hex
    sched_setparam      pid u32
    sched_setscheduler  pid name:policy u32
    sched_yield
    seccomp             name:seccomp hex pointer
    semctl              int int int hex
    semget              int int hex
    semop               int pointer uint
    semtimedop          int pointer uint timespec
    sendfile            fd fd &u64 size
    sendmmsg            fd pointer uint flags:msg
    sendmsg             fd msghdr flags:msg
    sendto              fd bytes*2 size flags:msg sockaddr*5 uint
    set_mempolicy       int pointer size
    set_mempolicy_home_node pointer size size hex
    set_robust_list     pointer size
    set_tid_address     pointer
    setdomainname       bytes*1 size
    setfsgid            id
    setfsuid            id
    setgid              id
    setgroups           int u32*0
    sethostname         bytes*1 size
    setitimer           name:itimer itimerval >itimerval
    setns               fd flags:clone
    setpgid             pid pid
    setpriority         name:priority int int
    setregid            id id
    setresgid           id id id
    setresuid           id id id
    setreuid            id id
    setrlimit           name:resource rlimit
    setsid
    setsockopt          fd name:sol name:so option*4 uint
    settimeofday        timeval pointer
    setuid              id
    setxattr            path string bytes*3 size flags:xattr
    setxattrat          dirfd path flags:at string pointer size
    shmat               int pointer hex = pointer
    shmctl              int int pointer
    shmdt               pointer
    shmget              int size hex
    shutdown            fd name:shut
    sigaltstack         sigaltstack >sigaltstack
    signalfd4           fd sigset*2 size flags:signalfd
    socket              name:family flags:socket protocol
    socketpair          name:family flags:socket protocol >pair
    splice              fd &u64 fd &u64 size flags:splice
    statfs              path >statfs
    statmount           pointer pointer size hex
    statx               dirfd path flags:at flags:statx pointer
    swapoff             path
    swapon              path hex
    symlinkat           path dirfd path
    sync
    sync_file_range     fd long long hex
    syncfs              fd
    sysinfo             >sysinfo
    syslog              int pointer int
    tee                 fd fd size flags:splice
    tgkill              pid pid name:signal
    timer_create        name:clock pointer >u32
    timer_delete        int
    timer_getoverrun    int
    timer_gettime       int >itimerspec
    timer_settime       int flags:timer itimerspec >itimerspec
    timerfd_create      name:clock flags:timerfd
    timerfd_gettime     fd >itimerspec
    timerfd_settime     fd flags:timerfd_set itimerspec >itimerspec
    times               >tms
    tkill               pid name:signal
    truncate            path long
    umask               octal = octal
    umount2             path hex
    uname               >utsname
    unlinkat            dirfd path flags:unlink
    unshare             flags:clone
    userfaultfd         flags:descriptor
    utimensat           dirfd path timespec*#2 flags:at
    vhangup
    vmsplice            fd iovec*2 size flags:splice
    wait4               pid >status flags:wait >rusage
    waitid              name:idtype pid >siginfo flags:wait >rusage
    write               fd bytes*2 size
    writev              fd iovec*2 int
"""

# Fields of structures that are shown, in order: the name in the architecture's layout, behind a / how it is shown where
# that differs, and a kind. A structure that is not here is shown whole, as numbers; "..." stands for what is left out.
STRUCTURES = {
    "stat": "st_mode:mode st_size:long ...",
    "statfs": "f_type:hex f_bsize:long f_blocks:size f_bfree:size f_bavail:size ...",
    "rlimit": "current/rlim_cur:limit maximum/rlim_max:limit",
    "utsname": "sysname:text nodename:text ...",
    "sigaction": "handler/sa_handler:handler mask/sa_mask:signals flags/sa_flags:flags:sa",
    "sigaltstack": "ss_sp:pointer ss_flags:flags:ss ss_size:size",
    "pollfd": "fd:int events:flags:poll revents:flags:poll",
    "epoll_event": "events:flags:epoll data:union",
    "flock": "l_type:name:lock l_whence:name:whence l_start:long l_len:long",
    "rusage": "ru_utime_sec:long ru_utime_usec:long ru_stime_sec:long ru_stime_usec:long ...",
    "sysinfo": "uptime:long totalram:size freeram:size procs:int ...",
    "hwprobe": "key:long value:hex",
    "winsize": "ws_row:int ws_col:int ws_xpixel:int ws_ypixel:int",
    "termios": "c_iflag:hex c_oflag:hex c_cflag:hex c_lflag:hex ...",
}

# Kinds that depend on an earlier parameter: its number, its set of names, the kinds by name, and the kind otherwise.
# A kind "" is a parameter that is not there.
CHOICES = {
    "fcntl": (1, "fcntl", {
        "F_GETFD": "", "F_GETFL": "", "F_GETOWN": "", "F_GETPIPE_SZ": "", "F_GET_SEALS": "", "F_SETFD": "flags:fd",
        "F_SETFL": "flags:open", "F_DUPFD": "int", "F_DUPFD_CLOEXEC": "int", "F_SETOWN": "int", "F_SETPIPE_SZ": "int",
        "F_GETLK": "&flock", "F_SETLK": "flock", "F_SETLKW": "flock", "F_OFD_GETLK": "&flock", "F_OFD_SETLK": "flock",
        "F_OFD_SETLKW": "flock",
    }, "hex"),
    "ioctl": (1, "ioctl", {
        "TCGETS": ">termios", "TCSETS": "termios", "TCSETSW": "termios", "TCSETSF": "termios", "TIOCGWINSZ": ">winsize",
        "TIOCSWINSZ": "winsize", "FIONREAD": ">u32", "TIOCOUTQ": ">u32", "TIOCGPGRP": ">u32", "TIOCSPGRP": "u32",
        "TIOCGSID": ">u32", "FIONBIO": "u32", "FIOCLEX": "", "FIONCLEX": "", "TCSBRK": "int", "TCXONC": "int",
        "TCFLSH": "int", "TIOCSCTTY": "int", "TIOCNOTTY": "",
    }, "pointer"),
    "protocol": (0, "family", {"AF_INET": "name:ipproto", "AF_INET6": "name:ipproto"}, "int"),
    "futex": (1, "futex", {
        "FUTEX_WAIT": "timespec", "FUTEX_WAIT_PRIVATE": "timespec", "FUTEX_WAIT_BITSET": "timespec",
        "FUTEX_WAIT_BITSET_PRIVATE": "timespec", "FUTEX_WAIT_BITSET|FUTEX_CLOCK_REALTIME": "timespec",
        "FUTEX_WAIT_BITSET_PRIVATE|FUTEX_CLOCK_REALTIME": "timespec", "FUTEX_LOCK_PI": "timespec",
        "FUTEX_LOCK_PI_PRIVATE": "timespec",
    }, "hex"),
}  # fmt: skip

# Kinds of parameters that are there only with one of some flags: the parameter that has the flags, their set, and they.
OPTIONAL = {"creation": (2, "open", ("O_CREAT", "__O_TMPFILE")), "target": (3, "mremap", ("MREMAP_FIXED",))}

# Classes that `--strace` takes in place of names, besides "file" and "desc", which follow from the parameters.
CLASSES = {
    "process": "clone clone3 execve execveat exit exit_group wait4 waitid kill tkill tgkill pidfd_open "
               "pidfd_send_signal unshare setns rt_sigqueueinfo rt_tgsigqueueinfo",
    "network": "socket socketpair bind listen accept accept4 connect getsockname getpeername sendto recvfrom sendmsg "
               "recvmsg sendmmsg recvmmsg setsockopt getsockopt shutdown sendfile",
    "signal": "rt_sigaction rt_sigprocmask rt_sigpending rt_sigsuspend rt_sigtimedwait rt_sigqueueinfo "
              "rt_tgsigqueueinfo rt_sigreturn sigaltstack signalfd4 kill tkill tgkill pidfd_send_signal",
    "memory": "brk mmap munmap mprotect mremap madvise msync mincore mlock mlock2 munlock mlockall munlockall mbind "
              "set_mempolicy get_mempolicy migrate_pages move_pages pkey_mprotect remap_file_pages shmat shmdt mseal "
              "process_madvise",
    "clock": "clock_gettime clock_getres clock_settime clock_nanosleep clock_adjtime gettimeofday settimeofday "
             "adjtimex nanosleep times",
}  # fmt: skip


def parameter(word: str) -> Parameter:
    """A parameter from its form in the table."""
    kind, _, length = word.lstrip(">&").partition("*")
    return Parameter(kind, length, reads=not word.startswith(">"), writes=word.startswith((">", "&")))


def _table(text: str) -> dict[str, Signature]:
    found: dict[str, Signature] = {}
    for line in text.strip().splitlines():
        head, _, result = line.partition("=")
        name, *words = head.split()
        if name in found:
            raise ValueError(f"two signatures for the system call {name}")
        found[name] = Signature(tuple(map(parameter, words)), parameter(result.strip() or "long"))
    return found


SIGNATURES = _table(_TABLE)


@cache
def members(name: str) -> frozenset[str]:
    """The calls of a class; KeyError if there is no such class."""
    kinds = {"file": ("path",), "desc": ("fd", "dirfd")}.get(name)
    if kinds is None:
        return frozenset(CLASSES[name].split())
    return frozenset(call for call, signature in SIGNATURES.items()
                     if any(parameter.kind in kinds for parameter in signature.parameters))
