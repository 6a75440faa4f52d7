"""One whole digit among fragments: the canvases, and the data made of them."""

import pytest
import torch

import vitlib
from vitlib.data import ImageSet
from vitlib.fragments import SIDE, fragments_data, make_canvases, make_pairs

CORNERS = [(y, x) for y in (0, 14) for x in (0, 14)]


def pictures(n=6, side=28, channels=1):
    """Every pixel has ink, and tells its picture: i is 10 · (i + 1) all over, and has label i."""
    levels = 10 * (torch.arange(n, dtype=torch.uint8) + 1)
    images = levels[:, None, None, None].repeat(1, channels, side, side)
    return ImageSet(images, torch.arange(n), (0.1,) * channels, (0.3,) * channels)


def test_a_canvas_is_one_whole_picture_in_a_corner_and_three_pieces_of_others():
    canvases, labels, whole = make_canvases(pictures(), 500, seed=0)
    assert canvases.shape == (500, 1, SIDE, SIDE)
    assert canvases.dtype == torch.uint8
    assert labels.tolist() == [i % 6 for i in range(500)]
    seen = set()
    for canvas, label, mask in zip(canvases[:, 0], labels, whole, strict=True):
        (corner,) = [c for c in CORNERS if mask[c[0] : c[0] + 28, c[1] : c[1] + 28].all()]
        seen.add(corner)
        assert mask.sum() == 28 * 28
        assert (canvas[mask] == 10 * (label + 1)).all()
        squares = canvas.masked_fill(mask, 0).unflatten(0, (3, 14)).unflatten(2, (3, 14))
        ink = (squares > 0).sum(dim=(1, 3))  # of each of the 3 × 3 squares
        assert sorted(ink.flatten().tolist()) == [0] * 6 + [100] * 3  # 10 × 10, nothing cut off
    assert seen == set(CORNERS)


def test_pieces_come_from_the_middle_of_pictures_from_all_of_them_and_lie_everywhere():
    source = pictures()
    source.images[:, :, :4] = source.images[:, :, 24:] = 0  # rows that no piece may hold
    source.images[:, :, :, :4] = source.images[:, :, :, 24:] = 0
    canvases, labels, whole = make_canvases(source, 2000, seed=1)
    pieces = canvases[:, 0].masked_fill(whole, 0)
    assert ((pieces > 0).sum(dim=(1, 2)) == 300).all()
    middle = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    middle[14:28, 14:28] = True  # the whole digit always has it
    assert torch.equal((pieces > 0).any(dim=0), ~middle)
    table = (
        torch.stack(
            [
                torch.bincount(pieces[labels == i].flatten().long() // 10, minlength=7)
                for i in range(6)
            ]
        )[:, 1:]
        / 100
    )  # how often a piece of picture j lay beside the whole picture i
    assert table.sum() == 6000
    assert ((table - 6000 / 36).abs() < 60).all()  # no regard to the label: 5 deviations


def test_edges_of_the_middle_are_reached():
    source = pictures(1)
    ramp = torch.arange(28, dtype=torch.uint8)
    source.images[0, 0] = 1 + ramp[:, None].expand(28, 28)
    canvases, _, whole = make_canvases(source, 400, seed=0)
    rows = canvases[:, 0].masked_fill(whole, 0)
    found = rows[rows > 0] - 1
    assert (int(found.min()), int(found.max())) == (4, 23)


def test_the_same_seed_gives_the_same_canvases_and_leaves_torch_alone():
    state = torch.get_rng_state()
    one, again = (make_canvases(pictures(), 20, seed=3) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not torch.equal(one[0], make_canvases(pictures(), 20, seed=4)[0])
    assert torch.equal(state, torch.get_rng_state())


def test_a_pair_is_two_whole_pictures_of_different_classes_in_opposite_corners():
    canvases, labels, masks = make_pairs(pictures(), 400, seed=0)
    assert canvases.shape == (400, 1, SIDE, SIDE)
    assert canvases.dtype == torch.uint8
    assert (labels[:, 0] != labels[:, 1]).all()
    assert set(labels.flatten().tolist()) == set(range(6))
    seen = set()
    for canvas, pair, both in zip(canvases[:, 0], labels, masks, strict=True):
        corners = [c for m in both for c in CORNERS if m[c[0] : c[0] + 28, c[1] : c[1] + 28].all()]
        (y, x), (y2, x2) = corners
        assert (y + y2, x + x2) == (14, 14)
        seen.add((y, x))
        levels = 10 * (pair + 1)
        expected = (both * levels[:, None, None]).amax(dim=0)  # the brighter one where both are
        assert torch.equal(canvas, expected.to(torch.uint8))
    assert seen == set(CORNERS)


def test_the_same_seed_gives_the_same_pairs_and_leaves_torch_alone():
    state = torch.get_rng_state()
    one, again = (make_pairs(pictures(), 20, seed=3) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not torch.equal(one[0], make_pairs(pictures(), 20, seed=4)[0])
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("make", [make_canvases, make_pairs])
@pytest.mark.parametrize("wrong", [{"side": 32}, {"channels": 3}])
def test_other_pictures_are_refused(make, wrong):
    with pytest.raises(ValueError, match="28×28 pixels, such as mnist5k's, got ImageSet"):
        make(pictures(**wrong), 5, seed=0)


@pytest.mark.parametrize("make", [make_canvases, make_pairs])
def test_no_canvases_are_refused(make):
    with pytest.raises(ValueError, match="at least one canvas, got n = 0"):
        make(pictures(), 0, seed=0)


def test_pairs_need_two_classes():
    with pytest.raises(ValueError, match="at least two classes"):
        make_pairs(pictures(n=1), 3, seed=0)


def test_data_to_train_on():
    digits = vitlib.load_data("mnist5k")
    data, whole = fragments_data(digits, train=60, test=30)
    assert (len(data.train), len(data.test), data.classes) == (60, 30, digits.classes)
    assert whole.shape == (30, SIDE, SIDE)
    for part, source, seed in ((data.train, digits.train, 0), (data.test, digits.test, 1)):
        canvases, labels, _ = make_canvases(source, len(part), seed)
        assert torch.equal(part.images, canvases)
        assert torch.equal(part.labels, labels)
    assert (data.mean, data.std) == vitlib.data.mean_std(data.train.images)
