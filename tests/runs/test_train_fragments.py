"""The recorded trainings on canvases of fragments, and what chapter 12 says of them."""

import json
from importlib.resources import files

import pytest
import torch
from book.test_chapters import definitions

import vitlib
from vitlib import TrainConfig
from vitlib.fragments import fragments_data
from vitlib.runs import train_fragments
from vitlib.runs.log import loss_curve
from vitlib.runs.record import Record

LOG = json.loads((files("vitlib") / "runs" / "fragments.json").read_text("utf8"))


def test_the_log_is_a_record_of_its_scripts_three_runs():
    record = Record("fragments")
    assert [run["seed"] for run in record.runs] == [0, 1, 2] == list(train_fragments.SEEDS)
    assert all(run["diverged"] is None for run in record.runs)
    assert TrainConfig.from_dict(LOG["recipe"]) == train_fragments.RECIPE
    assert LOG["model"] == train_fragments.MODEL
    assert LOG["curves"] == loss_curve(train_fragments.RECIPE.steps, train_fragments.WINDOW)


def test_the_log_says_what_chapter_12_says_of_it():
    for run in LOG["runs"]:
        order, share, whole = run["order"], run["share"], run["test_accuracy"]
        assert whole > 0.85
        assert run["lens"][-1] == whole
        simple = max(order["centre"], order["ink"])
        for name in ("gradient rollout", "integrated gradients"):
            assert order[name] > order["rollout"] + 0.05 > simple + 0.05
            assert share[name] > share["ink"]
        assert order["centre"] > order["layer 3"]
        for name, value in run["untrained"]["order"].items():
            assert name in ("centre", "ink") or abs(value) < 0.13
        lost = [whole - left for left in run["without_layer"]]
        assert max(lost[2:]) < 0.1 < min(lost[:2])
        assert 0.01 < lost[3] < 0.06
        assert share["occlusion"] > max(0.85, share["occlusion, grey"] + 0.2)
        assert run["coverings"]["0.9"] > 0.95 > 0.7 > run["coverings"]["0.0"]
        assert run["two_classes"]["trained"] > run["two_classes"]["untrained"] + 0.1
        painted = run["painted_out"]
        assert painted["right without the digit"] < 0.15
        assert abs(painted["right without the fragments"] - whole) < 0.03
        assert painted["changed"] > 0.05


def test_the_layer_with_the_best_map_is_not_always_the_one_that_matters_most():
    best, dearest = [], []
    for run in LOG["runs"]:
        orders = [run["order"][f"layer {i}"] for i in range(4)]
        best.append(orders.index(max(orders)))
        dearest.append(run["without_layer"].index(min(run["without_layer"])))
    assert best == [0, 0, 2]
    assert dearest == [0, 0, 1]


def test_chapter_12s_rank_correlation_is_scipys():
    chapter = definitions("12_attention_maps")
    generator = torch.Generator().manual_seed(0)
    maps = torch.randint(5, (6, 12), generator=generator).double()  # with ties
    drops = torch.randn(6, 12, generator=generator, dtype=torch.float64)
    where = torch.rand(6, 12, generator=generator) > 0.2
    theirs = train_fragments.rank_agreement(maps, drops, where)
    assert chapter["agreement"](maps, drops, where).mean().item() == pytest.approx(theirs)


@pytest.fixture(scope="module")
def untrained():
    """Few canvases, and a model with random weights."""
    data, whole = fragments_data(vitlib.load_data("mnist5k"), train=10, test=8)
    torch.manual_seed(0)
    model = vitlib.VisionTransformer(**train_fragments.MODEL).eval()
    torch.nn.init.normal_(model.head.weight)  # "jax" starts it at 0
    return model, data, data.test.normalize(data.test.images.float() / 255), whole


def test_scores_of_a_model_that_was_never_trained(untrained):
    model, data, images, whole = untrained
    drop = vitlib.occlusion(model, images, fill=-data.mean[0] / data.std[0]).flatten(1)
    scores = train_fragments.score_maps(model, data, images, whole, drop)
    for name in ("order", "share"):
        assert scores[name].keys() == LOG["runs"][0][name].keys()
        assert scores[name].keys() == LOG["runs"][0]["untrained"][name].keys()
    assert scores["share"]["ink"] == pytest.approx(0.49, abs=0.1)


def test_integrated_gradients_sum_to_the_difference_from_black(untrained):
    model, data, images, _ = untrained
    black = -data.mean[0] / data.std[0]
    many = [(step + 0.5) / 200 for step in range(200)]
    made = train_fragments.path_gradients(model, images, black, many).sum(dim=1)
    with torch.no_grad():
        there, start = model(images), model(torch.full_like(images, black))
    answer = there.argmax(dim=1, keepdim=True)
    expected = (there - start).gather(1, answer)[:, 0]
    torch.testing.assert_close(made, expected, atol=0.02, rtol=0.01)


def test_input_times_gradient_is_that(untrained):
    model, data, images, _ = untrained
    black = -data.mean[0] / data.std[0]
    point = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(point).amax(dim=1).sum(), point)
    expected = vitlib.patchify(gradient * (images - black), 7).sum(dim=-1)
    made = train_fragments.path_gradients(model, images, black, [1.0])
    torch.testing.assert_close(made, expected)


def test_painting_out_counts_each_change(untrained):
    model, data, images, whole = untrained
    shares = train_fragments.paint_out(model, data, images, whole, -data.mean[0] / data.std[0])
    assert shares.keys() == LOG["runs"][0]["painted_out"].keys()
    with torch.no_grad():
        right = (model(images).argmax(dim=1) == data.test.labels).float().mean().item()
    gained = shares["wrong to right"] - shares["right to wrong"]
    assert shares["right without the fragments"] == pytest.approx(right + gained, abs=1e-3)
    assert shares["changed"] >= shares["wrong to right"] + shares["right to wrong"] - 1e-3


def test_a_model_that_was_never_trained_does_not_tell_two_digits_apart(untrained):
    model, data, _, _ = untrained
    share = train_fragments.ask_for_both(model, data, vitlib.load_data("mnist5k"))
    assert share == pytest.approx(0.5, abs=0.05)
