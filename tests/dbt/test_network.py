"""A network in user mode, by frames of a guest that is made by hand, and sockets of the test on 127.0.0.1."""

from __future__ import annotations

import errno
import os
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from random import Random
from typing import Any

import pytest
from support import peers
from support.loopback import free_port
from support.riscv import Tally, scaled
from support.wire import GATEWAY, GUEST, MAC, MASK, NAMES, Connection, Guest

from dbt.machine.net import dhcp, packets, tcp, udp
from dbt.machine.net.cable import Cable
from dbt.machine.net.fragments import Fragments, pieces
from dbt.machine.net.host import Forward, Place
from dbt.machine.net.packets import (
    ACK,
    ANY,
    BROADCAST,
    FIN,
    ICMP,
    PSH,
    RST,
    SYN,
    TCP,
    UDP,
    Arp,
    Datagram,
    Frame,
    Message,
    Packet,
    Segment,
    checksum,
)
from dbt.machine.net.user import OURS, User
from dbt.machine.outside import Inputs

ELSEWHERE = socket.inet_aton("198.51.100.7")  # of documentation's addresses: nobody has it
LOOPBACK = "127.0.0.1"


@pytest.fixture
def make() -> Iterator[Callable[..., Guest]]:
    """Make a network and a guest in it that is known there; it is closed afterwards, and leaves nothing."""
    made: list[Guest] = []

    def build(*forwards: Forward, known: bool = True, **how: Any) -> Guest:
        inputs = Inputs()
        guest = Guest(inputs, User(inputs, forwards, **how))
        made.append(guest)
        if known:
            greet(guest)
        return guest

    yield build
    for guest in made:
        guest.peer.close()
        assert not guest.inputs._readers and not guest.inputs._writers


def greet(guest: Guest) -> Arp | None:
    """Ask who the gateway is."""
    ask = Arp(1, MAC, guest.address, bytes(6), GATEWAY)
    guest.peer.send(Frame(packets.EVERYBODY, MAC, packets.ARP_KIND, ask.pack()).pack())
    return guest.arp()


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server((LOOPBACK, 0)) as made:
        made.settimeout(10)
        yield made


def port(made: socket.socket) -> int:
    return int(made.getsockname()[1])


Make = Callable[..., Guest]

# --- bytes ------------------------------------------------------------------------------------------------------------


def test_packets_are_those_of_the_standards() -> None:
    """Frames of Linux's own stack, recorded: a question of ARP, the begin of a connection."""
    ask = Frame.parse(bytes.fromhex(
        "ffffffffffff52540012345608060001080006040001" "5254001234560a00020f0000000000000a000202"
    ))  # fmt: skip
    assert ask is not None and ask[:3] == (packets.EVERYBODY, MAC, packets.ARP_KIND)
    assert Arp.parse(ask.payload) == Arp(1, MAC, GUEST, bytes(6), GATEWAY)
    assert Arp(1, MAC, GUEST, bytes(6), GATEWAY).pack() == ask.payload
    begin = bytes.fromhex(
        "4500003ce4c2400040063de90a00020f0a000202955600091d068a02" "00000000a002faf0e1a2"
        "0000020405b40402080a9e98785d0000000001030305"
    )  # fmt: skip
    packet = Packet.parse(begin)
    assert packet is not None and packet.pack() == begin and packet[:3] == (GUEST, GATEWAY, TCP)
    assert Segment.parse(packet) == Segment(0x9556, 9, 0x1D068A02, 0, SYN, 0xFAF0, b"", 1460)
    for at in range(len(begin)):  # a damaged one is none
        damaged = Packet.parse(begin[:at] + bytes([begin[at] ^ 0x41]) + begin[at + 1 :])
        assert damaged is None or Segment.parse(damaged) is None


def test_the_checksum_is_that_of_rfc_1071() -> None:
    """Its example; and against a sum with the carry brought round, over random bytes."""
    assert checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0xFFFF - 0xDDF2
    random, tally = Random(3), Tally("checksums")
    for _ in range(scaled(500)):
        data = random.randbytes(random.randrange(64))
        data = random.choice((data, bytes(len(data)), b"\xff" * len(data)))
        padded = data + bytes(len(data) % 2)
        total = sum(struct.unpack(f">{len(padded) // 2}H", padded))
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        tally.check(checksum(data) == 0xFFFF - total)
    tally.done()


def test_what_is_packed_is_parsed() -> None:
    random, tally = Random(4), Tally("packets")
    for _ in range(scaled(300)):
        data = random.randbytes(random.randrange(1400))
        datagram = Datagram(random.randrange(1 << 16), random.randrange(1 << 16), data)
        segment = Segment(1, 2, random.randrange(1 << 32), 7, random.randrange(64), 9, data, random.choice((0, 1460)))
        for each in (datagram, segment):
            packet = Packet.parse(each.packet(GUEST, ELSEWHERE).pack())
            tally.check(packet is not None and type(each).parse(packet) == each)
            damaged = bytearray(each.packet(GUEST, ELSEWHERE).pack())
            damaged[random.randrange(20, len(damaged))] ^= 1 << random.randrange(8)
            packet = Packet.parse(bytes(damaged))
            checked = not isinstance(each, Datagram) or bytes(damaged[26:28]) != b"\0\0"
            tally.check(packet is not None and (type(each).parse(packet) is None) == checked)
    tally.done()


def test_long_packets_are_taken_apart_and_put_together() -> None:
    random, tally, fragments = Random(5), Tally("fragments"), Fragments()
    for number in range(scaled(100)):
        packet = Packet(GUEST, GATEWAY, UDP, random.randbytes(random.randrange(1, 9000)), number)
        parts = list(pieces(packet))
        tally.check(all(len(part.pack()) <= packets.MTU for part in parts))
        random.shuffle(parts)
        found = [fragments.whole(part) for part in (*parts, *parts[:0])]
        tally.check(found[:-1] == [None] * (len(parts) - 1) and found[-1] is not None)
        tally.check(found[-1] is not None and found[-1].payload == packet.payload)
    tally.done()


# --- addresses: ARP, DHCP, ICMP ---------------------------------------------------------------------------------------


def test_the_gateway_says_where_it_is_and_nobody_else(make: Make) -> None:
    guest = make(known=False)
    answer = greet(guest)
    assert answer == Arp(2, OURS + b"\2", GATEWAY, MAC, GUEST)
    for other in (GUEST, NAMES, socket.inet_aton("10.0.2.77"), ELSEWHERE):
        ask = Arp(1, MAC, GUEST, bytes(6), other)
        guest.peer.send(Frame(packets.EVERYBODY, MAC, packets.ARP_KIND, ask.pack()).pack())
        assert guest.quiet(0)


def dhcp_message(kind: int, *options: bytes, mac: bytes = MAC, own: bytes = ANY, flags: int = 0) -> Packet:
    """A message of a client."""
    fixed = struct.pack("!BBBBIHH4s4s4s4s16s192xI", 1, 1, 6, 0, 0x1234, 0, flags, own, ANY, ANY, ANY,
                        mac.ljust(16, b"\0"), dhcp.COOKIE)  # fmt: skip
    message = fixed + bytes([dhcp.KIND, 1, kind]) + b"".join(options) + b"\xff"
    return Datagram(68, 67, message).packet(own, BROADCAST if own == ANY else GATEWAY)


def given(source: bytes, answer: Datagram, mac: bytes = MAC) -> dict[int, bytes]:
    """The options of an answer and, as number 0, the address that it gives."""
    assert (source, answer.source, answer.to) == (GATEWAY, 67, 68)
    assert answer.payload[4:8] == b"\0\0\x12\x34" and answer.payload[28:34] == mac
    return {0: answer.payload[16:20], **dict(dhcp._options(answer.payload[240:]))}


def ask_dhcp(
    guest: Guest, kind: int, *options: bytes, mac: bytes = MAC, own: bytes = ANY, flags: int = 0
) -> dict[int, bytes] | None:
    """What is given for a message, and that it goes to the right device; None if nothing is."""
    guest.frames.clear()
    guest.send(dhcp_message(kind, *options, mac=mac, own=own, flags=flags))
    frame = guest.frames[0] if guest.frames else None
    found = guest.datagram()
    if found is None or frame is None:
        return None
    answer = given(*found, mac)
    assert frame.to == (packets.EVERYBODY if flags or answer[dhcp.KIND] == bytes([dhcp.REFUSE]) else mac)
    return answer


def wants(address: bytes) -> bytes:
    return bytes([dhcp.REQUESTED, 4]) + address


@pytest.mark.parametrize("flags", [0, dhcp.BROADCAST_FLAG])
def test_a_guest_gets_its_address_as_rfc_2131_has_it(make: Make, flags: int) -> None:
    guest = make(known=False, names="192.0.2.1")
    offer = ask_dhcp(guest, dhcp.DISCOVER, flags=flags)
    assert offer is not None and offer[0] == GUEST and offer[dhcp.KIND] == bytes([dhcp.OFFER])
    for number, value in ((dhcp.MASK, socket.inet_aton("255.255.255.0")), (dhcp.ROUTER, GATEWAY), (dhcp.NAMES, NAMES),
                          (dhcp.SERVER, GATEWAY), (dhcp.LEASE, struct.pack("!I", 86400))):  # fmt: skip
        assert offer[number] == value
    answer = ask_dhcp(guest, dhcp.REQUEST, wants(GUEST), bytes([dhcp.SERVER, 4]) + GATEWAY, flags=flags)
    assert answer is not None and answer[0] == GUEST and answer[dhcp.KIND] == bytes([dhcp.ACKNOWLEDGE])
    renewed = ask_dhcp(guest, dhcp.REQUEST, own=GUEST)
    assert renewed is not None and renewed[dhcp.KIND] == bytes([dhcp.ACKNOWLEDGE])
    informed = ask_dhcp(guest, dhcp.INFORM, own=GUEST)
    assert informed is not None and informed[0] == ANY
    assert dhcp.LEASE not in informed and informed[dhcp.ROUTER] == GATEWAY


def test_what_dhcp_does_not_give(make: Make) -> None:
    guest = make(known=False)
    offer = ask_dhcp(guest, dhcp.DISCOVER)
    assert offer is not None and dhcp.NAMES not in offer  # the host has no server of names
    refused = ask_dhcp(guest, dhcp.REQUEST, wants(socket.inet_aton("10.0.2.99")))
    assert refused is not None and refused[dhcp.KIND] == bytes([dhcp.REFUSE]) and refused[0] == ANY
    assert ask_dhcp(guest, dhcp.REQUEST, wants(GUEST), bytes([dhcp.SERVER, 4]) + ELSEWHERE) is None  # another server's
    assert ask_dhcp(guest, dhcp.DECLINE, wants(GUEST)) is None and ask_dhcp(guest, 99) is None
    others = [ask_dhcp(guest, dhcp.DISCOVER, mac=MAC[:5] + bytes([i])) for i in range(20)]
    assert [each[0][3] for each in others if each is not None] == list(range(16, 31)) and others[15:] == [None] * 5
    assert ask_dhcp(guest, dhcp.RELEASE) is None
    again = ask_dhcp(guest, dhcp.DISCOVER, mac=MAC[:5] + b"\xee")
    assert again is not None and again[0] == GUEST
    restricted = ask_dhcp(make(known=False, restricted=True, names="192.0.2.1"), dhcp.DISCOVER)
    assert restricted is not None and dhcp.ROUTER not in restricted and dhcp.NAMES not in restricted


def echo(to: bytes, data: bytes = b"abcd") -> Packet:
    return Packet(GUEST, to, ICMP, Message(packets.ECHO, 0, b"\0\1\0\2" + data).pack())


def test_the_gateway_answers_an_echo_and_nobody_else_can_be_asked(make: Make) -> None:
    guest, long = make(names="192.0.2.1"), b"x" * 4000
    for own in (GATEWAY, NAMES):
        for piece in pieces(echo(own, long)):  # in fragments, both ways
            guest.send(piece)
        fragments = Fragments()
        whole = None
        while whole is None:
            packet = guest.packet(ICMP)
            assert packet is not None
            whole = fragments.whole(packet)
        assert whole.source == own and Message.parse(whole.payload) == (packets.ECHO_REPLY, 0, b"\0\1\0\2" + long)
    guest.send(echo(ELSEWHERE))
    source, message = guest.wait(guest.message)
    assert (source, message.kind, message.code) == (GATEWAY, packets.UNREACHABLE, packets.PROHIBITED)
    assert message.rest[4:] == echo(ELSEWHERE).pack()[:28]
    guest.send(Packet(GUEST, ELSEWHERE, 47, b"a protocol that we do not carry"))
    assert guest.wait(guest.message)[1].code == packets.PROTOCOL


# --- UDP --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def friend() -> Iterator[socket.socket]:
    """A socket of UDP of the host's."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind((LOOPBACK, 0))
        made.settimeout(10)
        yield made


@pytest.mark.parametrize("length", [0, 1, 1472, 1473, 20_000])
def test_datagrams_go_to_the_host_and_back(make: Make, friend: socket.socket, length: int) -> None:
    guest, sent = make(), os.urandom(length)
    for piece in pieces(Datagram(4000, port(friend), sent).packet(GUEST, GATEWAY)):
        guest.send(piece)
    data, client = friend.recvfrom(65_536)
    assert data == sent
    friend.sendto(sent[::-1], client)
    fragments = Fragments()
    whole = guest.wait(lambda: (packet := guest.packet(UDP)) and fragments.whole(packet))
    assert whole.source == GATEWAY and Datagram.parse(whole) == Datagram(port(friend), 4000, sent[::-1])


def test_a_port_of_the_host_without_anybody_is_unreachable(make: Make) -> None:
    guest, nobody = make(), free_port(socket.SOCK_DGRAM)
    packet = Datagram(4000, nobody, b"x").packet(GUEST, GATEWAY)
    guest.send(packet)
    source, message = guest.wait(guest.message)
    assert (source, message.kind, message.code) == (GATEWAY, packets.UNREACHABLE, packets.PORT)
    assert message.rest[4:][12:] == packet.pack()[12:24] + message.rest[28:]  # the ends of what has not arrived


def only(monkeypatch: pytest.MonkeyPatch, places: Mapping[Place, Place]) -> None:
    """Let guests reach nothing but these places, each by another one."""
    reach = User.reach

    def narrowed(self: User, address: bytes, number: int) -> Place | None:
        place = reach(self, address, number)
        return None if place is None else places.get(place)

    monkeypatch.setattr(User, "reach", narrowed)


def test_names_are_asked_at_the_host_s_server(
    make: Make, friend: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, {("192.0.2.1", 53): (LOOPBACK, port(friend))})
    guest = make(names="192.0.2.1")
    guest.send(Datagram(4000, 53, b"question").packet(GUEST, NAMES))
    data, client = friend.recvfrom(100)
    friend.sendto(b"answer", client)
    assert data == b"question" and guest.wait(guest.datagram) == (NAMES, Datagram(53, 4000, b"answer"))


def test_the_quietest_pair_is_forgotten(make: Make, friend: socket.socket) -> None:
    guest = make()
    for i in range(udp.MOST + 5):
        guest.send(Datagram(4000 + i, port(friend), b"x").packet(GUEST, GATEWAY))
        guest.send(Datagram(4000, port(friend), b"first").packet(GUEST, GATEWAY))  # is never quiet
    pairs = [line for line in guest.peer.described() if line.startswith("udp")]
    assert len(pairs) == udp.MOST == len(guest.inputs)
    assert any(":4000 " in line for line in pairs) and not any(":4001 " in line for line in pairs)


def test_a_forwarded_datagram_reaches_the_guest_and_is_answered(make: Make, friend: socket.socket) -> None:
    place = LOOPBACK, free_port(socket.SOCK_DGRAM)
    guest = make(Forward("udp", place, GUEST, 53))
    friend.sendto(b"question", place)
    source, datagram = guest.wait(guest.datagram)
    assert (source, datagram) == (GATEWAY, Datagram(port(friend), 53, b"question"))
    guest.send(Datagram(53, datagram.source, b"answer").packet(GUEST, GATEWAY))
    assert friend.recvfrom(100) == (b"answer", place)


# --- where a guest may go ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "number", "place"),
    [
        ("10.0.2.2", 80, (LOOPBACK, 80)), ("10.0.2.3", 53, ("192.0.2.1", 53)), ("10.0.2.3", 80, None),
        ("198.51.100.7", 80, ("198.51.100.7", 80)), ("10.0.2.4", 80, None), ("127.0.0.1", 80, None),
        ("127.9.9.9", 80, None), ("0.0.0.0", 80, None), ("0.1.2.3", 80, None), ("10.0.2.2", 0, None),
    ],
)  # fmt: skip
def test_where_a_guest_may_go(address: str, number: int, place: tuple[str, int] | None) -> None:
    packed = socket.inet_aton(address)
    assert User(Inputs(), names="192.0.2.1").reach(packed, number) == place
    assert User(Inputs(), names="192.0.2.1", restricted=True).reach(packed, number) is None
    assert User(Inputs()).reach(NAMES, 53) is None


def test_a_restricted_guest_is_told_that_it_may_not(make: Make, server: socket.socket, friend: socket.socket) -> None:
    guest = make(restricted=True)
    guest.send(Datagram(4000, port(friend), b"x").packet(GUEST, GATEWAY))
    assert guest.wait(guest.message)[1].code == packets.PROHIBITED
    connection = Connection(guest, 4000, port(server))
    connection.send(SYN, ack=0)
    assert connection.next().flags & RST
    server.settimeout(0.1)
    friend.settimeout(0.1)
    for waits in (server.accept, lambda: friend.recv(10)):
        with pytest.raises(TimeoutError):
            waits()


def test_a_forward_still_leads_to_a_restricted_guest(make: Make) -> None:
    place = LOOPBACK, free_port()
    guest = make(Forward("tcp", place, GUEST, 80), restricted=True)
    with socket.create_connection(place, 10) as client:
        assert guest.wait(guest.segment).flags == SYN
        client.close()


def test_a_place_that_is_taken_cannot_be_forwarded(server: socket.socket) -> None:
    inputs = Inputs()
    free = Forward("tcp", (LOOPBACK, free_port()), GUEST, 80)
    with pytest.raises(OSError, match="in use"):
        User(inputs, [free, Forward("tcp", (LOOPBACK, port(server)), GUEST, 80)])
    assert not inputs
    socket.create_server(free.place).close()


# --- TCP --------------------------------------------------------------------------------------------------------------


def served(guest: Guest, server: socket.socket, **how: int) -> tuple[Connection, socket.socket]:
    """A connection of the guest's to a server of the host's, both ends."""
    connection = Connection(guest, 4000, port(server), **how).open()
    made, _ = server.accept()
    made.settimeout(10)
    return connection, made


def test_a_connection_carries_bytes_both_ways_and_ends_on_both_sides(make: Make, server: socket.socket) -> None:
    guest = make()
    connection, host = served(guest, server)
    with host:
        sent = os.urandom(5000)
        for at in range(0, 5000, 1000):
            connection.send(ACK | PSH, sent[at : at + 1000])
        assert connection.next().ack == connection.seq - 4000 & MASK
        assert host.recv(5000, socket.MSG_WAITALL) == sent
        host.sendall(sent[::-1])
        guest.frames.clear()
        assert connection.read(5000) == sent[::-1]
        host.shutdown(socket.SHUT_WR)
        assert connection.take().flags & FIN
        connection.send()
        assert guest.quiet()
        connection.send(ACK | PSH, b"the other way is still open")
        assert host.recv(100) == b"the other way is still open" and not connection.next().flags & FIN
        connection.send(FIN | ACK)
        assert host.recv(100) == b""
        guest.wait(lambda: None if any(line.startswith("tcp") for line in guest.peer.described()) else True)
    late = connection.next()
    while guest.frames:
        late = connection.next()
    assert late.ack == connection.seq and not late.flags & RST
    connection.send(FIN | ACK, seq=connection.seq - 1 & MASK)  # nobody knows of it any more
    assert connection.next().flags & RST


def test_the_guest_ends_first(make: Make, server: socket.socket) -> None:
    guest = make()
    connection, host = served(guest, server)
    with host:
        connection.send(FIN | ACK, b"last words")
        assert connection.next().ack == connection.seq
        assert host.recv(100) + host.recv(100) == b"last words"
        connection.send(FIN | ACK, seq=connection.seq - 1 & MASK)
        assert connection.next().ack == connection.seq  # it was sent again, and is told again
        host.sendall(b"not yet")
        assert connection.read(7) == b"not yet"
    assert connection.take().flags & FIN
    connection.send()
    assert not any(line.startswith("tcp") for line in guest.peer.described())


def test_nobody_at_a_port_of_the_host_is_a_reset(make: Make) -> None:
    guest = make()
    connection = Connection(guest, 4000, free_port())
    connection.send(SYN, ack=0)
    answer = connection.next()
    assert answer.flags == RST | ACK and answer.ack == connection.seq


def test_a_reset_goes_through_in_both_directions(make: Make, server: socket.socket) -> None:
    guest = make()
    connection, host = served(guest, server)
    connection.send(RST, seq=connection.seq + 5 & MASK)  # it could be anybody's: RFC 5961
    assert connection.next().flags == ACK
    connection.send(RST, seq=connection.seq + 0x20_0000 & MASK)
    assert guest.quiet(0)
    connection.send(RST)
    with pytest.raises(ConnectionResetError):
        host.recv(1)
    host.close()
    connection, host = served(guest, server)
    host.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    host.close()
    assert connection.next().flags & RST


def test_segments_that_belong_to_no_connection_are_reset(make: Make) -> None:
    guest = make()
    connection = Connection(guest, 4000, 80, ELSEWHERE)
    connection.send(ACK, b"data", ack=77)
    assert connection.next()[2:5] == (77, 0, RST)
    connection.send(FIN, b"data", seq=10)
    assert connection.next()[2:5] == (0, 15, RST | ACK)
    connection.send(RST)
    assert guest.quiet(0)


def test_what_comes_twice_or_too_early_is_taken_once(make: Make, server: socket.socket) -> None:
    guest = make()
    connection, host = served(guest, server)
    begin = connection.seq
    with host:
        connection.send(ACK, b"abcd")
        connection.send(ACK, b"abcd", seq=begin)
        connection.send(ACK, b"cdef", seq=begin + 2)
        connection.send(ACK, b"ijkl", seq=begin + 8)
        connection.send(FIN | ACK, seq=begin + 12)
        connection.send(ACK, b"ghij", seq=begin + 6)
        assert host.recv(100) == b"abcdefghij"
        while guest.frames:
            last = connection.next()
        assert last.ack == begin + 10 & MASK
        connection.send(ACK, b"?", seq=begin + 10, ack=connection.ack + 1)  # it speaks of what was never sent
        assert connection.next()[2:5] == (connection.ack, begin + 10 & MASK, ACK)
        host.setblocking(False)
        with pytest.raises(BlockingIOError):
            host.recv(1)
        connection.send(SYN, seq=begin + 10)
        assert connection.next().flags == ACK


def test_the_guest_s_window_is_kept(make: Make, server: socket.socket) -> None:
    guest = make()
    connection, host = served(guest, server, window=3000)
    with host:
        host.sendall(b"x" * 10_000)
        first = connection.read(3000, acknowledge=False)
        assert len(first) == 3000 and guest.quiet()
        connection.window = 0
        connection.send()
        assert guest.quiet()
        connection.window = 100
        connection.send()
        assert len(connection.take().payload) == 100 and guest.quiet()
        connection.window = 65_535
        connection.send()
        assert len(connection.read(6900)) == 6900


def test_segments_are_as_long_as_the_guest_says(make: Make, server: socket.socket) -> None:
    guest = make()
    for mss, longest in ((300, 300), (0, tcp.DEFAULT_MSS), (9000, 1460), (1, tcp.LEAST_MSS)):
        connection = Connection(guest, 4000 + mss, port(server)).open(mss)
        host, _ = server.accept()
        with host:
            host.sendall(b"x" * 5000)
            guest.wait(lambda: True if len(guest.frames) > 1 else None)
            assert len(connection.take().payload) == longest
            connection.send(RST)
            guest.frames.clear()


def test_a_host_that_does_not_read_stops_the_guest(make: Make, server: socket.socket) -> None:
    guest = make()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 17)
    connection, host = served(guest, server)
    total = bytearray()
    with host:
        window, refused = 65_535, False
        while not refused and len(total) < 50_000_000:
            piece = os.urandom(min(1460, max(1, window)))
            connection.send(ACK, piece, seq=connection.seq)
            answer = connection.next()
            taken = answer.ack - connection.seq & MASK
            total += piece[:taken]
            connection.seq, window, refused = answer.ack, answer.window, not taken
        assert refused and window == 0
        received = bytearray()
        while len(received) < len(total):
            guest.inputs.look(0.01)
            received += host.recv(1 << 16)
        assert received == total
        guest.wait(lambda: True if guest.frames else None)
        while guest.frames:
            window = connection.next().window
        assert window > tcp.BUFFER // 2  # it was told, without asking


def test_what_the_guest_does_not_take_is_sent_again(
    make: Make, server: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tcp, "PATIENCE", 0.1)
    monkeypatch.setattr(tcp, "MOST_PATIENCE", 0.2)
    guest = make()
    connection = Connection(guest, 4000, port(server))
    connection.send(SYN, ack=0, mss=1000)
    for _ in range(3):
        assert connection.take().flags == SYN | ACK
    connection.send(SYN, ack=0, seq=connection.seq - 1 & MASK, mss=1000)  # or it asks again
    assert connection.take().flags == SYN | ACK
    connection.send()
    host, _ = server.accept()
    with host:
        host.sendall(b"a" * 1000 + b"b" * 1000 + b"c" * 1000)
        host.shutdown(socket.SHUT_WR)
        lost = connection.ack
        first = connection.read(3000, acknowledge=False)
        connection.take()
        connection.ack = lost
        assert connection.read(3000, acknowledge=False) == first and connection.take().flags & FIN
        connection.ack = lost + 1000 & MASK
        for _ in range(4):
            connection.send()
        assert connection.next(0.05).payload == b"b" * 1000  # three duplicates: at once
        guest.frames.clear()


@pytest.mark.parametrize("seed", range(4))
def test_bytes_arrive_whatever_the_guest_loses(
    make: Make, server: socket.socket, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """A guest that drops, repeats and mixes segments of both directions, with a window of any size; then both end."""
    monkeypatch.setattr(tcp, "PATIENCE", 0.02)
    monkeypatch.setattr(tcp, "MOST_PATIENCE", 0.02)
    random, guest = Random(seed), make()
    connection, host = served(guest, server)
    begin, told = connection.seq, connection.ack
    there, back = random.randbytes(50_000), random.randbytes(50_000)
    host.setblocking(False)
    got_there, got_back, left = bytearray(), bytearray(), bytearray(back)
    known, ended, shut = 0, False, False
    with host:
        while len(got_there) < len(there) or not ended or known <= len(there):
            connection.window = random.choice((0, 100, 3000, 65_535))
            first = min(known, len(there))
            connection.send(ACK)
            for at in (first, *(random.randrange(first, min(len(there), first + 9000) + 1) for _ in range(3))):
                piece = there[at : at + random.randrange(1, 1461)]
                flags = ACK | (FIN if at + len(piece) == len(there) else 0)
                connection.send(flags, piece, seq=begin + at & MASK)
            guest.inputs.look(0.005)
            with suppress(BlockingIOError):
                if left:
                    del left[: host.send(left[:4000])]
                elif not shut:
                    shut = True
                    host.shutdown(socket.SHUT_WR)
            with suppress(BlockingIOError):
                got_there += host.recv(1 << 16)
            for segment in iter(guest.segment, None):
                if random.randrange(4) == 0:
                    continue  # it is lost
                if segment.flags & RST:  # the connection has ended for both, and the answer to our end was lost
                    assert ended and got_there == there
                    known = len(there) + 1
                    break
                known = max(known, tcp.distance(segment.ack, begin))
                at = tcp.distance(segment.seq, connection.ack)
                if at <= 0 and -at < len(segment.payload) + bool(segment.flags & FIN):
                    got_back += segment.payload[-at:]
                    ended = ended or bool(segment.flags & FIN)
                    connection.ack = segment.seq + len(segment.payload) + bool(segment.flags & FIN) & MASK
        assert got_there == there and got_back == back and connection.ack == told + len(back) + 1 & MASK
        connection.send(ACK, seq=begin + len(there) + 1 & MASK)
        guest.wait(lambda: None if any(line.startswith("tcp") for line in guest.peer.described()) else True)


def test_a_guest_that_never_answers_is_given_up(
    make: Make, server: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tcp, "PATIENCE", 0.01)
    monkeypatch.setattr(tcp, "MOST_PATIENCE", 0.01)
    guest = make()
    connection, host = served(guest, server)
    with host:
        host.sendall(b"x")
        guest.wait(lambda: None if any(line.startswith("tcp") for line in guest.peer.described()) else True)
        with pytest.raises(ConnectionResetError):
            host.recv(1)


def test_a_forward_waits_for_a_guest_that_is_not_there_yet(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "PATIENCE", 0.05)
    place = LOOPBACK, free_port()
    guest = make(Forward("tcp", place, GUEST, 80), known=False)
    with socket.create_connection(place, 10) as client:
        client.settimeout(10)
        asked = guest.wait(guest.arp)
        assert (asked.operation, asked.target_address) == (1, GUEST)
        greet(guest)
        begin = guest.wait(guest.segment)
        assert begin.flags == SYN and begin.to == 80 and begin.source == client.getsockname()[1]
        connection = Connection(guest, 80, begin.source)
        connection.ack = begin.seq + 1
        connection.send(ACK, ack=begin.seq)  # of an older connection: it is reset, and the new one goes on
        assert connection.next().flags == RST
        connection.send(SYN | ACK, mss=1460)
        connection.send(ACK, b"welcome")
        assert client.recv(100) == b"welcome"
        client.sendall(b"thanks")
        assert connection.read(6) == b"thanks"


def test_a_forward_to_a_port_without_a_server_is_reset(make: Make) -> None:
    place = LOOPBACK, free_port()
    guest = make(Forward("tcp", place, GUEST, 80))
    with socket.create_connection(place, 10) as client:
        client.settimeout(10)
        begin = guest.wait(guest.segment)
        connection = Connection(guest, 80, begin.source)
        connection.send(RST | ACK, seq=0, ack=begin.seq + 1)
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_there_are_so_many_connections_and_no_more(make: Make, server: socket.socket) -> None:
    guest = make()
    server.listen(1000)
    for i in range(tcp.MOST + 1):
        connection = Connection(guest, 4000 + i, port(server))
        connection.send(SYN, ack=0)
    refused = [s for s in iter(guest.segment, None) if s.flags & RST]
    assert [each.to for each in refused] == [4000 + tcp.MOST]


def test_a_host_without_descriptors_refuses(make: Make, server: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    guest = make()
    monkeypatch.setattr("dbt.machine.net.host.MOST", 3)  # above it no descriptor can be waited for
    connection = Connection(guest, 4000, port(server))
    connection.send(SYN, ack=0)
    assert connection.next().flags & RST
    guest.send(Datagram(4000, 4000, b"x").packet(GUEST, GATEWAY))
    assert guest.wait(guest.message)[1].code == packets.HOST


def test_another_machine_begins_with_nothing(make: Make, server: socket.socket, friend: socket.socket) -> None:
    guest = make()
    connection, host = served(guest, server)
    guest.send(Datagram(4000, port(friend), b"x").packet(GUEST, GATEWAY))
    guest.peer.plug_in(guest._receive)
    assert len(guest.peer.described()) == 1
    with host, pytest.raises(ConnectionResetError):
        host.recv(1)
    guest.frames.clear()
    connection.send(ACK, b"of before the reset")
    assert connection.next().flags & RST


# --- beside QEMU's network --------------------------------------------------------------------------------------------


@contextmanager
def qemu(forward: Forward) -> Iterator[Guest]:
    """A guest in QEMU's network in user mode, which is at the other end of a wire."""
    inputs, place = Inputs(), (LOOPBACK, free_port())
    command = [
        peers.need("qemu-system-riscv64", "qemu-system-misc"), "-M", "none", "-display", "none", "-monitor", "none",
        "-serial", "none", "-netdev", f"user,id=user,hostfwd={forward}",
        "-netdev", f"socket,id=wire,connect={place[0]}:{place[1]}", "-netdev", "hubport,hubid=0,id=one,netdev=user",
        "-netdev", "hubport,hubid=0,id=two,netdev=wire",
    ]  # fmt: skip
    with closing(Cable.listening(inputs, place)) as cable:
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            guest = Guest(inputs, cable)
            guest.wait(lambda: True if cable.described() == ["cable, connected"] else None, 30)
            yield guest
        finally:
            process.kill()
            process.wait()


def conversation(guest: Guest, server: socket.socket, friend: socket.socket, forward: Forward) -> dict[str, object]:
    """What a guest meets in a network, without what may differ: numbers that are chosen, windows, who pushes."""
    met: dict[str, object] = {}

    def now() -> None:
        """What was sent has come to sockets of the test."""
        guest.inputs.look(0.05)

    ask = Arp(1, MAC, GUEST, bytes(6), GATEWAY)
    guest.peer.send(Frame(packets.EVERYBODY, MAC, packets.ARP_KIND, ask.pack()).pack())
    met["arp"] = guest.wait(guest.arp)
    for kind, options in ((dhcp.DISCOVER, ()), (dhcp.REQUEST, (wants(GUEST),))):
        guest.send(dhcp_message(kind, *options))
        answer = given(*guest.wait(guest.datagram))
        met[f"dhcp {kind}"] = {number: answer[number] for number in (0, *range(1, 4), 51, 53, 54) if number in answer}
    guest.send(echo(GATEWAY))
    met["echo"] = guest.wait(guest.message)
    guest.send(Datagram(4000, port(friend), b"there").packet(GUEST, GATEWAY))
    now()
    data, client = friend.recvfrom(100)
    friend.sendto(b"and back", client)
    met["udp"] = data, guest.wait(guest.datagram)
    guest.send(Datagram(4000, free_port(socket.SOCK_DGRAM), b"nobody").packet(GUEST, GATEWAY))
    message = guest.wait(guest.message)[1]  # QEMU says that it is from 127.0.0.1
    met["udp to nobody"] = message.kind, message.code
    refused = Connection(guest, 4001, free_port())
    refused.send(SYN, ack=0)
    answer = refused.next()
    met["tcp to nobody"] = answer.flags, answer.ack

    connection = Connection(guest, 4002, port(server)).open()
    host, _ = server.accept()
    host.settimeout(10)
    with host:
        connection.send(ACK | PSH, b"x" * 1000)
        acknowledged = connection.next().ack
        now()
        met["tcp there"] = host.recv(2000), acknowledged
        host.sendall(b"y" * 5000)
        met["tcp and back"] = connection.read(5000)
        host.shutdown(socket.SHUT_WR)
        met["the end of the host"] = connection.take().flags & FIN
        connection.send()
        connection.send(FIN | ACK)
        met["the end of the guest"] = connection.next().ack
        now()
        assert host.recv(1) == b""

    with socket.create_connection(forward.place, 10) as client_socket:
        begin = guest.wait(guest.segment)
        while begin.to != forward.port:  # of the connection before
            begin = guest.wait(guest.segment)
        met["forward"] = begin.flags, begin.to, begin.source == client_socket.getsockname()[1], begin.mss
        welcoming = Connection(guest, forward.port, begin.source)
        welcoming.ack = begin.seq + 1 & MASK
        welcoming.send(SYN | ACK, mss=1460)
        welcoming.send(ACK, b"welcome")
        now()
        client_socket.settimeout(10)
        met["forwarded"] = client_socket.recv(100)
        welcoming.send(RST)
        now()
    return met


def test_a_guest_meets_what_it_meets_in_qemu_s_network(
    make: Make, server: socket.socket, friend: socket.socket
) -> None:
    forward = Forward("tcp", (LOOPBACK, free_port()), GUEST, 80)
    with qemu(forward) as guest:
        theirs = conversation(guest, server, friend, forward)
    ours = conversation(make(forward, known=False), server, friend, forward)
    assert ours == theirs and len(ours) == 13


# --- hostile frames ---------------------------------------------------------------------------------------------------


def hostile(random: Random, ports: list[int]) -> bytes:
    """A frame that is wrong somewhere, or all of it."""
    source = random.choice((GUEST, GUEST, GUEST, GATEWAY, ANY, BROADCAST, ELSEWHERE, random.randbytes(4)))
    to = random.choice((GATEWAY, GATEWAY, GATEWAY, NAMES, GUEST, BROADCAST, ANY, socket.inet_aton("127.0.0.1"),
                        socket.inet_aton("224.0.0.1")))  # fmt: skip
    data = random.randbytes(random.choice((0, 1, 8, 100, 1400)))
    match random.randrange(6):
        case 0:
            return random.randbytes(random.randrange(100))
        case 1:
            arp = Arp(random.randrange(4), random.randbytes(6), source, random.randbytes(6), to).pack()
            return Frame(packets.EVERYBODY, MAC, packets.ARP_KIND, arp).pack()
        case 2:
            inner = Datagram(random.choice((68, 4000)), random.choice((*ports, 67, 0)), data).packet(source, to)
        case 3:
            inner = Packet(source, to, random.choice((ICMP, TCP, UDP, 47)), data)
        case 4:
            message = struct.pack("!BBBB8s4s4s4s4s16s192xI", 1, 1, 6, 0, random.randbytes(8), ANY, ANY, ANY, ANY,
                                  random.choice((MAC, random.randbytes(6))).ljust(16, b"\0"), dhcp.COOKIE)  # fmt: skip
            message += bytes([53, 1, random.randrange(10)]) + random.randbytes(random.randrange(30))
            inner = Datagram(68, 67, message).packet(source, random.choice((BROADCAST, GATEWAY)))
        case _:
            numbers = [random.choice((0, 1, random.randrange(1 << 32))) for _ in range(2)]
            segment = Segment(4000 + random.randrange(4), random.choice(ports), *numbers, random.randrange(64),
                              random.randrange(1 << 16), data, random.choice((0, 0, 1, 1460)))  # fmt: skip
            inner = segment.packet(source, to)
    if random.randrange(3) == 0:
        inner = inner._replace(identification=random.randrange(3), fragment=random.randrange(1 << 16))
    frame = bytearray(Frame(packets.EVERYBODY, MAC, packets.IPV4_KIND, inner.pack()).pack())
    if random.randrange(3) == 0:
        for _ in range(random.randrange(1, 4)):
            frame[random.randrange(len(frame))] = random.randrange(256)
    return bytes(frame[: random.choice((len(frame), len(frame), random.randrange(len(frame) + 1)))])


def test_hostile_frames(
    make: Make, server: socket.socket, friend: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that a guest sends is an error of ours, and what it makes us keep is bounded. Two ports are reached."""
    allowed = [port(server), port(friend)]
    only(monkeypatch, {(LOOPBACK, number): (LOOPBACK, number) for number in allowed})
    random, tally = Random(7), Tally("frames")
    guest, accepted = make(), []
    server.setblocking(False)
    for i in range(scaled(6000)):
        guest.peer.send(hostile(random, [*allowed, 1]))
        if i % 50 == 0:
            guest.inputs.look(0)
            try:
                accepted.append(server.accept()[0])
                accepted[-1].send(b"x" * random.randrange(5000))
            except OSError as error:
                assert error.errno in (errno.EAGAIN, errno.EPIPE, errno.ECONNRESET)
            guest.frames.clear()
        network = guest.peer
        assert isinstance(network, User)
        tally.check(len(network._neighbours) <= 252 and len(network._fragments._waiting) <= 16
                    and len(network._udp._flows) <= udp.MOST)  # fmt: skip
    tally.done()
    for made in accepted:
        made.close()
    greet(guest)
    guest.frames.clear()
    guest.send(echo(GATEWAY))
    assert guest.wait(guest.message)[1].kind == packets.ECHO_REPLY


# --- a wire between two machines --------------------------------------------------------------------------------------


def test_frames_go_over_a_wire_in_order() -> None:
    inputs, (one, two) = Inputs(), socket.socketpair()
    with closing(Cable(inputs, one)) as left, closing(Cable(inputs, two)) as right:
        got: tuple[list[bytes], list[bytes]] = [], []
        left.plug_in(got[0].append)
        right.plug_in(got[1].append)
        sent = [os.urandom(14 + 5 * i) for i in range(200)]
        for frame in sent:
            left.send(frame)
            right.send(frame[::-1])
        while len(got[0]) + len(got[1]) < 400:
            inputs.look(1)
        assert got[1] == sent and got[0] == [frame[::-1] for frame in sent]
    assert not inputs


def test_a_wire_is_that_of_qemu_and_waits_for_the_next_machine() -> None:
    """Each frame is behind its length, in four bytes; whoever sends what is no frame is cut off."""
    inputs, place = Inputs(), (LOOPBACK, free_port())
    got: list[bytes] = []
    with closing(Cable.listening(inputs, place)) as cable:
        cable.plug_in(got.append)
        cable.send(b"nobody hears it")
        for wrong in (b"", b"\xff\xff\xff\xff"):
            with socket.create_connection(place, 10) as other:
                inputs.look(1)
                assert cable.described() == ["cable, connected"]
                other.sendall(b"\0\0\0\5hel")
                inputs.look(1)
                other.sendall(b"lo\0\0\0\2ab")
                inputs.look(1)
                assert got == [b"hello", b"ab"]
                got.clear()
                cable.send(b"answer")
                assert other.recv(100) == b"\0\0\0\6answer"
                if wrong:
                    other.sendall(wrong)
                    inputs.look(1)
                    assert other.recv(1) == b""
            if not wrong:
                inputs.look(1)
            assert cable.described() == ["cable, nobody at the other end"]
    with pytest.raises(ConnectionRefusedError):
        Cable.connecting(inputs, place)


def test_an_end_that_does_not_read_loses_frames() -> None:
    inputs, (one, two) = Inputs(), socket.socketpair()
    with closing(Cable(inputs, one)) as cable, two:
        for _ in range(5000):
            cable.send(bytes(1514))
        assert len(cable._out) < 1 << 21
        two.setblocking(False)
        total = 0
        while True:
            inputs.look(0.01)
            try:
                total += len(two.recv(1 << 20))
            except BlockingIOError:
                break
        assert total % 1518 == 0 and 0 < total < 5000 * 1518
        cable.send(b"again")
        assert two.recv(100) == b"\0\0\0\5again"


# --- waiting for the host ---------------------------------------------------------------------------------------------


def test_inputs_are_looked_at_when_it_is_their_turn() -> None:
    inputs, (one, two) = Inputs(), socket.socketpair()
    seen: list[str] = []
    with one, two:
        inputs.add_writer(one.fileno(), lambda: seen.append("writable"))
        inputs.look(5)
        inputs.remove_writer(one.fileno())
        inputs.after(0.05, lambda: seen.append("later"))
        inputs.after(0.01, lambda: seen.append("soon"))
        inputs.add(one.fileno(), lambda: seen.append("readable"))
        assert len(inputs) == 3
        inputs.look(5)
        assert seen == ["writable", "soon"]
        inputs.look(None)
        assert seen == ["writable", "soon", "later"]
        two.send(b"x")
        inputs.look(None)
        inputs.remove(one.fileno())
    assert seen == ["writable", "soon", "later", "readable"] and not inputs
