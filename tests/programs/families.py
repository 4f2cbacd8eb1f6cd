"""What a larger program asks of system calls: asyncio, descriptors in messages, SQLite, shared memory, a terminal."""

import asyncio
import fcntl
import mmap
import os
import pty
import select
import socket
import sqlite3
import struct
import tempfile
import termios


async def serve(reader, writer):
    writer.write((await reader.readline()).upper())
    await writer.drain()
    writer.close()


async def talk():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"a line\n")
    print(await reader.read())
    server.close()
    await asyncio.sleep(0.01)


def child(run):
    number = os.fork()
    if number == 0:
        run()
        os._exit(0)
    os.waitpid(number, 0)


asyncio.run(talk())

here, there = socket.socketpair()
socket.send_fds(here, [b"x"], [0, 1])
print(len(socket.recv_fds(there, 10, 5)[1]))
with select.epoll() as waiting:
    waiting.register(here, select.EPOLLIN)
    there.send(b"1")
    print(len(waiting.poll(1)))

with tempfile.TemporaryDirectory() as folder:
    database = sqlite3.connect(os.path.join(folder, "database"))
    database.execute("pragma journal_mode=wal")
    database.execute("create table numbers (n)")
    database.executemany("insert into numbers values (?)", [(n,) for n in range(1000)])
    database.commit()
    print(database.execute("select sum(n) from numbers").fetchone())
    database.close()

memory = mmap.mmap(-1, 8192)
child(lambda: memory.write(b"from a child"))
print(memory[:12])

main, other = pty.openpty()
fcntl.ioctl(main, termios.TIOCSWINSZ, struct.pack("4H", 20, 70, 0, 0))
print(os.get_terminal_size(other), os.isatty(other))
child(lambda: os.write(other, b"in a terminal\n"))
print(os.read(main, 100))
