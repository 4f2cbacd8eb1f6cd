"""Networks of a machine, behind its network device: what is at the other end of the wire (`wire.Peer`)."""
