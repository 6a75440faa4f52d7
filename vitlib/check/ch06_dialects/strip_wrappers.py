"""6.1 strip_wrappers: what stands around a state dict."""

import re
from copy import deepcopy
from functools import partial

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, numbers
from vitlib.check.probing import draw


def strip_wrappers(checkpoint):
    for wrapper in ("model", "state_dict"):
        checkpoint = checkpoint.get(wrapper, checkpoint)
    return {bare(name): weight for name, weight in checkpoint.items()}


def bare(name):
    while name.startswith(("module.", "_orig_mod.")):
        _, name = name.split(".", maxsplit=1)
    return name


def by_parts(checkpoint):
    weights = checkpoint.get("model", checkpoint.get("state_dict", checkpoint))
    result = {}
    for name in weights:
        parts = name.split(".")
        while parts[0] in ("module", "_orig_mod"):
            parts = parts[1:]
        result[".".join(parts)] = weights[name]
    return result


def by_pattern(checkpoint):
    if "model" in checkpoint:
        return by_pattern(checkpoint["model"])
    if "state_dict" in checkpoint:
        return by_pattern(checkpoint["state_dict"])
    return {re.sub(r"^(module\.|_orig_mod\.)*", "", n): w for n, w in checkpoint.items()}


def in_place(checkpoint):
    weights = checkpoint.get("model") or checkpoint.get("state_dict") or checkpoint
    for name in list(weights):
        short = name.removeprefix("module.").removeprefix("_orig_mod.").removeprefix("module.")
        weights[short] = weights.pop(name)
    return weights


def cases(answer) -> Cases:
    names = "cls_token", "blocks.0.mlp.fc1.weight", "norm.bias", "head.weight"
    inside = "head.submodule.weight", "neck.module.bias", "modules.0.bias"

    def named(prefix, *more):
        full = [prefix + name for name in (*names, *more)]
        return {name: numbers(2, 3, seed=i) for i, name in enumerate(full)}

    def saved(weights, key):
        """As training scripts save it, with the running mean of the weights as well."""
        others = {"model_ema": {"norm.bias": numbers(2, seed=9)}, "optimizer": {"lr": 0.1}}
        others = others if key == "model" else dict(reversed(others.items()))
        return {**others, key: weights, "epoch": 3}

    some = named("") | named("module.", "extra.weight")
    some = {name: some[name] for name in [*names[:2], *(f"module.{n}" for n in names[2:])]}
    for label, checkpoint in [
        ("a plain state dict", named("")),
        ("names that begin with “module.”", named("module.")),
        ("names that begin with “_orig_mod.”", named("_orig_mod.")),
        ("“module._orig_mod.”", named("module._orig_mod.")),
        ("“_orig_mod.module.”", named("_orig_mod.module.")),
        ("{'model': weights} among other things", saved(named(""), "model")),
        ("{'state_dict': weights} among other things", saved(named(""), "state_dict")),
        (
            "{'model': weights} whose names begin with “module.”",
            saved(named("module."), "model"),
        ),
        ("names with “module” in the middle, too", named("module.", *inside)),
        ("names with “module” in the middle only", named("", *inside)),
        ("names of which only the last begin with “module.”", some),
        ("names of which only the first begin with “module.”", dict(reversed(some.items()))),
    ]:
        yield label, partial(call, answer, checkpoint, may_change=["inputs"])


MUTANTS = edits(strip_wrappers, """
stripped_by_letters: bare(name) → name.lstrip("module.").lstrip("_orig_mod.")
    `lstrip` takes a set of letters, not a word: it goes on to eat every leading m, o, d, u, l, e
    and dot, so that `module.mlp` becomes `p`. The method that takes a word is `removeprefix`.
stripped_by_letters_at_once: bare(name) → name.lstrip("module._orig_mod.")
    `lstrip` takes a set of letters, not a word: it goes on to eat every leading letter of `module`
    and `_orig_mod`, so that `module.mlp` becomes `p`. The method that takes a word is
    `removeprefix`.
replaced_everywhere: bare(name) → name.replace("module.", "").replace("_orig_mod.", "")
    `replace` takes the word out wherever it stands: `head.submodule.weight` becomes
    `head.subweight`, and nothing complains until a weight is missing. A wrapper stands at the start
    of a name.
module_replaced_once: bare(name) → name.replace("module.", "", 1)
module_replaced_once_or_more: bare(name) → name.replace("module.", "")
    Two things. `_orig_mod.` is left on. And `replace` takes `module.` out wherever it stands:
    `head.submodule.weight` becomes `head.subweight`. A wrapper stands at the start of a name.
replaced_once: bare(name) → name.replace("module.", "", 1).replace("_orig_mod.", "", 1)
    `replace(…, 1)` takes out the first one that it finds, wherever that is: `head.submodule.weight`
    becomes `head.subweight`. A wrapper stands at the start of a name.
parts_anywhere: bare(name) → ".".join(
→     part for part in name.split(".") if part not in ("module", "_orig_mod")
→ )
    Every part of a name that is `module` is taken out, in the middle, too: `neck.module.bias`
    becomes `neck.bias`. Only those at the start are wrappers.
split_everywhere: bare(name) → name.split("module.")[-1].split("_orig_mod.")[-1]
    The name is cut at the *last* `module.`, wherever it stands, and what was before is lost: of
    `head.submodule.weight` only `weight` is left. A wrapper stands at the start of a name.
cut_as_the_first: return {bare(name): weight for name, weight in checkpoint.items()} →
→ first = next(iter(checkpoint))
→ cut = len(first) - len(bare(first))
→ return {name[cut:]: weight for name, weight in checkpoint.items()}
    As much as the first name has in front is cut off all names. Not every name need begin so: look
    at each for itself.
if_all_have_it: checkpoint.items()} → checkpoint.items()} if all(
→     name.startswith(("module.", "_orig_mod.")) for name in checkpoint
→ ) else checkpoint
    Prefixes are taken off only where all names have one. Not every name need begin so: look at each
    for itself.
if_the_first_has_it: checkpoint.items()} → checkpoint.items()} if (
→     next(iter(checkpoint)).startswith(("module.", "_orig_mod."))
→ ) else checkpoint
    Prefixes are taken off only where the first name has one. Not every name need begin so: look at
    each for itself.
split_once: bare(name) → name.split("module.", 1)[-1].removeprefix("_orig_mod.")
    The name is cut at the first `module.`, wherever it stands: of `head.submodule.weight` only
    `weight` is left. A wrapper stands at the start of a name.
last_part: bare(name) → name.rsplit(".", 1)[-1]
    Only the last part of a name is kept, `weight` or `bias`, so that most names become the same.
    Take off the wrappers alone.
first_part_off: bare(name) → name.split(".", 1)[-1]
    The first part of every name is taken off, whatever it is: `norm.bias` becomes `bias`. Take off
    `module.` and `_orig_mod.` alone.
tensors_picked: ("model", "state_dict") → ()
and: checkpoint.items()} → checkpoint.items() if not isinstance(weight, dict | int)}
    Tensors are picked out of the outermost dictionary, and there are none where the weights are one
    level deeper, under `model` or `state_dict`: look there first.
module_first: bare(name) → name.removeprefix("module.").removeprefix("_orig_mod.")
    You take off `module.` and then `_orig_mod.`, once each. A model that was wrapped for several
    GPUs first and compiled afterwards has them the other way round: go on while there is one.
compiled_first: bare(name) → name.removeprefix("_orig_mod.").removeprefix("module.")
    You take off `_orig_mod.` and then `module.`, once each. A model that was compiled first and
    wrapped for several GPUs afterwards has them the other way round: go on while there is one.
seven_letters: bare(name) → name[7:] if name.startswith(("module.", "_orig_mod.")) else name
    Seven letters are cut off, whichever word it is. `_orig_mod.` has ten: `removeprefix` counts
    them for you.
module_only: bare(name) → name.removeprefix("module.")
    `_orig_mod.` is left on. torch.compile puts it before every name, as DataParallel does with
    `module.`
compiled_only: bare(name) → name.removeprefix("_orig_mod.")
    `module.` is left on. DataParallel puts it before every name, as torch.compile does with
    `_orig_mod.`
names_as_they_are: bare(name) → name
    The weights are unpacked, and their names left as they are. Take `module.` and `_orig_mod.` off
    the start of each.
not_unpacked: ("model", "state_dict") → ()
    A dictionary inside the dictionary is not opened: what comes back holds `model` or `state_dict`
    and the optimiser, and no weights. Look whether one of the two keys is there, and go on with
    what is under it.
model_only: "model", "state_dict" → "model",
    Weights under `state_dict` are not found. Some scripts save them under that key, some under
    `model`.
state_dict_only: "model", "state_dict" → "state_dict",
    Weights under `model` are not found. Some scripts save them under that key, some under
    `state_dict`.
returned_early: checkpoint = checkpoint.get(wrapper, checkpoint) → if wrapper in checkpoint:
→     return checkpoint[wrapper]
    Weights under `model` or `state_dict` come back as they are, with `module.` and `_orig_mod.` in
    their names: you return before the names are looked at.
plain_as_it_is: checkpoint = checkpoint.get(wrapper, checkpoint) → if wrapper in checkpoint:
→     return {bare(n): checkpoint[wrapper][n] for n in checkpoint[wrapper]}
and: return {bare(name): weight for name, weight in checkpoint.items()} → return checkpoint
    A dictionary that *is* the state dict comes back as it is. Its names may begin with `module.`
    or `_orig_mod.`, too.
longest_first: bare(name) → name.removeprefix("module._orig_mod.").removeprefix("module.")
    `module._orig_mod.` and `module.` are taken off, and `_orig_mod.` alone is left on.
first_entry: for wrapper in ("model", "state_dict"): → first = next(iter(checkpoint.values()))
→ if isinstance(first, dict):
and: checkpoint.get(wrapper, checkpoint) → first
    You take whatever stands first in the file. Here that is `model_ema`, an average of the weights
    over training: it would load and give other logits. Ask for the key by name.
""") | edits(by_parts, """
plain_forgotten: checkpoint.get("state_dict", checkpoint) → checkpoint.get("state_dict")
    A dictionary that *is* the state dict, without `model` or `state_dict` around it, is not
    expected: nothing is found in it. Go on with the dictionary itself then.
model_demanded: checkpoint.get("model", checkpoint.get("state_dict", checkpoint))
→ checkpoint["model"]
    `checkpoint["model"]` raises an error where there is no such key. The weights may be under
    `state_dict`, or the dictionary may hold them itself.
state_dict_demanded: checkpoint.get("model", checkpoint.get("state_dict", checkpoint))
→ checkpoint["state_dict"]
    `checkpoint["state_dict"]` raises an error where there is no such key. The weights may be under
    `model`, or the dictionary may hold them itself.
one_of_the_two_demanded: checkpoint.get("state_dict", checkpoint))
→ None) or checkpoint["state_dict"]
    You expect either `model` or `state_dict`. The dictionary may also hold the weights itself.
average_preferred: checkpoint.get("model", → checkpoint.get("model_ema") or checkpoint.get("model",
    The average of the weights, `model_ema`, is taken where there is one. It would load and give
    other logits: asked for is what stands under `model` or `state_dict`.
like_module: parts[0] in ("module", "_orig_mod") → parts[0].startswith(("module", "_orig_mod"))
    Whatever begins with the letters of `module` is taken off, and `modules.0.bias` loses its first
    part. The word ends with its dot: `module.`
dot_left: parts = parts[1:]
→     parts[0] = ""
    The word is taken off and its dot left on: `module.norm.bias` becomes `.norm.bias`. The prefix
    is `module.`, with its dot.
names_without_weights: return result → return list(result)
    A list of names comes back. Wanted is a dictionary, with the weight under each bare name.
""") | edits(by_pattern, r"""
pattern_everywhere: ^(module\.|_orig_mod\.)* → (module.|_orig_mod.)
    The pattern may fit anywhere in a name, and its dot is any character: `modules.0.bias` becomes
    `.0.bias`. A wrapper stands at the start of a name, which is `^` in a pattern, and `\.` is a
    dot.
one_prefix_only: )* → )?
    One prefix is taken off, and a name may have both: go on while there is one.
""")  # fmt: skip


def probe(answer):
    def made(prefix, *names):
        return {f"{prefix}{name}": draw(2, i + 1, seed=i) for i, name in enumerate(names)}

    names = "dist_token", "odd.weight", "blocks.1.norm1.bias", "head.module.scale"
    prefixes = "", "module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod."
    wrapped = [
        {"epoch": 1, "model": made("", *names), "scaler": {"scale": 2.0}},
        {"model": made("_orig_mod.", *names), "model_ema": made("", "odd.weight")},
        {"args": {}, "state_dict": made("module.", *names)},
        {"ema": made("", *names), "state_dict": made("", "a", "b.c_module.d")},
    ]
    given = [made(prefix, *names) for prefix in prefixes] + wrapped
    return [lambda g=g: answer(deepcopy(g)) for g in given]


EXERCISE = Exercise(
    name="strip_wrappers",
    chapter="06_dialects",
    task="strip_wrappers(checkpoint) -> a dictionary from bare names to weights: taken out of "
    "checkpoint['model'] or checkpoint['state_dict'] if there is one; without 'module.' and "
    "'_orig_mod.' at the start of names, in whatever order they stand",
    reference=strip_wrappers,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_parts, by_pattern, in_place],
    probe=probe,
)
