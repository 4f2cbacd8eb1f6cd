"""The lecture notes' toy CPU as a guest: six instructions, one interrupt line. `isa.GUEST` is the value."""
