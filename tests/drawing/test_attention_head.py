"""The drawings of one attention head and of two: their numbers are those of the tensors."""

from xml.etree import ElementTree

import pytest
import torch
import torch.nn.functional as F

from vitlib.drawing import draw_attention_head, draw_attention_heads

NAMES, CHANNELS = ["eye", "mouth", "wall"], ["round", "red", "bright", "wide"]


def made(count=3, width=4):
    """q, k, v and w_o of small whole numbers."""
    generator = torch.Generator().manual_seed(count)
    sizes = [(count, width)] * 3 + [(width, width)]
    return [torch.randint(-2, 3, size, generator=generator).double() for size in sizes]


def words(drawing):
    texts = ElementTree.fromstring(drawing.svg).iter("{http://www.w3.org/2000/svg}text")
    return [text.text.replace("−", "-") for text in texts]


def rounded(numbers, digits):
    return [f"{number:.{digits}f}" for number in numbers.tolist()]


def is_in(part, whole):
    """Whether the words of `part` follow each other in `whole`."""
    return any(whole[i : i + len(part)] == part for i in range(len(whole)))


@pytest.mark.parametrize("query", [0, 1, 2])
@pytest.mark.parametrize("scale", [None, 1.0])
def test_one_head_shows_scores_weights_and_output_of_its_query(query, scale):
    q, k, v, _ = made()
    said = words(
        draw_attention_head(
            q + 0.0, q, k, v, names=NAMES, channels=CHANNELS, query=query, scale=scale
        )
    )
    scores = q[query] @ k.T * (scale or 0.5)
    output = F.scaled_dot_product_attention(q[None], k[None], v[None], scale=scale)[0, query]
    digits = 0 if scores.equal(scores.round()) else 1
    assert is_in(rounded(scores, digits), said)
    assert is_in(rounded(scores.softmax(dim=0), 3), said)
    assert is_in(rounded(output, 2), said)
    for whole in (q[query], k.flatten(), v.flatten()):
        assert is_in(rounded(whole, 0), said)
    assert is_in(CHANNELS, said)
    assert said.count(NAMES[query]) == 2
    assert f"output for {NAMES[query]}" in said


@pytest.mark.parametrize("query", [0, 2])
def test_two_heads_show_what_each_collects_and_their_mixture(query):
    q, k, v, w_o = made()
    said = words(draw_attention_heads(q, k, v, w_o, names=NAMES, query=query))
    halves = [t.reshape(1, 3, 2, 2).transpose(1, 2) for t in (q, k, v)]
    both = F.scaled_dot_product_attention(*halves)[0, :, query].flatten()
    for head in range(2):
        weights = (halves[0] @ halves[1].mT / 2**0.5).softmax(dim=-1)[0, head, query]
        assert is_in(rounded(weights, 3), said)
        assert is_in(rounded(both[2 * head : 2 * head + 2], 2), said)
    assert is_in(rounded(both, 2), said)
    assert is_in(rounded(both @ w_o, 2), said)


def test_what_does_not_fit_is_refused():
    q, k, v, w_o = made()
    given = {"names": NAMES, "channels": CHANNELS}
    with pytest.raises(ValueError, match="room for 5 tokens of 4 channels, got 6 of 4"):
        draw_attention_head(*[t.repeat(2, 1) for t in (q, q, k, v)], **given)
    with pytest.raises(ValueError, match="3 names and 4 channels, got 2 and 4"):
        draw_attention_head(q, q, k, v, names=NAMES[:2], channels=CHANNELS)
    with pytest.raises(ValueError, match="from 0 to 2, got 3"):
        draw_attention_head(q, q, k, v, **given, query=3)
    with pytest.raises(ValueError, match="room for 5 tokens of width 4, got 3 of width 2"):
        draw_attention_heads(q[:, :2], k[:, :2], v[:, :2], w_o[:2, :2], names=NAMES)
    with pytest.raises(ValueError, match="3 names, got 2"):
        draw_attention_heads(q, k, v, w_o, names=NAMES[:2])
    with pytest.raises(ValueError, match="from 0 to 2, got -1"):
        draw_attention_heads(q, k, v, w_o, names=NAMES, query=-1)
