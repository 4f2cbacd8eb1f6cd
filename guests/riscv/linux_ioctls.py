"""Requests of ioctl on riscv64 as data, as `asm-generic` and the headers of the devices have them.

A row is a name, a number and what the argument is. `in N`, `out N` and `io N` are the address of N bytes that are
read, written or both; `number` is the argument itself; `fd` is a descriptor, and the result of `opens` is one. `flag`,
`range` and `list` have a meaning of their own in dbt/linux/ioctls.py. Only what holds no pointer may be `in`, `out` or
`io`.
Must not know: how a request is carried out.
"""

from __future__ import annotations

ROWS = """
    TCGETS 0x5401 out 36
    TCSETS 0x5402 in 36
    TCSETSW 0x5403 in 36
    TCSETSF 0x5404 in 36
    TCSBRK 0x5409 number
    TCXONC 0x540A number
    TCFLSH 0x540B number
    TIOCEXCL 0x540C number
    TIOCNXCL 0x540D number
    TIOCSCTTY 0x540E number
    TIOCGPGRP 0x540F out 4
    TIOCSPGRP 0x5410 in 4
    TIOCOUTQ 0x5411 out 4
    TIOCSTI 0x5412 in 1
    TIOCGWINSZ 0x5413 out 8
    TIOCSWINSZ 0x5414 in 8
    TIOCMGET 0x5415 out 4
    TIOCMBIS 0x5416 in 4
    TIOCMBIC 0x5417 in 4
    TIOCMSET 0x5418 in 4
    TIOCGSOFTCAR 0x5419 out 4
    TIOCSSOFTCAR 0x541A in 4
    FIONREAD 0x541B out 4
    TIOCCONS 0x541D number
    TIOCPKT 0x5420 in 4
    FIONBIO 0x5421 in 4
    TIOCNOTTY 0x5422 number
    TIOCSETD 0x5423 in 4
    TIOCGETD 0x5424 out 4
    TCSBRKP 0x5425 number
    TIOCSBRK 0x5427 number
    TIOCCBRK 0x5428 number
    TIOCGSID 0x5429 out 4
    TCGETS2 0x802C542A out 44
    TCSETS2 0x402C542B in 44
    TCSETSW2 0x402C542C in 44
    TCSETSF2 0x402C542D in 44
    TIOCGPTN 0x80045430 out 4
    TIOCSPTLCK 0x40045431 in 4
    TIOCGDEV 0x80045432 out 4
    TIOCSIG 0x40045436 number
    TIOCVHANGUP 0x5437 number
    TIOCGPKT 0x80045438 out 4
    TIOCGPTLCK 0x80045439 out 4
    TIOCGEXCL 0x80045440 out 4
    TIOCGPTPEER 0x5441 opens
    FIONCLEX 0x5450 flag
    FIOCLEX 0x5451 flag
    FIOASYNC 0x5452 in 4
    FIOQSIZE 0x5460 out 8
    SIOCATMARK 0x8905 out 4
    SIOCGSTAMP_OLD 0x8906 out 16
    SIOCGSTAMPNS_OLD 0x8907 out 16
    SIOCGIFNAME 0x8910 io 40
    SIOCGIFCONF 0x8912 list
    SIOCGIFFLAGS 0x8913 io 40
    SIOCSIFFLAGS 0x8914 in 40
    SIOCGIFADDR 0x8915 io 40
    SIOCSIFADDR 0x8916 in 40
    SIOCGIFDSTADDR 0x8917 io 40
    SIOCGIFBRDADDR 0x8919 io 40
    SIOCSIFBRDADDR 0x891A in 40
    SIOCGIFNETMASK 0x891B io 40
    SIOCSIFNETMASK 0x891C in 40
    SIOCGIFMETRIC 0x891D io 40
    SIOCGIFMTU 0x8921 io 40
    SIOCSIFMTU 0x8922 in 40
    SIOCGIFHWADDR 0x8927 io 40
    SIOCGIFINDEX 0x8933 io 40
    SIOCGIFTXQLEN 0x8942 io 40
    FIBMAP 0x1 io 4
    FIGETBSZ 0x2 out 4
    FICLONE 0x40049409 fd
    FICLONERANGE 0x4020940D range
    FS_IOC_GETFLAGS 0x80086601 out 4
    FS_IOC_SETFLAGS 0x40086602 in 4
    FS_IOC_GETVERSION 0x80087601 out 4
    FS_IOC_SETVERSION 0x40087602 in 4
    FS_IOC_FSGETXATTR 0x801C581F out 28
    FS_IOC_FSSETXATTR 0x401C5820 in 28
    FITRIM 0xC0185879 io 24
    BLKROGET 0x125E out 4
    BLKGETSIZE 0x1260 out 8
    BLKFLSBUF 0x1261 number
    BLKRAGET 0x1263 out 8
    BLKSSZGET 0x1268 out 4
    BLKBSZGET 0x80081270 out 4
    BLKGETSIZE64 0x80081272 out 8
    BLKDISCARD 0x1277 in 16
    BLKIOMIN 0x1278 out 4
    BLKIOOPT 0x1279 out 4
    BLKALIGNOFF 0x127A out 4
    BLKPBSZGET 0x127B out 4
    BLKROTATIONAL 0x127E out 2
    RNDGETENTCNT 0x80045200 out 4
    RNDADDTOENTCNT 0x40045201 in 4
    TUNSETIFF 0x400454CA io 40
    TUNGETIFF 0x800454D2 out 40
    RTC_RD_TIME 0x80247009 out 36
    NS_GET_USERNS 0xB701 opens
    NS_GET_PARENT 0xB702 opens
    NS_GET_NSTYPE 0xB703 number
"""
IOCTLS = {words[0]: int(words[1], 16) for words in map(str.split, ROWS.strip().splitlines())}
