"""Recorded experiments: for each, a script that trains and the JSON log that it writes.

    train_NAME.py -> in_parallel.py, log.py -> NAME.json -> record.py -> figures and chapters

diverging.py trains where a run may break off.

`make record RUN=NAME` repeats one.
"""
