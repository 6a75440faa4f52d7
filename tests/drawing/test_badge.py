"""The badge: as many parts of its ring are lit as exercises are solved."""

import re

import pytest

from vitlib.drawing import draw_badge


@pytest.mark.parametrize(("solved", "total"), [(0, 16), (3, 16), (16, 16), (0, 1), (1, 1)])
def test_as_many_parts_are_lit_as_are_solved(solved, total):
    svg = draw_badge(solved, total).svg
    parts = re.findall(r'class="part" .*? opacity="([0-9.]+)"', svg)
    assert parts == ["1"] * solved + ["0.2"] * (total - solved)
    assert f">{solved} of {total}</text>" in svg
    assert f"<title>{solved} of {total} solved</title>" in svg


def test_the_ring_is_round_and_its_parts_follow_each_other_clockwise():
    ends = re.findall(
        r'd="M([\d.]+) ([\d.]+)A76 76 0 (\d) 1 ([\d.]+) ([\d.]+)"', draw_badge(0, 4).svg
    )
    assert [large for _, _, large, _, _ in ends] == ["0"] * 4
    for x1, y1, _, x2, y2 in ends:
        for x, y in ((x1, y1), (x2, y2)):
            assert (float(x) - 90) ** 2 + (float(y) - 90) ** 2 == pytest.approx(76**2, rel=1e-2)
    assert [(float(x) > 90, float(y) > 90) for x, y, *_ in ends] == [
        (True, False), (True, True), (False, True), (False, False),
    ]  # fmt: skip


@pytest.mark.parametrize(("solved", "total"), [(-1, 3), (4, 3), (0, 0)])
def test_other_numbers_are_refused(solved, total):
    with pytest.raises(ValueError, match=f"got {solved} of {total}"):
        draw_badge(solved, total)
