"""A network in user mode: one guest, a gateway that is us, and the host's sockets behind it, as QEMU's `-netdev user`.

The network is 10.0.2.0/24. The guest gets 10.0.2.15 by DHCP; 10.0.2.2 is the gateway, and its ports are those of the
host's 127.0.0.1; 10.0.2.3 answers for the host's server of names, if there is one. Any other address is reached from a
socket of the host, as the host reaches it. No privileges are needed, and the guest cannot be reached but by what is
forwarded. Owns: addresses, frames, ARP, ICMP. Must not know: the device, the machine.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable

from dbt.machine.net import packets
from dbt.machine.net.dhcp import CLIENT_PORT, SERVER_PORT, Dhcp
from dbt.machine.net.fragments import Fragments, pieces
from dbt.machine.net.host import LOOPBACK, Forward, Place
from dbt.machine.net.packets import Arp, Datagram, Frame, Message, Packet
from dbt.machine.net.tcp import Tcp
from dbt.machine.net.udp import Udp
from dbt.machine.net.wire import Receive
from dbt.machine.outside import Inputs

OURS = b"\x52\x55\x0a\x00\x02"  # begin of the addresses of our devices; the last byte is that of the network address
NETWORK, MASK = socket.inet_aton("10.0.2.0"), socket.inet_aton("255.255.255.0")
GATEWAY, NAMES, GUEST = (socket.inet_aton(f"10.0.2.{last}") for last in (2, 3, 15))
NETWORK_BROADCAST = socket.inet_aton("10.0.2.255")
LEASES = [NETWORK[:3] + bytes([last]) for last in range(GUEST[3], GUEST[3] + 16)]
NAMES_PORT = 53


class User:
    """The network. `forwards` are places of the host that lead to the guest; `restricted`: to nothing else.

    `names`: the host's server of names, if there is one. OSError if nothing can be at a place that is forwarded.
    """

    def __init__(
        self, inputs: Inputs, forwards: Iterable[Forward] = (), restricted: bool = False, names: str | None = None
    ) -> None:
        self.inputs = inputs
        self._restricted = restricted
        self._names = names
        self._receive: Receive = lambda frame: None
        self._own = (GATEWAY,) if names is None else (GATEWAY, NAMES)
        self._number = 0  # of the last packet that was sent in fragments
        self._tcp, self._udp = Tcp(self), Udp(self)
        self._start()
        self._forwards = list(forwards)
        for forward in self._forwards:
            try:
                (self._tcp if forward.protocol == "tcp" else self._udp).forward(forward)
            except OSError:
                self.close()
                raise

    def _start(self) -> None:
        tells = (b"", b"") if self._restricted else (GATEWAY, b"" if self._names is None else NAMES)
        self._dhcp = Dhcp(GATEWAY, MASK, LEASES, tells)
        self._fragments = Fragments()
        self._neighbours: dict[bytes, bytes] = {}  # addresses of the guest's devices

    # --- the wire -----------------------------------------------------------------------------------------------------

    def plug_in(self, receive: Receive) -> None:
        self._receive = receive
        self._tcp.forget()
        self._udp.forget()
        self._start()

    def described(self) -> list[str]:
        lines = [f"user network {socket.inet_ntoa(NETWORK)}{', restricted' if self._restricted else ''}"]
        lines += [f"forwards {forward}" for forward in self._forwards]
        return lines + self._tcp.described() + self._udp.described()

    def close(self) -> None:
        self._tcp.close()
        self._udp.close()

    def send(self, frame: bytes) -> None:
        parsed = Frame.parse(frame)
        if parsed is None:
            return
        if parsed.kind == packets.ARP_KIND:
            self._asked(parsed)
        elif parsed.kind == packets.IPV4_KIND:
            packet = Packet.parse(parsed.payload)
            whole = None if packet is None else self._fragments.whole(packet)
            if whole is not None:
                self._learn(whole.source, parsed.source)
                self._take(whole, parsed.source)

    def _learn(self, address: bytes, mac: bytes) -> None:
        """The guest has this address."""
        if address[:3] == NETWORK[:3] and address not in (NETWORK, GATEWAY, NAMES, NETWORK_BROADCAST):
            self._neighbours[address] = mac

    def _asked(self, frame: Frame) -> None:
        """A message of ARP."""
        arp = Arp.parse(frame.payload)
        if arp is None:
            return
        self._learn(arp.sender_address, arp.sender)
        if arp.operation == 1 and arp.target_address in self._own:
            mac = OURS + arp.target_address[3:]
            answer = Arp(2, mac, arp.target_address, arp.sender, arp.sender_address)
            self._receive(Frame(arp.sender, mac, packets.ARP_KIND, answer.pack()).pack())

    def emit(self, packet: Packet) -> None:
        """Send a packet to the guest: if it is not known where its address is, it is asked, and the packet is lost."""
        mac = self._neighbours.get(packet.to)
        if mac is None:
            ask = Arp(1, OURS + GATEWAY[3:], GATEWAY, bytes(6), packet.to)
            self._receive(Frame(packets.EVERYBODY, OURS + GATEWAY[3:], packets.ARP_KIND, ask.pack()).pack())
        else:
            self._frame(packet, mac)

    def _frame(self, packet: Packet, mac: bytes) -> None:
        self._number = self._number + 1 & 0xFFFF
        for piece in pieces(packet._replace(identification=self._number)):
            self._receive(Frame(mac, OURS + GATEWAY[3:], packets.IPV4_KIND, piece.pack()).pack())

    # --- packets ------------------------------------------------------------------------------------------------------

    def _take(self, packet: Packet, mac: bytes) -> None:
        """A packet of the guest's, which may be for everybody where DHCP is meant."""
        if packet.protocol == packets.UDP and packet.to in (packets.BROADCAST, GATEWAY):
            datagram = Datagram.parse(packet)
            if datagram is not None and datagram.to == SERVER_PORT:
                self._configure(datagram.payload)
                return
        if packet.source not in self._neighbours or packet.to[0] >= 224 or packet.to == NETWORK_BROADCAST:
            return
        if packet.protocol == packets.TCP:
            self._tcp.receive(packet)
        elif packet.protocol == packets.UDP:
            self._udp.receive(packet)
        elif packet.protocol == packets.ICMP:
            self._echo(packet)
        else:
            self.unreachable(packets.PROTOCOL, packet)

    def _configure(self, message: bytes) -> None:
        answer = self._dhcp.answer(message)
        if answer is None:
            return
        reply, mac, address = answer
        if mac != packets.EVERYBODY:
            self._learn(address, mac)
        self._frame(Datagram(SERVER_PORT, CLIENT_PORT, reply).packet(GATEWAY, address), mac)

    def _echo(self, packet: Packet) -> None:
        """A message of ICMP: our own addresses answer an echo, and nobody else's can be asked."""
        message = Message.parse(packet.payload)
        if message is None or message.kind != packets.ECHO:
            return
        if packet.to in self._own:
            self.emit(Packet(packet.to, packet.source, packets.ICMP, message._replace(kind=packets.ECHO_REPLY).pack()))
        else:
            self.unreachable(packets.PROHIBITED, packet)

    def unreachable(self, code: int, packet: Packet) -> None:
        """Tell the guest that its packet has not arrived."""
        message = Message(packets.UNREACHABLE, code, bytes(4) + packet.pack()[:28])
        self.emit(Packet(GATEWAY, packet.source, packets.ICMP, message.pack()))

    # --- addresses ----------------------------------------------------------------------------------------------------

    def reach(self, address: bytes, port: int) -> Place | None:
        """Where at the host an address is; None if the guest may not go there."""
        if self._restricted or port == 0:
            return None
        if address == GATEWAY:
            return socket.inet_ntoa(LOOPBACK), port
        if address == NAMES:
            return None if self._names is None or port != NAMES_PORT else (self._names, port)
        if address[:3] == NETWORK[:3] or address[0] in (0, LOOPBACK[0]):
            return None
        return socket.inet_ntoa(address), port

    def seen(self, address: str) -> bytes:
        """The address under which the guest sees one of the host's: its loopback is the gateway."""
        packed = socket.inet_aton(address)
        return GATEWAY if packed[0] == LOOPBACK[0] else packed
