"""The networks of `dragoman boot`: -netdev and -nic, in QEMU's words.

Owns: these words. Must not know: what a network does.
"""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING, Any

from dbt.cli.errors import USAGE, Fail, why

if TYPE_CHECKING:
    from dbt.machine.devices.virtio import Function
    from dbt.machine.devices.virtio_net import VirtioNet
    from dbt.machine.net.host import Forward
    from dbt.machine.net.wire import Peer
    from dbt.machine.outside import Inputs

KINDS = "user[,restrict=on][,hostfwd=...], socket,listen=ADDRESS:PORT, socket,connect=ADDRESS:PORT"
PROPERTIES = {"user": ("hostfwd", "restrict"), "socket": ("listen", "connect")}
FORWARD = re.compile(r"(tcp|udp|):([\d.]*):(\d{1,5})-([\d.]*):(\d{1,5})")
MODEL = "virtio-net-device"
FIRST_MAC = 0x5254_0012_3456  # of the first device; the others follow
RESOLV = "/etc/resolv.conf"


class Networks:
    """The networks of -netdev by name, and how many devices there are. `inputs`: None in runs that repeat."""

    def __init__(self, options: Any, inputs: Inputs | None) -> None:
        self._inputs = inputs
        self._waiting: dict[str, Peer] = {}
        self._cards = 0
        for text in options.netdev:
            peer, rest = self._peer("-netdev", text, ("id",))
            if "id" not in rest or rest["id"] in self._waiting:
                raise Fail(USAGE, f"-netdev: {text!r} needs an id= of its own")
            self._waiting[rest["id"]] = peer

    def card(self, properties: dict[str, str]) -> VirtioNet:
        """The device of -device for one of the networks."""
        name = properties.get("netdev", "")
        if name not in self._waiting:
            raise Fail(USAGE, f"-device: there is no -netdev with id={name}")
        return self._card("-device", self._waiting.pop(name), properties.get("mac"))

    def cards(self, texts: list[str]) -> list[tuple[str, Function]]:
        """The devices of -nic, each with its network and behind its bus."""
        found: list[tuple[str, Function]] = []
        for text in texts:
            if text != "none":
                peer, rest = self._peer("-nic", text, ("id", "model", "mac", "bus"))
                if rest.get("model", MODEL) not in (MODEL, "virtio"):
                    raise Fail(USAGE, f"-nic: there is no model {rest['model']!r} (there is: {MODEL})")
                found.append((rest.get("bus", ""), self._card("-nic", peer, rest.get("mac"))))
        return found

    def done(self) -> None:
        """All devices are there. Raises Fail if a network has none."""
        if self._waiting:
            raise Fail(USAGE, f"-netdev: id={next(iter(self._waiting))} has no -device")

    def _card(self, option: str, peer: Peer, mac: str | None) -> VirtioNet:
        from dbt.machine.devices.virtio_net import VirtioNet

        if mac is not None and not re.fullmatch(r"[0-9a-fA-F][02468aceACE](:[0-9a-fA-F]{2}){5}", mac):
            raise Fail(USAGE, f"{option}: mac={mac} is no address of one device, such as 52:54:00:12:34:56")
        number = FIRST_MAC + self._cards if mac is None else int(mac.replace(":", ""), 16)
        self._cards += 1
        return VirtioNet(number.to_bytes(6, "big"), peer)

    def _peer(self, option: str, text: str, more: tuple[str, ...]) -> tuple[Peer, dict[str, str]]:
        """The network of an option, and those of its properties that are not the network's own."""
        kind, *parts = text.split(",")
        if kind not in PROPERTIES:
            raise Fail(USAGE, f"{option}: there is no network {kind!r} (there are: {KINDS})")
        if self._inputs is None:
            raise Fail(USAGE, f"{option}: with --deterministic and --lockstep there is no network: what comes from "
                       "outside, and when, cannot be repeated")  # fmt: skip
        own: dict[str, list[str]] = {name: [] for name in PROPERTIES[kind]}
        rest: dict[str, str] = {}
        for part in parts:
            name, equals, value = part.partition("=")
            if not equals or name not in (*own, *more):
                known = " ".join((*own, *more))
                raise Fail(USAGE, f"{option}: {part!r} is not understood (there are: {known})")
            if name in own:
                own[name].append(value)
            else:
                rest[name] = value
        try:
            make = _user if kind == "user" else _cable
            return make(option, self._inputs, own), rest
        except OSError as error:
            raise Fail(USAGE, f"{option}: {text}: {why(error)}") from None


def _user(option: str, inputs: Inputs, own: dict[str, list[str]]) -> Peer:
    from dbt.cli.devices import OFF, ON
    from dbt.machine.net.user import User

    restrict = own["restrict"][-1] if own["restrict"] else "off"
    if restrict not in (*ON, *OFF):
        raise Fail(USAGE, f"{option}: restrict={restrict} is neither on nor off")
    return User(inputs, [_forward(option, text) for text in own["hostfwd"]], restrict in ON, _server_of_names())


def _cable(option: str, inputs: Inputs, own: dict[str, list[str]]) -> Peer:
    from dbt.machine.net.cable import Cable

    ways = [(name, value) for name, values in own.items() for value in values]
    if len(ways) != 1:
        raise Fail(USAGE, f"{option}: socket needs listen=ADDRESS:PORT or connect=ADDRESS:PORT, and one of them")
    name, value = ways[0]
    address, _, port = value.rpartition(":")
    place = _address(option, address), _port(option, port)
    return (Cable.listening if name == "listen" else Cable.connecting)(inputs, place)


def _forward(option: str, text: str) -> Forward:
    """As QEMU's hostfwd, [PROTOCOL]:[ADDRESS]:PORT-[GUEST]:PORT; without an address it is the loopback's."""
    from dbt.machine.net.host import Forward
    from dbt.machine.net.user import GUEST, NETWORK

    found = FORWARD.fullmatch(text)
    if found is None:
        raise Fail(USAGE, f"{option}: hostfwd={text} is not [tcp|udp]:[ADDRESS]:PORT-[GUEST]:PORT, such as "
                   "tcp:127.0.0.1:5555-:80")  # fmt: skip
    guest = socket.inet_aton(_address(option, found[4])) if found[4] else GUEST
    if guest[:3] != NETWORK[:3]:
        raise Fail(USAGE, f"{option}: hostfwd={text}: the guest is in {socket.inet_ntoa(NETWORK)}/24")
    place = _address(option, found[2]), _port(option, found[3])
    return Forward(found[1] or "tcp", place, guest, _port(option, found[5]))


def _address(option: str, text: str) -> str:
    if not text:
        return "127.0.0.1"
    try:
        return socket.inet_ntoa(socket.inet_pton(socket.AF_INET, "127.0.0.1" if text == "localhost" else text))
    except OSError:
        raise Fail(USAGE, f"{option}: {text!r} is no address, such as 127.0.0.1") from None


def _port(option: str, text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 1 << 16:
        raise Fail(USAGE, f"{option}: {text!r} is no port: 1 to 65535")
    return int(text)


def _server_of_names() -> str | None:
    """The host's first server of names with an address of IPv4, if it has one."""
    try:
        with open(RESOLV) as file:
            words = [line.split() for line in file]
    except OSError:
        return None
    for row in words:
        if len(row) > 1 and row[0] == "nameserver":
            try:
                return socket.inet_ntoa(socket.inet_pton(socket.AF_INET, row[1]))
            except OSError:
                continue
    return None
