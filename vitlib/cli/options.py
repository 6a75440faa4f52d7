"""Options that several commands share, and the model that they ask for."""

import argparse
from pathlib import Path

from vitlib.checkpoints import load_checkpoint
from vitlib.create import create_model
from vitlib.data import DATA_SOURCES
from vitlib.matching import as_vision_transformer
from vitlib.model import VisionTransformer


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add --data: anything that `load_data` reads."""
    kinds = "; ".join(f"{kind.name}: {kind.help}" for kind in DATA_SOURCES)
    parser.add_argument("--data", required=True, help=kinds.replace("%", "%%"))


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add --device."""
    parser.add_argument("--device", default="auto", help="auto or a device that torch knows")


def add_model(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """Add --checkpoint and --model, of which one is required if there is no default."""
    source = parser.add_mutually_exclusive_group(required=default is None)
    source.add_argument("--checkpoint", type=Path, metavar="FILE", help="a model that was trained")
    source.add_argument(
        "--model", metavar="NAME", help="a model whose weights come with vitlib or from the Hub"
        + (f" (default: {default}, which reads digits, white on black)" if default else ""),
    )  # fmt: skip


def open_model(
    args: argparse.Namespace, default: str | None = None
) -> tuple[VisionTransformer, str]:
    """The trained model that the options of `add_model` ask for, and the name or path it is from.

    Raises whatever `load_checkpoint` and `create_model` raise.
    """
    if args.checkpoint is not None:
        return as_vision_transformer(load_checkpoint(args.checkpoint)), str(args.checkpoint)
    name = str(args.model or default)
    return create_model(name, pretrained=True), name
