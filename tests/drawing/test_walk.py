"""The drawing of the walk from a photo to tokens: the shapes are those that the model makes."""

import re
from xml.etree import ElementTree

import torch

from vitlib import PatchEmbed
from vitlib.drawing import draw_walk
from vitlib.drawing.walk import STATIONS


def test_the_shapes_are_those_of_a_vit_b_16():
    embed = PatchEmbed(224, 16, 3, 768)
    photo = torch.zeros(1, 3, 224, 224)
    grid = embed.proj(photo)
    tokens = embed(photo)
    joined = torch.cat([torch.zeros(1, 1, 768), tokens], dim=1)
    shapes = [tuple(x.shape) for x in (photo, grid, tokens, joined, joined)]
    assert [shape for shape, *_ in STATIONS] == [str(shape) for shape in shapes]


def test_every_shape_and_every_step_is_written_in_order():
    root = ElementTree.fromstring(draw_walk().svg)
    words = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert words == [line for shape, what, step in STATIONS for line in (shape, what, *step)]
    arrows = re.findall(r'marker-end="url', draw_walk().svg)
    assert len(arrows) == len(STATIONS) - 1
