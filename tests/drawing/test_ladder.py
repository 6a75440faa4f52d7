"""The ladder: what is equal is blue, what is not is orange, and both models' places are named."""

import re

from vitlib.drawing import draw_ladder

RUNGS = {
    "patches": ("patch_embed", "to_patch_embedding", 3e-16),
    "tokens": ("into blocks.0", "into transformer.layers.0.0", 1e-12),
    "block 0": ("into blocks.1", "into transformer.layers.1.0", 0.974),
    "logits": ("head", "mlp_head", float("nan")),
}


def test_every_rung_is_named_and_coloured_by_its_difference():
    svg = draw_ladder(RUNGS, ("mine", "yours <x>")).svg
    words = re.findall(r">([^<>]+)</text>", svg)
    for name, (left, right, _) in RUNGS.items():
        assert words.index(left) < words.index(right) < words.index(name)
    assert words.count("equal") == 2
    assert {"0.97", "nan"} <= set(words)
    assert words[:2] == ["mine", "yours &lt;x&gt;"]
    for colour, count in (("blue", 2), ("orange", 2)):
        assert svg.count(f'stroke="var(--vitlib-{colour}') == count
    assert svg.count("stroke-dasharray") == 2


def test_another_limit():
    assert "equal" not in draw_ladder(RUNGS, limit=0).svg
    assert draw_ladder(RUNGS, limit=1).svg.count(">equal<") == 3


def test_its_words_are_large_enough_on_a_phone():
    svg = draw_ladder(RUNGS).svg
    width = int(re.search(r'viewBox="0 0 (\d+)', svg)[1])
    assert min(map(float, re.findall(r'font-size="([\d.]+)"', svg))) >= width / 38
