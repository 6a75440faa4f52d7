"""`fit`, and the parts it is made of.

One step of `fit`, in this order:

    batch -> augment -> normalise -> mixup or cutmix -> model -> loss -> backward
    -> clip gradients -> AdamW -> learning rate -> moving average of the weights

The batch may be divided among the processes that torchrun started (distributed.py), and again into
`accumulate` parts: each part goes through the first line, and the gradients are the parts' mean.

Random numbers come from torch's global CPU generator, which is seeded with `config.seed` before the
first step. They are drawn in this order and nowhere else: at the start of each epoch one
`torch.randperm(n)` (for a stream of tables, what `shuffled` of data/shards.py draws); then in each
step those of the augmentation, of mixup or cutmix, and of the model (dropout, stochastic depth; on
a GPU these come from the GPU's generator). A loop that keeps this order gets the same losses. Of
several processes, each has a seed of its own that follows from `config.seed`, and all take the
order of images of the first.
"""

import math
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, cast

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from vitlib.attention import unfused
from vitlib.checkpoints import unwrapped
from vitlib.data import ImageData, ImageSet, LabelledImages, augment, cutmix, mixup
from vitlib.data.sets import Batches
from vitlib.train.distillation import DistillationLoss, PartlyLabelled, labelled_share
from vitlib.train.distributed import join_processes
from vitlib.train.evaluation import evaluate
from vitlib.train.frozen import HeadInputs, Heads, is_backbone_constant
from vitlib.train.history import History, TrainConfig, TrainState
from vitlib.train.interrupts import defer_interrupts, stop_for
from vitlib.train.profile import Profile
from vitlib.train.requirements import check_fit_arguments, check_partly_labelled
from vitlib.train.resume import ResumableRun


def fit(
    model: nn.Module,
    data: ImageData,
    config: TrainConfig = TrainConfig(),  # noqa: B008 - frozen
    *,
    callbacks: Sequence[Callable[[TrainState], object]] = (),
    distillation: DistillationLoss | None = None,
    profile: Profile | None = None,
) -> History:
    """Train `model` on `data.train` for `config.steps` steps and return the record of it.

    The model is moved to the device and stays there. If `fit` raises an error before the first
    step, nothing else about the model has changed. However the run ends after that, the model then
    holds the moving average of its weights up to the last complete step (without `ema_decay`, the
    weights themselves) and is in eval mode; its `mean`, `std` and `classes` are those of the data.
    The global random state is restored. With a model from `torch.compile`, the steps run compiled;
    everything else works on the model inside.

    With `val_fraction`, that share of the training images is held out (`data.split` with the seed),
    and the averaged weights are evaluated on it every `eval_every` steps and at the end. The test
    images are never used.

    A stream (`load_data` with `stream`) is read from where the run is; fit needs no more of it in
    memory than the next few batches. A batch with pictures that can't be read is smaller by these.

    Frozen parameters are not trained. If all but the heads are frozen and nothing changes what
    these get from one step to the next (augmentation, mixup, cutmix, dropout, drop path), the
    backbone of a VisionTransformer is computed once per image in memory, and not at every step
    (frozen.py); for a stream, it is computed at every step, and a warning says so.

    With `checkpoint`, the run is saved there every `checkpoint_every` steps, at the end, and when
    it is interrupted by Ctrl-C or SIGTERM (after the current step; a second Ctrl-C stops at once).
    The file is a checkpoint of the averaged weights, for `load_checkpoint`; and with `resume`, the
    same call continues the run, on the same training images only, and in a stream at the exact one.
    A resumed run equals an uninterrupted one bit for bit, on the same machine and with the same
    number of threads and of processes. A finished run returns its history at once.

    Started by torchrun, all processes train together: each takes its share of every batch, and all
    end with the same weights and the same history. The first one alone evaluates, saves, calls back
    and shows the progress bar. BatchNorm counts only the images of its own process and part.

    A distilled model that is trained without `distillation` learns the labels with the mean of its
    two heads.

    Args:
        callbacks: functions, each called with a `TrainState` after every step. They cannot disturb
            the run's random numbers. An exception in one of them stops the run.
        distillation: the loss for a model built with `distilled=True`.
        profile: is filled with the time of each stage of the steps.

    Raises ValueError before the first step for data that do not fit the model, for weights that
    are not float32, for an augmentation that does not know the number of channels, for a batch
    larger than the training set or not divisible among processes and parts, and for a checkpoint of
    another run; FloatingPointError as soon as the loss or the gradients are not finite, before they
    reach the weights; ProcessLost, a RuntimeError, when another process of the run has ended; after
    SIGTERM SystemExit.
    """
    if callable(callbacks):
        raise ValueError("callbacks is a list of functions: callbacks=[f] for a single one")
    processes = join_processes(config.device)  # those that torchrun started, or this one alone
    processes.check_batch(config.batch_size, config.accumulate)
    compiled, model = model, unwrapped(model)
    device = pick_device(config.device)
    train, val = data.train, None
    if isinstance(data.train, PartlyLabelled):
        check_partly_labelled(config, distillation)
    if config.val_fraction:
        train, val = data.split(config.val_fraction, seed=config.seed)
    check_fit_arguments(model, train, config, distillation)
    stage: Callable[[str], None] = _pass_over
    if profile is not None:
        profile.begin(model, train, device, config, processes.is_first)
        stage = profile.enter
    batches = len(train) // config.batch_size  # in an epoch
    classes = getattr(model, "num_classes", len(data.classes))

    _, channels, *size = train.shape
    augmentation = augment(config.augment, tuple(size), channels).to(device)
    model.to(device)
    if distillation is not None:
        distillation.teacher.to(device)
    bf16 = _use_bf16(config.amp, device)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=bf16)
    examples: LabelledImages | HeadInputs = train
    held_out: LabelledImages | HeadInputs | None = val
    constant = distillation is None and is_backbone_constant(model, config)
    if constant and not isinstance(train, ImageSet):
        constant = False
        warnings.warn(
            "the frozen backbone is computed at every step: what it makes of each image is kept "
            "for images in memory only",
            stacklevel=2,
        )
    if constant:
        keep = partial(
            HeadInputs, model, autocast=autocast, progress=config.progress and processes.is_first
        )
        examples, held_out = keep(train), None if val is None else keep(val)
        compiled = Heads(model)
        if profile is not None:
            profile.tokens_per_image = 0  # none is computed at a step
    elif config.compile and compiled is model:
        compiled = cast(nn.Module, torch.compile(model))
    # A share without labels does not use the class head.
    parallel = processes.wrap(compiled, some_unused=isinstance(train, PartlyLabelled))

    optimizer = torch.optim.AdamW(
        param_groups(model, config.weight_decay), lr=config.lr, betas=config.betas, fused=True
    )
    ema = None
    if config.ema_decay is not None:
        ema = AveragedModel(model, multi_avg_fn=ema_update(config.ema_decay)).eval()
    averaged = model if ema is None else ema.module

    gpus = [device] if device.type == "cuda" else []
    attention = _fastest_attention(model, device, bf16)
    held = defer_interrupts(alone=processes.count == 1)
    connected = processes.watch(config.checkpoint)
    with torch.random.fork_rng(gpus), attention, connected, held as interrupted:
        torch.manual_seed(processes.seed(config.seed))
        run = ResumableRun(  # continues from its checkpoint, if there is one
            model, ema=ema, optimizer=optimizer, data=data, config=config,
            distillation=distillation, processes=processes,
        )  # fmt: skip
        history = run.history
        schedule = partial(
            warmup_cosine, steps=config.steps, warmup_steps=config.warmup_steps,
            floor=config.min_lr / config.lr,
        )  # fmt: skip
        scheduler = LambdaLR(optimizer, schedule, last_epoch=run.step - 1)
        for module in (model, averaged):
            vars(module).update(mean=data.mean, std=data.std, classes=data.classes)

        bar = tqdm(
            total=config.steps, initial=run.step, unit="step", mininterval=0.5, dynamic_ncols=True,
            disable=not (config.progress and processes.is_first),
        )  # fmt: skip
        started = time.perf_counter() - history.seconds
        reading: Batches | None = None  # the parts of this epoch that are still to come
        try:
            parallel.train()
            for step in range(run.step + 1, config.steps + 1):
                # batch
                position = (step - 1) % batches  # in the epoch
                if position == 0:
                    order = examples.shuffled(config.batch_size, processes.count)
                    run.order = processes.from_first(order)
                index = run.order[position * config.batch_size :][: config.batch_size]
                if position == 0 or reading is None:
                    to_come = run.order[: batches * config.batch_size].split(config.batch_size)
                    reading = examples.batches(
                        [
                            part
                            for batch in to_come[position:]
                            for part in processes.share(batch).chunk(config.accumulate)
                        ]
                    )
                optimizer.zero_grad()
                mean_loss = torch.zeros((), device=device)
                parts = processes.share(index).chunk(config.accumulate)
                for number, part in enumerate(parts, start=1):
                    stage("data")
                    images, labels = (tensor.to(device) for tensor in next(reading))
                    # augment
                    stage("augmentation")
                    images = augmentation(images)
                    # normalise
                    images = examples.normalize(images)
                    # mixup or cutmix
                    images, targets = _mixup_or_cutmix(images, labels, classes, config)
                    with processes.averaging(parallel, now=number == len(parts)):
                        # model
                        stage("forward")
                        with autocast:
                            outputs = (
                                parallel(images) if distillation is None else parallel(images, True)
                            )
                        # loss
                        if distillation is None:
                            loss = F.cross_entropy(
                                outputs.float(), targets, label_smoothing=config.label_smoothing
                            )
                        else:
                            share = labelled_share(train, part, index)
                            loss = distillation(
                                images, outputs, targets, config.label_smoothing, share
                            )
                        # backward
                        stage("backward")
                        loss = loss / len(parts)
                        loss.backward()
                    mean_loss += loss.detach()
                # clip gradients
                stage("optimizer")
                norm = clip_grad_norm_(model.parameters(), config.clip_grad or math.inf)
                lr = optimizer.param_groups[0]["lr"]
                value = processes.mean(mean_loss).item()
                _stop_unless_finite(loss=value, norm=norm.item(), step=step, lr=lr, config=config)
                # AdamW
                optimizer.step()
                # learning rate
                scheduler.step()
                # moving average of the weights
                if ema is not None:
                    ema.update_parameters(model)

                # The step is complete: record it, evaluate and save where it is time, call back.
                stage("rest")
                last = step == config.steps
                history.loss.append(value)
                history.lr.append(lr)
                if held_out is not None and (last or step % config.eval_every == 0):
                    validate = partial(_validate, averaged, held_out)
                    loss_and_accuracy = processes.only_first(validate)
                    history.add_validation(step, *loss_and_accuracy)
                history.seconds = time.perf_counter() - started
                if config.checkpoint and (last or step % config.checkpoint_every == 0):
                    run.save()
                _show_progress(bar, history)
                if callbacks:
                    state = TrainState(
                        step=step, steps=config.steps, loss=value, lr=lr,
                        model=model, averaged=averaged, history=history,
                    )  # fmt: skip
                    with torch.random.fork_rng(gpus):
                        processes.only_first(partial(_call_back, callbacks, state))
                if signum := processes.largest(interrupted()):
                    if config.checkpoint:
                        run.save()
                    stop_for(signum)
        finally:
            bar.close()
            if reading is not None:
                reading.close()
            if profile is not None:
                profile.end()
            model.load_state_dict(averaged.state_dict())
            parallel.eval()
    return history


def param_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The trainable parameters in two groups for AdamW: with weight decay, and without.

    Only matrices decay. Biases, norms and every other parameter with at most one dimension do not,
    nor do those that `model.no_weight_decay()` names (tokens and positions). Frozen parameters are
    in neither group; a shared parameter appears once.
    """
    model = unwrapped(model)
    exempt: set[str] = getattr(model, "no_weight_decay", set)()
    decay: list[nn.Parameter] = []
    no_decay: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            without = name in exempt or parameter.ndim <= 1
            (no_decay if without else decay).append(parameter)
    return [
        {"params": decay, "weight_decay": weight_decay},
        {"params": no_decay, "weight_decay": 0.0},
    ]


def warmup_cosine(step: int, steps: int, warmup_steps: int, floor: float = 0.0) -> float:
    """The factor by which the highest learning rate is multiplied at `step`, counted from 0.

    It grows linearly, 1/w, 2/w, ..., over the first w = `warmup_steps` steps, and then follows half
    a cosine from 1 down to `floor`, which it would reach at step number `steps`.
    Source: Loshchilov and Hutter 2017, "SGDR", section 3, without restarts.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = min(1.0, (step - warmup_steps) / max(1, steps - warmup_steps))
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))


def ema_update(decay: float) -> Callable[[Any, Any, Any], None]:
    """The update of an exponential moving average, for `AveragedModel(multi_avg_fn=...)`.

    After t updates the decay is min(decay, (1 + t) / (10 + t)), so that the random initial weights
    are soon forgotten. Source: TensorFlow's ExponentialMovingAverage, with `num_updates`.
    """

    def update(averages: Any, weights: Any, count: Any) -> None:
        t = int(count)
        torch._foreach_lerp_(averages, weights, 1 - min(decay, (1 + t) / (10 + t)))

    return update


def pick_device(name: str) -> torch.device:
    """The device of that name; "auto" means cuda if there is one, else mps, else cpu.

    Raises ValueError for a device that torch does not know or this machine does not have, and for
    "meta", whose tensors hold no numbers.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        if cuda:
            name = "cuda"
        elif mps:
            name = "mps"
        else:
            name = "cpu"
    try:
        device = torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, ImportError) as error:
        usable = ", ".join(["auto", *["cuda"] * cuda, *["mps"] * mps, "cpu"])
        raise ValueError(
            f"device {name!r} cannot be used here: this machine, or the torch installed on it, "
            f"does not have it. Choose from {usable}"
        ) from error
    if device.type == "meta":
        raise ValueError("device 'meta' holds no numbers: nothing can be computed on it")
    return device


def _use_bf16(amp: str, device: torch.device) -> bool:
    if amp == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return amp == "bf16"


def _fastest_attention(
    model: nn.Module, device: torch.device, bf16: bool
) -> AbstractContextManager[None]:
    """Step by step in bf16 on a CPU, where the fused kernel's backward pass is slow.

    In PyTorch 2.13 that one function took more than half of a step: benchmarks/attention.py.
    """
    return unfused(model) if bf16 and device.type == "cpu" else nullcontext()


def _pass_over(stage: str) -> None:
    """What stands in for a profile where there is none."""


def _validate(model: nn.Module, val: LabelledImages | HeadInputs) -> tuple[float, float]:
    if isinstance(val, HeadInputs):
        return val.evaluate(model)
    result = evaluate(model, val)
    return result.loss, result.accuracy


def _call_back(callbacks: Sequence[Callable[[TrainState], object]], state: TrainState) -> None:
    for callback in callbacks:
        callback(state)


def _mixup_or_cutmix(
    images: Float[Tensor, "B *image"], labels: Int64[Tensor, "B"], classes: int, config: TrainConfig
) -> tuple[Float[Tensor, "B *image"], Int64[Tensor, "B"] | Float[Tensor, "B K"]]:
    """Apply mixup or cutmix, whichever is on; if both are, one of them is chosen at random."""
    if not (config.mixup or config.cutmix):
        return images, labels
    targets = F.one_hot(labels, classes).float()  # (B, K)
    if config.cutmix and (not config.mixup or torch.rand(()) < 0.5):
        return cutmix(images, targets, config.cutmix)
    return mixup(images, targets, config.mixup)


def _stop_unless_finite(
    loss: float, norm: float, step: int, lr: float, config: TrainConfig
) -> None:
    if math.isfinite(loss) and math.isfinite(norm):
        return
    kept = f" {config.checkpoint} holds the last checkpoint." if config.checkpoint else ""
    raise FloatingPointError(
        f"training diverged at step {step}: loss {loss}, gradient norm {norm}, learning rate "
        f"{lr:g}. Try a smaller lr, more warmup_steps, or clip_grad=1.0.{kept}"
    )


def _show_progress(bar: tqdm, history: History) -> None:
    numbers = {"loss": f"{history.loss[-1]:.3f}", "lr": f"{history.lr[-1]:.1e}"}
    if history.val_accuracy:
        numbers["val"] = f"{history.val_accuracy[-1]:.1%}"
    bar.set_postfix(numbers, refresh=False)
    bar.update()
