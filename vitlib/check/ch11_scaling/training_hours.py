"""11.6 training_hours: how long a run takes on a machine that is not there yet."""

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, one_number


def training_hours(images, epochs, multiply_adds, processors, peak, utilisation):
    flops = 2 * 3 * multiply_adds * images * epochs
    seconds = flops / (processors * peak * utilisation)
    return seconds / 3600


def by_speed(images, epochs, multiply_adds, processors, peak, utilisation):
    images_per_second = processors * peak * utilisation / (6 * multiply_adds)
    return epochs * images / images_per_second / 60 / 60


def by_passes(images, epochs, multiply_adds, processors, peak, utilisation):
    forward = 2 * multiply_adds
    backward = 2 * forward
    per_hour = 3600 * peak * utilisation * processors
    return images * epochs * (forward + backward) / per_hour


def cases(answer) -> Cases:
    def run(*given):
        return one_number(call(answer, *given))

    yield "one image, one second", lambda: run(1, 1, 1e9, 1, 6e9, 1.0)
    yield "ImageNet on 8 GPUs", lambda: run(1_281_167, 300, 4.6e9, 8, 312e12, 0.25)
    yield "5,000 images, 40 epochs, one core", lambda: run(5_000, 40, 3.5e6, 1, 1e11, 0.7)
    yield "3 processors at 0.4", lambda: run(70_000, 11, 2e8, 3, 5e12, 0.4)


MUTANTS = edits(training_hours, """
forward_only: 2 * 3 * multiply_adds → 2 * multiply_adds
    This is the forward pass alone. The backward pass takes twice as much again: three times the
    forward pass in all.
backward_only: 2 * 3 * multiply_adds → 2 * 2 * multiply_adds
    This is the backward pass alone, which is twice the forward pass. Together they are three times.
backward_as_forward: 2 * 3 * multiply_adds → 2 * 4 * multiply_adds
    You count four forward passes. Without checkpointing there are three: one, and two for backward.
multiply_adds_as_flops: 2 * 3 * multiply_adds → 3 * multiply_adds
    Multiply-adds are taken for FLOPs. The peak counts both the multiplication and the addition, so
    each multiply-add is two.
neither: 2 * 3 * multiply_adds → multiply_adds
    Two factors are missing: two FLOPs for each multiply-add, and three times the forward pass for a
    training step.
one_epoch:  * epochs →
    This is one epoch. Each image is seen once in every epoch.
one_image: multiply_adds * images → multiply_adds
    This is one image per epoch. An epoch has all the images.
one_processor: (processors * peak * → (peak *
    This is the time of one processor. All of them work at the same time, each on its share.
processors_multiplied: flops / (processors * peak * utilisation) →
→ flops * processors / (peak * utilisation)
    More processors make it slower here. They divide the time.
at_peak: peak * utilisation → peak
    This is the time at full speed, which no training reaches. The speed is the peak times the
    utilisation.
utilisation_multiplied: flops / (processors * peak * utilisation) →
→ flops * utilisation / (processors * peak)
    A lower utilisation makes it faster here. The speed is the peak times the utilisation, and the
    time is the FLOPs divided by that.
what_is_lost: peak * utilisation → peak * (1 - utilisation + 1e-9)
    The speed is taken to be the share of the peak that is lost. It is the share that is reached:
    peak times utilisation.
seconds: seconds / 3600 → seconds
    These are seconds. An hour has 3,600 of them.
minutes: seconds / 3600 → seconds / 60
    These are minutes. An hour has 60 of them.
days: seconds / 3600 → seconds / 86400
    These are days. The task asks for hours.
hours_multiplied: seconds / 3600 → seconds * 3600
    Seconds become hours by division: an hour has 3,600 of them.
whole_hours: seconds / 3600 → seconds // 3600
    The part of an hour that is left over is cut off. Use /, not //.
rounded: seconds / 3600 → round(seconds / 3600, 1)
    The result is rounded. Return it as it is; whoever prints it may round.
""")  # fmt: skip


def probe(answer):
    given = [
        (900, 7, 3e6, 2, 4e9, 0.3),
        (12_000, 90, 5e8, 5, 7e12, 0.15),
        (10, 2, 1e10, 4, 2e9, 1.0),
    ]
    return [lambda g=g: float(answer(*g)) for g in given]


EXERCISE = Exercise(
    name="training_hours",
    chapter="11_scaling",
    task="training_hours(images, epochs, multiply_adds, processors, peak, utilisation) -> hours; "
    "multiply_adds of one image's forward pass, peak in FLOPs per second of one processor",
    reference=training_hours,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_speed, by_passes],
    probe=probe,
)
