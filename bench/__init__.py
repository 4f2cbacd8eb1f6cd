"""Measurements of speed. Every number is a ratio to a peer that ran in the same minutes on the same machine."""
