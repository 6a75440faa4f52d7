"""The chapters' own code is vitlib's by value; exercises and questions have the right form."""

import ast
import linecache
import re
import symtable
from contextlib import suppress
from functools import cache, partial

import nbformat
import notebooks
import pytest
import torch
import torch.nn.functional as F
from building import ROOT
from torch import nn

import vitlib
from vitlib import check
from vitlib.check.report import NOT_ATTEMPTED

CLINIC = "14_bug_clinic"  # all cases: each has a stub to be repaired, and a question
EXERCISED = sorted({exercise.chapter for exercise in check.EXERCISES.values()})
CARD = re.compile(
    r'<div class="exercise">\n\n'
    r"\*\*Exercise (\d+)\.(\d+) · [^*\n]+\*\* &nbsp; (●○○|●●○|●●●) &nbsp; (\d+) minutes\n\n"
    r".+\n</div>",
    re.DOTALL,
)
SOLUTION = {
    "cellView": "form",
    "jupyter": {"source_hidden": True},
    "mystnb": {"code_prompt_show": "Solution", "code_prompt_hide": "Solution"},
    "tags": ["solution", "hide-cell"],
}


@cache
def cells_of(chapter):
    return nbformat.read(ROOT / "book" / f"{chapter}.ipynb", as_version=4).cells


def tags(cell):
    return cell.metadata.get("tags", [])


def own_code(chapter):
    """The statements of the chapter's own code cells: without setup, exercises and solutions."""
    for cell in cells_of(chapter):
        if cell.cell_type == "code" and not {"setup", "exercise", "solution"} & set(tags(cell)):
            yield from ast.parse(cell.source).body


def definitions(chapter):
    """The chapter's imports, functions and classes, executed without anything else.

    A function whose default values the chapter computes is left out.
    """
    kinds = ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef
    namespace = {"__name__": chapter}
    for node in own_code(chapter):
        if isinstance(node, kinds):
            with suppress(NameError):
                exec(compile(ast.Module([node], []), chapter, "exec"), namespace)
    return namespace


@pytest.fixture(autouse=True)
def _plain(unchecked):
    """Readers' code meets vitlib without a type checker."""


# --- the chapter's own class is vitlib's


def draw(*shape):
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def assert_equal_by_value(ours, theirs, *inputs):
    """In float64, with the same random weights, which each must take from the other by name."""
    ours, theirs = ours.double(), theirs.double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_(generator=generator).mul_(0.5)
    ours.load_state_dict(theirs.state_dict())
    for training in (False, True):
        outputs = []
        for module in (ours, theirs):
            torch.manual_seed(0)
            outputs.append(module.train(training)(*inputs))
        torch.testing.assert_close(*outputs, rtol=0, atol=1e-11)


@pytest.mark.parametrize("form", ["loop", "reshape", "einops", "unfold"])
def test_every_patchify_of_chapter_1_is_vitlibs(form):
    ours = definitions("01_patches")[f"patchify_{form}"]
    for images, patch in [(draw(2, 3, 6, 15), 3), (draw(1, 2, 10, 4), 2), (draw(3, 1, 5, 5), 5)]:
        assert torch.equal(ours(images, patch), vitlib.patchify(images, patch))


def test_the_wrong_patchify_of_chapter_1_is_wrong():
    ours = definitions("01_patches")["patchify_wrong"]
    images = draw(2, 3, 6, 15)
    assert ours(images, 3).shape == vitlib.patchify(images, 3).shape
    assert check.patchify(ours).mutants == ("no_permute",)


@pytest.mark.parametrize("mode", ["conv", "unfold"])
def test_patch_embed_of_chapter_1_is_vitlibs(mode):
    ours = definitions("01_patches")["PatchEmbed"]
    sizes = (15, 5, 2, 7)
    theirs = vitlib.PatchEmbed(*sizes, mode=mode)
    assert_equal_by_value(ours(*sizes, mode=mode), theirs, draw(3, 2, 15, 15))
    for wrong in [draw(1, 2, 10, 10), draw(1, 3, 15, 15)]:
        with pytest.raises(ValueError, match="15"):
            ours(*sizes, mode=mode).double()(wrong)
    with pytest.raises(ValueError, match="8"):
        ours(30, 8)


@pytest.mark.parametrize("pos_embed", ["learned", "sincos", "none"])
@pytest.mark.parametrize("prefix", [{}, {"distilled": True}, {"distilled": True, "reg_tokens": 3}])
def test_embeddings_of_chapter_2_are_vitlibs(pos_embed, prefix):
    options = {"pos_embed": pos_embed, "embed_dim": 20, **prefix}
    sizes = {"img_size": (6, 15), "patch_size": 3, "in_chans": 2}
    theirs = vitlib.VisionTransformer(depth=0, num_heads=5, num_classes=0, **sizes, **options)
    theirs.norm = nn.Identity()
    theirs.forward = theirs.forward_features
    ours = definitions("02_tokens")["Embeddings"](**sizes, **options)
    assert_equal_by_value(ours, theirs, draw(3, 2, 6, 15))


def test_attention_of_chapter_3_is_vitlibs_and_pytorchs():
    ours = definitions("03_attention")
    for bias in (True, False):
        theirs = vitlib.Attention(15, 3, qkv_bias=bias)
        assert_equal_by_value(ours["Attention"](15, 3, bias), theirs, draw(2, 7, 15))
    q, k, v = draw(2, 3, 4), draw(2, 5, 4), draw(2, 5, 6)
    out, weights = ours["attention"](q, k, v)
    torch.testing.assert_close(out, F.scaled_dot_product_attention(q, k, v), rtol=0, atol=1e-12)
    torch.testing.assert_close(weights, vitlib.attention_weights(q, k), rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="not divisible"):
        ours["Attention"](10, 3)


def test_dropout_of_chapter_3s_attention_is_vitlibs():
    theirs = vitlib.Attention(15, 3, qkv_bias=True, attn_drop=0.4)
    theirs.fused = False
    ours = definitions("03_attention")["Attention"](15, 3, attn_drop=0.4)
    assert_equal_by_value(ours, theirs, draw(2, 7, 15))


def test_the_parts_of_chapter_4_are_vitlibs_and_pytorchs():
    ours = definitions("04_block")
    assert_equal_by_value(ours["Mlp"](10, 7), vitlib.Mlp(10, 7), draw(2, 3, 10))
    for shape in [(9, 3, 4), (9, 5), (9, 2, 3, 4)]:
        assert_equal_by_value(ours["DropPath"](0.4), vitlib.DropPath(0.4), draw(*shape))
    x, weight, bias = draw(2, 3, 7), draw(7), draw(7) + 1
    expected = F.layer_norm(x, (7,), weight, bias, 1e-6)
    made = ours["layer_norm_by_hand"](x, weight, bias, 1e-6)
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-12)


def test_block_of_chapter_4_is_vitlibs():
    norm = partial(nn.LayerNorm, eps=1e-6)
    theirs = vitlib.Block(15, 3, 2.5, qkv_bias=True, drop_path=0.3, norm_layer=norm)
    ours = definitions("04_block")["Block"](15, 3, 2.5, drop_path=0.3)
    assert_equal_by_value(ours, theirs, draw(9, 4, 15))


@pytest.mark.parametrize("distilled", [False, True])
def test_model_of_chapter_5_is_vitlibs(distilled):
    sizes = {"img_size": 15, "patch_size": 5, "in_chans": 2, "num_classes": 7, "embed_dim": 12}
    sizes |= {"depth": 3, "num_heads": 4}
    name = "DistilledVisionTransformer" if distilled else "VisionTransformer"
    ours = definitions("05_model")[name](**sizes)
    theirs = vitlib.VisionTransformer(**sizes, distilled=distilled)
    assert_equal_by_value(ours, theirs, draw(3, 2, 15, 15))


def test_the_first_style_of_chapter_6_is_vitlibs_model():
    sizes = {"img_size": 15, "patch_size": 5, "in_chans": 2, "num_classes": 10, "embed_dim": 12}
    ours = definitions("06_dialects")["ModuleViT"](12, 3, 4, patch=5, chans=2, tokens=10)
    theirs = vitlib.VisionTransformer(**sizes, depth=3, num_heads=4)
    assert_equal_by_value(ours, theirs, draw(3, 2, 15, 15))


@pytest.mark.parametrize("bias", [False, True])
def test_the_einops_attention_of_chapter_6_is_vitlibs(bias):
    ours = definitions("06_dialects")["HeadsAttention"](12, 3, 4, qkv_bias=bias)
    ours.qkv, ours.proj = ours.to_qkv, ours.to_out
    theirs = vitlib.Attention(12, 3, qkv_bias=bias).double()
    theirs.load_state_dict({k: t for k, t in ours.double().state_dict().items() if "to_" not in k})
    x = draw(2, 7, 12)
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-11)


def test_the_distilled_model_of_chapter_10_is_vitlibs():
    sizes = {"img_size": 15, "patch_size": 5, "in_chans": 2, "num_classes": 7, "embed_dim": 12}
    sizes |= {"depth": 3, "num_heads": 4}
    ours = definitions("10_distillation")["Distilled"](vitlib.VisionTransformer(**sizes)).double()
    theirs = vitlib.VisionTransformer(**sizes, distilled=True).double()
    ours.load_state_dict(theirs.state_dict())
    images = draw(3, 2, 15, 15)
    for made, expected in zip(ours(images), theirs(images, return_dist=True), strict=True):
        torch.testing.assert_close(made, expected, rtol=0, atol=1e-12)


# --- exercises: card, stub, hint, solution


@cache
def exercises_of(chapter):
    """(card, stub, hints, solution) of each exercise, as the chapter has them in order."""
    cells = cells_of(chapter)
    starts = [i for i, cell in enumerate(cells) if 'class="exercise"' in cell.source]
    found = []
    for start in starts:
        card, stub, *rest = cells[start : start + 8]
        end = next(i for i, cell in enumerate(rest) if cell.cell_type == "code")
        found.append((card, stub, rest[:end], rest[end]))
    return found


def called(cell):
    """`NAME` of the `check.NAME(...)` that ends a cell."""
    last = ast.parse(cell.source).body[-1]
    match last:
        case ast.Expr(ast.Call(ast.Attribute(ast.Name("check"), name), [_])):
            return name
    raise AssertionError(f"does not end with check.NAME(answer):\n{cell.source}")


def printed(cell):
    return [output.data["text/plain"] for output in cell.outputs if "data" in output]


EACH = [
    pytest.param(chapter, number, id=f"{chapter}-{number + 1}")
    for chapter in EXERCISED
    for number in range(len(exercises_of(chapter)))
]


@pytest.mark.parametrize("chapter", EXERCISED)
def test_a_chapter_has_four_to_eight_exercises_and_each_of_the_checkers(chapter):
    names = [called(stub) for _, stub, _, _ in exercises_of(chapter)]
    assert 4 <= len(names) <= (24 if chapter == CLINIC else 8), (
        f"a reader does 4 to 8 exercises in one sitting, got {names}"
    )
    checkers = {name for name, e in check.EXERCISES.items() if e.chapter == chapter}
    apart = set(names) ^ checkers
    assert not apart, f"in the notebook without a checker, or the other way round: {apart}"
    assert len(names) == len(checkers)
    cells = cells_of(chapter)
    assert sum("exercise" in tags(cell) for cell in cells) == len(names)
    assert sum("solution" in tags(cell) for cell in cells) == len(names)
    assert sum("repair" in tags(cell) for cell in cells) <= (24 if chapter == CLINIC else 1)
    imports = [cell for cell in cells if "from vitlib import check" in cell.source]
    assert len(imports) == 1
    assert any(cell.source.strip().endswith("## Exercises") or "## Exercises\n" in cell.source
               for cell in cells)  # fmt: skip


MINUTES = {
    "an hour": 60, "a good hour": 65, "an hour and a quarter": 75, "an hour and a half": 90,
}  # fmt: skip


@pytest.mark.parametrize("chapter", EXERCISED)
def test_a_chapter_promises_as_much_time_as_its_cards_take(chapter):
    text = "".join(cell.source for cell in cells_of(chapter) if cell.cell_type == "markdown")
    promised = re.search(r"to read,(?: and)? (\d+|an? [a-z ]*hour[a-z ]*?)(?: minutes)? for", text)
    assert promised or "to read." in text
    if promised:
        minutes = MINUTES.get(promised[1]) or int(promised[1])
        cards = [int(CARD.fullmatch(card.source.strip())[4]) for card, *_ in exercises_of(chapter)]
        assert 0.9 * sum(cards) <= minutes <= sum(cards) + 20  # which leaves time for paper


@pytest.mark.parametrize(("chapter", "number"), EACH)
def test_an_exercise_is_card_stub_hint_and_solution(chapter, number):
    card, stub, hints, solution = exercises_of(chapter)[number]
    match = CARD.fullmatch(card.source.strip())
    assert match, card.source
    assert (match[1], match[2]) == (str(int(chapter[:2])), str(number + 1))
    assert stub.cell_type == "code"
    assert set(tags(stub)) in ({"exercise"}, {"exercise", "repair"})
    assert hints
    for hint in hints:
        assert hint.cell_type == "markdown"
        assert hint.source.startswith('<details class="hint"><summary>')
        assert hint.source.strip().endswith("</details>")
    assert solution.metadata == SOLUTION
    assert solution.source.startswith("# @title Solution\n")
    assert called(solution) == called(stub)


def test_the_contents_of_a_stub_and_its_solution_have_one_name():
    for chapter in EXERCISED:
        for _, stub, _, solution in exercises_of(chapter):
            checked = [ast.unparse(ast.parse(c.source).body[-1]) for c in (stub, solution)]
            assert checked[0] == checked[1]


# --- what a page shows


SHOWN = [one for one in EXERCISED if one not in ("01_patches", "06_dialects")]
FOLDED = {"hide-input", "hide-cell", "remove-cell"}
NARROW = 42  # columns on a screen of 390 pixels


def made_and_read(source):
    """The names that the top level of a cell binds, and those that it reads from elsewhere."""
    top = symtable.symtable(source, "cell", "exec")
    made, read = set(), set()
    for one in top.get_symbols():
        if one.is_assigned() or one.is_imported() or one.is_namespace():
            made.add(one.get_name())
        if one.is_referenced():
            read.add(one.get_name())
    tables = top.get_children()
    while tables:
        table = tables.pop()
        tables += table.get_children()
        read |= {s.get_name() for s in table.get_symbols() if s.is_global() and s.is_referenced()}
    return made, read - made


@pytest.mark.parametrize("chapter", SHOWN)
def test_code_that_is_seen_uses_no_name_that_folded_code_makes(chapter):
    """Whoever reads the page and leaves folded code folded sees where each name comes from."""
    maker, found = {}, []
    for cell in cells_of(chapter):
        if cell.cell_type == "code" and "setup" not in tags(cell):
            made, read = made_and_read(cell.source)
            folded = bool(FOLDED & set(tags(cell)))
            if not folded:
                found += [(cell.id, n, maker[n][1]) for n in read if maker.get(n, (False,))[0]]
            maker |= dict.fromkeys(made, (folded, cell.id))
    assert found == []


def test_names_of_a_cell_are_those_it_makes_and_those_it_needs():
    source = "from a import b\nc = [i * d for i in e]\ndef f(x):\n    y = x + g\n    return y\nf(c)"
    assert made_and_read(source) == ({"b", "c", "f"}, {"d", "e", "g"})


@pytest.mark.parametrize("chapter", [one for one in EXERCISED if one >= "04"])
def test_printed_lines_fit_a_phone(chapter):
    printed_lines = [
        (cell.id, line)
        for cell in cells_of(chapter)
        for output in cell.get("outputs", [])
        for line in output.get("text", "").splitlines()
    ]
    assert printed_lines
    assert [(place, line) for place, line in printed_lines if len(line) > NARROW] == []


# --- exercises: what comes of running them


@cache
def surroundings(chapter):
    """What the kernel of a reader knows who jumps to the exercises: imports and definitions."""
    namespace = definitions(chapter)
    return namespace | {"check": check}


def run(chapter, cell):
    """The report of a cell that ends with check.NAME(answer), executed anew."""
    *body, last = ast.parse(cell.source).body
    body = [node for node in body if not isinstance(node, ast.Assert)]  # about the chapter's run
    namespace = dict(surroundings(chapter))
    name = f"<{cell.id}>"
    linecache.cache[name] = (0, None, cell.source.splitlines(keepends=True), name)  # for tracebacks
    exec(compile(ast.Module(body, []), name, "exec"), namespace)
    return eval(compile(ast.Expression(last.value), name, "eval"), namespace)


@pytest.mark.parametrize(("chapter", "number"), EACH)
def test_a_stub_is_not_attempted_or_has_the_bug_that_is_to_be_found(chapter, number):
    _, stub, _, _ = exercises_of(chapter)[number]
    report = run(chapter, stub)
    assert not report.passed
    if chapter == CLINIC:
        assert report.mutants == ("unchanged",), report
    elif "repair" in tags(stub):
        assert report.mutants, report
    else:
        assert report.diagnosis == NOT_ATTEMPTED
    (text,) = printed(stub)
    assert text == str(report), "the stored output is old: run `make execute`"


@pytest.mark.parametrize(("chapter", "number"), EACH)
def test_a_solution_passes(chapter, number):
    _, _, _, solution = exercises_of(chapter)[number]
    report = run(chapter, solution)
    assert report.passed, report
    (text,) = printed(solution)
    assert text == str(report), "the stored output is old: run `make execute`"


@pytest.mark.parametrize(("chapter", "number"), EACH)
def test_no_solution_is_a_definition_of_the_chapter(chapter, number):
    """An exercise that only repeats a definition of its chapter teaches nothing."""
    _, _, _, solution = exercises_of(chapter)[number]
    bodies = {
        ast.unparse(ast.Module(n.body, []))
        for n in own_code(chapter)
        if isinstance(n, ast.FunctionDef | ast.ClassDef)
    }
    for node in ast.parse(solution.source).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            assert ast.unparse(ast.Module(node.body, [])) not in bodies


# --- questions before answers


@cache
def questions_of(chapter):
    text = "\n\n".join(c.source for c in cells_of(chapter) if c.cell_type == "markdown")
    return re.findall(r'<div class="predict">\n\n(.*?)\n</div>', text, re.DOTALL)


def options_of(question):
    pattern = r"<details><summary>([^\n]+)</summary>\n\n(.*?)\n\n</details>"
    return re.findall(pattern, question, re.DOTALL)


@pytest.mark.parametrize("chapter", EXERCISED)
def test_a_chapter_asks_two_to_four_questions_before_it_answers(chapter):
    questions = questions_of(chapter)
    assert 2 <= len(questions) <= (24 if chapter == CLINIC else 4)
    places = []
    for question in questions:
        assert question.startswith("**Predict.** "), question
        options = options_of(question)
        assert 2 <= len(options) <= 4, question
        assert question.count("<details>") == len(options), question
        assert len({summary for summary, _ in options}) == len(options), question
        verdicts = [re.match(r"(Yes|No)\b", text) for _, text in options]
        assert all(verdicts), question
        right = [place for place, verdict in enumerate(verdicts) if verdict[1] == "Yes"]
        assert len(right) == 1, question
        assert all(len(text.split()) >= 5 for _, text in options), f"why?\n{question}"
        places += right
    assert len(set(places)) > 1, "the right answer always stands in the same place"


def test_every_chapter_with_exercises_is_looked_at():
    with_cards = [
        path.stem
        for path in notebooks.find_notebooks()
        if any('class="exercise"' in cell.source for cell in cells_of(path.stem))
    ]
    assert set(with_cards) <= {*EXERCISED, "intro"}
