"""`share`: virtual CPUs take turns on one physical CPU, and who waits has none.

Wanted: share(vcpus, quantum, ended), which has them execute until the machine ends, and returns True then; False if
all wait, since nothing can wake them. `vcpu.turn(most)` executes so many instructions, fewer if it waits, and returns
None or an exit; `ended(vcpu, exit)` answers an exit, and returns whether it was the machine's end; `vcpu.waits` says
whether it waits. Those that can go on have their turns round robin, of a quantum each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from dbt.kvm import Exit, Kvm, Vcpu, abi
from dbt.lab.exercises.machines import METHODS, RAM, words_of
from dbt.lab.exercises.reading import Wrong, function, require
from dbt.lab.simple_monitor import OPTIONS, SIZE
from dbt.lab.workbench import code_bytes

IPI = 0x735049  # "sPI", SBI's extension for interrupts between harts
MOST_LOOKS = 100_000
SLEEPER = words_of("""
            wfi
            li a7, 8            # shut down
            ecall
""")
WORKER = f"""
    work:   addi s2, s2, -1
            bnez s2, work
            beqz s3, rest
            li a0, 1            # hart 0
            li a1, 0
            li a6, 0
            li a7, {IPI}
            ecall
    rest:   wfi
            j rest
"""


class Watched:
    """A virtual CPU, of which it is seen who gives it turns."""

    def __init__(self, vcpu: Vcpu, floor: Floor) -> None:
        self.id = vcpu.id
        self._vcpu, self._floor = vcpu, floor

    @property
    def waits(self) -> bool:
        """Whether it waits for an interrupt."""
        self._floor.looked()
        return self._vcpu.waits

    def turn(self, most: int) -> Exit | None:
        """Execute so many instructions at most."""
        self._floor.turn(self._vcpu, most)
        return self._vcpu.turn(most)


class Floor:
    """The physical CPU: whose turn it is, and whether it should be."""

    def __init__(self, vcpus: Sequence[Vcpu], quantum: int, who: str) -> None:
        self.vm, self.vcpus, self.quantum, self.who = vcpus[0].vm, vcpus, quantum, who
        self.turns = 0
        self.over = False
        self._looks = 0
        self._since: dict[Vcpu, set[Vcpu]] = {vcpu: set() for vcpu in vcpus}  # who can go on since one's last turn

    def looked(self) -> None:
        self.vm.look()
        self._looks += 1
        require(self._looks < MOST_LOOKS, f"{self.who}: it has looked {MOST_LOOKS:,} times who waits, and given "
                f"{self.turns} turns; {self._waiting()} of {len(self.vcpus)} wait")  # fmt: skip

    def turn(self, vcpu: Vcpu, most: int) -> None:
        """Raises Wrong if it is not this one's."""
        self.vm.look()
        self.turns += 1
        one = f"{self.who}: vCPU {vcpu.id}"
        require(not self.over, f"{one} is given a turn, and the machine has ended")
        require(0 < most <= self.quantum, f"{one} is given {most:,} instructions, and a quantum is {self.quantum:,}")
        require(not vcpu.waits, f"{one} waits for an interrupt, and is given turn {self.turns}")
        passed = min((each.id for each in self._since[vcpu] if not each.waits), default=None)
        require(passed is None, f"{one} is given a second turn, and vCPU {passed}, which can go on, has had none since "
                "its first")  # fmt: skip
        for others in self._since.values():
            others.discard(vcpu)
        self._since[vcpu] = {each for each in self.vcpus if each is not vcpu and not each.waits}

    def ended(self, vcpu: Watched, exit: Exit) -> bool:
        """The end of the machine is its only exit."""
        self.over = True
        return True

    def _waiting(self) -> int:
        return sum(each.waits for each in self.vcpus)


def machine(method: str, work: Sequence[int], wakes: int | None) -> list[Vcpu]:
    """A sleeper, and workers of so many turns of a loop; the one of this number wakes the sleeper at its end."""
    vm = Kvm(method, options=OPTIONS).create_vm()
    vm.set_user_memory_region(0, RAM, SIZE)
    made = []
    for i in range(len(work) + 1):
        at = RAM + 0x1000 * i
        vm.write(at, code_bytes(words_of(WORKER, at) if i else SLEEPER))
        vcpu = vm.create_vcpu()
        vcpu.mp_state = abi.KVM_MP_STATE_RUNNABLE
        vcpu.set(pc=at, sie=2, **({"s2": work[i - 1], "s3": int(wakes == i)} if i else {}))
        made.append(vcpu)
    return made


def followed(share: Callable[..., object], vcpus: Sequence[Vcpu], quantum: int, who: str) -> tuple[object, Floor]:
    """What a reader's function says of a machine."""
    floor = Floor(vcpus, quantum, who)
    return share([Watched(vcpu, floor) for vcpu in vcpus], quantum, floor.ended), floor


def check(file: str) -> str:
    share, rng, turns = function(file, "share"), Random(), 0
    for method in METHODS:
        work = [rng.randint(2000, 6000) for _ in range(3)]
        wakes, quantum = rng.randint(1, 3), rng.randint(300, 900)
        vcpus = machine(method, work, wakes)
        with vcpus[0].vm:
            said, floor = followed(share, vcpus, quantum, method)
            require(floor.over and said is True, f"{method}: it returns {said!r}, and the machine has "
                    f"{'' if floor.over else 'not '}ended")  # fmt: skip
            least = 2 * work[wakes - 1] // quantum
            require(floor.turns > least, f"{method}: {floor.turns} turns are fewer than one guest needs")
        turns += floor.turns
        vcpus = machine(method, work[:2], None)
        with vcpus[0].vm:
            said, floor = followed(share, vcpus, quantum, f"{method}, where all wait in the end")
            left = [vcpu.get("s2") for vcpu in vcpus[1:]]
            if left != [0, 0]:
                raise Wrong(f"{method}: it returns {said!r}, and vCPU {1 + (left[0] == 0)} could go on")
            require(said is False, f"{method}: all wait, and it returns {said!r}")
        turns += floor.turns
    return f"{turns} turns under the methods {', '.join(METHODS)}, none of them to who waits, and who waited was woken"
