"""What runs on a host: joined into one text (`program`) and sent to its `python3`, which may be as old as 3.9.

Standard library only. The host's own disk is the truth: a folder `instance` is there or it is not, made by one rename
under one lock, so that a lost reply, a killed daemon or a cut session leaves one instance or none. Its keeper owns
everything the user-data starts, ends it when asked or when the script ends, and then removes the folder: the machine
is released. Nothing here switches it off.

    ROOT/lock              held while anything below changes
    ROOT/instance/         record.json user-data inventory.json program.py console.log life.lock started.json doom.json
    ROOT/ended/TOKEN.json  how an instance ended; TOKEN.log, the end of what its script said
"""
