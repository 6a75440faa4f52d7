"""The two orders of the rows of qkv: both columns hold the same pieces, in einops' two orders."""

import re

import torch
from einops import rearrange

from vitlib.drawing import draw_row_orders


def test_the_columns_are_einops_two_orders():
    svg = draw_row_orders(4).svg
    pieces = re.findall(r">([qkv]), head (\d)<", svg)
    left, right = pieces[:12], pieces[12:]
    places = {piece: i for i, piece in enumerate(left)}
    order = rearrange(torch.arange(12), "(three h) -> (h three)", three=3)
    assert [places[piece] for piece in right] == order.tolist()


def test_a_line_joins_each_piece_to_itself():
    svg = draw_row_orders().svg
    lines = re.findall(r'd="M120 ([\d.]+)L280 ([\d.]+)"', svg)
    rows = [[round((float(y) - 69) / 32) for y in line] for line in lines]
    assert rows == [[3 * kind + head, 3 * head + kind] for kind in range(3) for head in range(3)]
    width = int(re.search(r'viewBox="0 0 (\d+)', svg)[1])
    assert min(map(float, re.findall(r'font-size="([\d.]+)"', svg))) >= width / 38
