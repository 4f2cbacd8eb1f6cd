"""`dragoman` without its start: each command is a fork of one process that has all modules and the native code of ours.

    Forks(folder)                            starts that process; `line` is the shell's line for a command; close()
    python forked.py serve SOCKET            is that process
    python -IS forked.py ask SOCKET WORDS    is a command: it hands over its directory, environment and files

A fork does what a process of its own would do, but for what a process makes first: stencils, for the guests of the lab.
Owns: these processes. Must not know: what a command does.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

MESSAGE = 1 << 17  # bytes, at most
FILES = 3  # stdin, stdout, stderr


class Forks:
    """The process that is forked, in a folder for its socket."""

    def __init__(self, folder: Path, tree: Path) -> None:
        at = folder / "socket"
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listening.bind(str(at))
        listening.listen()
        here = str(Path(__file__).resolve())
        self.line = f'"{sys.executable}" -IS "{here}" ask "{at}" "$@"'
        environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
        self._process = subprocess.Popen([sys.executable, here, "serve"], env=environment, stdin=listening,
                                         stdout=subprocess.DEVNULL, start_new_session=True)  # fmt: skip
        listening.close()

    def close(self) -> None:
        """End it, and what it has forked."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def serve(listening: socket.socket) -> None:
    """Fork for each command. Does not return."""
    import atexit

    import dragoman

    warm()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        asked, _ = listening.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            message, files, _, _ = socket.recv_fds(asked, MESSAGE, FILES)
            folder, environment, words = json.loads(message)
            for number, file in enumerate(files):
                os.dup2(file, number)
                os.close(file)
            os.chdir(folder)
            os.environ.clear()
            os.environ.update(environment)
            status = 1
            try:
                status = dragoman.main(words)
            finally:
                atexit._run_exitfuncs()
                sys.stdout.flush()
                asked.send(bytes([status]))
                os._exit(status)
        asked.close()


def warm() -> None:
    """Have the native code that guests of the lab's begin with."""
    from dbt.lab.a15_causes import SPIN, guest
    from dbt.lab.simple_monitor import METHODS
    from dbt.lab.workbench import hart

    for hypervisor in (False, True):
        hart([SPIN], "translated", hypervisor=hypervisor).vm.run(most=10)
    for method in (*METHODS, "pv"):
        with guest(method, SPIN).vm as vm:
            vm.vcpus[0].run(10)


def ask(path: str, words: list[str]) -> int:
    """Have a command carried out; its status."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asking:
        asking.connect(path)
        message = json.dumps([os.getcwd(), dict(os.environ), words]).encode()
        socket.send_fds(asking, [message], range(FILES))
        answer = asking.recv(1)
    return answer[0] if answer else 1


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        listener = socket.socket(fileno=os.dup(0))
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        serve(listener)
    sys.exit(ask(sys.argv[2], sys.argv[3:]))
