"""Chapter 7, training: the exercises, their right answers and their usual mistakes."""

import math
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import vitlib
from vitlib.check.exercise import Cases, Exercise, Refused, call, fill, numbers
from vitlib.data import ImageSet
from vitlib.train import warmup_cosine

# --- 7.1 choose_step: the test set must not take part


def _choose(by=lambda val, test: val, report=lambda best, val, test: test[best]):
    def choose(steps, val_accuracy, test_accuracy):
        scores = by(val_accuracy, test_accuracy)
        best = scores.index(max(scores))
        return steps[best], report(best, val_accuracy, test_accuracy)

    return choose


def _choose_by_loop(steps, val_accuracy, test_accuracy):
    best = (-1.0, 0, 0.0)
    for step, val, test in zip(steps, val_accuracy, test_accuracy, strict=True):
        if val > best[0]:
            best = (val, step, test)
    return best[1:]


def _choose_by_numpy(steps, val_accuracy, test_accuracy):
    best = np.argmax(val_accuracy)
    return steps[best], test_accuracy[best]


def _choose_index(steps, val_accuracy, test_accuracy):
    best = val_accuracy.index(max(val_accuracy))
    return best, test_accuracy[best]


def _choose_swapped(*lists):
    return _choose()(*lists)[::-1]


def _choose_latest(steps, val_accuracy, test_accuracy):
    best = max(range(len(steps)), key=lambda i: (val_accuracy[i], i))
    return steps[best], test_accuracy[best]


def _choose_cases(answer) -> Cases:
    def run(*lists):
        given = [list(values) for values in lists]
        result = call(answer, *given)
        if given != list(map(list, lists)):
            raise Refused("your code changes the lists that it is given: sort a copy, if you sort")
        if isinstance(result, int | float):
            raise Refused("one number came back, and two should: the step and the accuracy")
        return result

    val, test = (0.950, 0.968, 0.975, 0.970, 0.972), (0.948, 0.966, 0.969, 0.978, 0.971)
    yield (
        "five evaluations, best on validation at step 300 and on the test at 400",
        (lambda: run((100, 200, 300, 400, 500), val, test)),
    )
    equal, others = (0.970, 0.985, 0.985, 0.980), (0.968, 0.970, 0.975, 0.976)
    yield (
        "two equal validation accuracies, at steps 1,000 and 1,500",
        (lambda: run((500, 1000, 1500, 2000), equal, others)),
    )
    # every accuracy is above a best of −1, and not above a best of 0
    yield (
        "one evaluation, at step 50, where no validation image is read right",
        (lambda: run((50,), (0.0,), (0.75,))),
    )


choose_step = Exercise(
    name="choose_step",
    chapter="07_training",
    task="choose_step(steps, val_accuracy, test_accuracy), three lists -> (the step whose weights "
    "to keep, the accuracy to report); the earliest step where several are equally good",
    reference=_choose(),
    cases=_choose_cases,
    mutants={
        "by_the_test": (
            _choose(by=lambda val, test: test),
            "The step is chosen by the test set. Then the test set has taken part in the training, "
            "and the highest of several test accuracies is high by luck, too: the number that you "
            "report flatters. Choose by the validation accuracy.",
        ),
        "by_both": (
            _choose(by=lambda val, test: [a + b for a, b in zip(val, test, strict=True)]),
            "The step is chosen by validation and test together. Half a vote is still a vote: the "
            "test set may not take part in any choice.",
        ),
        "roles_swapped": (
            _choose(lambda val, test: test, lambda best, val, test: val[best]),
            "The two sets have swapped their roles: the test set chooses here, and the validation "
            "set reports. Choose on validation, report the test.",
        ),
        "best_test": (
            _choose(report=lambda best, val, test: max(test)),
            "The step is chosen well, but the accuracy that you report is the best on the test set "
            "at any step, and those are not the weights that are kept. Report the test accuracy at "
            "the step that you chose.",
        ),
        "reports_validation": (
            _choose(report=lambda best, val, test: val[best]),
            "You report the validation accuracy. It was chosen for being the highest, so it "
            "flatters. The test accuracy at the same step took no part in the choice: report that.",
        ),
        "index": (
            _choose_index,
            "You return the place in the list. The first of the two results should be the step "
            "that stands there: steps[best].",
        ),
        "swapped": (
            _choose_swapped,
            "The two results are swapped: the step comes first, then the accuracy.",
        ),
        "latest": (
            _choose_latest,
            "Where two steps are equally good, you take the later one. The task asks for the "
            "earliest: compare with > instead of >=.",
        ),
        "last": (
            lambda steps, val_accuracy, test_accuracy: (steps[-1], test_accuracy[-1]),
            "This is the last step, whatever the validation set says. Keep the step at which the "
            "validation accuracy was highest.",
        ),
    },
    accepted=[_choose_by_loop, _choose_by_numpy],
)

# --- 7.2 normalise_for: whose statistics?


def _statistics(model, mean, std):
    return (mean, std) if model.mean is None else (model.mean, model.std)


def _shift_and_scale(images, mean, std, scale=255):
    mean, std = (torch.tensor(values)[:, None, None] for values in (mean, std))
    return (images.float() / scale - mean) / std


def _normalise(model, images, mean, std, scale=255):
    mean, std = _statistics(model, mean, std)
    return _shift_and_scale(images, mean, std, scale)


def _normalise_by_channel(model, images, mean, std):
    mean, std = _statistics(model, mean, std)
    pixels = images / 255
    channels = [(pixels[:, c] - mean[c]) / std[c] for c in range(len(mean))]
    return torch.stack(channels, dim=1)


def _normalise_by_image_set(model, images, mean, std):
    labels = torch.zeros(len(images), dtype=torch.long)
    image_set = ImageSet(images, labels, *_statistics(model, mean, std))
    return image_set.normalize(image_set.batch(torch.arange(len(images)))[0])


def _normalise_along(*shape):
    """The statistics in this shape, which decides which axis they meet."""

    def normalise(model, images, mean, std):
        both = _statistics(model, mean, std)
        mean, std = (torch.tensor(values).reshape(shape) for values in both)
        return (images / 255 - mean) / std

    return normalise


def _normalise_by_the_model(model, images, mean, std):
    channels = range(len(mean))
    return torch.stack([(images[:, c] / 255 - model.mean[c]) / model.std[c] for c in channels], 1)


def _normalise_without_brackets(model, images, mean, std):
    mean, std = (torch.tensor(v)[:, None, None] for v in _statistics(model, mean, std))
    return images / 255 - mean / std


def _normalise_by_first_channel(model, images, mean, std):
    mean, std = _statistics(model, mean, std)
    return (images / 255 - mean[0]) / std[0]


def _normalise_by_batch(model, images, mean, std):
    pixels = images / 255
    axes = (0, 2, 3)
    return (pixels - pixels.mean(axes, keepdim=True)) / pixels.std(axes, keepdim=True)


def _normalise_twice(model, images, mean, std):
    return _normalise(model, _normalise(model, images, mean, std), mean, std, scale=1)


def _normalise_cases(answer) -> Cases:
    def model(mean=None, std=None):
        made = nn.Identity()
        made.mean, made.std = mean, std
        return made

    def run(trained, mean, std, *shape):
        size = math.prod(shape)
        images = (torch.arange(size) * 37 % 256).to(torch.uint8).reshape(shape)
        before = trained.mean, trained.std
        result = call(answer, trained, images, mean, std)
        if (trained.mean, trained.std) != before:
            raise Refused("your code changes model.mean or model.std: only look at them")
        if isinstance(result, torch.Tensor) and result.dtype == torch.float64:
            raise Refused("float64 came back, and should be float32: .float() makes it so")
        return result

    half, photos = ((0.5,) * 3, (0.5,) * 3), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    yield (
        "two colour images of 4 × 5 pixels and a model that has not been trained",
        (lambda: run(model(), *photos, 2, 3, 4, 5)),
    )
    yield (
        "colour images that a model sees which was trained with mean and std 0.5",
        (lambda: run(model(*half), *photos, 2, 3, 4, 5)),
    )
    # a mean that is laid along the columns does not raise here
    yield (
        "colour images that are 3 pixels wide",
        (lambda: run(model(*photos), *half, 2, 3, 4, 3)),
    )
    yield (
        "grey images and a model trained on others",
        (lambda: run(model((0.13,), (0.31,)), (0.29,), (0.35,), 3, 1, 4, 5)),
    )


_SAYS_NONE = (
    "A model that has not been trained has no statistics: its mean and std are None. Then use "
    "those that are given."
)

normalise_for = Exercise(
    name="normalise_for",
    chapter="07_training",
    task="normalise_for(model, images, mean, std) -> float32 (B, C, H, W): bytes to pixels in "
    "[0, 1], minus the mean, divided by the standard deviation of each channel: the model's own "
    "where model.mean is not None, else the given ones",
    reference=_normalise,
    cases=_normalise_cases,
    mutants={
        "statistics_of_the_data": (
            lambda model, images, mean, std: _shift_and_scale(images, mean, std),
            "You use the data's statistics although the model brings its own. Its weights were "
            "learned on pixels that were shifted and scaled by model.mean and model.std, and they "
            "must go on seeing such pixels. Nothing fails when they don't; the answers only get "
            "worse.",
        ),
        "statistics_of_the_model_only": (
            lambda model, images, mean, std: _shift_and_scale(images, model.mean, model.std),
            _SAYS_NONE,
        ),
        "statistics_of_the_model_only_by_channel": (_normalise_by_the_model, _SAYS_NONE),
        "half_and_half": (
            lambda model, images, mean, std: _shift_and_scale(
                images, _statistics(model, mean, std)[0], std
            ),
            "The mean is the model's and the standard deviation the data's. The two belong "
            "together: take both from the same place.",
        ),
        "statistics_of_the_batch": (
            _normalise_by_batch,
            "Every batch is shifted and scaled by its own statistics. So what a model sees of an "
            "image depends on its neighbours in the batch. The mean and the deviation are fixed "
            "numbers.",
        ),
        "bytes": (
            partial(_normalise, scale=1),
            "The statistics are those of pixels between 0 and 1, and yours are still bytes between "
            "0 and 255. Divide by 255 first.",
        ),
        "by_256": (
            partial(_normalise, scale=256),
            "You divide by 256. Bytes run from 0 to 255, and white should be 1: divide by 255.",
        ),
        "brackets": (
            _normalise_without_brackets,
            "Only the mean is divided by the deviation, since / binds tighter than −. Put brackets "
            "around the subtraction.",
        ),
        "first_channel": (
            _normalise_by_first_channel,
            "All channels get the statistics of the first. That does no harm to grey images; a "
            "colour image has three means and three deviations.",
        ),
        "tuples": (
            lambda model, images, mean, std: images / 255 - mean,
            "mean and std are tuples, and Python cannot subtract a tuple from a tensor. Make "
            "tensors of them first, with torch.tensor, and give these the shape (C, 1, 1).",
        ),
        "rows": (
            _normalise_along(-1, 1),
            "The statistics are laid along the second axis from the right, the rows of pixels. "
            "They belong to the channels, one axis further left. Give them the shape (C, 1, 1).",
        ),
        "last_axis": (
            _normalise_along(-1),
            "The statistics are laid along the last axis, the columns of pixels: that is how "
            "tensors of different size are matched. They belong to the channels. Give them the "
            "shape (C, 1, 1). Only an image as wide as it has channels hides this.",
        ),
        "twice": (
            _normalise_twice,
            "The images are normalised twice. It happens where a data set normalises its images "
            "already and the loop does it again. Subtract and divide once.",
        ),
        "swapped": (
            lambda model, images, mean, std: _shift_and_scale(
                images, *_statistics(model, mean, std)[::-1]
            ),
            "Mean and standard deviation are swapped: subtract the mean, divide by the deviation.",
        ),
    },
    accepted=[_normalise_by_channel, _normalise_by_image_set],
)

# --- 7.3 smooth_cross_entropy: without ever writing the target down


def _smooth(logits, labels, smoothing):
    return F.cross_entropy(logits, labels, label_smoothing=smoothing)


def _smooth_by_target(logits, labels, smoothing):
    target = torch.full_like(logits, smoothing / logits.shape[1])
    target[torch.arange(len(labels)), labels] += 1 - smoothing
    return -(target * logits.log_softmax(dim=1)).sum(dim=1).mean()


def _smooth_by_float32_target(logits, labels, smoothing):
    classes = logits.shape[1]
    target = torch.eye(classes)[labels] * (1 - smoothing) + smoothing / classes
    return F.cross_entropy(logits, target.to(logits.dtype))


def _smooth_by_gather(logits, labels, smoothing):
    log_p = logits - logits.logsumexp(dim=1, keepdim=True)
    right = log_p.gather(1, labels[:, None])
    return -((1 - smoothing) * right.mean() + smoothing * log_p.mean())


def _smooth_parts(log=None, axis=1, uniform="mean", share=True, total="mean"):
    """The two parts of the loss, with something changed."""

    def loss(logits, labels, smoothing):
        log_p = (log or (lambda z: z.log_softmax(dim=axis)))(logits)
        nll = -log_p[torch.arange(len(labels)), labels]
        spread = -getattr(log_p, uniform)(dim=1)
        kept = 1 - smoothing if share else 1.0
        return getattr(kept * nll + smoothing * spread, total)()

    return loss


def _smooth_others(logits, labels, smoothing):
    others = logits.shape[1] - 1
    target = F.one_hot(labels, others + 1) * (1 - smoothing - smoothing / others)
    return -((target + smoothing / others) * logits.log_softmax(dim=1)).sum(dim=1).mean()


def _smooth_overwritten(logits, labels, smoothing):
    target = torch.full_like(logits, smoothing / logits.shape[1])
    target[torch.arange(len(labels)), labels] = 1 - smoothing
    return F.cross_entropy(logits, target)


def _smooth_cases(answer) -> Cases:
    def run(*arguments):
        loss = call(answer, *arguments)
        # in float32: a target of torch.full is right, and log(p + 1e-8) is seen where it does harm
        return loss.float() if isinstance(loss, torch.Tensor) else loss

    def huge():
        loss = run(1000 * logits, labels, 0.1)
        if isinstance(loss, torch.Tensor) and loss.shape == ():
            if not loss.isfinite():
                raise Refused(f"the loss is {loss:.4g}", "not finite")
            if 0 < loss < 100:
                raise Refused(f"the loss is {loss:.4g}, and should be above 1,000", "cut off")
        return loss

    toy, label = torch.tensor([[2.0, 1.0, -1.0]], dtype=torch.float64), torch.tensor([0])
    yield "the toy of the chapter, smoothing 0.1", lambda: run(toy, label, 0.1)
    logits, labels = numbers(4, 6), torch.tensor([5, 0, 2, 2])
    yield "4 images, 6 classes, smoothing 0.2", lambda: run(logits, labels, 0.2)
    yield "4 images, 6 classes, no smoothing", lambda: run(logits, labels, 0.0)
    yield "logits in the thousands", huge

    def gradient():
        z = logits.clone().requires_grad_()
        call(answer, z, labels, 0.2).backward()
        return None if z.grad is None else z.grad.float()

    yield "the gradient that reaches the logits", gradient


smooth_cross_entropy = Exercise(
    name="smooth_cross_entropy",
    chapter="07_training",
    task="smooth_cross_entropy(logits, labels, smoothing) -> a tensor with one number: the mean "
    "loss of logits (B, K) and labels (B,), where a share `smoothing` of each target is spread "
    "over all K classes",
    reference=_smooth,
    cases=_smooth_cases,
    mutants={
        "over_the_others": (
            _smooth_others,
            "The share is spread over the K − 1 wrong classes. Label smoothing as in the paper and "
            "in PyTorch spreads it over all K: the right class gets ε/K of it back.",
        ),
        "log_of_softmax": (
            _smooth_parts(log=lambda z: z.softmax(dim=1).log()),
            "The loss is infinite (or nan) where a probability is so small that it is rounded to "
            "0: its logarithm is −∞. log_softmax computes the logarithm straight from the logits, "
            "and stays finite.",
        ),
        "log_of_softmax_and_a_bit": (
            _smooth_parts(log=lambda z: (z.softmax(dim=1) + 1e-8).log()),
            "A small number in the logarithm, such as 1e-8, or a clamp keeps the loss finite, but "
            "cuts it off: a model that is very wrong is not told how wrong. log_softmax needs no "
            "such help.",
        ),
        "sum_over_classes": (
            _smooth_parts(uniform="sum"),
            "The spread share counts K times too much: each class gets ε instead of ε/K. Take the "
            "mean of −log p over the classes where you took the sum.",
        ),
        "share_divided_twice": (
            lambda z, labels, smoothing: (
                (1 - smoothing) * F.cross_entropy(z, labels)
                - smoothing * z.log_softmax(dim=1).mean() / z.shape[1]
            ),
            "The spread share counts K times too little: each class gets ε/K², since a mean over "
            "the classes divides by K already.",
        ),
        "label_overwritten": (
            _smooth_overwritten,
            "The right class gets 1 − ε, and its part ε/K of the spread share is lost: the target "
            "adds up to less than 1. Add the two.",
        ),
        "whole_label": (
            _smooth_parts(share=False),
            "The label keeps its whole weight 1, and the spread share comes on top: such a target "
            "adds up to 1 + ε. The label's part has the weight 1 − ε.",
        ),
        "mean_over_everything": (
            lambda *args: _smooth(*args) / args[0].shape[1],
            "The loss is K times too small: it is averaged over images *and* classes. Add up over "
            "the classes of an image (the weights of the target add up to 1 already), and average "
            "over the images.",
        ),
        "fixed_share": (
            lambda logits, labels, smoothing: _smooth(logits, labels, 0.1),
            "The share is always 0.1. Is it a number of your own, or the chapter's `eps`, which "
            "the notebook still knows? Use `smoothing`.",
        ),
        "one_for_each_image": (
            lambda logits, labels, smoothing: F.cross_entropy(
                logits, labels, label_smoothing=smoothing, reduction="none"
            ),
            "One loss for each image comes back. Take their mean.",
        ),
        "sum_over_images": (
            _smooth_parts(total="sum"),
            "The losses of the images are added up. Take their mean, or the gradient grows with "
            "the size of the batch.",
        ),
        "wrong_axis": (
            _smooth_parts(axis=0),
            "The softmax runs along the batch, so that the images compete for each class. It "
            "belongs to the axis of the classes: dim=1.",
        ),
        "no_minus": (
            lambda *args: -_smooth(*args),
            "The minus is missing. Logarithms of probabilities are negative, and a loss that goes "
            "down towards −∞ would teach the model to be wrong.",
        ),
        "number": (
            lambda *args: _smooth(*args).item(),
            "The value is right, but it is a number of Python, and a loss must be a tensor: "
            "otherwise there is no backward(). Leave out .item() or float().",
        ),
        "torn_off": (
            lambda *args: _smooth(*args).detach(),
            "The value is right, but no gradient reaches the logits. torch.tensor(...), .item(), "
            ".detach() and no_grad() keep the number and forget how it came about. Compute with "
            "tensors from the logits to the loss.",
        ),
    },
    accepted=[_smooth_by_target, _smooth_by_float32_target, _smooth_by_gather, _smooth_parts()],
)

# --- 7.4 split_parameters: weight decay by the kind of layer

_MATRICES = (nn.Linear, nn.Conv2d)


def _split(spare, skip_frozen=True):
    """Splits by `spare(module, name, parameter)`, of the module that holds the parameter."""

    def split(model):
        decay, no_decay = [], []
        for path, parameter in model.named_parameters():
            owner, _, name = path.rpartition(".")
            if parameter.requires_grad or not skip_frozen:
                spared = spare(model.get_submodule(owner), name, parameter)
                (no_decay if spared else decay).append(path)
        return decay, no_decay

    return split


def _spare_all_but_matrices(module, name, parameter):
    return not (isinstance(module, _MATRICES) and name == "weight")


def _split_by_modules(model):
    matrices = {
        f"{path}.weight" if path else "weight"
        for path, module in model.named_modules()
        if isinstance(module, _MATRICES)
    }
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    return sorted(trainable & matrices), sorted(trainable - matrices)


def _split_by_identity(model):
    matrices = {id(m.weight) for m in model.modules() if isinstance(m, _MATRICES)}
    decay, no_decay = [], []
    for name, p in model.named_parameters():
        if p.requires_grad:
            (decay if id(p) in matrices else no_decay).append(name)
    return decay, no_decay


def _split_like_the_chapter(model, skip_frozen=True):
    decay, no_decay = [], []
    for name, p in model.named_parameters():
        if p.requires_grad or not skip_frozen:
            (no_decay if p.ndim <= 1 or name in model.no_weight_decay() else decay).append(name)
    return decay, no_decay


def _split_by_names(model):
    spared = getattr(model, "no_weight_decay", set)()
    decay, no_decay = [], []
    for name, p in model.named_parameters():
        if p.requires_grad:
            (no_decay if p.ndim <= 1 or name in spared else decay).append(name)
    return decay, no_decay


def _split_frozen_spared(model):
    decay = _split(_spare_all_but_matrices)(model)[0]
    return decay, [name for name, _ in model.named_parameters() if name not in decay]


def _split_frozen_decay(model):
    decay = _split(_spare_all_but_matrices, skip_frozen=False)(model)[0]
    return decay, _split(_spare_all_but_matrices)(model)[1]


def _split_layers_only(model):
    decay, no_decay = [], []
    for path, module in model.named_modules():
        if isinstance(module, _MATRICES):
            decay.append(f"{path}.weight")
            if module.bias is not None:
                no_decay.append(f"{path}.bias")
    return decay, no_decay


class _SomeonesModel(nn.Module):
    """No no_weight_decay(), other names, and positions in an nn.Embedding."""

    def __init__(self):
        super().__init__()
        self.cut = nn.Conv2d(1, 8, 4, stride=4)
        self.summary = nn.Parameter(torch.zeros(1, 1, 8))
        self.where = nn.Embedding(5, 8)
        self.mix = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8), nn.Linear(8, 8, bias=False))


_NO_LISTS = "two lists of names should come back: those that decay, and those that go without"


def _split_cases(answer) -> Cases:
    def ours(**options):
        return vitlib.VisionTransformer(
            img_size=8, patch_size=4, in_chans=1, num_classes=3, embed_dim=8, depth=1, num_heads=2,
            **options,
        )  # fmt: skip

    def run(model):
        both = call(answer, model)
        if both is None or both is ...:
            return both
        if not isinstance(both, tuple | list) or len(both) != 2 or isinstance(both[0], dict):
            raise Refused(_NO_LISTS)
        decay, no_decay = (list(names) for names in both)
        if not all(isinstance(name, str) for name in decay + no_decay):
            raise Refused(f"{_NO_LISTS}, and not the parameters themselves")
        known = [name for name, _ in model.named_parameters()]
        for name in decay + no_decay:
            if name not in known:
                raise Refused(
                    f"no parameter of this model has the name {name!r}; named_parameters gives "
                    f"names such as {known[0]!r} and {known[-1]!r}"
                )
            if (decay + no_decay).count(name) > 1:
                raise Refused(
                    f"{name!r} stands in the lists twice, and each parameter belongs to one group. "
                    "Do you visit it twice? named_parameters() of a module also gives the "
                    "parameters of the layers inside it"
                )
        return dict.fromkeys(no_decay, "goes without") | dict.fromkeys(decay, "decays")

    def frozen():
        model = ours()
        model.patch_embed.requires_grad_(False)
        return model

    yield "a ViT of one block with a class token", lambda: run(ours())
    yield (
        "a distilled ViT with registers and LayerScale",
        (lambda: run(ours(distilled=True, reg_tokens=2, init_values=0.1))),
    )
    yield "a ViT whose patch embedding is frozen", lambda: run(frozen())
    yield "someone else's model, with names of its own", lambda: run(_SomeonesModel())


_SAYS_LIKE_THE_CHAPTER = (
    "This works for vitlib's models only: others have no method no_weight_decay(), and call their "
    "positions what they like. Go by the layer that the parameter belongs to."
)

split_parameters = Exercise(
    name="split_parameters",
    chapter="07_training",
    task="split_parameters(model) -> (names that decay, names that go without), two lists: the "
    "weights of nn.Linear and nn.Conv2d decay, every other trainable parameter goes without, and "
    "frozen ones stand in neither list",
    reference=_split(_spare_all_but_matrices),
    cases=_split_cases,
    mutants={
        "everything_decays": (
            _split(lambda module, name, parameter: False),
            "Everything decays: positions, tokens, biases and norms, too. A norm's scale is pulled "
            "from 1 to 0, where it switches its layer off, and positions are pulled to where all "
            "are alike. This is what AdamW does if you pass it model.parameters().",
        ),
        "spares_biases_only": (
            _split(lambda module, name, parameter: name == "bias"),
            "Only the biases are spared. The scales of the norms, the tokens and the positions "
            "still decay, and should not.",
        ),
        "counts_dimensions": (
            _split(lambda module, name, parameter: parameter.ndim <= 1),
            "You go by the number of dimensions. That spares biases and norms, but tokens and "
            "positions have two or three dimensions, and decay. Go by the layer that the parameter "
            "belongs to.",
        ),
        "called_weight": (
            _split(lambda module, name, parameter: name != "weight"),
            "You go by the name `weight`. The scales of the norms bear it, too, and decay. Go by "
            "the layer that the parameter belongs to.",
        ),
        "called_weight_and_a_matrix": (
            _split(lambda module, name, parameter: name != "weight" or parameter.ndim <= 1),
            "You go by the name `weight` and the number of dimensions. That is right until a layer "
            "of another kind has a matrix: here positions stand in an nn.Embedding, and decay. Go "
            "by the layer that the parameter belongs to.",
        ),
        "like_the_chapter": (_split_like_the_chapter, _SAYS_LIKE_THE_CHAPTER),
        "like_the_chapter_with_frozen": (
            partial(_split_like_the_chapter, skip_frozen=False),
            f"{_SAYS_LIKE_THE_CHAPTER} And leave out what is frozen.",
        ),
        "names_of_our_models": (
            _split_by_names,
            "This works for vitlib's models only. Others do not name their tokens and positions in "
            "a method, so that these decay. Go by the layer that the parameter belongs to.",
        ),
        "biases_of_layers": (
            _split(lambda module, name, parameter: not isinstance(module, _MATRICES)),
            "The linear and the convolution layers decay whole, with their biases. Only their "
            "matrices should: look at the parameter's own name, too.",
        ),
        "linear_only": (
            _split(lambda module, name, p: not (isinstance(module, nn.Linear) and name[0] == "w")),
            "The patch embedding's convolution is forgotten. Its kernels are a matrix like any "
            "other (chapter 1), and decay.",
        ),
        "frozen_too": (
            _split(_spare_all_but_matrices, skip_frozen=False),
            "Frozen parameters are in the lists. They have requires_grad=False, and stand in "
            "neither.",
        ),
        "frozen_spared": (
            _split_frozen_spared,
            "Frozen parameters are in the second list. They have requires_grad=False, and stand in "
            "neither: there is nothing to train.",
        ),
        "frozen_decay": (
            _split_frozen_decay,
            "Frozen weights are in the first list. They have requires_grad=False, and stand in "
            "neither.",
        ),
        "layers_only": (
            _split_layers_only,
            "Only the parameters of linear layers and convolutions are in the lists, and so norms, "
            "tokens and positions would never be trained. Every other trainable parameter belongs "
            "into the second list, and a frozen one into neither.",
        ),
        "swapped": (
            lambda model: _split(_spare_all_but_matrices)(model)[::-1],
            "The two lists are swapped: those that decay come first.",
        ),
    },
    accepted=[_split_by_modules, _split_by_identity],
)

# --- 7.5 learning_rates: the whole curve at once


def _rates(steps, warmup_steps, lr, min_lr):
    floor = min_lr / lr
    return torch.tensor(
        [lr * warmup_cosine(t, steps, warmup_steps, floor) for t in range(steps)]
    )  # fmt: skip


def _rates_by_where(
    shift=1,
    progress=lambda t, w, T: (t - w) / (T - w),
    angle=math.pi,
    floor=lambda lr, min_lr: min_lr,
    height=lambda lr, floor: lr - floor,
    warm=lambda t, w: t < w,
    grow_from=lambda min_lr: 0.0,
):
    """The curve with torch.where; the options change something about it."""

    def rates(steps, warmup_steps, lr, min_lr):
        t = torch.arange(steps, dtype=torch.float64)
        low, first = floor(lr, min_lr), grow_from(min_lr)
        swing = 1 + torch.cos(angle * progress(t, warmup_steps, steps))
        falling = low + height(lr, low) * 0.5 * swing
        growing = first + (lr - first) * (t + shift) / warmup_steps
        return torch.where(warm(t, warmup_steps), growing, falling)

    return rates


def _rates_by_linspace(steps, warmup_steps, lr, min_lr):
    growing = torch.linspace(0, lr, warmup_steps)
    return torch.cat([growing, _rates(steps, warmup_steps, lr, min_lr)[warmup_steps:]])


def _rates_by_mask(steps, warmup_steps, lr, min_lr):
    t = torch.arange(steps)
    progress = (t - warmup_steps) / (steps - warmup_steps)
    falling = min_lr + (lr - min_lr) * 0.5 * (1 + torch.cos(math.pi * progress))
    growing = lr * (t + 1) / warmup_steps
    return (t < warmup_steps) * growing + (t >= warmup_steps) * falling


def _rates_in_two_parts(steps, warmup_steps, lr, min_lr):
    growing = lr * torch.arange(1, warmup_steps + 1) / max(1, warmup_steps)
    angle = torch.linspace(0, math.pi, steps - warmup_steps + 1)[:-1]
    return torch.cat([growing, min_lr + (lr - min_lr) * (1 + angle.cos()) / 2])


def _rates_cases(answer) -> Cases:
    def run(*arguments):
        rates = call(answer, *arguments)
        single = isinstance(rates, torch.Tensor) and rates.is_floating_point()
        return rates.float() if single else rates  # either precision will do

    yield "12 steps, 4 of warm-up, from 2.0 to 0.5", lambda: run(12, 4, 2.0, 0.5)
    yield "10 steps, 1 of warm-up, from 1.0 to 0", lambda: run(10, 1, 1.0, 0.0)
    yield "7 steps without warm-up", lambda: run(7, 0, 2.0, 0.5)
    yield "5 steps, all of them warm-up", lambda: run(5, 5, 2.0, 0.5)


_SAYS_STARTS_AT_ZERO = (
    "The first learning rate is 0: the first batch is computed for nothing. Steps are counted from "
    "0, so the warm-up is (t + 1)/w."
)
_SAYS_FROM_THE_START = (
    "The cosine counts from the first step, not from the end of the warm-up. So the rate jumps "
    "down where the two meet. Its progress is (t − w)/(T − w)."
)

learning_rates = Exercise(
    name="learning_rates",
    chapter="07_training",
    task="learning_rates(steps, warmup_steps, lr, min_lr) -> (steps,): lr/w, 2·lr/w, ... up to lr "
    "during w warm-up steps, then half a cosine from lr, which would reach min_lr at step number "
    "`steps`, counted from 0",
    reference=_rates,
    cases=_rates_cases,
    mutants={
        "starts_at_zero": (_rates_by_where(shift=0), _SAYS_STARTS_AT_ZERO),
        "starts_at_zero_by_linspace": (_rates_by_linspace, _SAYS_STARTS_AT_ZERO),
        "starts_at_min_lr": (
            _rates_by_where(grow_from=lambda min_lr: min_lr),
            "The warm-up starts from min_lr. Some libraries do so; by the chapter's formula it is "
            "a share (t + 1)/w of lr, and min_lr is where the cosine goes.",
        ),
        "no_warmup": (
            _rates_by_where(warm=lambda t, w: t < 0),
            "The warm-up is missing: the first w rates should grow from lr/w to lr.",
        ),
        "warmup_one_longer": (
            _rates_by_where(warm=lambda t, w: t <= w),
            "The warm-up is one step too long, and its last rate is above lr. With steps counted "
            "from 0, w steps of warm-up are those with t < w.",
        ),
        "cosine_from_the_start": (
            _rates_by_where(progress=lambda t, w, T: t / T),
            _SAYS_FROM_THE_START,
        ),
        "cosine_from_the_start_over_the_rest": (
            _rates_by_where(progress=lambda t, w, T: t / (T - w)),
            _SAYS_FROM_THE_START,
        ),
        "cosine_over_all_steps": (
            _rates_by_where(progress=lambda t, w, T: (t - w) / T),
            "The cosine is stretched over all the steps, and the run ends before it is down. It "
            "has T − w steps: its progress is (t − w)/(T − w).",
        ),
        "cosine_one_step_ahead": (
            _rates_by_where(progress=lambda t, w, T: (t + 1 - w) / (T - w)),
            "The cosine is one step ahead: it should begin at lr itself, at t = w, and would reach "
            "min_lr at step number `steps`. The 1 that is added to t belongs to the warm-up only.",
        ),
        "share_of_lr": (
            lambda steps, w, lr, min_lr: _rates(steps, w, lr, min_lr) / lr,
            "These are shares of the highest rate, as lr_factor gives them. Multiply by lr.",
        ),
        "floor_is_a_share": (
            _rates_by_where(floor=lambda lr, min_lr: lr * min_lr),
            "min_lr is taken for the formula's f. But f is a share of lr, and min_lr is a rate: "
            "f = min_lr / lr.",
        ),
        "floor_ignored": (
            _rates_by_where(floor=lambda lr, min_lr: 0.0),
            "The curve falls to 0 and not to min_lr. Shrink the cosine to lr − min_lr, and lift it "
            "by min_lr.",
        ),
        "floor_on_top": (
            _rates_by_where(height=lambda lr, floor: lr),
            "min_lr is added to a curve of the full height, so that the rate jumps above lr after "
            "the warm-up. The cosine has the height lr − min_lr.",
        ),
        "degrees": (
            _rates_by_where(angle=180.0),
            "cos takes an angle in radians, and yours is in degrees: the curve jumps up and down. "
            "Half a turn is π.",
        ),
        "whole_wave": (
            _rates_by_where(angle=2 * math.pi),
            "This is a whole wave: the rate falls, and comes back up. Half a turn, π, is enough.",
        ),
        "quarter_wave": (
            _rates_by_where(angle=math.pi / 2),
            "This is a quarter of a wave: the rate ends halfway down. The angle should run to π, "
            "not to π/2.",
        ),
        "one_step_early": (
            _rates_by_where(progress=lambda t, w, T: (t - w) / (T - w - 1)),
            "The last step has the rate min_lr already: with min_lr = 0, it is computed for "
            "nothing. The cosine would arrive one step later, at step number `steps`: divide by "
            "T − w, not by T − w − 1.",
        ),
        "masked": (
            _rates_by_mask,
            "Without warm-up, or without a cosine, a division by 0 gives inf or nan, and 0 times "
            "that is nan, not 0. torch.where chooses, and does not multiply.",
        ),
    },
    accepted=[_rates_by_where(), _rates_in_two_parts],
)

# --- 7.6 ema_update: in place, with all that belongs to a model


def _copy_buffers(averaged, model):
    for a, b in zip(averaged.buffers(), model.buffers(), strict=True):
        a.copy_(b)


def _ema(averaged, model, decay):
    with torch.no_grad():
        for a, w in zip(averaged.parameters(), model.parameters(), strict=True):
            a.lerp_(w, 1 - decay)
        _copy_buffers(averaged, model)


def _ema_by_data(averaged, model, decay):
    weights = dict(model.named_parameters())
    for name, a in averaged.named_parameters():
        a.data = decay * a.data + (1 - decay) * weights[name].data
    _copy_buffers(averaged, model)


def _ema_by_state(averaged, model, decay):
    old, new = averaged.state_dict(), model.state_dict()
    mixed = {k: decay * old[k] + (1 - decay) * new[k] for k, _ in model.named_parameters()}
    averaged.load_state_dict(new | mixed)


def _ema_swapped(averaged, model, decay):
    _ema(averaged, model, 1 - decay)


def _ema_moves_the_model(averaged, model, decay):
    with torch.no_grad():
        for a, w in zip(averaged.parameters(), model.parameters(), strict=True):
            w.lerp_(a, decay)
        _copy_buffers(averaged, model)


def _ema_new_name(averaged, model, decay):
    for a, w in zip(averaged.parameters(), model.parameters(), strict=True):
        a = decay * a + (1 - decay) * w


def _ema_new_name_with_buffers(averaged, model, decay):
    _ema_new_name(averaged, model, decay)
    _copy_buffers(averaged, model)


def _ema_copies(averaged, model, decay):
    averaged.load_state_dict(model.state_dict())


def _ema_without_buffers(averaged, model, decay):
    with torch.no_grad():
        for a, w in zip(averaged.parameters(), model.parameters(), strict=True):
            a.lerp_(w, 1 - decay)


def _ema_swapped_without_buffers(averaged, model, decay):
    _ema_without_buffers(averaged, model, 1 - decay)


def _ema_shares_buffers(averaged, model, decay):
    _ema(averaged, model, decay)
    for a, b in zip(averaged.buffers(), model.buffers(), strict=True):
        a.data = b.data


def _ema_by_freezing(averaged, model, decay):
    for module in (averaged, model):
        module.requires_grad_(False)
    _ema(averaged, model, decay)


def _ema_averages_all(averaged, model, decay):
    old, new = averaged.state_dict(), model.state_dict()
    averaged.load_state_dict({k: decay * old[k] + (1 - decay) * new[k] for k in old})


def _ema_averages_all_by_lerp(averaged, model, decay):
    new = model.state_dict()
    for name, old in averaged.state_dict().items():
        old.lerp_(new[name], 1 - decay)


def _ema_averages_all_by_mul(averaged, model, decay):
    new = model.state_dict()
    for name, old in averaged.state_dict().items():
        old.mul_(decay).add_((1 - decay) * new[name])


def _ema_averages_buffers(averaged, model, decay):
    old, new = averaged.state_dict(), model.state_dict()
    for name in (name for name in new if new[name].is_floating_point()):
        new[name] = decay * old[name] + (1 - decay) * new[name]
    averaged.load_state_dict(new)


def _ema_with_gradients(averaged, model, decay):
    for a, w in zip(averaged.parameters(), model.parameters(), strict=True):
        a.mul_(decay).add_((1 - decay) * w)
    _copy_buffers(averaged, model)


_SAYS_NEW_NAME = (
    "The average does not change. `a = ...` in a loop makes a new tensor, and so does a.lerp(...) "
    "without the underscore, a new entry in a state_dict or a copy of the model; the tensor inside "
    "`averaged` stays as it was. Write into it: a.copy_(...), a.lerp_(...) or a.mul_(...) and "
    "a.add_(...)."
)
_SAYS_BUFFERS_AVERAGED = (
    "The buffers are averaged like weights. Batch norm's mean and variance are averages already: "
    "copy the model's buffers as they are, as AveragedModel of PyTorch does."
)
_SAYS_COUNT_AVERAGED = (
    "One of the buffers is a whole number, how many batches a batch norm has seen, and cannot be "
    "averaged in place. No buffer should be: average the parameters(), and copy the buffers(). (A "
    "state_dict holds both.)"
)
_SAYS_SWAPPED = (
    "The decay stands on the wrong side: the average goes almost all the way to the new weights. "
    "It should keep the share `decay` of itself, and take 1 − decay of them. torch.lerp and lerp_ "
    "take the share of the new."
)


def _trainable(model):
    return all(p.requires_grad for p in model.parameters())


def _ema_cases(answer) -> Cases:
    def pair():
        averaged, model = (
            fill(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)), seed)
            for seed in (0, 1)
        )
        # batch norm counts batches, and keeps a running mean and variance of them
        for module, batches in ((averaged, 1), (model, 3)):
            for i in range(batches):
                module(numbers(5, 3, seed=i + batches))
        return averaged, model

    def state(module):
        return {name: value.clone() for name, value in module.state_dict().items()}

    def updates(decay, count):
        averaged, model = pair()
        parameters = list(averaged.parameters())
        for i in range(count):
            call(answer, averaged, model, decay)
            if i + 1 < count:
                fill(model, seed=2 + i)
        after = state(model)
        model(numbers(5, 3, seed=9))  # the model trains on, which is nothing to the average
        if any(a is not b for a, b in zip(averaged.parameters(), parameters, strict=True)):
            raise Refused(
                "the average has new parameters in place of its own: write into those that it has"
            )
        return {
            "the average": state(averaged),
            "the model": after,
            "the model's weights": "trainable" if _trainable(model) else "frozen",
        }

    def without_gradients():
        averaged, model = pair()
        averaged.requires_grad_(False)
        call(answer, averaged, model, 0.9)
        recorded = any(a.requires_grad for a in averaged.parameters())
        return {"gradients": "recorded" if recorded else "not recorded"}

    yield "one update with decay 0.9", lambda: updates(0.9, 1)
    yield "three updates with decay 0.75", lambda: updates(0.75, 3)
    yield "an average that takes no gradients itself", without_gradients


ema_update = Exercise(
    name="ema_update",
    chapter="07_training",
    task="ema_update(averaged, model, decay): moves the parameters of `averaged`, in place, to "
    "decay · average + (1 − decay) · weight, copies the model's buffers, leaves the model as it "
    "is, and returns nothing",
    reference=_ema,
    cases=_ema_cases,
    mutants={
        "swapped": (_ema_swapped, _SAYS_SWAPPED),
        "swapped_without_buffers": (
            _ema_swapped_without_buffers,
            f"{_SAYS_SWAPPED} And the model's buffers are not copied yet.",
        ),
        "moves_the_model": (
            _ema_moves_the_model,
            "It is the model that moves: the training would go on from averaged weights. Change "
            "the average, and leave the model alone.",
        ),
        "new_name": (_ema_new_name, _SAYS_NEW_NAME),
        "new_name_with_buffers": (_ema_new_name_with_buffers, _SAYS_NEW_NAME),
        "copies": (
            _ema_copies,
            "The model is copied, and nothing is averaged: the old average is lost at each step.",
        ),
        "buffers_forgotten": (
            _ema_without_buffers,
            "The parameters are right, and the buffers are those of the start. A batch norm with "
            "averaged weights and a mean and variance of long ago gives nonsense. Copy the model's "
            "buffers.",
        ),
        "buffers_averaged": (
            _ema_averages_buffers,
            _SAYS_BUFFERS_AVERAGED,
        ),
        "buffers_averaged_with_the_count": (_ema_averages_all, _SAYS_BUFFERS_AVERAGED),
        "count_averaged": (_ema_averages_all_by_lerp, _SAYS_COUNT_AVERAGED),
        "count_averaged_by_mul": (_ema_averages_all_by_mul, _SAYS_COUNT_AVERAGED),
        "buffers_shared": (
            _ema_shares_buffers,
            "The average and the model now share their buffers: when the model sees its next "
            "batch, the average changes with it. Copy the numbers: a.copy_(b).",
        ),
        "freezes_the_model": (
            _ema_by_freezing,
            "The average is right, but the model's parameters are frozen now "
            "(requires_grad=False), and would learn nothing more. torch.no_grad() is enough.",
        ),
        "gradients": (
            _ema_with_gradients,
            "The update is recorded for gradients. Either PyTorch refuses to change a trainable "
            "weight in place, or each step hangs on all the steps before, and memory fills up. Do "
            "it under torch.no_grad().",
        ),
    },
    accepted=[_ema_by_data, _ema_by_state],
)

# --- 7.7 accuracy_of: a function to repair


def _accuracy(before="eval", after="as_before", gradients=False, axis=1, factor=None):
    """Accuracy, with something changed about modes, gradients or counting."""

    def accuracy_of(model, images, labels):
        was_training = model.training
        if before == "eval":
            model.eval()
        with torch.set_grad_enabled(gradients):
            right = model(images).argmax(dim=axis) == labels
        if after == "training" or (after == "as_before" and was_training):
            model.train()
        return right.double().mean().item() * (factor(labels) if factor else 1)

    return accuracy_of


def _accuracy_by_freezing(model, images, labels):
    model.requires_grad_(False)
    return _accuracy(gradients=True)(model, images, labels)


def _accuracy_gradients_off(model, images, labels):
    torch.set_grad_enabled(False)
    return _accuracy()(model, images, labels)


def _accuracy_by_inference(model, images, labels):
    mode = model.training
    try:
        with torch.inference_mode():
            answers = model.eval()(images).max(dim=-1).indices
    finally:
        model.train(mode)
    return (answers == labels).sum().item() / len(labels)


@torch.no_grad()
def _accuracy_by_loop(model, images, labels):
    mode = model.training
    model.eval()
    right = sum(
        model(image[None])[0].argmax().item() == label
        for image, label in zip(images, labels.tolist(), strict=True)
    )
    model.train(mode)
    return right / len(labels)


def _accuracy_cases(answer) -> Cases:
    def run(training, count, *layers):
        model = fill(nn.Sequential(nn.Flatten(), *layers)).eval()
        images = numbers(count, 1, 2, 3, seed=3) + 1
        with torch.no_grad():
            labels = model(images).argmax(dim=1)
        labels[::4] = (labels[::4] + 1) % 3  # so that a quarter of the answers are wrong
        state = {name: value.clone() for name, value in model.state_dict().items()}
        model.train(training)
        recorded = []
        model[-1].register_forward_hook(lambda *_: recorded.append(torch.is_grad_enabled()))
        accuracy = call(answer, model, images, labels)
        off = not torch.is_grad_enabled()
        torch.set_grad_enabled(True)  # for the next case
        changed = any(not torch.equal(state[k], v) for k, v in model.state_dict().items())
        return {
            "the accuracy": accuracy,
            "the mode afterwards": "training" if model.training else "eval",
            "what it leaves in the model": "changed" if changed else "unchanged",
            "the model's weights": "trainable" if _trainable(model) else "frozen",
            "gradients afterwards": "off" if off else "on",
            "gradients": "recorded" if any(recorded) else "not recorded",
        }

    dropout = nn.Linear(6, 16), nn.GELU(), nn.Dropout(0.6), nn.Linear(16, 3)
    yield (
        "40 images and a model with dropout, in the midst of its training",
        (lambda: run(True, 40, *dropout)),
    )
    yield "the same model in eval mode", lambda: run(False, 40, *dropout)
    yield "a model with batch norm", lambda: run(True, 8, nn.BatchNorm1d(6), nn.Linear(6, 3))
    # as many images as classes: an argmax along the wrong axis has the right shape
    yield "3 images and 3 classes", lambda: run(False, 3, nn.Linear(6, 3))


_SAYS_TRAINING_MODE = (
    "The model answers in training mode. Dropout and stochastic depth switch parts of it off at "
    "random, and batch norm lets the images of a batch change each other's answers, and learns "
    "from them. Nothing fails; the accuracy is another. Call model.eval() first."
)
_SAYS_LEFT_IN_EVAL = (
    "The model is left in eval mode. If this is called in the middle of a training run, the run "
    "goes on without dropout and stochastic depth, silently. Keep model.training at the beginning, "
    "and restore it with model.train(...) at the end."
)
_SAYS_ALWAYS_TRAINING = (
    "The model is always left in training mode, even if it was in eval mode before. Keep "
    "model.training at the beginning, and restore that."
)

accuracy_of = Exercise(
    name="accuracy_of",
    chapter="07_training",
    task="accuracy_of(model, images, labels) -> a float: the share of images whose largest logit "
    "is at the label, in eval mode, without gradients, and with the model's mode as before "
    "afterwards",
    reference=_accuracy(),
    cases=_accuracy_cases,
    mutants={
        "training_mode": (_accuracy(before="", after="", gradients=True), _SAYS_TRAINING_MODE),
        "training_mode_no_grad": (_accuracy(before="", after=""), _SAYS_TRAINING_MODE),
        "left_in_eval": (_accuracy(after="", gradients=True), _SAYS_LEFT_IN_EVAL),
        "left_in_eval_no_grad": (_accuracy(after=""), _SAYS_LEFT_IN_EVAL),
        "always_training": (_accuracy(after="training", gradients=True), _SAYS_ALWAYS_TRAINING),
        "always_training_no_grad": (_accuracy(after="training"), _SAYS_ALWAYS_TRAINING),
        "gradients": (
            _accuracy(gradients=True),
            "The answer is right, but gradients are recorded: every intermediate tensor is kept in "
            "memory for a backward pass that never comes. Call the model under torch.no_grad().",
        ),
        "freezes_the_model": (
            _accuracy_by_freezing,
            "The model's weights are frozen afterwards (requires_grad=False): the run goes on, and "
            "nothing is learned. Call the model under torch.no_grad() instead.",
        ),
        "gradients_left_off": (
            _accuracy_gradients_off,
            "Gradients are switched off for good: the next loss.backward() fails. `with "
            "torch.no_grad():` switches them off for its block only.",
        ),
        "wrong_axis": (
            _accuracy(axis=0),
            "argmax runs along the batch: it looks for the best image of each class. The classes "
            "are the second axis of the logits (B, K).",
        ),
        "counts": (
            _accuracy(factor=len),
            "This is the number of right answers. Divide by the number of images.",
        ),
    },
    accepted=[_accuracy_by_inference, _accuracy_by_loop],
)

EXERCISES = [
    choose_step,
    normalise_for,
    smooth_cross_entropy,
    split_parameters,
    learning_rates,
    ema_update,
    accuracy_of,
]
