"""One file a revision, `NNNN_what_it_does.py`; the number is the revision."""
