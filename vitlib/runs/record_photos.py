"""Records what DINOv2-small sees in five photos, for photos.npz; no training, a few seconds.

    python -m vitlib.runs.record_photos WEIGHTS --model "DINOv2-small, as published"

WEIGHTS is whatever `create_model` loads, such as a folder or facebook/dinov2-small, the default;
figures say by the words of --model whose weights these are.
Each photo keeps its shape and gets about as many patches as a square of 20×20. Recorded are the
class token's attention in all layers and heads, each patch's in the last layer, averaged over the
heads, and the principal components of the patch tokens.
"""

import argparse
from dataclasses import fields

from vitlib import create_model
from vitlib.explain import record_attention
from vitlib.explain.methods import find_method
from vitlib.model import VisionTransformer
from vitlib.runs.photos import PHOTOS, RecordedPhotos, photo_input, write_photos

SIDE = 280  # pixels: 20 patches of 14


def record_photos(model: VisionTransformer, name: str) -> RecordedPhotos:
    """Run a model built with dynamic_img_size=True on all `PHOTOS`; `name` says which it is."""
    source = f"Model: {name}. Photos: scikit-image, all CC0 or in the public domain."
    inputs = [photo_input(model, photo, SIDE)[0] for photo in PHOTOS]
    record = record_attention(model, inputs, names=tuple(PHOTOS), source=source)
    paint = find_method(model, "pca").make
    colours = tuple((paint(one[None])[0] * 255).round().byte().numpy() for one in inputs)
    shared = {field.name: getattr(record, field.name) for field in fields(record)}
    return RecordedPhotos(**shared, colours=colours)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", nargs="?", default="facebook/dinov2-small")
    parser.add_argument("--model", default="DINOv2-small")
    given = parser.parse_args()
    dino = create_model(given.weights, pretrained=True, dynamic_img_size=True)
    write_photos(record_photos(dino, given.model))
