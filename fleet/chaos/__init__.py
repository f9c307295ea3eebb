"""The fleet under weather: the real tick, queue, store and API in virtual time, against clouds that fail.

One seed is one run, byte for byte. `python -m hostler.fleet.chaos --seed 7` runs it again and tells the story
around whatever went wrong. Nothing here is used by the daemon.
"""
