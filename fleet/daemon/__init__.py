"""The composition root: everything is made here, handed to each other, started and stopped in order."""
