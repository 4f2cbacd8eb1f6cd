"""What depends on the host, as data: one module a host."""
