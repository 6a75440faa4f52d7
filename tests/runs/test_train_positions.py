"""The recorded trainings with four kinds of positions, and what chapter 2 says of them."""

from itertools import product
from statistics import mean

import torch
from runs.test_record import POSITIONS

from vitlib import TrainConfig, load_data, patchify
from vitlib.runs import train_positions
from vitlib.runs.train_positions import CURVES, KINDS, RATES, RECIPE, RESULTS, SEEDS

RUNS = {(run["pos_embed"], run["lr"], run["seed"]): run for run in POSITIONS["runs"]}


def accuracies(kind, lr):
    return [RUNS[kind, lr, seed]["final_accuracy"] for seed in SEEDS]


def best(kind):
    return max(mean(accuracies(kind, lr)) for lr in RATES)


def test_they_were_trained_by_the_books_recipe_and_judged_by_digits_kept_out():
    assert TrainConfig.from_dict(POSITIONS["recipe"]) == RECIPE
    changed = {"progress", "val_fraction", "eval_every", "amp"}
    plain = TrainConfig().to_dict()
    assert {key for key, value in RECIPE.to_dict().items() if plain[key] != value} == changed
    assert not any("test" in key for key in [*CURVES, *RESULTS, *POSITIONS["runs"][0]])


def test_each_kind_has_three_seeds_at_each_of_three_rates():
    assert list(RUNS) == list(product(KINDS, RATES, SEEDS))
    for run in RUNS.values():
        assert run["val_accuracy"][-1] == run["final_accuracy"]


def test_no_kind_is_best_at_the_edge_of_the_rates_by_more_than_a_quarter_of_a_point():
    for kind in KINDS:
        assert best(kind) - mean(accuracies(kind, RATES[1])) < 0.0025


def test_having_positions_matters_more_than_which():
    without = [a for lr in RATES for a in accuracies("none", lr)]
    others = [kind for kind in KINDS if kind != "none"]
    assert min(a for kind in others for lr in RATES for a in accuracies(kind, lr)) > max(without)
    worst, most = min(map(best, others)), max(map(best, others))
    assert most - worst < 0.015 < 0.04 < worst - best("none")


def test_the_three_kinds_stand_in_the_same_order_at_each_rate_and_with_each_seed():
    for lr, seed in product(RATES, SEEDS):
        loud, small, fixed = (
            RUNS[kind, lr, seed]["final_accuracy"]
            for kind in ("learned, loud", "learned", "sincos")
        )
        assert loud > small > fixed


def test_a_large_start_is_used_early_and_shuffled_digits_show_that_it_is_used():
    for lr, seed in product(RATES, SEEDS):
        loud, small, none = (RUNS[k, lr, seed] for k in ("learned, loud", "learned", "none"))
        assert loud["val_accuracy"][1] > small["val_accuracy"][1] + 0.1  # after 200 steps
        assert loud["shuffled_accuracy"] < small["shuffled_accuracy"] < 0.5
        assert none["shuffled_accuracy"] == none["final_accuracy"]


def test_near_positions_are_not_more_alike_and_the_longest_stand_where_digits_differ():
    for lr, seed in product(RATES, SEEDS):
        run = RUNS["learned", lr, seed]
        assert abs(run["distance_correlation"]) < 0.2
        assert run["length_correlation"] > 0.85
        at = dict(map(tuple, run["cosine_at_distance"]))
        assert at[1.414] < -0.15 < 0.05 < at[4.243]


def test_arrangement_of_positions_that_are_their_own_places():
    """Each vector holds its row and its column, so nearer is more alike by construction."""
    images = load_data("mnist5k").train.images[:50] / 255
    places = torch.cartesian_prod(torch.arange(4.0), torch.arange(4.0))
    vectors = torch.cat([places - 1.5, torch.full((16, 1), 9.0)], dim=1)
    found = train_positions.arrangement(vectors, images)
    assert found["distance_correlation"] < -0.95
    means = dict(found["cosine_at_distance"])
    assert list(means) == [1.0, 1.414, 2.0, 2.236, 2.828, 3.0, 3.162, 3.606, 4.243]
    assert means[4.243] < means[1.0] < 1
    varies = patchify(images, 7).mean(dim=2).std(dim=0)
    longer = varies[:, None] * torch.ones(3)
    assert train_positions.arrangement(longer, images)["length_correlation"] == 1


def test_shuffling_moves_whole_patches_in_the_same_way_for_all():
    data = load_data("mnist5k").test
    moved = train_positions.shuffled(data)
    assert torch.equal(moved.labels, data.labels)
    before, after = (patchify(one.images.float(), 7) for one in (data, moved))
    assert not torch.equal(before, after)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(after, before[:, order])
