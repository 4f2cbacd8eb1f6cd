"""x86-64: assembly templates, the SSE control register, signal context. Tested on Linux.

Owns: facts of the host (Intel SDM 1, 10.2.3 for MXCSR; the System V ABI's ucontext). Must not know: guests.
"""

from __future__ import annotations

from ir.llvm import Host

# One line of the fault table: (access, landing), displacements from the entry's fields; %d is the landing's operand.
_ENTRY = r"\0A.pushsection .ext,\22\22\0A.long 1b-., ${%d:l}-.\0A.popsection"
# From a stencil, which has the address in rax, what it is for in rcx and the CPU state in r13 (where the calling
# convention has its second argument), to a function of C's convention that keeps all registers but r11.
_NATIVE_ENTRY = """\
 .globl {name}
 .type {name}, @function
{name}:
 pushq %rdi
 pushq %rsi
 pushq %rdx
 pushq %rcx
 movq %r13, %rdi
 movq %rax, %rsi
 movl %ecx, %edx
 andl $15, %edx
 shrl $4, %ecx
 call {function}
 popq %rcx
 popq %rdx
 popq %rsi
 popq %rdi
 ret
 .size {name}, .-{name}"""

X86_64 = Host(
    name="x86-64",
    triple="x86_64-unknown-linux-gnu",
    pinned=6,  # of 11 integer arguments in registers four are the engine's; one more would take rax, which exits need
    loads={
        (1, False): "1: movzbl $1, ${0:k}",
        (1, True): "1: movsbq $1, $0",
        (2, False): "1: movzwl $1, ${0:k}",
        (2, True): "1: movswq $1, $0",
        (4, False): "1: movl $1, ${0:k}",
        (4, True): "1: movslq $1, $0",
        (8, False): "1: movq $1, $0",
    },
    stores={1: "1: movb ${1:b}, $0", 2: "1: movw ${1:w}, $0", 4: "1: movl ${1:k}, $0", 8: "1: movq $1, $0"},
    exchanges={4: "1: lock cmpxchgl ${3:k}, $1", 8: "1: lock cmpxchgq $3, $1"},
    float_loads={32: "1: movss $1, $0", 64: "1: movsd $1, $0"},
    float_stores={32: "1: movss $1, $0", 64: "1: movsd $1, $0"},
    load_constraint="=r,*m,!i",
    store_constraint="=*m,r,!i",
    exchange_constraint="={rax},=*m,0,r%s,~{flags}",
    float_load_constraint="=x,*m,!i",
    float_store_constraint="=*m,x,!i",
    fault_entry=_ENTRY,
    read_control="llvm.x86.sse.stmxcsr",
    write_control="llvm.x86.sse.ldmxcsr",
    control=0x1F80,  # all exceptions masked, round to nearest, no flags, no flush-to-zero
    flag_bits=(5, 4, 3, 2, 0),  # inexact, underflow, overflow, divide by zero, invalid; denormal (1) is left out
    rounding_codes=(0, 3, 1, 2),  # nearest, towards zero, down, up
    rounding_shift=13,
    to_int={32: "cvtss2si $1, $0", 64: "cvtsd2si $1, $0"},
    to_int_constraint="=r,x",
    native_call="call %s",
    native_at="call *$4",
    native_constraint="={rax},0,{rcx},{r13}%s,~{r11},~{memory},~{dirflag},~{fpsr},~{flags}",
    native_entry=_NATIVE_ENTRY,
    fused=True,
    carryless="llvm.x86.pclmulqdq",
)

FEATURE_FUSED = "fma"  # the CPU feature without which fused multiply-add is not a host instruction
FEATURE_CARRYLESS = "pclmul"  # the CPU feature without which there is no carry-less product
UCONTEXT_PC = 168  # byte offset of the program counter in ucontext_t
SI_CODE = 8  # byte offset of si_code in siginfo_t: above 0 for a fault, not so for a signal that was sent
SIGACTION = (0, 8, 136, 152)  # byte offsets in libc's struct sigaction: handler, mask, flags; its size
MAP_LOW = 0x40  # MAP_32BIT: the mapping lies below 2 GiB, where 32 bits of a relocation reach
ADDRESS = "movl $$%s, ${0:k}"  # assembly: the address of a symbol there, as a relocation of 32 bits
