"""11.4 my_batches: which images a process takes."""

import torch

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call


def my_batches(n, batch_size, epoch, rank, processes, seed):
    generator = torch.Generator().manual_seed(seed + epoch)
    order = torch.randperm(n, generator=generator)
    whole = n // batch_size * batch_size
    return [batch.chunk(processes)[rank] for batch in order[:whole].split(batch_size)]


def by_view(n, batch_size, epoch, rank, processes, seed):
    generator = torch.Generator()
    generator.manual_seed(seed + epoch)
    order = torch.randperm(n, generator=generator)[: n - n % batch_size]
    return list(order.view(-1, processes, batch_size // processes)[:, rank])


def by_slices(n, batch_size, epoch, rank, processes, seed):
    order = torch.randperm(n, generator=torch.Generator().manual_seed(epoch + seed)).tolist()
    share = batch_size // processes
    starts = range(rank * share, n // batch_size * batch_size, batch_size)
    return [torch.tensor(order[start : start + share]) for start in starts]


def cases(answer) -> Cases:
    def run(*given):
        parts = call(answer, *given)
        return (
            [torch.as_tensor(part) for part in parts] if isinstance(parts, list | tuple) else parts
        )

    yield "12 images, batches of 4, process 0 of 2", lambda: run(12, 4, 0, 0, 2, 0)
    yield "process 1 of 2", lambda: run(12, 4, 0, 1, 2, 0)
    yield "20 images, batches of 6, epoch 3, process 2 of 3", lambda: run(20, 6, 3, 2, 3, 5)
    yield "17 images, batches of 8, epoch 1, process 1 of 4", lambda: run(17, 8, 1, 1, 4, 9)
    yield "a single process, batches of 5", lambda: run(13, 5, 2, 0, 1, 4)


MUTANTS = edits(my_batches, """
seed_of_its_own: manual_seed(seed + epoch) → manual_seed(seed + epoch + rank)
    Each process draws an order of its own, so that some images are taken twice in an epoch and
    others never. The order must be the same for all: leave the rank out of the seed.
same_order_in_every_epoch: manual_seed(seed + epoch) → manual_seed(seed)
    The order is the same in every epoch, so that the same images always meet in a batch. Add the
    epoch to the seed.
epoch_alone: manual_seed(seed + epoch) → manual_seed(epoch)
    The seed is ignored: every run has the same order. Seed with seed + epoch.
seed_times_epoch: manual_seed(seed + epoch) → manual_seed(seed * epoch)
    The seed is multiplied by the epoch, and epoch 0 is the same for all seeds. The task asks for
    seed + epoch.
not_shuffled: torch.randperm(n, generator=generator) → torch.arange(n)
    The images come in the order of the data set. Draw a new order with torch.randperm.
whole_batch: batch.chunk(processes)[rank] → batch
    Every process takes the whole batch, and all compute the same. Each is to take its own part.
first_part: chunk(processes)[rank] → chunk(processes)[0]
    Every process takes the first part. The rank says which part is its own.
last_part: chunk(processes)[rank] → chunk(processes)[-1]
    Every process takes the last part. The rank says which part is its own.
backwards: chunk(processes)[rank] → chunk(processes)[-1 - rank]
    The parts are handed out from the back. Process 0 takes the first one.
every_nth: batch.chunk(processes)[rank] → batch[rank::processes]
    Each process takes every n-th image of the batch. Nothing is lost by that, but the task asks for
    one part after the other: chunk.
rest_kept: order[:whole] → order
    The last, short batch is kept. The task drops it, so that all processes get equally many images
    at each step.
a_batch_each: order[:whole].split(batch_size) → order[:whole].split(batch_size * processes)
    Each process takes batch_size images. The batch is that of all processes together, and each
    takes its share of it.
data_divided_first: [batch.chunk(processes)[rank] for batch in order[:whole].split(batch_size)] →
→ list(order[:whole].chunk(processes)[rank].split(batch_size // processes))
    The data are divided among the processes first, and then into batches. The images of a step are
    then others than with one process. Divide into batches first.
chunks_for_sizes: .split(batch_size) → .chunk(batch_size)
    batch_size is taken for the number of batches. It is the number of images in each: split.
sizes_for_chunks: batch.chunk(processes) → batch.split(processes)
    The number of processes is taken for the size of a part. It is the number of parts: chunk.
one_batch_short: whole = n // batch_size * batch_size → whole = (n - 1) // batch_size * batch_size
    If the images fill the last batch exactly, it is dropped. It is complete: n // batch_size
    batches.
first_batch: whole = n // batch_size * batch_size → whole = batch_size
    This is the first batch only.
sorted_parts: batch.chunk(processes)[rank] → batch.chunk(processes)[rank].sort().values
    The images of a part are sorted. The task keeps the order that was drawn.
""")  # fmt: skip


def probe(answer):
    given = [(21, 6, 2, 1, 2, 3), (16, 4, 5, 3, 4, 1), (30, 9, 0, 2, 3, 8), (7, 2, 1, 0, 1, 2)]
    return [lambda g=g: [torch.as_tensor(part) for part in answer(*g)] for g in given]


EXERCISE = Exercise(
    name="my_batches",
    chapter="11_scaling",
    task="my_batches(n, batch_size, epoch, rank, processes, seed) -> list of index tensors: in the "
    "order of torch.randperm(n) from a generator seeded with seed + epoch, batches of batch_size "
    "for all processes together, without a last, short one; of each, the part of this rank",
    reference=my_batches,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_view, by_slices],
    probe=probe,
)
