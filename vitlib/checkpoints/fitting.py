"""Which of a file's tensors goes where in a model, decided before anything is copied.

    translated weights, their settings, a model -> Fit -> tensors to copy, or what does not fit

What does not fit is described in words, with what helps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from vitlib.checkpoints.dialects import Translation
from vitlib.checkpoints.positions import Layout, fit_positions, fold_positions, layout_of
from vitlib.checkpoints.report import group_misfits, listed, title_of
from vitlib.checkpoints.settings import SourceSettings, arguments_of, heads_of, length_of
from vitlib.wording import first_few

HEADS = ("head", "head_dist")


@dataclass
class Fit:
    """What goes where. The names in `missing`, `mismatched` and `kept` are the model's."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)  # the file's names
    mismatched: dict[str, str] = field(default_factory=dict)  # name, or num_heads -> what differs
    positions: Layout | None = None  # of the file
    resized: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)  # the file's name -> why
    kept: set[str] = field(default_factory=set)  # on purpose as they were initialised
    head: str = ""  # what becomes of it
    notes: list[str] = field(default_factory=list)  # sentences
    unlike: list[str] = field(default_factory=list)  # likewise: what the source has and vitlib not

    @property
    def mismatches(self) -> list[str]:
        """The mismatched names, each with what differs, and what no vitlib model has."""
        names = [f"{name} {difference}" for name, difference in self.mismatched.items()]
        return [*names, *self.unlike]

    @property
    def misfits(self) -> dict[str, Sequence[str]]:
        """What does not fit, by kind: see `group_misfits`."""
        return group_misfits(self.missing, self.extra, self.mismatches)


def fit_weights(
    model: nn.Module, found: Translation, settings: SourceSettings, resize: bool, new_head: bool
) -> Fit:
    """Find each tensor's place in `model`: by rule for head and positions, by name for the rest.

    Args:
        found: the file's weights under timm's names; settings: what is known about them.
        resize: whether to resample position embeddings of another grid.
        new_head: whether the model keeps its own head in any case.

    Raises ValueError for position embeddings that fill no grid.
    """
    fit, own = Fit(), dict(model.state_dict())
    weights = _place_head(fit, found, own, new_head)
    _reshape_patches(weights, own)
    _place_positions(fit, model, weights=weights, own=own, settings=settings, resize=resize)
    placed = fit.tensors.keys() | fit.mismatched.keys() | fit.kept
    for name in [name for name in own if name not in placed]:
        if name not in weights:
            fit.missing.append(name)
        elif weights[name].shape == own[name].shape:
            fit.tensors[name] = weights[name]
        else:
            shapes = tuple(weights[name].shape), tuple(own[name].shape)
            fit.mismatched[name] = f"{shapes[0]} in the file, {shapes[1]} in the model"
    for name in weights:
        if name not in own:
            fit.extra += found.origins.get(name, (name,))
    if heads_known_to_differ(model, settings):
        theirs = settings.arguments["num_heads"]
        fit.mismatched["num_heads"] = f"{theirs} in the source, {heads_of(model)} in the model"
    has_gelu = any(isinstance(module, nn.GELU) for module in model.modules())
    fit.unlike = [
        sentence.removesuffix(".")
        for argument, sentence in settings.unlike.items()
        if argument != "act_layer" or has_gelu  # else the caller chose another activation
    ]
    if "head.weight" in fit.tensors:
        fit.head = f"loaded, {own['head.weight'].shape[0]} classes"
    elif not fit.head:
        why = "has another width" if "head.weight" in fit.mismatched else "is missing"
        fit.head = f"as initialised: the file's {why}"
    return fit


def describe_misfits(
    model: nn.Module, origin: str, found: Translation, fit: Fit, settings: SourceSettings
) -> str:
    """A message that lists everything that does not fit, and what helps."""
    heads, theirs = heads_of(model), settings.arguments
    ours = arguments_of(model.state_dict()) | {"num_heads": heads}
    special = {"num_classes", "init_values", "num_heads"}
    build = [k for k in ours.keys() & theirs.keys() - special if theirs[k] != ours[k]]
    if (theirs["init_values"] is None) != (ours["init_values"] is None):
        build.append("init_values")
    other_width = "embed_dim" in build and theirs.get("num_heads", heads) != heads
    if other_width or "num_heads" in fit.mismatched:
        build.append("num_heads")
    lines = [f"{origin} ({title_of(found.source)}) does not fit the model, which is untouched:"]
    lines += [f"  {title}: {listed(names, 8)}" for title, names in fit.misfits.items()]
    if build:
        arguments = ", ".join(f"{name}={theirs[name]!r}" for name in sorted(build))
        lines.append(f"Build the model as the source was: {arguments}.")
    if "in_chans" in build:
        lines.append("A grey picture fits a model of three channels when it is repeated.")
    if "patches" in fit.mismatched.get("pos_embed", "") and "patch_size" not in build:
        lines.append("load_pretrained(..., resize_pos_embed=True) resamples the positions.")
    if "head.weight" in fit.missing:
        lines.append("load_pretrained(..., new_head=True) keeps the model's own head.")
    if found.odd_head and "head.weight" in fit.missing:
        lines.append(
            "The source's head is more than one linear layer on one token. create_model(..., "
            "num_classes=K) builds a new one for K classes, num_classes=0 none."
        )
    if "cls_token" in fit.missing and _has_no_class_token(fit, found.weights):
        lines.append(
            "The source has no class token, it averages its patch tokens; VisionTransformer always "
            "has one, which every patch attends to: no vitlib model gives the source's logits."
        )
    else:
        lines.append("load_pretrained(..., strict=False) loads what fits, and reports the rest.")
    return "\n".join(lines)


def _has_no_class_token(fit: Fit, weights: Mapping[str, Tensor]) -> bool:
    """Whether the source has no class token at all: then it has no position for one, either."""
    if fit.positions is not None:
        return "cls_token" not in fit.positions.slots
    return "pos_embed" not in weights and "fc_norm.weight" in weights


def heads_known_to_differ(model: nn.Module, settings: SourceSettings) -> bool:
    """Whether the source states another number of heads than the model has.

    The shapes are the same then, so every tensor fits, but the model would compute something else.
    """
    heads, theirs = heads_of(model), settings.arguments.get("num_heads")
    return not settings.heads_are_a_guess and None not in (heads, theirs) and heads != theirs


def _place_head(
    fit: Fit, found: Translation, own: Mapping[str, Tensor], new_head: bool
) -> dict[str, Tensor]:
    """Decide whether the model gets the file's head; returns the weights without it if not.

    Both heads of a distilled model are treated alike, and so is the layer before the head
    (pre_logits) if only one side has it.
    """
    weights = dict(found.weights)
    theirs, ours = (
        {h: length for h in HEADS if (length := length_of(tensors, f"{h}.weight")) is not None}
        for tensors in (weights, own)
    )
    differ = any(theirs[head] != ours[head] for head in theirs.keys() & ours.keys())
    number = next(iter(ours.values()), 0)
    in_file = f"{next(iter(theirs.values()))} classes in the file" if theirs else "none in the file"
    if found.odd_head:
        in_file = f"another kind of head in the file ({first_few(found.odd_head, 2)})"
    if not ours:
        fit.head = f"none in the model (num_classes=0), {in_file}"
    elif new_head:
        fit.head = f"new, as initialised: {number} classes in the model, {in_file}"
    elif differ:
        fit.head = f"new, as initialised: {in_file}, {number} in the model"
    else:
        return weights
    for name in list(weights):
        first = name.partition(".")[0]
        dropped = first == "pre_logits" and (
            name not in own or own[name].shape != weights[name].shape
        )
        if first in HEADS or dropped or name in found.odd_head:
            fit.left_out |= dict.fromkeys(found.origins.get(name, (name,)), "the head is not used")
            del weights[name]
    head_parts = (*HEADS, "pre_logits")
    fit.kept |= {n for n in own if n.partition(".")[0] in head_parts and n not in weights}
    return weights


def _reshape_patches(weights: dict[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Give a patch projection that is stored as a matrix the shape of the model's convolution."""
    name = "patch_embed.proj.weight"
    theirs, ours = weights.get(name), own.get(name)
    if theirs is None or ours is None or theirs.ndim != 2 or ours.ndim != 4:
        return
    if theirs.shape == (ours.shape[0], ours[0].numel()):
        weights[name] = theirs.reshape(ours.shape)


def _place_positions(
    fit: Fit,
    model: nn.Module,
    weights: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    settings: SourceSettings,
    resize: bool,
) -> None:
    """Bring the file's position embeddings into the model's slots and onto its grid."""
    if not ("pos_embed" in weights and "pos_embed" in own):
        return
    theirs, ours = weights["pos_embed"], own["pos_embed"]
    if theirs.ndim != 3 or theirs.shape[-1] != ours.shape[-1]:
        return  # the width differs, as that of everything else does
    grid = getattr(model, "grid_size", None)
    target = layout_of(own, [grid] if isinstance(grid, tuple) else [])
    grids = [*([settings.grid] if settings.grid else []), target.grid]
    try:
        source = layout_of(weights, grids)
    except ValueError:  # the file may have a position for a token that it lacks
        source = layout_of({**own, "pos_embed": theirs}, grids)
    fit.positions = source
    before, after = ("×".join(map(str, layout.grid)) for layout in (source, target))
    if before != after and not resize:
        fit.mismatched["pos_embed"] = f"{before} patches in the file, {after} in the model"
        return
    antialias = settings.arguments.get("pos_antialias", True)
    fit.tensors["pos_embed"] = fit_positions(weights, source, own, target, antialias)
    if before != after:
        fit.resized.append(f"pos_embed {before} -> {after}")
        how = (
            "with anti-aliasing, as timm does"
            if antialias
            else "without anti-aliasing, as transformers does for DINOv2"
        )
        fit.notes.append(f"Positions are resampled by bicubic interpolation, {how}.")
    folded = fold_positions(weights, source, own, target)
    fit.tensors |= folded
    fit.notes += [
        f"The model has no position for {name}: the source's is added to the token, which is the "
        "same."
        for name in folded
    ]
    fit.notes += [
        f"The source stores no position for {name}: it gets zero, which is the same."
        for name in target.slots
        if name in weights and name not in source.slots
    ]
