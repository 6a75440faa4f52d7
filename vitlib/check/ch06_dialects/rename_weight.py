"""6.2 rename_weight: whole names, not pieces of them."""

import re
from functools import partial

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call

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
NUMBERED = {"stage2.block.{i}.fc1": "blocks.{i}.mlp.fc1", "stage2.ln3": "norm"}
SWAPPED = {"a.{i}.norm1": "a.{i}.norm2", "a.{i}.norm2": "a.{i}.norm1"}


def rename_weight(name, table):
    stem, ending = halves(name)
    for old, new in table.items():
        pattern = re.escape(old).replace(r"\{i\}", r"(?P<i>\d+)")
        if found := re.fullmatch(pattern, stem):
            return new.format(**found.groupdict()) + ending
    return name


def halves(name):
    """The name, and its ending `.weight` or `.bias`, if it has one."""
    for ending in (".weight", ".bias"):
        if name.endswith(ending):
            return name.removesuffix(ending), ending
    return name, ""


def by_looking_up(name, table):
    spelled_out = {
        old.format(i=i) + ending: new.format(i=i) + ending
        for old, new in table.items()
        for i in range(50)
        for ending in ("", ".weight", ".bias")
    }
    return spelled_out.get(name, name)


def without_patterns(name, table):
    stem, ending = halves(name)
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


def by_number(name, table):
    stem, ending = halves(name)
    for number in ["", *re.findall(r"\d+", stem)]:
        for old, new in table.items():
            if old.replace("{i}", number) == stem:
                return new.replace("{i}", number) + ending
    return name


def cases(answer) -> Cases:
    def renamed(table, *names):
        return lambda: {name: call(answer, name, dict(table)) for name in names}

    def block(*names):
        return [f"encoder.layer.0.{name}" for name in names]

    torchvision = (
        f"encoder.layers.encoder_layer_{i}.mlp.{j}.bias" for i in (3, 12) for j in (0, 3)
    )
    for label, table, *names in [
        ("layer 0, the MLP", HUGGING_FACE, *block("intermediate.dense.bias", "output.dense.bias")),
        ("names without a number", HUGGING_FACE, "layernorm.weight", "embeddings.cls_token"),
        (
            "“output.dense” in “attention.output.dense”",
            HUGGING_FACE, *block("attention.output.dense.weight"),
        ),
        (
            "“layernorm” in “layernorm_before”",
            HUGGING_FACE, *block("layernorm_before.weight", "layernorm_after.bias"),
        ),
        ("“classifier” in “cls_classifier”", HUGGING_FACE, "cls_classifier.weight"),
        (
            "layers 1, 10 and 11",
            HUGGING_FACE, *(f"encoder.layer.{i}.output.dense.weight" for i in (1, 10, 11)),
        ),
        (
            "the table in another order",
            dict(sorted(HUGGING_FACE.items())), "cls_classifier.bias", "classifier.weight",
            *block("attention.output.dense.bias", "output.dense.bias", "layernorm_after.bias"),
        ),
        ("names with a second number, which is no layer", TORCHVISION, *torchvision),
        (
            "names with a number before the layer's",
            NUMBERED, "stage2.block.0.fc1.bias", "stage2.block.14.fc1.weight", "stage2.ln3.bias",
        ),
        ("a table that swaps two names", SWAPPED, "a.7.norm1.bias", "a.7.norm2.weight"),
        (
            "names that no entry fits",
            HUGGING_FACE, "pooler.dense.weight", "layernorm_old.bias", "old_layernorm.bias",
            "embeddings_cls_token", "encoder.layer.0", "layernorm.scale",
            "encoder.layer.x.output.dense.bias", "encoder.layer._1.output.dense.bias",
        ),
    ]:  # fmt: skip
        yield label, renamed(table, *names)


def replaced_in_pieces(name, table):
    """As converters do it: what stands before and after the number, one after the other."""
    for old, new in table.items():
        for piece, other in zip(old.split("{i}"), new.split("{i}"), strict=True):
            name = name.replace(piece, other)
    return name


def hole_taken_literally_and_replaced(name, table):
    for old, new in table.items():
        name = name.replace(old, new)
    return name


MUTANTS = edits(rename_weight, r"""
replaced_in_pieces:
    The pieces before and after {i} are replaced one by one, wherever they stand: `.output.dense` is
    also the end of `.attention.output.dense`. Compare whole names.
renamed_again: return new → stem = new
and: + ending →
and: return name → return stem + ending
    A name that has been renamed runs through the rest of the table and may be renamed again: a
    table that swaps two names then loses one. Return as soon as an entry fits.
hole_taken_literally: .replace(r"\{i\}", r"(?P<i>\d+)") →
hole_taken_literally_and_replaced:
    Names without a number are right, and no other: you look for `{i}` itself, which no name
    contains. It stands for a number. (re.escape turns `{i}` into `\{i\}`.)
number_is_anything: \d+ → .+
    {i} is allowed to be anything. Then `encoder.layer.0.attention.output.dense` fits
    `encoder.layer.{i}.output.dense`, with i = `0.attention`. Let it be digits only.
number_is_a_word: \d+ → \w+
    {i} is allowed to be a word, and then `encoder.layer.x.output.dense` is renamed as well. It is
    the number of a layer: digits only.
one_digit: \d+ → \d
    {i} is one digit only. The layers from 10 on keep their old names, so a model with 12 layers is
    loaded but for the last two. Allow several digits.
starts_like_an_entry: re.fullmatch(pattern, stem) → re.match(pattern, name)
and: + ending → + name[found.end() :]
    It is enough for you that a name *begins* like an entry, and anything may follow:
    `layernorm_old` becomes `norm_old`. What follows may be nothing, `.weight` or `.bias`.
ending_demanded: re.fullmatch( → ending and re.fullmatch(
    Only names that end in `.weight` or `.bias` are renamed. Some parameters are no part of a layer
    and have no such ending, `embeddings.cls_token` for one.
fits_the_beginning: fullmatch → match
    It is enough for you that a name *begins* like an entry: `layernorm_old` then fits `layernorm`.
    re.match asks no more than that; re.fullmatch asks for all of it.
fits_inside: fullmatch → search
    It is enough for you that an entry is found somewhere in the name: `cls_classifier` then fits
    `classifier`. re.search asks no more than that; re.fullmatch asks for all of it.
dots_are_anything: re.escape(old).replace(r"\{i\}" → old.replace("{i}"
    In a regular expression a dot stands for any character, so `embeddings_cls_token` fits
    `embeddings.cls_token`. re.escape makes the dots dots.
ending_lost: + ending →
    The ending is lost: a weight and a bias get the same name, and one overwrites the other. Put
    `.weight` or `.bias` back behind the new name.
ending_not_expected: halves(name) → name, ""
    An entry has to be the whole name for you, with nothing behind it. Nearly all names end in
    `.weight` or `.bias`, which the table leaves out: take it off before you compare, and put it
    back.
any_ending: stem, ending = halves(name) → stem, dot, last = name.rpartition(".")
→ ending = dot + last
    The last part of every name is cut off as if it were `.weight` or `.bias`.
    `embeddings.cls_token` has no such ending, so its entry is never found.
hole_left_open: .format(**found.groupdict()) →
    The new name still has {i} in it. Put in the number that was found in the old one.
unknown_is_none: return name → return None
    A name that no entry fits is lost: None comes back. It should come back as it was, so that the
    report can call it by its name.
unknown_raises: return name → raise KeyError(name)
    A name that no entry fits raises a KeyError. It should come back as it was, so that the report
    can list all that is left over, and not the first only.
no_group_to_take: .format(**found.groupdict()) → .replace("{i}", found[1])
    Names without a layer, such as `layernorm`, raise an error: their entry has no {i}, so nothing
    was caught that you could put in. Ask first whether there is a number.
weight_only: halves(name) → name.removesuffix(".weight"), ".weight" * name.endswith(".weight")
    Only `.weight` is taken for an ending. A name may also end in `.bias`.
bias_only: halves(name) → name.removesuffix(".bias"), ".bias" * name.endswith(".bias")
    Only `.bias` is taken for an ending. A name may also end in `.weight`.
a_dot_without_ending: + ending → + "." + ending[1:]
    A name without an ending gets a dot behind it: `cls_token` becomes `cls_token.` The dot belongs
    to `.weight` and `.bias`: put it there only where one of them follows.
dot_lost: + ending → + ending[1:]
    The dot before `weight` or `bias` is lost. Put the ending back with its dot.
only_the_first_entry: return name →     return name
    Only the first entry of the table is tried. Return the name as it was after the loop, when all
    entries have been tried, and not inside it.
number_after_a_dot: .replace(r"\{i\}", r"(?P<i>\d+)") → .replace(r"\.\{i\}", r"\.(?P<i>\d+)")
    {i} is found only where it is a part of its own, between dots. In torchvision's
    `encoder_layer_{i}` it stands within a word.
""") | edits(without_patterns, r"""
entries_with_a_number_only: return new + ending → break
    Entries without {i} are passed over. `layernorm` belongs to no layer, and is in the table, too.
""") | edits(by_number, r"""
first_number: *re.findall(r"\d+", stem) → *re.findall(r"\d+", stem)[:1]
    The first number of a name is taken for the layer's. In `stage2.block.14.fc1` it is the second:
    only the table's {i} says where the layer's number stands.
last_number: *re.findall(r"\d+", stem) → *re.findall(r"\d+", stem)[-1:]
    The last number of a name is taken for the layer's. In `stage2.block.14.fc1` it is the second of
    three: only the table's {i} says where the layer's number stands.
every_number_is_a_layer: ["", *re.findall(r"\d+", stem)] → re.findall(r"\d+", stem) or [""]
and: old.replace("{i}", number) == stem → old == re.sub(r"\d+", "{i}", stem)
    Every number in the name is taken for the layer's. In torchvision's `mlp.0` and `mlp.3` the
    second number says which module. Only the one at {i} is free; the others must be as in the
    table.
""") | edits(by_looking_up, """
twelve_layers: range(50) → range(12)
    {i} goes from 0 to 11 for you. Other models have more layers than twelve: take any whole number.
chained_replaces: return spelled_out.get(name, name) → for old, new in spelled_out.items():
→     name = name.replace(old, new)
→ return name
    One `replace` after the other: each also hits names that merely *contain* its words, or what an
    earlier one has just made. `layernorm` is a part of `layernorm_before`. Compare whole names, and
    return as soon as one entry fits.
chained_longest_first: table.items() → sorted(table.items(), key=lambda entry: -len(entry[0]))
and: return spelled_out.get(name, name) → for old, new in spelled_out.items():
→     name = name.replace(old, new)
→ return name
    Trying the longest entries first saves `layernorm_before` from `layernorm`, but it is still one
    `replace` after the other: names that no entry fits are changed in part, and a new name may be
    replaced again. Compare whole names, and return.
contained: return spelled_out.get(name, name) → for old, new in spelled_out.items():
→     if old in name:
→         return name.replace(old, new)
→ return name
    It is enough for you that a name *contains* an entry, and the rest of it stays: `layernorm` is a
    part of `layernorm_before`, which then becomes `norm_before`. Compare whole names.
ends_like_an_entry: return spelled_out.get(name, name) → for old, new in spelled_out.items():
→     if name.endswith(old):
→         return name.replace(old, new)
→ return name
    It is enough for you that a name *ends* like an entry: `cls_classifier` ends like `classifier`.
    Compare whole names, from their first letter on.
""")  # fmt: skip


def probe(answer):
    tables = [
        {"head": "out", "blocks.{i}.attn.head": "b.{i}.h", "blocks.{i}.head": "b.{i}.o"},
        {"l_{i}.fc.1": "x.{i}.fc", "l_{i}.fc.2": "x.{i}.gate", "ln": "norm", "pos": "pos_embed"},
        {"p.{i}": "q.{i}", "q.{i}": "p.{i}", "m": "n", "n": "m"},
    ]
    names = [
        ["head.weight", "head", "blocks.2.head.bias", "blocks.13.attn.head.weight", "heads.bias",
         "blocks.2.attn.head", "the.head.weight", "blocks.a.head.bias"],
        ["l_0.fc.1.bias", "l_21.fc.2.weight", "l_3.fc.3.bias", "pos", "ln.weight", "pos.bias",
         "lnx.bias", "l_4.fc.1", "ln.scale", "l_5xfc.1.bias"],
        ["p.4", "q.10.bias", "m.weight", "n.bias", "p.weight", "o"],
    ]  # fmt: skip
    return [partial(answer, name, t) for t, ns in zip(tables, names, strict=True) for name in ns]


EXERCISE = Exercise(
    name="rename_weight",
    chapter="06_dialects",
    task="rename_weight(name, table) -> the new name: an entry of the table fits a name that is "
    "exactly its left side, or that with .weight or .bias behind it, where {i} is any whole "
    "number; where no entry fits, the name as it was",
    reference=rename_weight,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_looking_up, without_patterns, by_number],
    probe=probe,
)
