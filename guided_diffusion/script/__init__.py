"""Flags, errors, files and interrupts: what any script needs."""
