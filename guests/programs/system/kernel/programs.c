/* The programs that are linked into the kernel: ELF files, which the build has made before from user/. */
#include "kernel.h"

#define PROGRAM(name) static const u8 name[] __attribute__((aligned(8))) =
PROGRAM(shell) {
#embed "user/shell.elf"
};
PROGRAM(primes) {
#embed "user/primes.elf"
};
PROGRAM(spin) {
#embed "user/spin.elf"
};
PROGRAM(fault) {
#embed "user/fault.elf"
};
PROGRAM(forks) {
#embed "user/forks.elf"
};
PROGRAM(wild) {
#embed "user/wild.elf"
};

const struct program programs[] = {
    {"shell", shell, sizeof shell},
    {"primes", primes, sizeof primes},
    {"spin", spin, sizeof spin},
    {"fault", fault, sizeof fault},
    {"forks", forks, sizeof forks},
    {"wild", wild, sizeof wild},
};
const u32 program_count = LENGTH(programs);
