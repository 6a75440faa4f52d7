"""Trains the book's small model with one thing changed at a time, at four rates, three seeds each.

    python -m vitlib.runs.train_mistakes

Writes mistakes.json, for chapter 8 (record.py describes such files). `CHANGES` lists what
is changed: mistakes in the code, mistakes in the recipe, and choices that are often blamed. Every
change is trained at each of `RATES`, since a mistake that another learning rate makes up for is
less bad than one that none does, and since each choice has a rate that suits it.

The recipe is the book's, `vitlib.TrainConfig`, except that a run has only 400 steps and keeps no
average of the weights. All numbers are of the validation digits, a tenth of the training digits
that no run learns from; the test digits are not used.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitlib import (
    Attention,
    Block,
    ImageData,
    ImageSet,
    TrainConfig,
    VisionTransformer,
    create_model,
    evaluate,
    load_data,
)
from vitlib.matching import normalised_for
from vitlib.runs.diverging import fit_or_diverge
from vitlib.runs.in_parallel import one_core_each
from vitlib.runs.log import accuracy_curve, loss_curve, window_means, write_log
from vitlib.runs.train_blocks import Rewired, post_norm, residuals_only
from vitlib.runs.train_strips import Strips
from vitlib.train import TrainState, param_groups

LOG = Path(__file__).with_name("mistakes.json")
NAME, SEEDS, RATES = "vit_nano_patch7_28", (0, 1, 2), (3e-4, 1e-3, 3e-3, 1e-2)
RECIPE = TrainConfig(steps=400, ema_decay=None, val_fraction=0.0, progress=False)
VAL_FRACTION, EVAL_EVERY = 0.1, 40
WINDOW = 20  # steps whose mean loss is one point of the curve


# --- mistakes in the model


def blocks_of(model: VisionTransformer) -> list[Block]:
    return [block for block in model.blocks if isinstance(block, Block)]


def weights_of_deviation_1(model: VisionTransformer) -> None:
    """Every matrix from a normal distribution of deviation 1, as torch.randn gives them."""
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 and name.endswith("weight"):
            nn.init.normal_(parameter)


def tokens_of_deviation_1(model: VisionTransformer) -> None:
    """The class token and the positions from torch.randn."""
    for name in ("cls_token", "pos_embed"):
        nn.init.normal_(model.get_parameter(name))


def rewire(model: VisionTransformer, rule: Callable[..., Tensor]) -> None:
    """Other connections within the blocks."""
    model.blocks = nn.Sequential(*(Rewired(block, rule) for block in blocks_of(model)))


def without_norms(model: VisionTransformer) -> None:
    """No LayerNorm anywhere."""
    rewire(model, residuals_only)
    model.norm = nn.Identity()


class NoMixing(nn.Module):
    """In place of attention: a linear layer for each token on its own."""

    def __init__(self, dim: int):
        super().__init__()
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        return self.proj(x)


def never_mix(model: VisionTransformer) -> None:
    """No token sees another one."""
    for block in blocks_of(model):
        block.attn = NoMixing(model.embed_dim)  # type: ignore[assignment]


class OverQueries(nn.Module):
    """Attention whose weights sum to 1 over the queries, because the softmax has the wrong axis."""

    def __init__(self, attention: Attention):
        super().__init__()
        self.inside = attention

    def forward(self, x: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        inside = self.inside
        shape = (*x.shape[:2], 3, inside.num_heads, inside.head_dim)
        q, k, v = inside.qkv(x).reshape(shape).permute(2, 0, 3, 1, 4)  # each (B, H, N, d)
        weights = (q @ k.transpose(-2, -1) * inside.scale).softmax(dim=-2)
        return inside.proj((weights @ v).transpose(1, 2).flatten(2))


def softmax_over_queries(model: VisionTransformer) -> None:
    """softmax(dim=-2)."""
    for block in blocks_of(model):
        block.attn = OverQueries(block.attn)  # type: ignore[assignment]


def softmax_in_the_model(model: VisionTransformer) -> None:
    """The model returns probabilities, and the loss takes the softmax of them again."""
    model.head = nn.Sequential(model.head, nn.Softmax(dim=1))


# --- mistakes in the data


def pixels(data: ImageData, mean: float, std: float) -> ImageData:
    """The same digits, normalised by another mean and deviation."""
    train, test = (
        ImageSet(part.images, part.labels, (mean,), (std,)) for part in (data.train, data.test)
    )
    return replace(data, train=train, test=test, mean=(mean,), std=(std,))


def few(data: ImageData, count: int) -> ImageData:
    """So many of the training digits, as many of each class."""
    _, some = data.split(count / len(data.train), seed=0)
    return replace(data, train=some)


# --- mistakes in the recipe


def decay_everything(state: TrainState, weight_decay: float = RECIPE.weight_decay) -> None:
    """AdamW's weight decay for what `param_groups` spares: biases, norms, tokens, positions."""
    _, spared = param_groups(state.model, weight_decay)
    with torch.no_grad():
        for parameter in spared["params"]:
            parameter.mul_(1 - state.lr * weight_decay)


@dataclass(frozen=True)
class Change:
    """One thing that is not as in the book's recipe.

    Attributes:
        model: arguments of create_model.
        spoil: changes the model before training.
        data: changes the data set, after the validation digits have been taken out.
        recipe: settings of the TrainConfig.
        callbacks: for `fit`.
        eval_mode: whether the model is validated in eval mode.
    """

    model: dict[str, Any] = field(default_factory=dict)
    spoil: Callable[[VisionTransformer], None] | None = None
    data: Callable[[ImageData], ImageData] | None = None
    recipe: dict[str, Any] = field(default_factory=dict)
    callbacks: tuple[Callable[[TrainState], None], ...] = ()
    eval_mode: bool = True


CHANGES = {
    "nothing": Change(),
    # mistakes in the code of the model
    "weights start with deviation 1": Change(spoil=weights_of_deviation_1),
    "tokens start with deviation 1": Change(spoil=tokens_of_deviation_1),
    "no 1/√d": Change(model={"qk_scale": 1.0}),
    "softmax over the queries": Change(spoil=softmax_over_queries),
    "softmax before the loss": Change(spoil=softmax_in_the_model),
    "tokens never mix": Change(spoil=never_mix),
    "no positions": Change(model={"pos_embed": "none"}),
    "strips instead of patches": Change(model={"embed_layer": Strips}),
    "post-norm": Change(spoil=partial(rewire, rule=post_norm)),
    "no norm at all": Change(spoil=without_norms),
    # mistakes in the data and in the recipe
    "pixels from 0 to 255": Change(data=partial(pixels, mean=0.0, std=1 / 255)),
    "pixels from 0 to 1": Change(data=partial(pixels, mean=0.0, std=1.0)),
    "no warm-up": Change(recipe={"warmup_steps": 0}),
    "weight decay on everything": Change(callbacks=(decay_everything,)),
    "no weight decay": Change(recipe={"weight_decay": 0.0}),
    "no clipping": Change(recipe={"clip_grad": None}),
    # choices
    "no augmentation": Change(recipe={"augment": "none"}),
    "400 digits": Change(data=partial(few, count=400)),
    "patches of 4": Change(model={"patch_size": 4}),
    "patches of 14": Change(model={"patch_size": 14}),
    "dropout 0.1": Change(model={"drop_rate": 0.1}),
    "dropout 0.1, eval() forgotten": Change(model={"drop_rate": 0.1}, eval_mode=False),
}


def build(change: str, seed: int) -> VisionTransformer:
    """The model of one run, before training."""
    torch.manual_seed(seed)
    chosen = CHANGES[change]
    model = create_model(NAME, **chosen.model)
    if chosen.spoil is not None:
        chosen.spoil(model)
    return model


def accuracy(model: nn.Module, digits: ImageSet, eval_mode: bool = True) -> float:
    """The share of the digits that the model reads rightly, in eval mode or in training mode."""
    if eval_mode:
        return round(evaluate(model, digits).accuracy, 4)
    images, labels = digits.batch(torch.arange(len(digits)))
    model.train()
    with torch.no_grad():
        answers = model(normalised_for(model, digits).normalize(images)).argmax(dim=1)
    return round((answers == labels).float().mean().item(), 4)


def run(change: str, lr: float, seed: int, steps: int = RECIPE.steps) -> dict[str, Any]:
    """Train and validate one model; return its entry in the log.

    A run that diverges is recorded up to that step.
    """
    chosen, data = CHANGES[change], load_data("mnist5k")
    rest, val = data.split(VAL_FRACTION, seed=seed)
    data = replace(data, train=rest)
    if chosen.data is not None:
        data = chosen.data(data)
    model = build(change, seed)
    curve: list[float] = []

    def validate(state: TrainState) -> None:
        if state.step % EVAL_EVERY == 0:
            curve.append(accuracy(state.model, val, chosen.eval_mode))
            state.model.train()

    config = replace(RECIPE, steps=steps, lr=lr, seed=seed, **chosen.recipe)
    history, diverged_at = fit_or_diverge(model, data, config, [*chosen.callbacks, validate])
    last = None if diverged_at else curve[-1]
    print(change, lr, seed, last, diverged_at, flush=True)
    return {
        "change": change,
        "lr": lr,
        "seed": seed,
        "last_val_accuracy": last,
        "diverged_at": diverged_at,
        "loss": window_means(history.loss, WINDOW),
        "val_accuracy": curve,
    }


def record(path: Path, jobs: Iterable[tuple[Any, ...]], steps: int = RECIPE.steps) -> None:
    """Run these jobs, arguments of `run`, for so many steps, and write their log."""
    curves = loss_curve(steps, WINDOW) | {"val_accuracy": accuracy_curve(steps, EVAL_EVERY)}
    write_log(
        path,
        model=NAME,
        details={"val_fraction": VAL_FRACTION},
        recipe=replace(RECIPE, steps=steps),
        settings={"change": "What is changed", "lr": "Learning rate"},
        curves=curves,
        results={"last_val_accuracy": {"label": "Validation accuracy at the end", "percent": True}},
        runs=one_core_each(partial(run, steps=steps), jobs),
    )


if __name__ == "__main__":
    record(LOG, [(c, lr, seed) for c in CHANGES for lr in RATES for seed in SEEDS])
