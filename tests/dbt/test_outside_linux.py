"""Debian's Linux on a machine with a network, on a wire between two, and with Debian on a disk.

For `make test-outside LINUX=FILE`. All that is talked to are sockets of the test on 127.0.0.1.
"""

from __future__ import annotations

import hashlib
import socket
import struct
import subprocess
import time
import urllib.request
from pathlib import Path
from random import Random

import pytest
from support import linux, peers
from support.loopback import Pages, free_port

# --- networks ---------------------------------------------------------------------------------------------------------

SCRIPT = b"""#!/bin/sh
[ "$1" = bound ] || exit 0
ip addr add $ip/$mask dev $interface
[ -z "$router" ] || ip route add default via $router
"""
INIT = """ip link set lo up
ip link set eth0 up
udhcpc -q -n -i eth0 -s /etc/udhcpc
exec /bin/sh
"""


def named(question: bytes, address: str) -> bytes:
    """The answer of a server of names to the one question of a message (RFC 1035, 4.1)."""
    row = struct.pack("!HHHIH", 0xC00C, 1, 1, 60, 4) + socket.inet_aton(address)
    return question[:2] + struct.pack("!HHHHH", 0x8180, 1, 1, 0, 0) + question[12:] + row


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_linux_fetches_a_page_and_serves_one(tmp_path: Path) -> None:
    page = Random(1).randbytes(300_000)
    initrd = linux.initrd(tmp_path / "initrd", INIT, linux.modules(*linux.NETWORK), {"etc/udhcpc": SCRIPT})
    forwarded = free_port()
    words = ["-initrd", str(initrd), "-nic", f"user,hostfwd=tcp:127.0.0.1:{forwarded}-:80"]
    with Pages({"/page": page}) as pages, linux.booted(300, *words) as console:
        console.expect(linux.PROMPT)
        assert "inet 10.0.2.15/24" in linux.do(console, "ip addr show eth0")
        assert abs(int(linux.do(console, "date +%s")) - time.time()) < 5
        assert " 0% packet loss" in linux.do(console, "ping -c 3 10.0.2.2")
        fetched = linux.do(console, f"wget -q -O - http://10.0.2.2:{pages.port}/page | sha256sum")
        assert fetched.split()[0] == hashlib.sha256(page).hexdigest()
        assert "server returned error: HTTP/1.0 404" in linux.do(console, f"wget http://10.0.2.2:{pages.port}/other")
        assert "Connection refused" in linux.do(console, f"wget http://10.0.2.2:{free_port()}/")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as friend:
            friend.bind(("127.0.0.1", 0))
            friend.settimeout(60)
            console.type(f"nslookup -type=a -port={friend.getsockname()[1]} page.example 10.0.2.2\n")
            question, guest = friend.recvfrom(100)
            friend.sendto(named(question, "192.0.2.77"), guest)
            assert "192.0.2.77" in console.expect(linux.PROMPT)
        linux.do(console, "httpd -p 80 -h /bin")
        with urllib.request.urlopen(f"http://127.0.0.1:{forwarded}/busybox", timeout=60) as answer:
            served = hashlib.sha256(answer.read()).hexdigest()
        assert linux.do(console, "sha256sum /bin/busybox").split()[0] == served
        console.type("poweroff -f\n")
        assert console.process.wait(120) == 0


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_two_machines_at_one_wire(tmp_path: Path) -> None:
    init = "ip link set eth0 up\nip addr add 192.168.7.$NUMBER/24 dev eth0\nexec /bin/sh\n"
    drivers, port = linux.modules(*linux.NETWORK), free_port()
    one, two = (linux.initrd(tmp_path / f"initrd{i}", init.replace("$NUMBER", str(i)), drivers) for i in (1, 2))
    listening = ["-netdev", f"socket,id=wire,listen=127.0.0.1:{port}", "-device", "virtio-net-device,netdev=wire"]
    connecting = ["-nic", f"socket,connect=127.0.0.1:{port},mac=52:54:00:12:34:57"]
    with linux.booted(400, "-initrd", str(one), *listening) as first:
        while socket.socket().connect_ex(("127.0.0.1", port)):
            time.sleep(0.1)
        with linux.booted(400, "-initrd", str(two), *connecting) as second:
            first.expect(linux.PROMPT)
            second.expect(linux.PROMPT)
            first.type("nc -l -p 99 | sha256sum\n")
            assert " 0% packet loss" in linux.do(second, "ping -c 3 192.168.7.1")
            linux.do(second, "nc -w 2 192.168.7.1 99 < /bin/busybox")
            received = first.expect(linux.PROMPT).partition("\n")[2].split()[0]
            assert linux.do(second, "sha256sum /bin/busybox").split()[0] == received


# --- a disk -----------------------------------------------------------------------------------------------------------

ROOT = """mount -t ext4 -o rw /dev/vda /new || exec sh
mount -o move /proc /new/proc
mount -o move /sys /new/sys
mount -o move /dev /new/dev
export PS1='~ # ' TERM=dumb PATH=/usr/sbin:/usr/bin
exec /bin/switch_root /new /usr/bin/bash --norc --noediting -i
"""
OFF = "busybox mount -o remount,ro / && exec busybox poweroff -f\n"


def checked(disk: Path) -> None:
    """The file system is clean, by e2fsck, which changes nothing."""
    e2fsck = peers.need("e2fsck", "e2fsprogs")
    done = subprocess.run([e2fsck, "-fn", disk], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_debian_on_a_disk_writes_and_finds_it_again(tmp_path: Path) -> None:
    """The root is Debian's packages in ext4. It is written to, by a tree of files and their sums; then the machine is
    turned off, or its process killed, and another one finds everything.
    """
    disk, mke2fs = tmp_path / "disk", peers.need("mke2fs", "e2fsprogs")
    root = peers.debian_program("usr/bin/busybox").parents[2]
    subprocess.run([mke2fs, "-q", "-t", "ext4", "-d", root, disk, "2G"], check=True)
    initrd = linux.initrd(tmp_path / "initrd", ROOT, linux.modules(*linux.DISK))
    words = ["-initrd", str(initrd), "-drive", f"file={disk},format=raw"]
    wanted = hashlib.sha256((root / "usr/bin/bash").read_bytes()).hexdigest()

    with linux.booted(300, *words) as console:
        console.expect(linux.PROMPT)
        assert linux.do(console, "sha256sum /usr/bin/bash").split()[0] == wanted
        linux.do(console, "cp -a /usr/share/doc /home/doc; echo first > /home/note")
        linux.do(console, "cd /home; find doc -type f -exec sha256sum {} + > sums; sync")
        files = int(linux.do(console, "wc -l < sums"))
        assert files > 100
        console.type(OFF)
        assert console.process.wait(120) == 0
    checked(disk)

    with linux.booted(300, *words) as console:
        console.expect(linux.PROMPT)
        assert linux.do(console, "cat /home/note") == "first\n"
        assert linux.do(console, "cd /home; sha256sum -c --quiet sums && echo all") == "all\n"
        linux.do(console, "rm -r doc; echo second > note; sync")
        console.process.kill()

    with linux.booted(300, *words) as console:
        console.expect(linux.PROMPT)
        assert linux.do(console, "cd /home; cat note; echo *") == "second\nnote sums\n"
        console.type(OFF)
        assert console.process.wait(120) == 0
    checked(disk)
