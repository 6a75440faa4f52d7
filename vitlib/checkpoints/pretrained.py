"""Loading other people's weights into a model, with a report of what happened to each tensor.

    read_foreign -> translate -> settings_of -> fit into the model -> LoadReport

Everything is checked before the first number is copied, so a model is either filled or untouched.
"""

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.resources import as_file, files
from typing import Any

import torch
from torch import Tensor, nn

from vitlib.checkpoints.configs import check_model_type, is_rotary
from vitlib.checkpoints.dialects import Translation, translate
from vitlib.checkpoints.fitting import HEADS, describe_misfits, fit_weights
from vitlib.checkpoints.known_settings import ROTARY
from vitlib.checkpoints.native import stored_arguments, unwrapped
from vitlib.checkpoints.reading import Foreign, read_foreign
from vitlib.checkpoints.report import LoadReport, differences, listed
from vitlib.checkpoints.settings import SourceSettings, layers_of, settings_of
from vitlib.checkpoints.tables import patch_shapes
from vitlib.model import VisionTransformer
from vitlib.patch import pair
from vitlib.presets import PRESETS, Preset
from vitlib.wording import first_few

Place = str | os.PathLike[str]
NO_POSITIONS = (
    "holds no position embeddings: most models without them compute positions otherwise, such as "
    "by rotating queries and keys (RoPE, DINOv3), which VisionTransformer does not"
)


@dataclass
class Pretrained:
    """Weights that were read (`foreign`) and translated to timm's names (`found`)."""

    foreign: Foreign
    found: Translation
    settings: SourceSettings


def load_pretrained(
    model: nn.Module,
    path_or_hub_id: Place,
    source: str = "auto",
    *,
    strict: bool = True,
    resize_pos_embed: bool = False,
    new_head: bool = False,
) -> LoadReport:
    """Fill `model` with weights from a file, a folder or the Hugging Face Hub ("owner/name").

    Only the weights change: the model keeps its device, precision, mode, mean, std and classes. The
    report names each setting in which the source differs. If the file has another number of classes
    than the model, the head stays as it was initialised, and the report says so.

    Args:
        model: a `VisionTransformer`, or any module whose parameters have the same names.
        path_or_hub_id: safetensors, .bin, .pth or .npz; a folder with one of them; or a Hub id.
        source: whose names the file uses, one of `SOURCES`; "auto" detects it by the names.
        strict: whether to raise an error if any tensor is missing, left over or of another shape;
            False loads what fits and reports the rest.
        resize_pos_embed: whether to resample position embeddings of another grid of patches
            (bicubic; as the source does it, where that is known, else as timm does it).
        new_head: whether to keep the model's own head in any case.

    Raises ValueError, naming the tensors, if they do not fit or are not finite, and whatever
    reading raises (see `read_foreign`, `translate`). The model is then untouched.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"load_pretrained(model, path) fills a model, got {type(model).__name__}")
    return load_into(
        model, read_pretrained(path_or_hub_id, source),
        strict=strict, resize_pos_embed=resize_pos_embed, new_head=new_head,
    )  # fmt: skip


def build_pretrained(path_or_hub_id: Place, overrides: Mapping[str, Any]) -> VisionTransformer:
    """A model built like the source, with its weights, in eval mode: see `create_model`.

    Raises ValueError if the file does not tell what to build, and where `load_pretrained` does.
    """
    pretrained = read_pretrained(path_or_hub_id)
    settings, origin = pretrained.settings, pretrained.foreign.origin
    if pretrained.foreign.native is not None:
        arguments = stored_arguments(pretrained.foreign.native)
    else:
        pretrained = _resolve_patches(pretrained, overrides)
        settings = pretrained.settings
        _refuse_what_is_unclear(pretrained, overrides)
        chosen = {name: why for name, why in settings.unlike.items() if name not in overrides}
        pretrained = replace(pretrained, settings=replace(settings, unlike=chosen))
        arguments = settings.arguments | layers_of(settings)
    arguments = {**arguments, **overrides}
    missing = [name for name in ("num_heads", "embed_dim") if name not in arguments]
    if missing:
        raise ValueError(
            f"nothing in {origin} tells {missing[0]}: give it, create_model(..., {missing[0]}=...)"
        )
    if settings.heads_are_a_guess and "num_heads" not in overrides:
        warnings.warn(
            f"nothing in {origin} tells the number of attention heads: "
            f"{arguments['num_heads']} are taken, as published ViTs of this width have; "
            "num_heads=... says otherwise",
            stacklevel=3,
        )
    model = VisionTransformer(**arguments)
    _fill(model, pretrained, overrides)
    return model


def _refuse_what_is_unclear(pretrained: Pretrained, overrides: Mapping[str, Any]) -> None:
    """Raise a ValueError for what vitlib lacks, or no file tells, unless it is overridden."""
    found, settings, origin = pretrained.found, pretrained.settings, pretrained.foreign.origin
    if settings.contradiction:
        raise ValueError(
            f"{origin}: config.json belongs to other weights: {settings.contradiction}. Put the "
            "right one beside the weights, or give the file of weights alone, in another folder"
        )
    if pretrained.foreign.is_folder and found.source == "hf" and pretrained.foreign.config is None:
        raise ValueError(
            f"{origin} has no config.json, which says the number of attention heads and the eps of "
            "LayerNorm: add it, or give the file of weights itself, for which the usual ones are "
            "taken"
        )
    for argument, sentence in settings.unlike.items():
        if argument not in overrides:
            raise ValueError(
                f"{origin}: {sentence} Give {argument}=... to build a model with another one"
            )
    if set(found.extra) - set(found.odd_head):
        return  # not only these differ: the list of all that does not fit says more
    if found.odd_head and "num_classes" not in overrides:
        raise ValueError(
            f"{origin}: its head is more than one linear layer on one token "
            f"({first_few(found.odd_head, 4)}), which VisionTransformer does not have. "
            "num_classes=K builds a new head for K classes, num_classes=0 a model without one, for "
            "its features"
        )
    if lacks_positions(found) and "pos_embed" not in overrides:
        raise ValueError(
            f'{origin} {NO_POSITIONS}. If this one really has none, give pos_embed="none"'
        )


def lacks_positions(found: Translation) -> bool:
    """Whether weights that are otherwise a ViT's hold no position embeddings."""
    return "cls_token" in found.weights and "pos_embed" not in found.weights


def _resolve_patches(pretrained: Pretrained, overrides: Mapping[str, Any]) -> Pretrained:
    """Give a patch projection that is a matrix its channels and sides, which the caller must tell.

    Raises ValueError if the caller does not.
    """
    name, found = "patch_embed.proj.weight", pretrained.found
    weight = found.weights.get(name)
    if weight is None or weight.ndim == 4:
        return pretrained
    if weight.ndim != 2:
        raise ValueError(
            f"{pretrained.foreign.origin}: {found.origins[name][0]} has shape "
            f"{tuple(weight.shape)}, expected (D, C, P, P): VisionTransformer cuts patches out of "
            "single images"
        )
    channels, side = overrides.get("in_chans"), overrides.get("patch_size")
    rows, columns = pair(side) if side is not None else (0, 0)
    if not channels or channels * rows * columns != weight.shape[1]:
        possible = " or ".join(
            f"in_chans={c}, patch_size={p}" for c, p in patch_shapes(weight.shape[1])
        )
        raise ValueError(
            f"{pretrained.foreign.origin}: {found.origins[name][0]} is a matrix of "
            f"{weight.shape[1]} columns, which does not tell channels and patches apart: give "
            f"{possible or 'in_chans=... and patch_size=...'}"
        )
    weights = {**found.weights, name: weight.reshape(-1, channels, rows, columns)}
    operations = {**found.operations, name: "reshaped"}
    found = replace(found, weights=weights, operations=operations)
    return Pretrained(pretrained.foreign, found, settings_of(found, pretrained.foreign))


def load_preset(preset: Preset, model: VisionTransformer, overrides: Mapping[str, Any]) -> None:
    """Fill a preset's model with the weights in vitlib or on the Hub, and put it in eval mode.

    Raises ValueError if there are none, or if they do not fit.
    """
    folder = files("vitlib") / "weights"
    packaged = folder / f"{preset.name}.safetensors"
    if packaged.is_file():
        with as_file(packaged) as path:
            _fill(model, read_pretrained(path), overrides)
        return
    if preset.hub_id is None:
        entries = folder.iterdir() if folder.is_dir() else ()
        stems = (entry.name.partition(".safetensors") for entry in entries)
        on_hub = (name for name, other in PRESETS.items() if other.hub_id)
        known = sorted([*(stem for stem, suffix, _ in stems if suffix), *on_hub])
        raise ValueError(f"there are no weights for {preset.name!r}; there are some for: {known}")
    if preset.headless and model.num_classes and "num_classes" not in overrides:
        raise ValueError(
            f"the published weights of {preset.name} have no head: create it with num_classes=0 "
            "for its features, or with the number of your classes for a new head"
        )
    if model.in_chans != 3:  # better to say so before hundreds of megabytes are downloaded
        raise ValueError(
            f"the published weights of {preset.name} read 3 channels, in_chans={model.in_chans} "
            "was asked for: leave it out, and repeat a grey picture, images.expand(-1, 3, -1, -1)"
        )
    _fill(model, read_pretrained(preset.hub_id), overrides)


def read_pretrained(place: Place, source: str = "auto") -> Pretrained:
    """Read what `load_pretrained` would load, for callers that need its settings to build a model.

    Raises whatever `read_foreign` and `translate` raise.
    """
    foreign = read_foreign(place)
    other = check_model_type(foreign.config)
    try:
        found = translate(foreign.tensors, source)
        if other and found.source == "hf":
            raise ValueError("its parameters have a plain ViT's names, but it computes otherwise")
        return Pretrained(foreign, found, settings_of(found, foreign))
    except ValueError as error:
        why = f": {ROTARY}" if is_rotary(foreign.config) and ROTARY not in str(error) else ""
        raise ValueError(f"{foreign.origin}: {other and other + '. '}{error}{why}") from error


def _fill(model: VisionTransformer, pretrained: Pretrained, overrides: Mapping[str, Any]) -> None:
    """Load weights for `create_model`, with their statistics; the overrides are intended."""
    settings = pretrained.settings
    headless = not any(f"{head}.weight" in pretrained.found.weights for head in HEADS)
    new_head = headless and "num_classes" in overrides
    report = load_into(
        model, pretrained, resize_pos_embed="img_size" in overrides, new_head=new_head
    )
    head = _describe_lost_head(pretrained, model)
    for note in (*settings.notes, *pretrained.found.guesses, *head):
        warnings.warn(f"{report.origin}: {note}", stacklevel=4)
    if settings.mean and len(settings.mean) == model.in_chans:
        model.mean, model.std = settings.mean, settings.std
    if "mean and std" in settings.assumed and model.mean is not None:
        warnings.warn(
            f"{report.origin} does not say with which mean and std its pixels were normalised: "
            f"{model.mean} and {model.std} are taken, as published models of this kind have; set "
            "model.mean and model.std, if yours are others",
            stacklevel=4,
        )
    if model.mean is None:
        warnings.warn(
            f"{report.origin} does not say with which mean and std its pixels were normalised: "
            "set model.mean and model.std, if you know them",
            stacklevel=4,
        )
    loaded_head = model.num_classes and "head.weight" in report.loaded
    model.classes = settings.classes if loaded_head else None
    model.eval()


def _describe_lost_head(pretrained: Pretrained, model: VisionTransformer) -> list[str]:
    """A sentence, if the file's head is none that VisionTransformer holds, and is left out."""
    if not pretrained.found.odd_head:
        return []
    instead = "a new one takes its place" if model.num_classes else "the model has none"
    names = first_few(pretrained.found.odd_head, 4)
    return [f"The file's head ({names}) is more than one linear layer on one token: {instead}."]


def load_into(
    model: nn.Module,
    pretrained: Pretrained,
    *,
    strict: bool = True,
    resize_pos_embed: bool = False,
    new_head: bool = False,
) -> LoadReport:
    """`load_pretrained`, for weights that have already been read."""
    model = unwrapped(model)
    found, settings, origin = pretrained.found, pretrained.settings, pretrained.foreign.origin
    own = model.state_dict()
    if "patch_embed.proj.weight" not in own:
        wrapped = " (it is wrapped: pass model.module)" if hasattr(model, "module") else ""
        raise ValueError(
            f"a {type(model).__name__} has no parameter patch_embed.proj.weight{wrapped}: "
            "load_pretrained fills a VisionTransformer, or a module whose parameters have its names"
        )
    fit = fit_weights(model, found, settings, resize=resize_pos_embed, new_head=new_head)
    if strict and fit.misfits:
        raise ValueError(describe_misfits(model, origin, found, fit, settings))
    cast = _check_numbers(origin, found, fit.tensors, own)
    model.load_state_dict(fit.tensors, strict=False)

    done = {name: found.operations.get(name) for name in fit.tensors}
    return LoadReport(
        origin=origin,
        source=found.source,
        loaded=tuple(fit.tensors),
        missing=tuple(fit.missing),
        extra=tuple(fit.extra),
        mismatched=tuple(fit.mismatches),
        resized=tuple(fit.resized),
        reshaped=tuple(f"{name} {how}" for name, how in done.items() if how),
        cast=tuple(cast),
        left_out=found.left_out | fit.left_out,
        head=fit.head,
        settings=(*found.guesses, *fit.notes, *differences(model, settings)),
        mean=settings.mean,
        std=settings.std,
    )


def _check_numbers(
    origin: str, found: Translation, tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]
) -> list[str]:
    """The entries of `LoadReport.cast`: the tensors whose precision changes.

    Raises ValueError for numbers that are not finite in the model's precision.
    """
    cast: list[str] = []
    broken: list[str] = []
    for name, tensor in tensors.items():
        mine, stored = own[name].dtype, found.weights[name].dtype
        if stored != mine:
            words = (str(dtype).removeprefix("torch.") for dtype in (stored, mine))
            cast.append(f"{name} {' -> '.join(words)}")
        if not torch.isfinite(tensor.to(mine)).all():
            broken += found.origins.get(name, (name,))
    if broken:
        raise ValueError(f"{origin} holds numbers that are not finite, in {listed(broken, 8)}")
    return cast
