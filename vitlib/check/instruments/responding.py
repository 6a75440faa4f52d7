"""How a model's answers change when the images do.

images -> the same, with a part in negative, patches shuffled, one alone, other neighbours, again
       -> what the model in eval mode answers -> by how much does it change?

`every_part`, `permutation`, `batch_independence` and `eval_determinism` are the four instruments.
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitlib.check.instruments.asking import (
    check_question,
    evaluated,
    logits,
    negative,
    patch_size,
    reader,
)
from vitlib.check.report import Finding
from vitlib.palette import BLUE, ORANGE
from vitlib.plots import plot_finding

PARTS = 4  # along each side of the image


class Answers:
    """A model's answers to some images, and by how much those to other images differ.

    They are computed by a copy in eval mode and in double precision, in which rounding is far below
    any effect. A change is the mean difference, as a share of the answers' own size, which is how
    far they lie from their mean; below `least` it is rounding.
    """

    def __init__(self, model: nn.Module, images: Float[Tensor, "B C H W"]):
        # On right models, shuffled patches change the answer by 6e-5 or more, and another batch by
        # 3e-15 at most (benchmarks/instruments.json).
        self.model, self.least = evaluated(check_question(model, images)).double(), 1e-6
        self.images = images.double()
        try:
            logits(self.model, self.images)
        except Exception:  # some code insists on single precision
            self.model, self.images, self.least = evaluated(model), images, 1e-3
        self.read = reader(self.model, self.images)
        self.to = self.read(self.images)
        centred = self.to - self.to.mean(dim=1, keepdim=True)
        self.size = centred.abs().mean().clamp_min(1e-12)

    def change(self, others: Tensor) -> float:
        """Of the answers to as many other images."""
        return ((self.read(others) - self.to).abs().mean() / self.size).item()

    def changes(self, others: Tensor) -> list[float]:
        """The same, of each image."""
        return ((self.read(others) - self.to).abs().mean(dim=1) / self.size).tolist()


@torch.no_grad()
def every_part(model: nn.Module, images: Float[Tensor, "B C H W"]) -> Finding:
    """Whether each of 4 × 4 parts of the image can change the answer, when turned to its negative.

    Args:
        model: any module from images to logits. It is looked at in eval mode, and left as it is.
        images: at least 2, normalised as in training.

    `value` is the number of parts. Raises ValueError for other arguments.
    """
    answers = Answers(model, images)
    effects = torch.tensor(
        [
            [
                answers.change(negative(answers.images, rows, columns))
                for columns in _spans(images.shape[3])
            ]
            for rows in _spans(images.shape[2])
        ]
    )
    reached = effects >= answers.least
    count = int(reached.sum())
    sentence, cause = "Each part of the image can change the answer.", ""
    if count < effects.numel():
        sentence = "Some parts of the image never reach the answer."
        cause = "tokens or pixels are dropped."
    if not count:
        sentence = "The answer does not depend on the image."
        cause = (
            "The class token may never meet the patches: is there attention over the tokens, along "
            "the right axis?"
        )
    return Finding(
        "parts of the image", count < effects.numel(), count, f"{count} of {effects.numel()}",
        sentence, cause, partial(plot_finding, partial(_draw_parts, effects, reached), square=True),
    )  # fmt: skip


def permutation(model: nn.Module, images: Float[Tensor, "B C H W"]) -> Finding:
    """Whether the answer changes when the patches change places: a model without positions is
    invariant under such permutations.

    Takes and raises what `every_part` does. `value` is the change as a share of the answers' size.
    """
    answers = Answers(model, images)
    shuffled = _shuffled(answers.images, patch_size(answers.model, images))
    changes = answers.changes(shuffled)
    by = sum(changes) / len(changes)
    is_found = by < answers.least
    sentence = "Shuffled patches get another answer: the model knows where each of them was."
    cause = ""
    if is_found:
        sentence = "Shuffled patches get the same answer."
        cause = (
            "the model does not know where a patch was. Are there positions, and are they added?"
        )
    return Finding(
        "order", is_found, by, f"change {_percent(by)}", sentence, cause,
        _bars(changes, "change when the patches are shuffled"),
    )  # fmt: skip


def batch_independence(model: nn.Module, images: Float[Tensor, "B C H W"]) -> Finding:
    """Whether each image gets the same answer alone, in the batch, and at another place in it.

    Takes and raises what `every_part` does. `value` is the largest change as a share of the
    answers' size, and infinite if the model takes no batch but one of this size.
    """
    answers = Answers(model, images)
    count = min(4, len(images))
    moved = (answers.read(answers.images.roll(1, dims=0)).roll(-1, dims=0) - answers.to).abs()
    picture = None
    try:
        alone = torch.cat([answers.read(image[None]) for image in answers.images[:count]])
    except Exception as error:  # whatever the reader's model raises
        problem = str(error).splitlines()[0] if str(error) else type(error).__name__
        number, value = f"one image alone fails ({problem})", float("inf")
    else:
        apart = (alone - answers.to[:count]).abs()
        value = (torch.maximum(apart.max(), moved.max()) / answers.size).item()
        number = f"change {value:.1%}"
        shares = (apart.amax(dim=1) / answers.size).tolist()
        picture = _bars(shares, "change when the image is alone")
    sentence = "An image gets the same answer alone as in a batch."
    cause = ""
    if value >= answers.least:
        sentence = "An image gets another answer alone than in a batch."
        cause = "something runs over the batch axis, such as a softmax, a mean or a reshape."
    if picture is None:
        sentence = f"The model only takes batches of {len(images)}."
        cause = (
            "a parameter or a buffer has the batch in its shape, such as a class token (B, 1, D)."
        )
    return Finding("batch", value >= answers.least, value, number, sentence, cause, picture)


def eval_determinism(model: nn.Module, images: Float[Tensor, "B C H W"]) -> Finding:
    """Whether the same images get the same answers a second time, in eval mode.

    Takes and raises what `every_part` does. `value` is the change as a share of the answers' size.
    """
    answers = Answers(model, images)
    changes = answers.changes(answers.images)
    value = sum(changes) / len(changes)
    sentence, cause = "In eval mode the same images get the same answers.", ""
    if value >= answers.least:
        sentence = "In eval mode the same images get other answers the second time."
        cause = (
            "dropout goes on, for instance as `F.dropout(x, p)` without `training=self.training`."
        )
    return Finding(
        "eval mode", value >= answers.least, value, f"change {value:.1%}", sentence, cause,
        _bars(changes, "change at the second time"),
    )  # fmt: skip


def _shuffled(images: Tensor, patch: tuple[int, int]) -> Tensor:
    """The images with every whole patch at another place."""
    height, width = patch
    grid = images.unfold(2, height, height).unfold(3, width, width)  # (B, C, rows, columns, h, w)
    rows, columns = grid.shape[2:4]
    count = rows * columns
    order = torch.arange(count, device=images.device).roll(count // 2 + 1)  # each one moves
    shuffled = grid.flatten(2, 3)[:, :, order].unflatten(2, (rows, columns))
    moved = images.clone()
    together = shuffled.transpose(3, 4).flatten(4, 5).flatten(2, 3)  # (B, C, rows h, columns w)
    moved[..., : rows * height, : columns * width] = together
    return moved


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 or share < 1e-6 else f"{100 * share:.2g}%"


def _spans(side: int) -> list[slice]:
    return [slice(a, b) for a, b in pairwise(round(i * side / PARTS) for i in range(PARTS + 1))]


def _draw_parts(effects: Tensor, reached: Tensor, axes: Any) -> None:
    axes.imshow(effects.numpy(), vmin=0, cmap="vitlib")
    for row, column in (~reached).nonzero().tolist():
        axes.text(column, row, "×", color=ORANGE, ha="center", va="center")
    axes.set(xticks=[], yticks=[], title="what each part of the image changes")


def _bars(changes: list[float], label: str) -> Callable[[], str]:
    """A bar for each image."""

    def draw(axes: Any) -> None:
        axes.bar(range(len(changes)), changes, color=BLUE)
        top = max(0.01, 1.05 * max(changes))  # rounding stays flat
        axes.set(xlabel="image", ylabel=label, xticks=range(len(changes)), ylim=(0, top))

    return partial(plot_finding, draw)
