"""The pure core: takes values and gives values; no clock, no chance, no I/O, no logging."""
