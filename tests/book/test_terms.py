"""Words of the field are explained, in bold, before they are used."""

import re
from pathlib import Path

import nbformat
import pytest
from browsing import CHAPTERS
from building import ROOT

IN_ORDER = [Path(page).stem for page in CHAPTERS]

# Where each is explained, and words that name it there and later, if the term itself does not.
TERMS = {
    "patches": ("intro", r"patch(?:es)?"),
    "token": ("intro", r"tokens?"),
    "attention map": ("intro", r"attention maps?"),
    "preset": ("intro", r"presets?"),
    "rollout": ("intro", r"rollout"),
    "checker": ("intro", r"checkers?"),
    "ViT-B/16": ("01_patches", r"ViT-[BLS]/\d+"),
    "timm": ("01_patches", r"timm"),
    "DeiT": ("02_tokens", r"DeiT"),
    "patch embedding": ("01_patches", r"patch embeddings?"),
    "kernel": ("01_patches", r"kernels?"),
    "stride": ("01_patches", r"strides?"),
    "MLP": ("01_patches", r"MLPs?"),
    "logits": ("02_tokens", r"logits?"),
    "class token": ("intro", r"class tokens?"),
    "position embedding": ("02_tokens", r"position embeddings?"),
    "buffer": ("02_tokens", r"buffers?"),
    "distillation token": ("02_tokens", r"distillation tokens?"),
    "registers": ("02_tokens", r"registers"),
    "prefix": ("02_tokens", r"prefix(?:es)?"),
    "score": ("03_attention", r"attention scores?"),
    "softmax": ("03_attention", r"softmax"),
    "attention weights": ("03_attention", r"attention weights?"),
    "query": ("03_attention", r"quer(?:y|ies)"),
    "entropy": ("03_attention", r"entropy"),
    "heads": ("03_attention", r"attention heads?"),
    "output projection": ("03_attention", r"output projections?"),
    "dropout": ("03_attention", r"dropout"),
    "fused kernel": ("03_attention", r"fused"),
    "Jacobian": ("03_attention", r"Jacobians?"),
    "permutation-equivariant": ("03_attention", r"permutation-equivarian\w+"),
    "hook": ("03_attention", r"hooks?"),
    "multiply-add": ("05_model", r"multiply-adds?"),
    "FLOP": ("05_model", r"FLOPs?"),
    "gain": ("05_model", r"gains? of a layer"),
    "Xavier's rule": ("05_model", r"Xavier"),
    "inner width": ("06_dialects", r"inner width"),
    "strict loading": ("06_dialects", r"strict loading"),
    "rotary positions": ("06_dialects", r"rotary"),
    "validation set": ("07_training", r"validation sets?"),
    "cross-entropy": ("07_training", r"cross-entrop(?:y|ies)"),
    "label smoothing": ("07_training", r"label smoothing"),
    "warm-up": ("07_training", r"warm-up"),
    "weight decay": ("07_training", r"weight decay"),
    "AdamW": ("07_training", r"AdamW"),
    "augmentation": ("07_training", r"augmentations?"),
    "exponential moving average": ("07_training", r"exponential moving averages?"),
    "gradient clipping": ("07_training", r"gradient clipping"),
    "confusion matrix": ("07_training", r"confusion matrix"),
    "inductive bias": ("09_inductive_bias", r"inductive bias(?:es)?"),
    "translation equivariance": ("09_inductive_bias", r"translation equivarian\w+"),
    "hard distillation": ("10_distillation", r"hard distillation"),
    "pseudo-label": ("10_distillation", r"pseudo-labels?"),
    "soft distillation": ("10_distillation", r"soft distillation"),
    "temperature": ("03_attention", r"temperatures?"),
    "KL divergence": ("10_distillation", r"KL divergences?"),
    "activations": ("11_scaling", r"activations stay|keeps? (?:its |all )?activations"),
    "utilisation": ("11_scaling", r"utilisation"),
    "gradient accumulation": ("11_scaling", r"gradient accumulation"),
    "activation checkpointing": ("11_scaling", r"activation checkpointing"),
    "bfloat16": ("11_scaling", r"bfloat16"),
    "mixed precision": ("11_scaling", r"mixed precision"),
    "data parallel": ("11_scaling", r"data parallel"),
    "all-reduce": ("11_scaling", r"all-reduce"),
    "shard": ("11_scaling", r"shards"),
    "self-distillation": ("15_pretrained", r"self-distillation"),
    "collapse": ("15_pretrained", r"kinds of collapse"),
    "principal components": ("15_pretrained", r"principal components?"),
    "logistic regression": ("15_pretrained", r"logistic regressions?"),
}


def prose(chapter: str) -> list[tuple[str, str]]:
    """(cell, text) of what is read before the exercises; without goals, headings and tables."""
    found = []
    for cell in nbformat.read(ROOT / "book" / f"{chapter}.ipynb", as_version=4).cells:
        if cell.cell_type != "markdown":
            continue
        text = cell.source
        for end in ("## Where this differs", "## Exercises", "## Going further"):
            if end in text:
                return [*found, (cell.id, text.split(end)[0])]
        text = re.sub(r"\*\*After this chapter you can\*\*.*?\n\n(?!- )", "", text, flags=re.DOTALL)
        text = re.sub(r"^[|#].*$", "", text, flags=re.MULTILINE)
        text = re.sub(r"\]\([^)]*\)", "]", text)
        found.append((cell.id, text))
    return found


BOOK = [(chapter, *cell) for chapter in IN_ORDER for cell in prose(chapter)]


@pytest.mark.parametrize("term", TERMS)
def test_a_term_is_explained_where_it_is_first_used(term) -> None:
    where, words = TERMS[term]
    explained = re.compile(rf"\*\*{re.escape(term)}s?\*\*", re.IGNORECASE)
    used = re.compile(rf"(?<![\w`./-])(?:{words})(?![\w`/])", re.IGNORECASE)
    cells = [i for i, (_, _, text) in enumerate(BOOK) if explained.search(text)]
    assert cells, f"no chapter has **{term}** in bold"
    first = BOOK[cells[0]]
    assert first[0] == where, f"**{term}** stands in {first[0]}: {first[1]}"
    for chapter, cell, text in BOOK[: cells[0]]:
        early = used.search(text)
        assert early is None, (
            f"{chapter}: {cell} has {text[max(0, early.start() - 60) : early.end() + 30]!r}, but "
            f"{first[0]}: {first[1]} explains it"
        )
    before = first[2][: explained.search(first[2]).start()]
    assert used.search(before) is None, f"{first[0]}: {first[1]} uses it, then explains it"


AXES = {"b", "c", "d", "h", "n", "gh", "gw", "ph", "pw", "three", "1"}


def test_an_axis_has_one_name_in_every_pattern_of_einops() -> None:
    """Chapter 1 says what gh, gw, ph and pw are. Chapter 6 shows the letters of other people."""
    found = []
    for chapter in IN_ORDER:
        for cell in nbformat.read(ROOT / "book" / f"{chapter}.ipynb", as_version=4).cells:
            if cell.cell_type == "code" and chapter != "06_dialects":
                for pattern in re.findall(r'"([a-z0-9() ]+ -> [a-z0-9() ]+)"', cell.source):
                    names = set(re.findall(r"\w+", pattern))
                    found.append((chapter, cell.id, pattern, names - AXES))
    assert len(found) > 10
    assert [one for one in found if one[-1]] == []


def test_goals_tables_and_references_are_passed_over() -> None:
    chapters = {chapter for chapter, _, _ in BOOK}
    assert chapters == set(IN_ORDER)
    text = "\n".join(text for _, _, text in BOOK)
    assert "After this chapter you can" not in text
    assert "Going further" not in text
