"""RISC-V: RV64 user level. One extension a file; `isa.guest(string)` assembles the guest."""
