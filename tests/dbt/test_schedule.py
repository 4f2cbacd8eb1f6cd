"""Virtual CPUs on physical ones: turns, waiting, time, what no guest sees; and fleets of machines, by the command."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from support.riscv import asm, words_to_bytes

from dbt.cli import main
from dbt.kvm import METHODS, Exit, Kvm, SystemEvent, Vcpu, Vm, abi, console, errors
from dbt.kvm.schedule import Placement, Scheduler, Turn, bind, migrate, stay
from dbt.lab.a04_schedule import twice
from dbt.options import Options
from guests.programs import VIRTUALS, virtual_file

RAM, SIZE = 0x8000_0000, 1 << 20
A0, A1, A6, A7, S2, T0 = 10, 11, 16, 17, 18, 5
SPIN, WFI, ECALL = asm("jal", rd=0, imm=0), 0x1050_0073, 0x73
STIMECMP, SIE, SIP, TIME = 0x14D, 0x104, 0x144, 0xC01
QUANTUM = 1000
TICK = 100  # instructions of time
COUNTING = [asm("addi", rd=S2, rs1=S2, imm=1), asm("jal", rd=0, imm=-4)]
END = [asm("addi", rd=A7, rs1=0, imm=8), ECALL]
IPI = [asm("lui", rd=A7, imm=0x735000), asm("addi", rd=A7, rs1=A7, imm=0x49)]
# Wait until an interrupt is pending that another hart has sent, and take it away.
AWAIT = [WFI, asm("csrrci", rd=0, csr=SIP, imm=2)]


def li(rd: int, value: int) -> int:
    return asm("addi", rd=rd, rs1=0, imm=value)


def csr(rd: int, number: int) -> int:
    return asm("csrrs (reads only)", rd=rd, csr=number)


def machine(*programs: Sequence[int], method: str = "interp", **registers: int) -> Vm:
    """A machine whose virtual CPUs are each about to execute a program of its own."""
    vm = Kvm(method, options=Options(patience=0)).create_vm()
    vm.set_user_memory_region(0, RAM, SIZE)
    for i, words in enumerate(programs):
        vm.write(RAM + 0x1000 * i, words_to_bytes(words))
        vcpu = vm.create_vcpu()
        vcpu.mp_state = abi.KVM_MP_STATE_RUNNABLE
        vcpu.set(pc=RAM + 0x1000 * i, **registers)
    return vm


def timed(ticks: int, rounds: int) -> list[int]:
    """Sleep so many times for so many ticks of the guest's clock, and end."""
    body = [csr(A0, TIME), asm("addi", rd=A0, rs1=A0, imm=ticks), asm("csrrw", rd=0, rs1=A0, csr=STIMECMP), WFI,
            asm("addi", rd=S2, rs1=S2, imm=-1)]  # fmt: skip
    return [li(S2, rounds), *body, asm("bne", rs1=S2, rs2=0, imm=-4 * len(body)), *END]


def goes_on(vcpu: Vcpu, exit: Exit) -> bool:
    return False


def scheduled(
    *vms: Vm, pcpus: int = 1, place: Placement = stay, quantum: int = QUANTUM
) -> tuple[Scheduler, list[Turn]]:
    turns: list[Turn] = []
    return Scheduler(vms, goes_on, pcpus, quantum, place, turns.append), turns


# --- turns --------------------------------------------------------------------------------------------------------


def test_each_has_its_share() -> None:
    vms = [machine(COUNTING) for _ in range(3)]
    scheduler, turns = scheduled(*vms, pcpus=2)
    scheduler.run(30 * QUANTUM)
    found = [entity.vcpu.instructions for entity in scheduler.entities]
    assert max(found) - min(found) <= QUANTUM and sum(found) >= 30 * QUANTUM
    assert [vm.vcpus[0].get("s2") for vm in vms] == [(count + 1) // 2 for count in found], "none of it was lost"
    assert scheduler.now * 2 == sum(pcpu.busy for pcpu in scheduler.pcpus), "no physical CPU is idle"
    assert {each.end - each.start for each in turns} == {QUANTUM}
    assert not twice(turns, lambda each: each.vcpu) and not twice(turns, lambda each: each.pcpu)


def test_switches_and_migrations_are_those_of_the_turns() -> None:
    scheduler, turns = scheduled(*(machine(COUNTING) for _ in range(5)), pcpus=3, place=migrate(1))
    scheduler.run(40 * QUANTUM)
    for pcpu in scheduler.pcpus:
        had = [each.vcpu for each in turns if each.pcpu == pcpu.number]
        assert pcpu.switches == sum(a is not b for a, b in pairwise(had)) > 0
    for entity in scheduler.entities:
        places = [each.pcpu for each in turns if each.vcpu is entity.vcpu]
        assert entity.migrations == sum(a != b for a, b in pairwise(places)) > 0
    assert scheduler.most_current == 3


def test_who_ends_leaves_the_rest_to_others() -> None:
    short, long = machine([*END]), machine(COUNTING)
    scheduler, _ = scheduled(short, long)
    scheduler.run(5 * QUANTUM)
    assert [each.end for each in scheduler.machines] == [SystemEvent(1), None]
    assert scheduler.now == 5 * QUANTUM and long.vcpus[0].instructions in (5 * QUANTUM - 1, 5 * QUANTUM)


@pytest.mark.parametrize("quantum", [1, 3, 64])
def test_a_quantum_may_be_shorter_than_a_block(quantum: int) -> None:
    straight = [*[asm("addi", rd=S2, rs1=S2, imm=1)] * 40, asm("jal", rd=0, imm=-160)]
    scheduler, _ = scheduled(machine(straight), machine(straight), quantum=quantum)
    scheduler.run(2000)
    first, second = (entity.vcpu.instructions for entity in scheduler.entities)
    assert abs(first - second) <= quantum + 41
    assert scheduler.now >= 2000 - 2 * 41, "what is executed beyond a quantum is taken from the next one"


def test_who_wakes_each_other_leave_a_third_one_its_share() -> None:
    """They wait before their quantum is over, each time: what is left of it is all that they come first with."""
    words = [*IPI, li(A1, 0), *[asm("addi", rd=S2, rs1=S2, imm=1)] * 100, ECALL, *AWAIT]
    def pinging(other: int) -> list[int]:
        again = [li(A0, 1 << other), *words]
        return [*again, asm("jal", rd=0, imm=-4 * len(again))]

    scheduler, _ = scheduled(machine(pinging(1), pinging(0), COUNTING, sie=2), quantum=120)
    scheduler.run(100 * 120)
    third = scheduler.entities[2].vcpu.instructions
    assert third >= scheduler.instructions / 4, "a third, about"


# --- what cannot be -------------------------------------------------------------------------------------------------


def test_what_is_refused() -> None:
    vm = machine(COUNTING, COUNTING, COUNTING)
    with pytest.raises(errors.NotEnoughPcpus, match=r"^direct binding: 3 vCPU > 2 pCPU$"):
        scheduled(vm, pcpus=2, place=bind)
    for pcpus, quantum in ((0, 1), (1, 0)):
        with pytest.raises(errors.BadValue, match="at least one physical CPU"):
            scheduled(vm, pcpus=pcpus, quantum=quantum)
    with pytest.raises(errors.VcpuBusy, match="scheduled twice"):
        scheduled(vm, vm, pcpus=2)
    scheduler, _ = scheduled(vm, pcpus=2)
    first, second = scheduler.pcpus
    first.load(scheduler.entities[0])
    for pcpu in (first, second):
        with pytest.raises(errors.VcpuBusy, match="vCPU 0 runs on pCPU 0"):
            pcpu.load(scheduler.entities[0])
    first.put(scheduler.entities[0])
    second.load(scheduler.entities[0])
    assert first.current is None and second.current is scheduler.entities[0], "a block is at one place"


def test_bound_ones_stay() -> None:
    scheduler, turns = scheduled(machine(COUNTING), machine(timed(100, 3)), pcpus=3, place=bind)
    scheduler.run(9 * QUANTUM)
    assert scheduler.switches == 0 and not any(entity.migrations for entity in scheduler.entities)
    assert {(each.vcpu.vm, each.pcpu) for each in turns} == {
        (machine.vm, number) for number, machine in enumerate(scheduler.machines)
    }


# --- waiting --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [name for name, how in METHODS.items() if how.native])
def test_who_waits_leaves_all_of_the_time_to_the_other(method: str) -> None:
    """Its timer wakes it: a quantum late at most, and in its own time not at all."""
    ticks, rounds = 103, 3
    alone = machine(timed(ticks, rounds), method=method, sie=32)
    assert alone.vcpus[0].run() == SystemEvent(1)
    waiting, working = machine(timed(ticks, rounds), method=method, sie=32), machine(COUNTING, method=method)
    scheduler, turns = scheduled(waiting, working)
    while scheduler.machines[0].end is None:
        scheduler.run(scheduler.instructions + 1)
    sleeper, worker = scheduler.entities
    assert scheduler.machines[0].end == SystemEvent(1)
    assert scheduler.now >= rounds * ticks * TICK
    assert sleeper.vcpu.instructions < 60 and worker.vcpu.instructions > 0.99 * scheduler.now - QUANTUM
    assert 0 < sleeper.latency <= QUANTUM
    assert sleeper.vcpu.get("time") == alone.vcpus[0].get("time"), "what others have is no time of its own"
    assert sum(each.vcpu is sleeper.vcpu for each in turns) == rounds + 1
    assert sleeper.vcpu.stats.to_user == 1, "waiting, and the end of a quantum, are no exits to the user"


def test_an_interrupt_of_another_cpu_wakes_within_a_quantum() -> None:
    waker = [li(S2, 700), asm("addi", rd=S2, rs1=S2, imm=-1), asm("bne", rs1=S2, rs2=0, imm=-4), li(A0, 1), li(A1, 0),
             *IPI, ECALL, *COUNTING]  # fmt: skip
    scheduler, turns = scheduled(machine([*AWAIT, *END], waker, COUNTING, COUNTING, sie=2), pcpus=1)
    scheduler.run(50 * QUANTUM)
    assert scheduler.machines[0].end == SystemEvent(1)
    first, woken = (each for each in turns if each.vcpu.id == 0)
    sent = [each for each in turns if each.vcpu.id == 1][1]  # it counts down for 1,400 instructions
    assert woken.start == sent.end and scheduler.entities[0].latency == QUANTUM, "before the others, which are ready"


def test_all_that_wait_for_nothing_are_a_deadlock_and_others_go_on() -> None:
    stuck, working = machine([WFI, SPIN], [WFI, SPIN]), machine(timed(100, 2), sie=32)
    scheduler, _ = scheduled(stuck, working, pcpus=2)
    scheduler.run()
    first, second = (each.end for each in scheduler.machines)
    assert isinstance(first, errors.Deadlock) and str(first) == "deadlock: all vCPUs waiting"
    assert second == SystemEvent(1)
    stopped = machine(COUNTING)
    stopped.vcpus[0].mp_state = abi.KVM_MP_STATE_STOPPED
    scheduler, turns = scheduled(stopped)
    scheduler.run()
    assert isinstance(scheduler.machines[0].end, errors.Deadlock) and not turns


def test_machines_that_are_closed_have_ended() -> None:
    """One that waits, and one that does not."""
    vms = [machine(timed(50, 9), sie=32), machine(COUNTING), machine(COUNTING)]
    scheduler, _ = scheduled(*vms)
    scheduler.run(3 * QUANTUM)
    for vm in vms[:2]:
        vm.close()
    scheduler.run(12 * QUANTUM)
    assert [type(each.end) for each in scheduler.machines] == [errors.Closed, errors.Closed, type(None)]
    assert vms[2].vcpus[0].instructions > 9 * QUANTUM


def test_time_goes_to_what_is_due_first() -> None:
    vms = [machine(timed(ticks, 3), sie=32) for ticks in (1000, 700)]
    scheduler, turns = scheduled(*vms, pcpus=2)
    scheduler.run()
    assert [each.end for each in scheduler.machines] == [SystemEvent(1)] * 2
    starts = [each.start for each in turns if each.vcpu.vm is vms[1]]
    assert starts == [0, 700 * TICK, 1400 * TICK, 2100 * TICK]
    assert len(turns) == 8, "nobody executes anything in between"


# --- what no guest can see ------------------------------------------------------------------------------------------


def run_harts(vcpus: int, pcpus: int, quantum: int, place: Placement) -> tuple[str, str, Scheduler, list[Turn]]:
    with Kvm("bt", options=Options(patience=0)).create_vm() as vm:
        vm.set_user_memory_region(0, RAM, 8 << 20)
        first, *_ = [vm.create_vcpu() for _ in range(vcpus)]
        first.set(pc=vm.load(virtual_file("harts")))
        printed, turns = bytearray(), list[Turn]()
        scheduler = Scheduler([vm], lambda vcpu, exit: console.answers(vcpu, exit, printed.extend), pcpus, quantum,
                              place, turns.append)  # fmt: skip
        scheduler.run(20_000_000)
        return printed.decode(), hashlib.sha256(vm.read(RAM, 8 << 20)).hexdigest(), scheduler, turns


def test_random_numbers_of_cpus_and_quanta() -> None:
    """Each comes to its end, whatever the schedule, and a schedule is the same wherever virtual CPUs are."""
    rng = Random(5)
    for seed in range(4):
        vcpus, pcpus, quantum = rng.randint(1, 8), rng.randint(1, 4), rng.choice([500, 3000, 20_000])
        usual, moved = (run_harts(vcpus, pcpus, quantum, place) for place in (stay, migrate(seed)))
        assert usual[0].endswith(f"harts: {vcpus}, counted to {2000 * vcpus}\n"), (vcpus, pcpus, quantum)
        assert usual[:2] == moved[:2]
        for _, _, scheduler, turns in (usual, moved):
            assert not twice(turns, lambda each: each.vcpu) and not twice(turns, lambda each: each.pcpu)
            assert scheduler.most_current <= pcpus


@pytest.mark.parametrize("quantum", [700, 5000])
def test_a_guest_runs_as_it_does_alone(quantum: int) -> None:
    names = ["tasks", "harts", "tasks"]

    def made(name: str) -> Vm:
        vm = Kvm("bt", options=Options(patience=0)).create_vm()
        vm.set_user_memory_region(0, RAM, 4 << 20)
        vm.create_vcpu().set(pc=vm.load(virtual_file(name)))
        return vm

    def digest(vm: Vm) -> tuple[int, int, str]:
        (vcpu,) = vm.vcpus
        return vcpu.instructions, vcpu.get("time"), hashlib.sha256(vm.read(RAM, 4 << 20)).hexdigest()

    def answer(vcpu: Vcpu, exit: Exit) -> bool:
        return console.answers(vcpu, exit, printed[vcpu.vm].extend)

    together = [made(name) for name in names]
    printed = {vm: bytearray() for vm in together}
    scheduler = Scheduler(together, answer, 2, quantum)
    scheduler.run(10_000_000)
    for name, vm in zip(names, together):
        assert printed[vm].decode() == VIRTUALS[name].output
        alone = made(name)
        printed[alone] = bytearray()
        while answer(alone.vcpus[0], exit := alone.vcpus[0].run()):
            pass
        assert exit == SystemEvent(1) and digest(alone) == digest(vm), name


# --- fleets ---------------------------------------------------------------------------------------------------------


def fleet(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = main(["fleet", *words])
    out, err = capsys.readouterr()
    return status, out, err


def test_a_fleet_finds_what_an_earlier_one_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stencils take seconds to make, and are made once."""
    monkeypatch.setenv("DRAGOMAN_CACHE_DIR", str(tmp_path))
    tmp_path.chmod(0o700)
    assert fleet(capsys, "--no-disk-cache", "@tasks")[0] == 0 and not any(tmp_path.iterdir())
    assert fleet(capsys, "@tasks")[0] == 0 and any(tmp_path.iterdir())


def test_a_fleet(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = fleet(capsys, "-smp", "4", "--pcpus=2", "--quantum=10000", "--method=interp", "@harts", "@harts")
    assert status == 0 and not err
    for name in ("harts  ", "harts-2"):
        lines = [f"{name} | hart {i}\n" for i in range(4)] + [f"{name} | harts: 4, counted to 8000\n"]
        assert all(line in out for line in lines)
    assert "context switches: " in out and "blocks of vCPUs: 8, loaded at once at most: 2" in out


def test_turns_are_shown_on_a_track_for_each_physical_cpu(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "turns.json"
    status, out, _ = fleet(capsys, "--pcpus=2", "--quantum=20000", "--json", f"--turns={file}", "@tasks", "@harts",
                           "@skernel")  # fmt: skip
    events, result = json.loads(file.read_text())["traceEvents"], json.loads(out)
    tracks = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    spans = [event for event in events if event["ph"] == "X"]
    assert status == 0 and set(tracks.values()) == {"pCPU 0", "pCPU 1"}
    assert {event["name"] for event in spans} == {f"{name} vCPU 0" for name in ("tasks", "harts", "skernel")}
    for number, pcpu in enumerate(result["pcpus"]):
        found = [event["dur"] for event in spans if tracks[event["tid"]] == f"pCPU {number}"]
        assert round(1000 * sum(found)) == pcpu["busy"]
    assert fleet(capsys, f"--turns={tmp_path}", "@skernel")[0] == 2


@pytest.mark.parametrize("method", ["bt", "interp", "hw", "te"])
def test_machines_have_a_uart_if_it_is_wanted(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, method: str
) -> None:
    """Each waits for its interrupt, sends back what has arrived, and ends with the line; without an end, it waits."""
    guest, line = tmp_path / "echo", tmp_path / "line"
    wait = [WFI, asm("lbu", rd=A0, rs1=A1, imm=0), asm("sb", rs1=A1, rs2=A0, imm=0),
            asm("bne", rs1=A0, rs2=S2, imm=-12)]  # fmt: skip
    guest.write_bytes(words_to_bytes([
        asm("lui", rd=A1, imm=0x1000_0000), asm("addi", rd=T0, rs1=0, imm=1), asm("sb", rs1=A1, rs2=T0, imm=1),
        asm("addi", rd=T0, rs1=0, imm=1 << 9), asm("csrrw", rd=0, rs1=T0, csr=SIE), asm("addi", rd=S2, rs1=0, imm=10),
        *wait, *END,
    ]))  # fmt: skip
    words = [f"--method={method}", f"--uart={line}", "--json", str(guest), str(guest), "@skernel"]
    for text, status, why in ((b"two words\n", 0, ""), (b"no end", 125, "deadlock: all vCPUs waiting")):
        line.write_bytes(text)
        found = fleet(capsys, *words)
        rows = {row["name"]: row for row in json.loads(found[1])["machines"]}
        assert [(rows[name]["console"], rows[name]["why"]) for name in ("echo", "echo-2")] == [(text.decode(), why)] * 2
        assert found[0] == status and rows["skernel"]["status"] == 0
    for file, why in ((tmp_path / "nothing", "no such file"), (tmp_path, "is a directory")):
        status, _, err = fleet(capsys, f"--uart={file}", "@skernel")
        assert status == 2 and err.startswith(f"dragoman: cannot read {file}: {why}") and err.count("\n") == 1


def test_what_becomes_of_one_hurts_no_other(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    stuck = tmp_path / "stuck.elf"
    stuck.write_bytes(words_to_bytes([WFI, SPIN]))  # no ELF file: raw, at the begin of RAM
    nowhere = tmp_path / "nowhere"
    nowhere.write_bytes(words_to_bytes([asm("sb", rs1=0, rs2=0, imm=8)]))
    words = ["--pcpus=2", "--json", "@tasks", "@skernel2", str(stuck), str(nowhere), "@tasks"]
    status, out, err = fleet(capsys, *words)
    found = json.loads(out)
    rows = {row["name"]: row for row in found["machines"]}
    assert list(rows) == ["tasks", "skernel2", "stuck", "nowhere", "tasks-2"]
    assert {name: row["status"] for name, row in rows.items()} == {
        "tasks": 0, "skernel2": 126, "stuck": 125, "nowhere": 126, "tasks-2": 0,
    }  # fmt: skip
    assert rows["tasks"]["console"] == rows["tasks-2"]["console"] == VIRTUALS["tasks"].output
    assert rows["stuck"]["why"] == "deadlock: all vCPUs waiting"
    assert rows["nowhere"]["why"] == "it stores to 0x8, where it has nothing"
    assert status == found["status"] == 126, "that of the first one"
    assert err.splitlines()[1] == "dragoman: stuck has status 125: deadlock: all vCPUs waiting"


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (["--smp=4", "--pcpus=2", "--bind", "@harts"], 2, "direct binding: 4 vCPU > 2 pCPU"),
        ([], 2, "which guests?"),
        (["@tasks", "--bind"], 2, "options come before guests: --bind"),
        (["--bind", "--migrate=1", "@tasks"], 2, "--bind lets no vCPU migrate"),
        (["--quantum=0", "@tasks"], 2, "--quantum"),
        (["--smp=8", *["@harts"] * 16], 2, "128 vCPUs cannot be translated in one process: 120 at most"),
        (["--method=fast", "@tasks"], 2, "there is no method 'fast'"),
        (["--max-instructions=1000", "--quantum=500", "@harts"], 124, "status 124: it had not ended when the"),
        (["no-such-file"], 127, "no-such-file: there is no such file"),
        (["@sieve"], 127, "no bundled guest of a virtual machine @sieve"),
        (["/"], 126, "/"),
    ],
)  # fmt: skip
def test_what_a_fleet_says(words: list[str], status: int, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    found, _, err = fleet(capsys, *words)
    assert found == status and err.startswith("dragoman: ") and sentence in err and err.count("\n") == 1, err


def test_a_guest_that_prints_what_it_has_not(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The call is refused; a line without an end is shown."""
    file = tmp_path / "guest"
    call = [asm("lui", rd=A7, imm=0x4442_4000), asm("addi", rd=A7, rs1=A7, imm=0x34E), ECALL]
    letter = asm("addi", rd=A0, rs1=A0, imm=3 + ord("A"))  # -3 becomes A
    file.write_bytes(words_to_bytes([li(A0, 5), li(A1, 16), *call, letter, li(A6, 2), *call, *END]))
    status, out, _ = fleet(capsys, str(file))
    assert status == 0 and out.startswith("guest | A\n")
