"""What counts as solved in a session, and what the badge says."""

import linecache
from functools import partial

import pytest
from torch import nn

from vitlib import check
from vitlib.check import progress

CHAPTER = "14_bug_clinic"
FUNCTION = "def labels_of(paths):\n    return [path.split('/')[-2] for path in paths]\n"
CLASS = (
    "import torch\nfrom torch import nn\n\nclass PreNorm(nn.Module):\n    tokens = 3\n\n"
    "    def __init__(self, dim):\n        super().__init__()\n"
    "        self.norm = nn.LayerNorm(dim)\n\n"
    "    def forward(self, x):\n        return self.norm(x)\n"
)


@pytest.fixture(autouse=True)
def _nothing_solved(monkeypatch, unchecked):
    monkeypatch.setattr(progress, "SOLVED", set())
    monkeypatch.setattr(check, "SOLVED", progress.SOLVED)


def cell(source, name):
    """What a notebook's cell defines, which Python knows as a file of its own."""
    file = f"/tmp/ipykernel_1/{abs(hash(source))}.py"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    names = {}
    exec(compile(source, file, "exec"), names)
    return names[name]


def solved():
    return list(check.solved(CHAPTER).solved)


def test_a_right_answer_counts_once_and_for_its_chapter_alone():
    assert solved() == []
    for _ in range(2):
        assert check.labels_of(cell(FUNCTION, "labels_of"))
        assert solved() == ["labels_of"]
    assert check.pre_norm(cell(CLASS, "PreNorm"))
    assert solved() == ["labels_of", "pre_norm"]
    assert check.solved("03_attention").solved == []


@pytest.mark.parametrize(("source", "name"), [(FUNCTION, "labels_of"), (CLASS, "PreNorm")])
def test_a_solution_does_not_count(source, name):
    answer = cell(f"# @title Solution\n{source}", name)
    exercise = check.labels_of if name == "labels_of" else check.pre_norm
    assert exercise(answer)
    assert exercise(partial(answer))
    assert solved() == []


def test_a_wrong_answer_does_not_count():
    assert not check.labels_of(check.labels_of.mutants["unchanged"][0])
    assert solved() == []


@pytest.mark.parametrize("answer", [len, nn.Identity(), partial(len)])
def test_an_answer_without_a_cell_counts(answer):
    progress.note("labels_of", answer)
    assert solved() == ["labels_of"]


def test_the_badge_says_what_is_left():
    progress.SOLVED.update(["labels_of", "patchify"])
    badge = check.solved(CHAPTER)
    total = len(badge.left) + 1
    assert str(badge).startswith(f"1 of {total} solved in this session. Still to do: add_pos")
    html = badge._repr_html_()
    assert f'data-chapter="{CHAPTER}"' in html
    assert html.count(badge.svg) == 1
    assert f"<p>1 of {total} solved" in html
    progress.SOLVED.update(badge.left)
    assert str(check.solved(CHAPTER)) == f"{total} of {total} solved in this session."


def test_a_chapter_without_exercises_is_refused():
    with pytest.raises(ValueError, match=r"expected one of 01_patches, .*, got '13_explorer'"):
        check.solved("13_explorer")
