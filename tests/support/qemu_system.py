"""qemu-system-riscv64's board `virt`, whose first serial line is a pipe each way."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from support.peers import need


class Console:
    """What a machine prints, as it comes, and what is typed. Carriage returns are left out."""

    def __init__(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        self.process = process
        self.text = ""
        self._deadline = time.monotonic() + seconds
        self._seen = 0
        self._changed = threading.Condition()
        self._over = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        while data := self.process.stdout.read1():
            with self._changed:
                self.text += data.decode("latin-1").replace("\r", "")
                self._changed.notify()
        with self._changed:
            self._over = True
            self._changed.notify()

    def expect(self, text: str) -> str:
        """What was printed since the last call, up to this text, which must come in time."""
        with self._changed:
            while (at := self.text.find(text, self._seen)) < 0:
                left = self._deadline - time.monotonic()
                assert left > 0 and not self._over, f"{text!r} did not come:\n{self.text}"
                self._changed.wait(left)
            start, self._seen = self._seen, at + len(text)
            return self.text[start : self._seen]

    def type(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def close(self) -> None:
        """After the end of the process: what it printed has been read."""
        self._reader.join(10)
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # what was typed and nobody read
            self.process.stdin.close()

    def finish(self) -> int:
        """The status with which the machine ends."""
        status = self.process.wait(max(1.0, self._deadline - time.monotonic()))
        self.close()
        return status


@contextlib.contextmanager
def console(
    kernel: Path, *flags: str, bios: str = "none", memory: int = 32, disk: Path | None = None, seconds: float = 60
) -> Iterator[Console]:
    """A board with a program of a machine, a raw disk image if given, and `memory` MiB, for at most so many seconds."""
    command = [
        need("qemu-system-riscv64", "qemu-system-misc"), "-M", "virt", "-m", str(memory), "-display", "none",
        "-monitor", "none", "-serial", "stdio", "-bios", bios, "-kernel", str(kernel),
        "-global", "virtio-mmio.force-legacy=false", *flags,
    ]  # fmt: skip
    if disk is not None:
        command += ["-drive", f"file={disk},format=raw,if=none,id=disk", "-device", "virtio-blk-device,drive=disk"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    with process:
        made = Console(process, seconds)
        try:
            yield made
        finally:
            process.kill()
            made.close()
