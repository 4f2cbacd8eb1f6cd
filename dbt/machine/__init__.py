"""Machines: physical memory and devices around harts that run in all their modes. The shape is that of KVM's API."""
