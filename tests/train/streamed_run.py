"""A run on a stream that test_streaming.py starts, alone or as two processes, and kills.

python streamed_run.py PLACE CHECKPOINT STEP [SIGNAL]

At STEP (0 for never), the last process is killed; or all of its group get SIGNAL, workers included.
"""

import faulthandler
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from train.tiny import DROPS, RANDOM, tiny_model

from vitlib import fit, load_data
from vitlib.data import shards

if __name__ == "__main__":
    faulthandler.dump_traceback_later(400, exit=True)  # nothing stays behind, whatever happens
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored if tests run in background
    shards._BUFFER = 12 * 530
    place, checkpoint, step, *signals = sys.argv[1:]
    images = load_data(place, stream=True)
    batches, count = type(images.train).batches, int(step)
    last = int(os.environ.get("RANK", 0)) == int(os.environ.get("WORLD_SIZE", 1)) - 1

    def dying(self, parts):
        """Reads as it always does, but only so far."""
        global count
        for batch in batches(self, parts):
            if len(self) > 20:  # the training images
                count -= 1
                if count == 0 and signals:
                    os.killpg(0, int(signals[0]))
                elif count == 0 and last:
                    os.kill(os.getpid(), signal.SIGKILL)
            yield batch

    type(images.train).batches = dying
    model = tiny_model(int(os.environ.get("RANK", 0)), img_size=12, in_chans=3, **DROPS)
    fit(model, images, replace(RANDOM, checkpoint=checkpoint))
