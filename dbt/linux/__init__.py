"""Linux user mode: what a guest program sees of the kernel, one file a family of calls.

Owns: descriptors, paths, program start, the carrying out of system calls on the host. Must not know: any
architecture (numbers, structures and registers come in as an `abi.Abi`) or how the CPU is run.
"""
