"""Chapter 6, dialects: the exercises, their right answers and their usual mistakes."""

import re
from functools import partial

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from torch import nn

from vitlib.check.exercise import Cases, Exercise, call, numbers, twin

# --- 6.1 strip_wrappers: what stands around a state dict


def _strip(checkpoint):
    for wrapper in ("model", "state_dict"):
        if wrapper in checkpoint:
            checkpoint = checkpoint[wrapper]
    return {_bare(name): weight for name, weight in checkpoint.items()}


def _bare(name):
    while name.startswith(("module.", "_orig_mod.")):
        _, name = name.split(".", maxsplit=1)
    return name


def _strip_by_parts(checkpoint):
    weights = checkpoint.get("model", checkpoint.get("state_dict", checkpoint))
    result = {}
    for name in weights:
        parts = name.split(".")
        while parts[0] in ("module", "_orig_mod"):
            parts = parts[1:]
        result[".".join(parts)] = weights[name]
    return result


def _strip_by_pattern(checkpoint):
    if "model" in checkpoint:
        return _strip_by_pattern(checkpoint["model"])
    if "state_dict" in checkpoint:
        return _strip_by_pattern(checkpoint["state_dict"])
    return {re.sub(r"^(module\.|_orig_mod\.)*", "", n): w for n, w in checkpoint.items()}


def _strip_in_place(checkpoint):
    weights = checkpoint.get("model") or checkpoint.get("state_dict") or checkpoint
    for name in list(weights):
        short = name.removeprefix("module.").removeprefix("_orig_mod.").removeprefix("module.")
        weights[short] = weights.pop(name)
    return weights


def _strip_with(bare=_bare, wrappers=("model", "state_dict")):
    """The right answer but for how a name is bared, or which wrappers are known."""

    def strip_wrappers(checkpoint):
        for wrapper in wrappers:
            checkpoint = checkpoint.get(wrapper, checkpoint)
        return {bare(name): weight for name, weight in checkpoint.items()}

    return strip_wrappers


def _strip_first_entry(checkpoint):
    first = next(iter(checkpoint.values()))
    weights = first if isinstance(first, dict) else checkpoint
    return {_bare(name): weight for name, weight in weights.items()}


def _strip_cases(answer) -> Cases:
    names = "cls_token", "blocks.0.mlp.fc1.weight", "norm.bias", "head.weight"

    def named(prefix, *more):
        full = [prefix + name for name in (*names, *more)]
        return {name: numbers(2, 3, seed=i) for i, name in enumerate(full)}

    def saved(weights, key):
        """As training scripts save it, with the running mean of the weights as well."""
        average = {"norm.bias": numbers(2, seed=9)}
        return {"model_ema": average, "optimizer": {"lr": 0.1}, key: weights, "epoch": 3}

    inside = "head.submodule.weight", "neck.module.bias", "modules.0.bias"
    yield "a plain state dict", lambda: call(answer, named(""))
    yield "names that begin with “module.”", lambda: call(answer, named("module."))
    yield "names that begin with “_orig_mod.”", lambda: call(answer, named("_orig_mod."))
    yield "“module._orig_mod.”", lambda: call(answer, named("module._orig_mod."))
    yield "“_orig_mod.module.”", lambda: call(answer, named("_orig_mod.module."))
    yield (
        "{'model': weights} among other things",
        lambda: call(answer, saved(named(""), "model")),
    )
    yield (
        "{'state_dict': weights} among other things",
        lambda: call(answer, saved(named(""), "state_dict")),
    )
    yield (
        "{'model': weights} whose names begin with “module.”",
        lambda: call(answer, saved(named("module."), "model")),
    )
    yield (
        "names with “module” in the middle, too",
        lambda: call(answer, named("module.", *inside)),
    )
    yield (
        "names with “module” in the middle only",
        lambda: call(answer, named("", *inside)),
    )


strip_wrappers = Exercise(
    name="strip_wrappers",
    chapter="06_dialects",
    task="strip_wrappers(checkpoint) -> a dictionary from bare names to weights: taken out of "
    "checkpoint['model'] or checkpoint['state_dict'] if there is one; without 'module.' and "
    "'_orig_mod.' at the start of names, in whatever order they stand",
    reference=_strip,
    cases=_strip_cases,
    mutants={
        "stripped_by_letters": (
            _strip_with(lambda name: name.lstrip("module.").lstrip("_orig_mod.")),  # noqa: B005
            "`lstrip` takes a set of letters, not a word: it goes on to eat every leading m, o, d, "
            "u, l, e and dot, so that `module.mlp` becomes `p`. The method that takes a word is "
            "`removeprefix`.",
        ),
        "replaced_everywhere": (
            _strip_with(lambda name: name.replace("module.", "").replace("_orig_mod.", "")),
            "`replace` takes the word out wherever it stands: `head.submodule.weight` becomes "
            "`head.subweight`, and nothing complains until a weight is missing. A wrapper stands "
            "at the start of a name.",
        ),
        "replaced_once": (
            _strip_with(lambda name: name.replace("module.", "", 1).replace("_orig_mod.", "", 1)),
            "`replace(…, 1)` takes out the first one that it finds, wherever that is: "
            "`head.submodule.weight` becomes `head.subweight`. A wrapper stands at the start of a "
            "name.",
        ),
        "pattern_everywhere": (
            _strip_with(lambda name: re.sub(r"(module.|_orig_mod.)", "", name)),
            "The pattern may fit anywhere in a name, and its dot is any character: "
            "`modules.0.bias` becomes `.0.bias`. A wrapper stands at the start of a name, which is "
            "`^` in a pattern, and `\\.` is a dot.",
        ),
        "parts_anywhere": (
            _strip_with(
                lambda name: ".".join(
                    p for p in name.split(".") if p not in ("module", "_orig_mod")
                )
            ),
            "Every part of a name that is `module` is taken out, in the middle, too: "
            "`neck.module.bias` becomes `neck.bias`. Only those at the start are wrappers.",
        ),
        "split_everywhere": (
            _strip_with(lambda name: name.split("module.")[-1].split("_orig_mod.")[-1]),
            "The name is cut at the *last* `module.`, wherever it stands, and what was before is "
            "lost: of `head.submodule.weight` only `weight` is left. A wrapper stands at the start "
            "of a name.",
        ),
        "module_first": (
            _strip_with(lambda name: name.removeprefix("module.").removeprefix("_orig_mod.")),
            "You take off `module.` and then `_orig_mod.`, once each. A model that was wrapped for "
            "several GPUs first and compiled afterwards has them the other way round: go on while "
            "there is one.",
        ),
        "compiled_first": (
            _strip_with(lambda name: name.removeprefix("_orig_mod.").removeprefix("module.")),
            "You take off `_orig_mod.` and then `module.`, once each. A model that was compiled "
            "first and wrapped for several GPUs afterwards has them the other way round: go on "
            "while there is one.",
        ),
        "one_prefix_only": (
            _strip_with(
                lambda name: (
                    name.split(".", 1)[1] if name.startswith(("module.", "_orig_mod.")) else name
                )
            ),
            "One prefix is taken off, and a name may have both: go on while there is one.",
        ),
        "seven_letters": (
            _strip_with(
                lambda name: name[7:] if name.startswith(("module.", "_orig_mod.")) else name
            ),
            "Seven letters are cut off, whichever word it is. `_orig_mod.` has ten: `removeprefix` "
            "counts them for you.",
        ),
        "module_only": (
            _strip_with(lambda name: name.removeprefix("module.")),
            "`_orig_mod.` is left on. torch.compile puts it before every name, as DataParallel "
            "does with `module.`",
        ),
        "compiled_only": (
            _strip_with(lambda name: name.removeprefix("_orig_mod.")),
            "`module.` is left on. DataParallel puts it before every name, as torch.compile does "
            "with `_orig_mod.`",
        ),
        "names_as_they_are": (
            _strip_with(lambda name: name),
            "The weights are unpacked, and their names left as they are. Take `module.` and "
            "`_orig_mod.` off the start of each.",
        ),
        "not_unpacked": (
            _strip_with(wrappers=()),
            "A dictionary inside the dictionary is not opened: what comes back holds `model` or "
            "`state_dict` and the optimiser, and no weights. Look whether one of the two keys is "
            "there, and go on with what is under it.",
        ),
        "model_only": (
            _strip_with(wrappers=("model",)),
            "Weights under `state_dict` are not found. Some scripts save them under that key, some "
            "under `model`.",
        ),
        "state_dict_only": (
            _strip_with(wrappers=("state_dict",)),
            "Weights under `model` are not found. Some scripts save them under that key, some "
            "under `state_dict`.",
        ),
        "first_entry": (
            _strip_first_entry,
            "You take whatever stands first in the file. Here that is `model_ema`, an average of "
            "the weights over training: it would load and give other logits. Ask for the key by "
            "name.",
        ),
    },
    accepted=[_strip_by_parts, _strip_by_pattern, _strip_in_place],
)

# --- 6.2 rename_weight: whole names, not pieces of them

HUGGING_FACE = {
    "encoder.layer.{i}.output.dense": "blocks.{i}.mlp.fc2",
    "encoder.layer.{i}.intermediate.dense": "blocks.{i}.mlp.fc1",
    "encoder.layer.{i}.attention.output.dense": "blocks.{i}.attn.proj",
    "layernorm": "norm",
    "encoder.layer.{i}.layernorm_before": "blocks.{i}.norm1",
    "encoder.layer.{i}.layernorm_after": "blocks.{i}.norm2",
    "embeddings.cls_token": "cls_token",
    "classifier": "head",
    "cls_classifier": "head_dist",
}
TORCHVISION = {
    "encoder.layers.encoder_layer_{i}.ln_1": "blocks.{i}.norm1",
    "encoder.layers.encoder_layer_{i}.mlp.0": "blocks.{i}.mlp.fc1",
    "encoder.layers.encoder_layer_{i}.mlp.3": "blocks.{i}.mlp.fc2",
    "encoder.ln": "norm",
    "heads.head": "head",
}
SWAPPED = {"a.{i}.norm1": "a.{i}.norm2", "a.{i}.norm2": "a.{i}.norm1"}
WHOLE_NUMBER = r"(?P<i>\d+)"


def _halves(name):
    """The name, and its ending `.weight` or `.bias`, if it has one."""
    for ending in (".weight", ".bias"):
        if name.endswith(ending):
            return name.removesuffix(ending), ending
    return name, ""


def _rename(name, table):
    stem, ending = _halves(name)
    for old, new in table.items():
        found = re.fullmatch(re.escape(old).replace(r"\{i\}", WHOLE_NUMBER), stem)
        if found:
            return new.format(**found.groupdict()) + ending
    return name


def _rename_by_looking_up(name, table):
    spelled_out = {
        old.format(i=i) + ending: new.format(i=i) + ending
        for old, new in table.items()
        for i in range(50)
        for ending in ("", ".weight", ".bias")
    }
    return spelled_out.get(name, name)


def _rename_without_patterns(name, table):
    stem, ending = _halves(name)
    for old, new in table.items():
        before, hole, after = old.partition("{i}")
        if not hole:
            if stem == old:
                return new + ending
        elif stem.startswith(before) and stem.endswith(after):
            number = stem[len(before) : len(stem) - len(after)]
            if number.isdigit():
                return new.replace("{i}", number) + ending
    return name


def _rename_by_number(name, table):
    stem, ending = _halves(name)
    for number in ["", *re.findall(r"\d+", stem)]:
        for old, new in table.items():
            if old.replace("{i}", number) == stem:
                return new.replace("{i}", number) + ending
    return name


def _rename_with(
    number=WHOLE_NUMBER, fits=re.fullmatch, escape=re.escape, halves=_halves,
    put=lambda new, found: new.format(**found.groupdict()), unknown=lambda name: name,
):  # fmt: skip
    """The right answer, with something changed about the pattern or about what is made of it."""

    def rename(name, table):
        stem, ending = halves(name)
        for old, new in table.items():
            pattern = escape(old).replace("\\{i\\}", "{i}").replace("{i}", number)
            found = fits(pattern, stem)
            if found:
                return put(new, found) + ending
        return unknown(name)

    return rename


def _rename_chained(name, table):
    for old, new in table.items():
        for i in reversed(range(50)):
            name = name.replace(old.format(i=i), new.format(i=i))
    return name


def _rename_in_pieces(name, table):
    """As converters do it: what stands before and after the number, one after the other."""
    for old, new in table.items():
        for piece, other in zip(old.split("{i}"), new.split("{i}"), strict=True):
            name = name.replace(piece, other)
    return name


def _rename_replacing(name, table):
    for old, new in table.items():
        name = name.replace(old, new)
    return name


def _rename_every_number(name, table):
    stem, ending = _halves(name)
    number = re.findall(r"\d+", stem)
    new = table.get(re.sub(r"\d+", "{i}", stem))
    return name if new is None else new.format(i="".join(number[:1])) + ending


def _rename_endless(name, table):
    """Goes on with the renamed name: each entry in turn, and whole names at least."""
    stem, ending = _halves(name)
    for old, new in table.items():
        found = re.fullmatch(re.escape(old).replace(r"\{i\}", WHOLE_NUMBER), stem)
        if found:
            stem = new.format(**found.groupdict())
    return stem + ending


def _rename_where(contains):
    """For the first entry whose words `contains` finds in the name: a replace of these words."""

    def rename(name, table):
        for old, new in table.items():
            for i in reversed(range(50)):
                if contains(name, old.format(i=i)):
                    return name.replace(old.format(i=i), new.format(i=i))
        return name

    return rename


def _ends_like(name, old):
    return name.endswith((old, old + ".weight", old + ".bias"))


def _rename_start(name, table):
    """What begins like an entry is renamed, and what follows is kept, whatever it is."""
    for old, new in table.items():
        found = re.match(re.escape(old).replace(r"\{i\}", WHOLE_NUMBER), name)
        if found:
            return new.format(**found.groupdict()) + name[found.end() :]
    return name


def _rename_ended(name, table):
    return _rename(name, table) if name.endswith((".weight", ".bias")) else name


def _raise_key_error(name):
    raise KeyError(name)


def _rename_cases(answer) -> Cases:
    def renamed(table, *names):
        return lambda: {name: call(answer, name, dict(table)) for name in names}

    torchvision = (
        f"encoder.layers.encoder_layer_{i}.mlp.{j}.bias" for i in (3, 12) for j in (0, 3)
    )
    for label, table, *names in [
        ("layer 0, the MLP", HUGGING_FACE, *_block("intermediate.dense.bias", "output.dense.bias")),
        ("names without a number", HUGGING_FACE, "layernorm.weight", "embeddings.cls_token"),
        (
            "“output.dense” in “attention.output.dense”",
            HUGGING_FACE, *_block("attention.output.dense.weight"),
        ),
        (
            "“layernorm” in “layernorm_before”",
            HUGGING_FACE, *_block("layernorm_before.weight", "layernorm_after.bias"),
        ),
        ("“classifier” in “cls_classifier”", HUGGING_FACE, "cls_classifier.weight"),
        (
            "layers 1, 10 and 11",
            HUGGING_FACE, *(f"encoder.layer.{i}.output.dense.weight" for i in (1, 10, 11)),
        ),
        (
            "the table in another order",
            dict(sorted(HUGGING_FACE.items())), "cls_classifier.bias", "classifier.weight",
            *_block("attention.output.dense.bias", "output.dense.bias", "layernorm_after.bias"),
        ),
        ("names with a second number, which is no layer", TORCHVISION, *torchvision),
        ("a table that swaps two names", SWAPPED, "a.7.norm1.bias", "a.7.norm2.weight"),
        (
            "names that no entry fits",
            HUGGING_FACE, "pooler.dense.weight", "layernorm_old.bias", "old_layernorm.bias",
            "embeddings_cls_token", "encoder.layer.0", "layernorm.scale",
        ),
    ]:  # fmt: skip
        yield label, renamed(table, *names)


def _block(*names):
    return [f"encoder.layer.0.{name}" for name in names]


rename_weight = Exercise(
    name="rename_weight",
    chapter="06_dialects",
    task="rename_weight(name, table) -> the new name: an entry of the table fits a name that is "
    "exactly its left side, or that with .weight or .bias behind it, where {i} is any whole "
    "number; where no entry fits, the name as it was",
    reference=_rename,
    cases=_rename_cases,
    mutants={
        "chained_replaces": (
            _rename_chained,
            "One `replace` after the other: each also hits names that merely *contain* its words, "
            "or what an earlier one has just made. `layernorm` is a part of `layernorm_before`. "
            "Compare whole names, and return as soon as one entry fits.",
        ),
        "replaced_in_pieces": (
            _rename_in_pieces,
            "The pieces before and after {i} are replaced one by one, wherever they stand: "
            "`.output.dense` is also the end of `.attention.output.dense`. Compare whole names.",
        ),
        "renamed_again": (
            _rename_endless,
            "A name that has been renamed runs through the rest of the table and may be renamed "
            "again: a table that swaps two names then loses one. Return as soon as an entry fits.",
        ),
        "chained_longest_first": (
            lambda name, table: _rename_chained(
                name, dict(sorted(table.items(), key=lambda entry: -len(entry[0])))
            ),
            "Trying the longest entries first saves `layernorm_before` from `layernorm`, but it is "
            "still one `replace` after the other: names that no entry fits are changed in part, "
            "and a new name may be replaced again. Compare whole names, and return.",
        ),
        "hole_taken_literally": (
            _rename_with(number="\\{i\\}"),
            "Names without a number are right, and no other: you look for `{i}` itself, which no "
            "name contains. It stands for a number. (re.escape turns `{i}` into `\\{i\\}`.)",
        ),
        "hole_taken_literally_and_replaced": (
            _rename_replacing,
            "Names without a number are right, and no other: you look for `{i}` itself, which no "
            "name contains. It stands for a number. (re.escape turns `{i}` into `\\{i\\}`.)",
        ),
        "number_is_anything": (
            _rename_with(number=r"(?P<i>.+)"),
            "{i} is allowed to be anything. Then `encoder.layer.0.attention.output.dense` fits "
            "`encoder.layer.{i}.output.dense`, with i = `0.attention`. Let it be digits only.",
        ),
        "one_digit": (
            _rename_with(number=r"(?P<i>\d)"),
            "{i} is one digit only. The layers from 10 on keep their old names, so a model with "
            "12 layers is loaded but for the last two. Allow several digits.",
        ),
        "every_number_is_a_layer": (
            _rename_every_number,
            "Every number in the name is taken for the layer's. In torchvision's `mlp.0` and "
            "`mlp.3` the second number says which module. Only the one at {i} is free; the others "
            "must be as in the table.",
        ),
        "contained": (
            _rename_where(lambda name, old: old in name),
            "It is enough for you that a name *contains* an entry, and the rest of it stays: "
            "`layernorm` is a part of `layernorm_before`, which then becomes `norm_before`. "
            "Compare whole names.",
        ),
        "ends_like_an_entry": (
            _rename_where(_ends_like),
            "It is enough for you that a name *ends* like an entry: `cls_classifier` ends like "
            "`classifier`. Compare whole names, from their first letter on.",
        ),
        "starts_like_an_entry": (
            _rename_start,
            "It is enough for you that a name *begins* like an entry, and anything may follow: "
            "`layernorm_old` becomes `norm_old`. What follows may be nothing, `.weight` or "
            "`.bias`.",
        ),
        "ending_demanded": (
            _rename_ended,
            "Only names that end in `.weight` or `.bias` are renamed. Some parameters are no part "
            "of a layer and have no such ending, `embeddings.cls_token` for one.",
        ),
        "fits_the_beginning": (
            _rename_with(fits=re.match),
            "It is enough for you that a name *begins* like an entry: `layernorm_old` then fits "
            "`layernorm`. re.match asks no more than that; re.fullmatch asks for all of it.",
        ),
        "fits_inside": (
            _rename_with(fits=re.search),
            "It is enough for you that an entry is found somewhere in the name: `cls_classifier` "
            "then fits `classifier`. re.search asks no more than that; re.fullmatch asks for all "
            "of it.",
        ),
        "dots_are_anything": (
            _rename_with(escape=lambda text: text),
            "In a regular expression a dot stands for any character, so `embeddings_cls_token` "
            "fits `embeddings.cls_token`. re.escape makes the dots dots.",
        ),
        "ending_lost": (
            _rename_with(halves=lambda name: (_halves(name)[0], "")),
            "The ending is lost: a weight and a bias get the same name, and one overwrites the "
            "other. Put `.weight` or `.bias` back behind the new name.",
        ),
        "ending_not_expected": (
            _rename_with(halves=lambda name: (name, "")),
            "An entry has to be the whole name for you, with nothing behind it. Nearly all names "
            "end in `.weight` or `.bias`, which the table leaves out: take it off before you "
            "compare, and put it back.",
        ),
        "any_ending": (
            _rename_with(
                halves=lambda name: (name.rpartition(".")[0], "." + name.rpartition(".")[2])
            ),
            "The last part of every name is cut off as if it were `.weight` or `.bias`. "
            "`embeddings.cls_token` has no such ending, so its entry is never found.",
        ),
        "hole_left_open": (
            _rename_with(put=lambda new, found: new),
            "The new name still has {i} in it. Put in the number that was found in the old one.",
        ),
        "unknown_is_none": (
            _rename_with(unknown=lambda name: None),
            "A name that no entry fits is lost: None comes back. It should come back as it was, so "
            "that the report can call it by its name.",
        ),
        "unknown_raises": (
            _rename_with(unknown=_raise_key_error),
            "A name that no entry fits raises a KeyError. It should come back as it was, so that "
            "the report can list all that is left over, and not the first only.",
        ),
    },
    accepted=[_rename_by_looking_up, _rename_without_patterns, _rename_by_number],
)

# --- 6.3 linear_to_conv: patches flattened with the channels last


def _kernel(weight, patch_size):
    return rearrange(weight, "d (p q c) -> d c p q", p=patch_size, q=patch_size)


def _kernel_by_permute(weight, patch_size):
    return weight.unflatten(1, (patch_size, patch_size, -1)).permute(0, 3, 1, 2)


def _kernel_by_channel(weight, patch_size):
    channels = weight.shape[1] // patch_size**2
    planes = [weight[:, c::channels] for c in range(channels)]  # each (D, P·P)
    return torch.stack(planes, dim=1).reshape(len(weight), channels, patch_size, patch_size)


def _kernel_by_loop(weight, patch_size):
    width, inputs = weight.shape
    channels = inputs // (patch_size * patch_size)
    kernel = weight.new_empty(width, channels, patch_size, patch_size)
    for y in range(patch_size):
        for x in range(patch_size):
            first = (y * patch_size + x) * channels
            kernel[:, :, y, x] = weight[:, first : first + channels]
    return kernel


def _kernel_pattern(pattern):
    return lambda weight, patch_size: rearrange(weight, pattern, p=patch_size, q=patch_size)


def _kernel_cases(answer) -> Cases:
    counted = torch.arange(12.0, dtype=torch.float64).reshape(1, 12)
    yield "the numbers 0 to 11 as one row, P = 2, C = 3", lambda: call(answer, counted, 2)
    yield "D = 5, P = 3, C = 2", lambda: call(answer, numbers(5, 18), 3)
    yield "D = 4, P = 2, C = 5", lambda: call(answer, numbers(4, 20), 2)
    yield "D = P·P·C = 12", lambda: call(answer, numbers(12, 12), 2)
    yield "P = C = 3", lambda: call(answer, numbers(4, 27), 3)
    yield "one channel, P = 5", lambda: call(answer, numbers(3, 25), 5)


linear_to_conv = Exercise(
    name="linear_to_conv",
    chapter="06_dialects",
    task="linear_to_conv(weight, patch_size) -> (D, C, P, P), a convolution's kernel: from the "
    "weight (D, P·P·C) of a linear layer on patches flattened as (p1 p2 c)",
    reference=_kernel,
    cases=_kernel_cases,
    mutants={
        "channels_first": (
            lambda weight, p: weight.reshape(len(weight), -1, p, p),
            "The columns are read as (c, p1, p2), which is the kernel's own order. In this dialect "
            "the channels run fastest: (p1 p2 c). The shape is right, and with one channel the "
            "numbers are, too. Split the columns in their own order, then move the channels.",
        ),
        "pixels_transposed": (
            _kernel_pattern("d (p q c) -> d c q p"),
            "The channels are where they belong, but each kernel is flipped at its diagonal: its "
            "rows and columns have changed places. p1 counts lines and comes before p2.",
        ),
        "all_axes_reversed": (
            _kernel_pattern("d (c p q) -> d c q p"),
            "The columns are read as (c, p1, p2), and the pixels are transposed as well. Split "
            "them in the order in which they lie, (p1, p2, c), and move only the channels.",
        ),
        "split_as_p_c_p": (
            lambda weight, p: rearrange(weight, "d (p c q) -> d c p q", p=p, q=p),
            "The columns are split as (p1, c, p2). They lie as (p1, p2, c): the channels of one "
            "pixel are neighbours.",
        ),
        "wrong_side": (
            lambda weight, p: rearrange(
                weight.T.reshape(weight.shape), "d (p q c) -> d c p q", p=p, q=p
            ),
            "The weight is transposed first. nn.Linear keeps its weight as (outputs, inputs), so "
            "each row is one kernel already; only a matrix that stands on the right, as in x @ W, "
            "needs the transpose.",
        ),
        "transposed": (
            lambda weight, p: rearrange(weight.T, "d (p q c) -> d c p q", p=p, q=p),
            "The weight is transposed first. nn.Linear keeps its weight as (outputs, inputs), so "
            "each row is one kernel already. (Where D = P·P·C even the shape would be right.)",
        ),
        "read_as_flax": (
            lambda weight, p: weight.reshape(p, p, -1, len(weight)).permute(3, 2, 0, 1),
            "The weight is read as (p1, p2, c, D), with the outputs last: so Flax keeps its "
            "kernels. nn.Linear keeps the outputs first, (D, p1·p2·c).",
        ),
        "turned_round": (
            lambda weight, p: _kernel(weight, p).flip(2, 3),
            "The kernels are turned by 180°. A mathematician's convolution does that; PyTorch's "
            "Conv2d does not flip anything.",
        ),
        "channels_last": (
            lambda weight, p: weight.unflatten(1, (p, p, -1)),
            "The columns are split in the right order, and the channels left at the end. A "
            "convolution's kernel is (D, C, P, P): move them to axis 1.",
        ),
        "three_channels_first": (
            lambda weight, p: weight.reshape(len(weight), 3, p, p),
            "The columns are read as (c, p1, p2), and c is fixed at 3. In this dialect the "
            "channels run fastest, (p1 p2 c). How many there are follows from the shape.",
        ),
        "three_channels": (
            lambda weight, p: weight.reshape(len(weight), p, p, 3).permute(0, 3, 1, 2),
            "The number of channels is fixed at 3. It is what is left of the columns: their number "
            "divided by P·P.",
        ),
    },
    accepted=[_kernel_by_permute, _kernel_by_channel, _kernel_by_loop],
)

# --- 6.4 join_flax: three kernels with an axis for the heads


def _join(query, key, value, out):
    qkv = torch.cat([kernel.flatten(1).T for kernel in (query, key, value)])
    return qkv, out.flatten(0, 1).T


def _join_by_einops(query, key, value, out):
    qkv = rearrange([query, key, value], "three inputs h d -> (three h d) inputs")
    return qkv, rearrange(out, "h d outputs -> outputs (h d)")


def _join_by_permute(query, key, value, out):
    width = query.shape[0]
    qkv = torch.stack([query, key, value]).permute(0, 2, 3, 1).reshape(-1, width)
    return qkv, out.permute(2, 0, 1).reshape(out.shape[2], -1)


def _join_by_heads(query, key, value, out):
    rows = []
    for kernel in (query, key, value):
        for head in range(kernel.shape[1]):
            rows.append(kernel[:, head].T)
    return [torch.vstack(rows), torch.hstack([head.T for head in out])]


def _rows(kernel):
    return kernel.flatten(1).T


def _columns(out):
    return out.flatten(0, 1).T


def _join_with(rows=_rows, columns=_columns, order=(0, 1, 2), join=torch.cat):
    """The right answer but for one part of it."""

    def join_flax(query, key, value, out):
        kernels = [(query, key, value)[i] for i in order]
        return join([rows(kernel) for kernel in kernels]), columns(out)

    return join_flax


def _rows_reshaped(kernel):
    return kernel.reshape(-1, len(kernel))


def _columns_reshaped(out):
    return out.reshape(out.shape[-1], -1)


def _join_head_by_head(query, key, value, out):
    qkv = rearrange([query, key, value], "three inputs h d -> (h three d) inputs")
    return qkv, _columns(out)


def _join_cases(answer) -> Cases:
    def run(width, heads, d, seed=0):
        query, key, value = numbers(3, width, heads, d, seed=seed)
        return call(answer, query, key, value, numbers(heads, d, width, seed=seed + 1))

    yield "D = 12 in 3 heads of 4", lambda: run(12, 3, 4)
    yield "D = 10 in 2 heads of 5", lambda: run(10, 2, 5, seed=2)
    yield "D = 7, and 2 heads of 3", lambda: run(7, 2, 3, seed=4)
    yield "one head", lambda: run(5, 1, 5, seed=6)


_RESHAPED = (
    "A reshape alone gives the right shape and the wrong numbers: it keeps the order in which they "
    "lie, so that rows and columns are mixed. "
)
_NOT_TRANSPOSED = (
    "Flax multiplies from the right, x @ kernel, and nn.Linear keeps its weight as (outputs, "
    "inputs). "
)
join_flax = Exercise(
    name="join_flax",
    chapter="06_dialects",
    task="join_flax(query, key, value, out) -> the two weights of nn.Linear that timm has: qkv "
    "(3·H·d, D), ordered q, k, v, and proj (D, H·d); from Flax's kernels (D, H, d), three times, "
    "and (H, d, D)",
    reference=_join,
    cases=_join_cases,
    mutants={
        "kernels_reshaped": (
            _join_with(rows=_rows_reshaped),
            _RESHAPED + "In query, key and value the inputs D come first: merge the heads with the "
            "axis behind them, to (D, H·d), and then transpose.",
        ),
        "out_reshaped": (
            _join_with(columns=_columns_reshaped),
            _RESHAPED + "In `out` the inputs are the two axes in front: merge them, to (H·d, D), "
            "and then transpose.",
        ),
        "both_reshaped": (
            _join_with(rows=_rows_reshaped, columns=_columns_reshaped),
            _RESHAPED + "Merge the axis of the heads with the one behind it, which gives a matrix "
            "(inputs, outputs), and then transpose.",
        ),
        "kernels_not_transposed": (
            _join_with(rows=lambda kernel: kernel.flatten(1)),
            _NOT_TRANSPOSED + "Transpose query, key and value before you join them. Where D = H·d "
            "the shape is right without it, and the numbers are not.",
        ),
        "out_not_transposed": (
            _join_with(columns=lambda out: out.flatten(0, 1)),
            _NOT_TRANSPOSED + "Your qkv is right; `out` needs a transpose, too. Where D = H·d its "
            "shape is right without it, and the numbers are not.",
        ),
        "nothing_transposed": (
            _join_with(lambda kernel: kernel.flatten(1), lambda out: out.flatten(0, 1)),
            _NOT_TRANSPOSED + "Transpose all four matrices. Where D = H·d the shapes are right "
            "without it, and the numbers are not.",
        ),
        "heads_run_fastest": (
            _join_with(
                lambda kernel: kernel.permute(2, 1, 0).flatten(0, 1),
                lambda out: out.permute(2, 1, 0).flatten(1),
            ),
            "The rows of qkv and the columns of proj are ordered (d, H). They should be (H, d): "
            "all numbers of the first head, then all of the second. Reversing all axes, with "
            "permute(2, 1, 0) or NumPy's .T, does that; move the axis D alone.",
        ),
        "heads_of_qkv_run_fastest": (
            _join_with(lambda kernel: kernel.permute(2, 1, 0).flatten(0, 1)),
            "The rows of qkv are ordered (d, H) within each third. They should be (H, d): all "
            "numbers of the first head, then all of the second. Reversing all three axes does "
            "that; move the axis D alone.",
        ),
        "heads_of_out_run_fastest": (
            _join_with(columns=lambda out: out.permute(2, 1, 0).flatten(1)),
            "The columns of proj are ordered (d, H). They should be (H, d): all numbers of the "
            "first head, then all of the second. Reversing all three axes does that; move the "
            "axis D alone.",
        ),
        "head_by_head": (
            _join_head_by_head,
            "The rows of qkv go head by head, q, k and v of the first, then of the second: "
            "(H, 3, d). timm has all of q first, then all of k, then all of v: (3, H, d).",
        ),
        "queries_and_keys_swapped": (
            _join_with(order=(1, 0, 2)),
            "Queries and keys have changed places: q comes first. The transposed table of scores "
            "looks just as plausible, and no shape tells.",
        ),
        "keys_and_values_swapped": (
            _join_with(order=(0, 2, 1)),
            "Keys and values have changed places: after q comes k, then v.",
        ),
        "stacked": (
            _join_with(join=torch.stack),
            "The three are stacked along an axis of their own, (3, H·d, D). timm has one matrix of "
            "3·H·d rows: join them along the axis that is there, with torch.cat.",
        ),
        "kernels_merged_like_out": (
            _join_with(rows=_columns),
            "In query, key and value you merge the first two axes, D and H. The head H belongs to "
            "the axis behind it, d: together they are the outputs. Only in `out` do they stand in "
            "front.",
        ),
        "side_by_side": (
            _join_with(join=partial(torch.cat, dim=1)),
            "The three are joined side by side: (H·d, 3·D). The outputs of qkv are its rows, so "
            "they stand one below the other, along axis 0.",
        ),
    },
    accepted=[_join_by_einops, _join_by_permute, _join_by_heads],
)

# --- 6.5 einops_attention: heads × dim_head need not be the width


class _Attention(nn.Module):
    """Right; its subclasses change one thing each."""

    split, merge = "b n (three h d) -> three b h n d", "b h n d -> b n (h d)"

    def __init__(self, dim, heads, dim_head):
        super().__init__()
        self.heads, self.scale = heads, self.scale_of(dim, heads, dim_head)
        self.to_qkv = nn.Linear(dim, 3 * heads * dim_head, bias=False)
        self.to_out = nn.Linear(heads * dim_head, dim)

    def scale_of(self, dim, heads, dim_head):
        return dim_head**-0.5

    def forward(self, x):
        q, k, v = rearrange(self.to_qkv(x), self.split, three=3, h=self.heads)
        return self.to_out(rearrange(self.weigh(q, k) @ v, self.merge))

    def weigh(self, q, k):
        return (q @ k.mT * self.scale).softmax(dim=-1)


class _ByChunks(nn.Module):
    def __init__(self, dim, heads, dim_head):
        super().__init__()
        self.heads, self.dim_head = heads, dim_head
        self.to_qkv = nn.Linear(dim, heads * dim_head * 3, bias=False)
        self.to_out = nn.Sequential(nn.Linear(heads * dim_head, dim), nn.Dropout(0.0))

    def forward(self, x):
        q, k, v = (
            part.unflatten(2, (self.heads, self.dim_head)).transpose(1, 2)
            for part in self.to_qkv(x).chunk(3, dim=-1)
        )
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.to_out(mixed.transpose(1, 2).flatten(2))


class _ByEinsum(nn.Module):
    def __init__(self, dim, heads, dim_head):
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(dim, 3 * heads * dim_head, bias=False)
        self.to_out = nn.Linear(dim_head * heads, dim)

    def forward(self, x):
        q, k, v = rearrange(self.to_qkv(x), "b n (s h d) -> s b n h d", s=3, h=self.heads)
        scores = einsum(q, k, "b i h d, b j h d -> b h i j") / q.shape[-1] ** 0.5
        mixed = einsum(scores.softmax(dim=3), v, "b h i j, b j h d -> b i h d")
        return self.to_out(mixed.reshape(*x.shape[:2], -1))


class _ScaledByDim(_Attention):
    def scale_of(self, dim, heads, dim_head):
        return dim**-0.5


class _ScaledByInner(_Attention):
    def scale_of(self, dim, heads, dim_head):
        return (heads * dim_head) ** -0.5


class _ScaledByDimOverHeads(_Attention):
    def scale_of(self, dim, heads, dim_head):
        return (dim / heads) ** -0.5


class _NoScale(_Attention):
    def scale_of(self, dim, heads, dim_head):
        return 1.0


class _TimesRoot(_Attention):
    def scale_of(self, dim, heads, dim_head):
        return dim_head**0.5


class _DividedByDimHead(_Attention):
    def scale_of(self, dim, heads, dim_head):
        return 1 / dim_head


class _MergedByChannel(_Attention):
    merge = "b h n d -> b n (d h)"


class _MergedAndScaled(_ScaledByDim):
    merge = "b h n d -> b n (d h)"


class _SplitByChannel(_Attention):
    split = "b n (three d h) -> three b h n d"


class _SplitAndMergedByChannel(_SplitByChannel):
    merge = "b h n d -> b n (d h)"


class _SplitMergedAndScaled(_ScaledByDim):
    split, merge = "b n (three d h) -> three b h n d", "b h n d -> b n (d h)"


class _SplitByHead(_Attention):
    split = "b n (h three d) -> three b h n d"


class _OverQueries(_Attention):
    def weigh(self, q, k):
        return (q @ k.mT * self.scale).softmax(dim=-2)


class _WithResidual(_Attention):
    def forward(self, x):
        return x + super().forward(x)


class _WithBias(_Attention):
    def __init__(self, dim, heads, dim_head):
        super().__init__(dim, heads, dim_head)
        self.to_qkv = nn.Linear(dim, 3 * heads * dim_head)


class _DimHeadIgnored(_Attention):
    def __init__(self, dim, heads, dim_head):
        super().__init__(dim, heads, dim // heads)


class _NoBiasAtAll(_Attention):
    def __init__(self, dim, heads, dim_head):
        super().__init__(dim, heads, dim_head)
        self.to_out = nn.Linear(heads * dim_head, dim, bias=False)


def _attention_cases(answer) -> Cases:
    def run(dim, heads, dim_head, batch=2, tokens=5):
        module = twin(answer, _Attention, dim, heads, dim_head)
        return call(module, numbers(batch, tokens, dim))

    yield "D = 12 and 3 heads of 4", lambda: run(12, 3, 4)
    yield "D = 8 and 4 heads of 3", lambda: run(8, 4, 3)
    yield "D = 12 and 2 heads of 5", lambda: run(12, 2, 5, batch=3, tokens=4)
    yield "D = 5 and one head of 7", lambda: run(5, 1, 7)


einops_attention = Exercise(
    name="einops_attention",
    chapter="06_dialects",
    task="EinopsAttention(dim, heads, dim_head), a module with the layers to_qkv (no bias) and "
    "to_out: (B, N, D) -> (B, N, D), with `heads` heads of dim_head numbers each, whatever D is",
    reference=_Attention,
    cases=_attention_cases,
    mutants={
        "has_bias": (
            _WithBias,
            "`to_qkv` has a bias, which this dialect does not: nn.Linear has one unless it is told "
            "bias=False. A file without it could not be loaded strictly.",
        ),
        "no_bias_at_all": (
            _NoBiasAtAll,
            "`to_out` has lost its bias. Only `to_qkv` goes without one in this dialect.",
        ),
        "dim_head_ignored": (
            _DimHeadIgnored,
            "The width of a head is computed as dim // heads, and dim_head is ignored. Here the "
            "two need not agree: to_qkv has 3 · heads · dim_head outputs, and to_out as many "
            "inputs as one third of these.",
        ),
        "scaled_by_dim": (
            _ScaledByDim,
            "The scores are scaled by the width of the tokens, dim ** -0.5. A score is a sum over "
            "dim_head products, so it is dim_head ** -0.5. With several heads the attention comes "
            "out too flat, and only loaded weights show it.",
        ),
        "scaled_by_inner": (
            _ScaledByInner,
            "The scores are scaled by the width of all heads together. A score is a sum over one "
            "head, over dim_head products: dim_head ** -0.5.",
        ),
        "scaled_by_dim_over_heads": (
            _ScaledByDimOverHeads,
            "The scale takes a head to be dim / heads wide, as in timm's style. In this dialect it "
            "is dim_head wide, and the two agree only where heads × dim_head = dim.",
        ),
        "no_scale": (
            _NoScale,
            "The scale is missing: multiply the scores by dim_head ** -0.5 before the softmax.",
        ),
        "times_sqrt_d": (
            _TimesRoot,
            "The scores are multiplied by √dim_head, and they should be divided by it.",
        ),
        "divided_by_dim_head": (
            _DividedByDimHead,
            "The scores are divided by dim_head, and they should be divided by its root: "
            "dim_head ** -0.5.",
        ),
        "merged_by_channel": (
            _MergedByChannel,
            "The heads are merged as (d h), and were split as (h d): each head's numbers lie "
            "scattered over the width. Trained so, the model would have learned around it; with "
            "loaded weights `to_out` reads the wrong columns. Look at the last rearrange.",
        ),
        "merged_and_scaled": (
            _MergedAndScaled,
            "There is more than one mistake here. The heads are merged as (d h), and were split as "
            "(h d): look at the last rearrange. And ask over how many products a score is a sum: "
            "its scale depends on no other number.",
        ),
        "split_by_channel": (
            _SplitByChannel,
            "Each third of qkv is split as (d h), and merged as (h d) later. The rows of a fused "
            "weight are ordered (three h d): all numbers of the first head stand together.",
        ),
        "split_and_merged_by_channel": (
            _SplitAndMergedByChannel,
            "Heads are split and merged as (d h). That is consistent, and would train well; but "
            "other people's weights are ordered (h d), and come out as nonsense.",
        ),
        "split_merged_and_scaled": (
            _SplitMergedAndScaled,
            "There is more than one mistake here. Heads are split and merged as (d h): that is "
            "consistent, but other people's weights are ordered (h d). And ask over how many "
            "products a score is a sum: its scale depends on no other number.",
        ),
        "split_by_head": (
            _SplitByHead,
            "The outputs of to_qkv are read as (h three d). They are ordered (three h d): all of "
            "q, then all of k, then all of v.",
        ),
        "residual_added": (
            _WithResidual,
            "The input is added to what attention gives. The block around it does that; here it "
            "would count twice.",
        ),
        "softmax_over_queries": (
            _OverQueries,
            "The softmax runs over the queries: the columns of the weights sum to 1, and the rows "
            "should. Use dim=-1.",
        ),
    },
    accepted=[_ByChunks, _ByEinsum],
)

# --- 6.6 fold_biases: of three biases one does nothing, and one can move


def _fold(qkv_bias, proj_weight, proj_bias):
    query, _, value = qkv_bias.chunk(3)
    zero = torch.zeros_like(query)
    return torch.cat([query, zero, zero]), proj_bias + proj_weight @ value


def _fold_by_slices(qkv_bias, proj_weight, proj_bias):
    width = len(proj_bias)
    kept = qkv_bias.clone()
    kept[width:] = 0
    return kept, F.linear(qkv_bias[2 * width :], proj_weight, proj_bias)


def _fold_by_thirds(qkv_bias, proj_weight, proj_bias):
    thirds = qkv_bias.reshape(3, -1)
    only_queries = torch.tensor([[1.0], [0.0], [0.0]], dtype=qkv_bias.dtype)
    moved = torch.einsum("oi,i->o", proj_weight, thirds[2])
    return [(thirds * only_queries).flatten(), moved + proj_bias]


def _fold_by_loop(qkv_bias, proj_weight, proj_bias):
    width = len(qkv_bias) // 3
    new_proj = proj_bias.clone()
    for row in range(width):
        for column in range(width):
            new_proj[row] += proj_weight[row, column] * qkv_bias[2 * width + column]
    kept = torch.where(torch.arange(3 * width) < width, qkv_bias, 0.0)
    return kept, new_proj


def _fold_with(keep=(1, 0, 0), move=lambda q, k, v, w: w @ v, old=1.0):
    """The right answer but for which thirds are kept and what is added to the projection."""

    def fold_biases(qkv_bias, proj_weight, proj_bias):
        parts = qkv_bias.chunk(3)
        kept = torch.cat([part * factor for part, factor in zip(parts, keep, strict=True)])
        return kept, old * proj_bias + move(*parts, proj_weight)

    return fold_biases


def _fold_keys_into_queries(qkv_bias, proj_weight, proj_bias):
    query, key, value = qkv_bias.chunk(3)
    return torch.cat([query + key, 0 * key, 0 * value]), proj_bias + proj_weight @ value


def _fold_cases(answer) -> Cases:
    def run(width, seed, parts=(1, 1, 1)):
        given = numbers(3, width, seed=seed) * torch.tensor(parts, dtype=torch.float64)[:, None]
        weight, bias = numbers(width, width, seed=seed + 1), numbers(width, seed=seed + 2)
        return call(answer, given.flatten(), weight, bias)

    yield "a bias of the queries only, D = 4", lambda: run(4, 0, (1, 0, 0))
    yield "a bias of the keys only, D = 4", lambda: run(4, 3, (0, 1, 0))
    yield "a bias of the values only, D = 4", lambda: run(4, 6, (0, 0, 1))
    yield "all three, D = 6", lambda: run(6, 9)
    yield "all three, D = 1", lambda: run(1, 12)


fold_biases = Exercise(
    name="fold_biases",
    chapter="06_dialects",
    task="fold_biases(qkv_bias, proj_weight, proj_bias) -> qkv_bias (3D,) whose second and last "
    "third are 0, and proj_bias (D,), such that attention gives what it gave before",
    reference=_fold,
    cases=_fold_cases,
    mutants={
        "values_lost": (
            _fold_with(move=lambda q, k, v, w: 0),
            "The values' bias is thrown away. The weights of a row sum to 1, so every token gets "
            "all of it, added to what the values bring: it goes on through the projection.",
        ),
        "not_projected": (
            _fold_with(move=lambda q, k, v, w: v),
            "The values' bias is added as it is. It used to pass through the output projection "
            "first, which mixes all channels: multiply it by proj_weight.",
        ),
        "transposed": (
            _fold_with(move=lambda q, k, v, w: v @ w),
            "The values' bias is multiplied from the wrong side. nn.Linear computes x @ weight.T, "
            "and for a vector that is weight @ x.",
        ),
        "keys_moved": (
            _fold_with(move=lambda q, k, v, w: w @ k),
            "You fold the keys' bias into the projection; it is the values' that goes there. The "
            "qkv bias is ordered q, k, v.",
        ),
        "keys_moved_too": (
            _fold_with(move=lambda q, k, v, w: w @ (k + v)),
            "The keys' bias is folded into the projection as well. It adds the same number to all "
            "scores of a row, and a softmax does not see what is added to all: it may simply go.",
        ),
        "keys_moved_into_queries": (
            _fold_keys_into_queries,
            "The keys' bias is added to the queries'. It adds the same number to all scores of a "
            "row, and a softmax does not see what is added to all: it may simply go.",
        ),
        "queries_lost": (
            _fold_with(keep=(0, 0, 0)),
            "The queries' bias is gone. It is the one that cannot be replaced: it adds to the "
            "score of a key a number that is another for each key.",
        ),
        "all_thrown_away": (
            _fold_with(keep=(0, 0, 0), move=lambda q, k, v, w: 0),
            "All three biases are thrown away. That is right for one of them. The queries' has to "
            "stay, and the values' goes on in the projection's bias: write down what each adds.",
        ),
        "queries_moved_too": (
            _fold_with(keep=(0, 0, 0), move=lambda q, k, v, w: w @ (q + v)),
            "The queries' bias is folded into the projection as well. It acts on the scores, and "
            "adds to each key's another number: nothing can replace it. Leave the first third as "
            "it was.",
        ),
        "everything_moved": (
            _fold_with(keep=(0, 0, 0), move=lambda q, k, v, w: w @ (q + k + v)),
            "All three biases are folded into the projection. Only the values' passes through it. "
            "The queries' and the keys' act on the scores: ask what each adds to a row of them.",
        ),
        "keys_kept": (
            _fold_with(keep=(1, 1, 0)),
            "The keys' bias is still there. It adds the same number to all scores of a row, which "
            "the softmax does not see: set it to 0.",
        ),
        "all_kept": (
            _fold_with(keep=(1, 1, 1)),
            "The projection's bias is right, and qkv's is as it was: the values' counts twice now. "
            "Set the second and the last third to 0.",
        ),
        "nothing_changed": (
            _fold_with(keep=(1, 1, 1), move=lambda q, k, v, w: 0),
            "Everything comes back as it was. Ask what each of the three biases adds: to a row of "
            "scores, or to what a token gets in the end.",
        ),
        "values_kept": (
            _fold_with(keep=(1, 0, 1)),
            "The values' bias is in the projection now, and in qkv still: it counts twice. Set the "
            "last third to 0.",
        ),
        "old_bias_lost": (
            _fold_with(old=0.0),
            "The projection's own bias is overwritten. What is folded in is *added* to it.",
        ),
        "subtracted": (
            _fold_with(move=lambda q, k, v, w: -(w @ v)),
            "The values' bias is subtracted. It was added before, and still has to be.",
        ),
    },
    accepted=[_fold_by_slices, _fold_by_thirds, _fold_by_loop],
)

# --- 6.7 first_parting: a ladder of stages


def _parting(ours, theirs, tolerance):
    for name, mine in ours.items():
        other = theirs[name]
        if mine.shape != other.shape or not ((mine - other).abs() <= tolerance).all():
            return name
    return None


def _parting_by_allclose(ours, theirs, tolerance):
    for name in ours:
        alike = ours[name].shape == theirs[name].shape and torch.allclose(
            ours[name], theirs[name], rtol=0, atol=tolerance
        )
        if not alike:
            return name


def _parting_by_next(ours, theirs, tolerance):
    def apart(a, b):
        if a.shape != b.shape:
            return True
        largest = (a - b).abs().max().item()
        return largest > tolerance or largest != largest  # nan is not equal to itself

    parted = (name for name in ours if apart(ours[name], theirs[name]))
    return next(parted, None)


def _parting_by_list(ours, theirs, tolerance):
    parted = []
    for (name, mine), other in zip(ours.items(), theirs.values(), strict=True):
        try:
            torch.testing.assert_close(mine, other, rtol=0, atol=tolerance)
        except AssertionError:
            parted.append(name)
    return parted[0] if parted else None


def _parting_with(far, shapes=True, first=True):
    """The first (or last) stage whose two tensors are `far` apart, or have different shapes."""

    def first_parting(ours, theirs, tolerance):
        parted = [
            name
            for name in ours
            if (shapes and ours[name].shape != theirs[name].shape)
            or far(ours[name], theirs[name], tolerance)
        ]
        return parted[0 if first else -1] if parted else None

    return first_parting


def _forms(name, distance, diagnosis):
    """A wrong distance as a reader writes it: on guard for nan and shapes, for shapes, for none."""
    answers = {
        name: _parting_with(lambda a, b, tolerance: not distance(a, b) <= tolerance),
        f"{name}_and_nan": _parting_with(lambda a, b, tolerance: distance(a, b) > tolerance),
        f"{name}_unguarded": _parting_with(
            lambda a, b, tolerance: distance(a, b) > tolerance, shapes=False
        ),
    }
    return {form: (answer, diagnosis) for form, answer in answers.items()}


def _far(a, b, tolerance):
    return not ((a - b).abs() <= tolerance).all()


def _parting_worst(ours, theirs, tolerance):
    far = {
        name: (ours[name] - theirs[name]).abs().max().nan_to_num(nan=torch.inf).item()
        if ours[name].shape == theirs[name].shape
        else torch.inf
        for name in ours
    }
    worst = max(far, key=far.__getitem__)
    return worst if far[worst] > tolerance else None


def _parting_before(ours, theirs, tolerance):
    names = list(ours)
    parted = _parting(ours, theirs, tolerance)
    return names[-1] if parted is None else names[max(0, names.index(parted) - 1)]


def _parting_cases(answer) -> Cases:
    names = "patches", "tokens", "attention", "block", "logits"

    def run(change, tolerance=1e-3, offset=0.0, both=False):
        """Two equal ladders, of which `change` changes the second, or both."""
        ours = {name: numbers(2, 5, 4, seed=i) + offset for i, name in enumerate(names)}
        theirs = {name: stage.clone() for name, stage in ours.items()}
        for ladder in (ours, theirs) if both else (theirs,):
            for name, changed in change.items():
                ladder[name] = changed(ladder[name])
        result = call(answer, ours, theirs, tolerance)
        return "None: they never part" if result is None else result

    def off(by, where=(1, 2, 3)):
        def changed(stage):
            stage[where] += by
            return stage

        return changed

    def nan_from(n):
        return dict.fromkeys(names[n:], off(torch.nan))

    three = (0, slice(3), 2)
    growing = {"attention": off(0.01), "block": off(0.5), "logits": off(9.0)}
    fading = {"tokens": off(-9.0), "attention": off(0.5), "block": off(0.01)}
    ladders: list[tuple] = [
        ("two ladders that are equal", {}),
        ("a difference that begins in attention and grows", growing),
        ("the same with a tolerance that lets its beginning pass", growing, 0.1),
        ("one that begins in tokens and fades, negative at first", fading),
        ("one of 0.01 in all logits, downwards", {"logits": lambda x: x - 0.01}),
        ("differences as small as rounding errors", dict.fromkeys(names, lambda x: x + 1e-9)),
        ("three numbers off by half the tolerance", dict.fromkeys(names, off(5e-4, three))),
        ("all numbers off by half the tolerance", dict.fromkeys(names, lambda x: x + 5e-4)),
        ("one number of patches off by 5 tolerances", {"patches": off(5e-3)}),
        ("numbers in the thousands, one of them 0.01 off", {"tokens": off(0.01)}, 1e-3, 3000),
        ("numbers in the thousands, one of them 0.5 off", {"tokens": off(0.5)}, 1e-3, 3000),
        ("nan in theirs from attention on", nan_from(2)),
        ("nan in both from the block on", nan_from(3), 1e-3, 0, True),
        ("a stage with one token more", {"tokens": lambda x: x[:, [0, 0, 1, 2, 3, 4]]}),
    ]
    for label, change, *options in ladders:
        yield label, partial(run, change, *options)

    def repeated():
        ours = {"patches": numbers(2, 3), "tokens": torch.ones(2, 1, 4), "logits": numbers(2, 3)}
        theirs = ours | {"tokens": torch.ones(2, 5, 4)}
        return call(answer, ours, theirs, 0.1)

    yield "ones of shape (2, 1, 4) beside ones of shape (2, 5, 4)", repeated


_RELATIVE_TOO = (
    "torch.allclose also allows rtol, by default 1e-5 of the size of the numbers: where these are "
    "in the thousands, that is more than the tolerance. Say rtol=0."
)

first_parting = Exercise(
    name="first_parting",
    chapter="06_dialects",
    task="first_parting(ours, theirs, tolerance) -> the name of the first stage where the shapes "
    "differ, or any number is further than the tolerance from its partner, or is nan; None if "
    "there is no such stage",
    reference=_parting,
    cases=_parting_cases,
    mutants={
        **_forms(
            "signed",
            lambda a, b: (a - b).max(),
            "Differences have a sign, and those below zero count as small. Take the absolute value "
            "before you look for the largest.",
        ),
        **_forms(
            "signed_the_other_way",
            lambda a, b: (b - a).max(),
            "Differences have a sign, and where theirs is the smaller one it counts as close. Take "
            "the absolute value before you look for the largest.",
        ),
        "nan_passes": (
            _parting_with(lambda a, b, tolerance: ((a - b).abs() > tolerance).any()),
            "A stage full of nan counts as equal: every comparison with nan is False, `>` as well. "
            "Ask it the other way round, whether all differences are `<=` the tolerance.",
        ),
        "nan_beside_nan": (
            _parting_with(lambda a, b, t: not torch.allclose(a, b, rtol=0, atol=t, equal_nan=True)),
            "Where both sides have nan, you call them equal. A ladder is climbed to find a bug, "
            "and there it is: a nan counts as parting.",
        ),
        **_forms(
            "mean",
            lambda a, b: (a - b).abs().mean(),
            "The mean of the differences is compared. One wrong token among many right ones "
            "disappears in it: every number has to be close, so look at the largest.",
        ),
        **_forms(
            "mean_square",
            lambda a, b: ((a - b) ** 2).mean(),
            "The mean of the squared differences is compared. One wrong token among many right "
            "ones disappears in it, and squares of small numbers are tiny: look at the largest "
            "difference.",
        ),
        "all_for_any": (
            _parting_with(lambda a, b, tolerance: ((a - b).abs() > tolerance).all()),
            "A stage counts as parted only where *all* its numbers are far off. One is enough: "
            "`any`, not `all`. (And ask it with `<=`, since nan is never `>` anything.)",
        ),
        **_forms(
            "sum",
            lambda a, b: (a - b).abs().sum(),
            "The sum of the differences is compared: the more numbers a stage has, the sooner it "
            "fails. Look at the largest.",
        ),
        **_forms(
            "norm",
            lambda a, b: (a - b).norm(),
            "The length of the difference is compared, the root of its sum of squares: the more "
            "numbers a stage has, the sooner it fails. Look at the largest.",
        ),
        **_forms(
            "maxima",
            lambda a, b: (a.max() - b.max()).abs(),
            "The largest number of one is compared with the largest of the other. All the others "
            "may differ: subtract number by number, and look for the largest after that.",
        ),
        "relative_too": (
            _parting_with(lambda a, b, tolerance: not torch.allclose(a, b, atol=tolerance)),
            _RELATIVE_TOO,
        ),
        "relative_too_unguarded": (
            _parting_with(lambda a, b, t: not torch.allclose(a, b, atol=t), shapes=False),
            _RELATIVE_TOO,
        ),
        "tolerance_ignored": (
            _parting_with(lambda a, b, tolerance: not torch.allclose(a, b)),
            "The tolerance that is given is never used: torch.allclose has its own, unless it is "
            "told rtol=0 and atol=tolerance.",
        ),
        "relative_only": (
            _parting_with(lambda a, b, t: not torch.allclose(a, b, rtol=t, atol=0)),
            "The tolerance is taken as a share of the numbers. Where they are large, a large "
            "difference passes, and where they are near 0, none does. Compare the difference "
            "itself.",
        ),
        "exactly_equal": (
            _parting_with(lambda a, b, tolerance: not a.equal(b)),
            "Numbers have to be equal to the last bit. Two ways of computing the same thing round "
            "differently: allow the tolerance.",
        ),
        "shapes_ignored": (
            _parting_with(_far, shapes=False),
            "The shapes are not compared. Where they clash, the subtraction raises an error; where "
            "they can be stretched, (2, 1, 4) beside (2, 5, 4), it says nothing. Compare the "
            "shapes first.",
        ),
        "shapes_ignored_and_nan": (
            _parting_with(lambda a, b, t: (a - b).abs().max() > t, shapes=False),
            "Two things get through. Shapes that clash raise an error, and shapes that can be "
            "stretched pass, (2, 1, 4) beside (2, 5, 4): compare them first. And nan is not `>` "
            "anything: ask whether the largest difference is `<=` the tolerance.",
        ),
        "last": (
            _parting_with(_far, first=False),
            "This is the last stage that differs. The bug is where they *first* part; what comes "
            "after it only carries it on.",
        ),
        "shapes_skipped": (
            lambda ours, theirs, tolerance: _parting(
                {name: x for name, x in ours.items() if x.shape == theirs[name].shape},
                theirs,
                tolerance,
            ),
            "A stage with other shapes is passed over. Where the shapes differ the two have "
            "parted: return that stage.",
        ),
        "only_the_first": (
            lambda ours, theirs, tolerance: _parting(
                dict([next(iter(ours.items()))]), theirs, tolerance
            ),
            "Only the first stage is looked at. Say None after the loop, when all of them have "
            "been seen, and not inside it.",
        ),
        "first_that_agrees": (
            lambda ours, theirs, tolerance: next(
                (name for name in ours if _parting({name: ours[name]}, theirs, tolerance) is None),
                None,
            ),
            "This is the first stage that agrees. Asked for is the first that does not.",
        ),
        "worst": (
            _parting_worst,
            "This is the stage that differs most. A small difference grows on its way, or fades: "
            "the bug is where it begins. Stop at the first.",
        ),
        "one_before": (
            _parting_before,
            "This is the last stage that still agrees. Asked for is the first that does not, and "
            "None where they all do.",
        ),
    },
    accepted=[_parting_by_allclose, _parting_by_next, _parting_by_list],
)

EXERCISES = [
    strip_wrappers,
    rename_weight,
    linear_to_conv,
    join_flax,
    einops_attention,
    fold_biases,
    first_parting,
]
