"""How a model's answers change when the images do: five lines of `check.training`.

images -> the same, with a part in negative, a patch changed, patches shuffled, one alone, again
       -> logits of the model in eval mode -> by how much do they change?
"""

from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitlib.check.report import Line
from vitlib.patch import pair

VISIBLE = 1e-3  # a smaller share of a change is rounding


@torch.no_grad()
def responses(model: nn.Module, images: Float[Tensor, "B C H W"]) -> Iterator[Line]:
    """The five lines that compare answers of the model in eval mode."""
    answers = _unsquashed(logits(model, images))
    spread = (answers - answers.mean(dim=1, keepdim=True)).abs().mean().clamp_min(1e-12)

    def change(others: Tensor) -> float:
        """Mean change of the logits, as a share of their size."""
        return ((_unsquashed(logits(model, others)) - answers).abs().mean() / spread).item()

    yield _every_part(change, images)
    patch = _patch_size(model, images)
    yield _mixing(model, images, patch)
    yield _order(change, images, patch)

    alone = _unsquashed(torch.cat([logits(model, image[None]) for image in images[:4]]))
    yield _unchanged(
        "batch",
        ((alone - answers[:4]).abs().max() / spread).item(),
        "An image gets the same answer alone as in a batch.",
        "An image gets another answer alone than in a batch: something runs over the batch axis, "
        "such as a softmax, a mean or a reshape.",
    )
    yield _unchanged(
        "eval mode",
        change(images),
        "In eval mode the same images get the same answers.",
        "In eval mode the same images get other answers the second time: dropout goes on, for "
        "instance as `F.dropout(x, p)` without `training=self.training`.",
    )


def _unsquashed(answers: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
    """The logarithm of answers that are probabilities: near 0 and 1 they hardly change at all."""
    sums = answers.sum(dim=1)
    if answers.min() < 0 or not torch.allclose(sums, torch.ones_like(sums), atol=1e-3):
        return answers
    return answers.clamp_min(1e-9).log()


def _unchanged(name: str, change: float, equal: str, other: str) -> Line:
    """A line that passes if the answer stayed the same, with the sentence for either outcome."""
    passed = change < VISIBLE
    return Line(name, passed, f"change {change:.1%}", equal if passed else other)


def _every_part(change: Callable[[Tensor], float], images: Tensor) -> Line:
    """Whether each of 4 × 4 parts of the image has a say, when it is turned to its negative."""
    parts = []
    for rows in _spans(images.shape[2], 4):
        for columns in _spans(images.shape[3], 4):
            parts.append(change(_negative(images, rows, columns)) >= VISIBLE)
    sentence = "Each part of the image can change the answer."
    if not all(parts):
        sentence = "Some parts of the image never reach the answer: tokens or pixels are dropped."
    if not any(parts):
        sentence = (
            "The answer does not depend on the image. The class token may never meet the patches: "
            "is there attention over the tokens, along the right axis?"
        )
    return Line("parts of the image", all(parts), f"{sum(parts)} of 16", sentence)


def _mixing(model: nn.Module, images: Tensor, patch: tuple[int, int]) -> Line:
    """Whether a change in one patch is noticed by the other tokens, or parts of the image.

    Looks at the last result (B, T, D) that any layer of the model gives. A model without such
    tokens is asked whether the effects of two changes, far apart, are more than their sum.
    """
    places = (side // part // 2 * part for side, part in zip(images.shape[2:], patch, strict=True))
    middle = [slice(a, a + part) for a, part in zip(places, patch, strict=True)]
    before, after = (
        _tokens(model, some) for some in (images, _negative(images, *middle))
    )  # each (B, T, D) or None
    if before is None or after is None:
        return _interplay(model, images)
    moved = (after - before).abs().amax(dim=(0, 2)) > VISIBLE * before.abs().mean()  # (T,)
    number = f"{int(moved.sum())} of {len(moved)} tokens notice one patch"
    sentence = "What is in one patch reaches the other tokens."
    if moved.float().mean() <= 0.5:
        sentence = (
            "What is in one patch does not reach the other tokens: attention over them is missing, "
            "or runs along another axis."
        )
    return Line("tokens mix", bool(moved.float().mean() > 0.5), number, sentence)


def _interplay(model: nn.Module, images: Tensor) -> Line:
    """Whether the effects of changes to the left and the right third are more than their sum."""
    third = images.shape[3] // 3
    left, right, everywhere = slice(third), slice(-third, None), slice(None)
    changed = [
        _negative(images, everywhere, left),
        _negative(images, everywhere, right),
        _negative(_negative(images, everywhere, left), everywhere, right),
    ]
    answers = logits(model, images)
    first, second, together = (logits(model, one) - answers for one in changed)
    size = (first.abs().mean() + second.abs().mean()).item()
    share = (together - first - second).abs().mean().item() / size if size else 0.0
    sentence = "What one part of the image means depends on the others."
    if share < VISIBLE:
        sentence = "The two sides of the image never meet: their effects on the answer add up."
    return Line("parts mix", share >= VISIBLE, f"{share:.0%} of the effect", sentence)


def _tokens(model: nn.Module, images: Tensor) -> Float[Tensor, "B T D"] | None:
    """The last result of a layer that is a sequence of vectors per image."""
    found: list[Tensor] = []

    def keep(_: nn.Module, __: object, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 3 and len(output) == len(images):
            found[:] = [output.detach()]

    hooks = [module.register_forward_hook(keep) for module in model.modules()]
    try:
        logits(model, images)
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found and found[0].shape[1] > 1 else None


def _order(change: Callable[[Tensor], float], images: Tensor, patch: tuple[int, int]) -> Line:
    """Whether the answer changes when the patches change places."""
    height, width = patch
    grid = images.unfold(2, height, height).unfold(3, width, width)  # (B, C, rows, columns, h, w)
    rows, columns = grid.shape[2:4]
    count = rows * columns
    order = torch.arange(count, device=images.device).roll(count // 2 + 1)  # each one moves
    shuffled = grid.flatten(2, 3)[:, :, order].unflatten(2, (rows, columns))
    moved = images.clone()
    together = shuffled.transpose(3, 4).flatten(4, 5).flatten(2, 3)  # (B, C, rows h, columns w)
    moved[..., : rows * height, : columns * width] = together
    by = change(moved)
    sentence = "Shuffled patches get another answer: the model knows where each of them was."
    if by < VISIBLE:
        sentence = (
            "Shuffled patches get the same answer: the model does not know where a patch was. Are "
            "there positions, and are they added?"
        )
    return Line("order", by >= VISIBLE, f"change {by:.0%}", sentence)


def _patch_size(model: nn.Module, images: Tensor) -> tuple[int, int]:
    """(height, width) of a patch: what the model states, or of a convolution that moves by its own
    width, or half an image, which contains whole patches of most sizes."""
    stated = getattr(model, "patch_size", None)
    if stated is not None:
        return pair(stated, "the model's patch_size")
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == module.stride != (1, 1):
            return pair(module.kernel_size)
    return images.shape[2] // 2, images.shape[3] // 2


def _negative(images: Tensor, rows: slice, columns: slice) -> Tensor:
    """The images with other pixels in that part: 1 minus each of them."""
    changed = images.clone()
    changed[:, :, rows, columns] = 1.0 - changed[:, :, rows, columns]
    return changed


def _spans(side: int, count: int) -> list[slice]:
    return [slice(a, b) for a, b in pairwise(round(i * side / count) for i in range(count + 1))]


def logits(
    model: nn.Module, images: Float[Tensor, "B C H W"], grad: bool = False
) -> Float[Tensor, "B K"]:
    """The model's answer as logits, taken out of a tuple or an object with `.logits`."""
    with torch.set_grad_enabled(grad):
        answer = model(images)
    answer = getattr(answer, "logits", answer)
    answer = answer[0] if isinstance(answer, tuple) else answer
    if not isinstance(answer, Tensor) or answer.ndim != 2 or len(answer) != len(images):
        found = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
        raise ValueError(
            f"expected logits of shape ({len(images)}, K) for {len(images)} images, got {found}"
        )
    return answer.float()
