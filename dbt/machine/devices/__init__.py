"""Devices: one a file, each on the contract of `dbt.machine.memory.Device`."""
