"""Recorded experiments: for each, a script that trains and the JSON log that it writes.

    train_NAME.py -> in_parallel.py, log.py -> NAME.json -> record.py -> figures and chapters

diverging.py trains where a run may break off. What a published model sees in photos is recorded
without training: record_photos.py -> photos.npz -> photos.py.

`make record RUN=NAME` repeats one.
"""
