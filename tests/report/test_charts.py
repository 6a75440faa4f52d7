"""The report's drawings: a heat map of answers, curves and their ticks."""

import pytest
import torch
from bs4 import BeautifulSoup

from vitlib.report.charts import heat_map, line_chart, nice_ticks


def test_the_heat_map_has_a_square_for_each_pair_that_occurs():
    torch.manual_seed(0)
    counts = torch.randint(4, (30, 30)) * torch.randint(2, (30, 30))
    counts[3] = 0
    soup = BeautifulSoup(heat_map(counts), "html.parser")
    squares = soup.select("rect.right, rect.wrong")
    assert len(squares) == int((counts > 0).sum())
    side = 500 / 30
    for square in squares:
        row, column = ((float(square[k]) - s) / side for k, s in (("y", 20), ("x", 30)))
        true, given = round(row), round(column)
        assert square.title.text == f"{true} answered {given}: {counts[true, given]}"
        assert square["class"] == ["right" if true == given else "wrong"]
        assert 0 < float(square["opacity"]) <= 1


def test_curves():
    soup = BeautifulSoup(line_chart("A <b>", [3.0, 1.0, 2.0], [1, 5, 10], 10), "html.parser")
    assert soup.figcaption.text == "A <b>"
    points = [tuple(map(float, point.split(","))) for point in soup.polyline["points"].split()]
    assert [float(c["cx"]) for c in soup.select("circle")] == [x for x, _ in points]
    assert points[0][1] < points[2][1] < points[1][1]  # the larger, the higher up
    long = BeautifulSoup(line_chart("B", list(range(10_001)), smoothed=True), "html.parser")
    assert all(len(line["points"].split()) <= 602 for line in long.select("polyline"))
    for values in ([0.0], [5.0, 5.0], [-1e-9, 1e-9], [0.1, 1e5]):
        assert "nan" not in line_chart("C", values)


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0.31, 2.9), (2e-7, 1e-3), (97.1, 97.2), (-5, 5), (3, 3), (0, 0)]
)
def test_ticks_enclose_and_are_few(low, high):
    ticks = nice_ticks(low, high)
    assert ticks[0] <= low + 1e-12
    assert ticks[-1] >= high - 1e-12
    assert 3 <= len(ticks) <= 7
