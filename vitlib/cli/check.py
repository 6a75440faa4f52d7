"""`vitlib check`: all instruments on a model that a function of the user's makes."""

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vitlib.check.instruments import findings
from vitlib.check.instruments.asking import logits
from vitlib.check.report import Finding
from vitlib.patch import pair
from vitlib.wording import check_count, did_you_mean

BATCHES = (7, 8, 4, 2, 16, 32, 64, 10, 100, 128)  # 7 is seldom a width or a number of heads


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `vitlib check` and its options."""
    p = commands.add_parser(
        "check", help="look for known mistakes in a model of yours", description=check_model.__doc__
    )
    p.set_defaults(run=check_model)
    p.add_argument(
        "factory", metavar="MODULE:FACTORY", help="a function without arguments that returns a "
        "model from images to logits, such as my_vit:make_model for make_model in my_vit.py",
    )  # fmt: skip
    p.add_argument(
        "--img-size", type=int, metavar="N", help="height and width of its images (default: as "
        "the model says, else 224)",
    )  # fmt: skip
    p.add_argument(
        "--in-chans", type=int, metavar="C", help="their channels (default: as the model says, "
        "else those of its first convolution, else 3)",
    )  # fmt: skip
    p.add_argument(
        "--reference", metavar="MODULE:FACTORY", help="the same for a model that is known to be "
        "right, with weights of the same names: where do the two part?",
    )  # fmt: skip
    p.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")


def check_model(args: argparse.Namespace) -> int:
    """Make a model, run every instrument on it with random images, and print one line for each:
    found or not, the number, and the usual cause. The exit status is 1 if something was found, 0 if
    not, and 2 if the instruments could not run.
    """
    for name in ("img_size", "in_chans"):
        if getattr(args, name) is not None:
            check_count(f"--{name.replace('_', '-')}", getattr(args, name))
    model = make_model(args.factory, args.seed)
    reference = None if args.reference is None else make_model(args.reference, args.seed)
    images = _images_for(model, args)
    found = 0
    with _told_in_one_line(f"the instruments stopped at {args.factory}"):
        for finding in findings(model, images, reference=reference, seed=args.seed):
            print(describe_finding(finding), flush=True)
            found += bool(finding.found)
    print(f"{found} of the instruments found something" if found else "nothing was found")
    return int(found > 0)


def describe_finding(finding: Finding) -> str:
    """One line: found or not, the name, the number, and what it means."""
    outcome = {True: "found", False: "not found", None: "not looked at"}[finding.found]
    cause = f" Usual cause: {finding.cause}" if finding.found and finding.cause else ""
    return f"{outcome:<13}  {finding.name}: {finding.number}. {finding.sentence}{cause}"


def make_model(place: str, seed: int = 0) -> nn.Module:
    """What the function at MODULE:FACTORY returns, with the current folder importable.

    The numbers that it draws depend on the seed alone, not on what importing it drew.

    Raises ValueError if there is no such module or function, if it fails, and if what it returns
    is no module.
    """
    module_name, colon, path = place.partition(":")
    if not colon or not module_name or not path:
        raise ValueError(f"expected MODULE:FACTORY, such as my_vit:make_model, got {place!r}")
    if module_name.endswith(".py") or "/" in module_name:
        dotted = module_name.removesuffix(".py").strip("./").replace("/", ".")
        raise ValueError(f"expected the name of a module, not of its file: {dotted}:{path}")
    sys.path.insert(0, os.getcwd())
    try:
        factory = _find(module_name, path)
        with _told_in_one_line(f"{place} failed"):
            torch.manual_seed(seed)
            model = factory()
    finally:
        sys.path.remove(os.getcwd())
    if not isinstance(model, nn.Module):
        raise ValueError(f"{place} returned {type(model).__name__}, not a torch.nn.Module")
    return model


def _find(module_name: str, path: str) -> Callable[[], Any]:
    with _told_in_one_line(f"importing {module_name} failed"):
        try:
            found = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
                raise  # one that the module imports
            raise ValueError(
                f"there is no module {module_name!r} in {os.getcwd()} or among the installed ones"
            ) from error
    for name in path.split("."):
        if not hasattr(found, name):
            known = [n for n, value in vars(found).items() if callable(value)]
            raise ValueError(f"{module_name} has no {path!r}. {did_you_mean(name, known)}".rstrip())
        found = getattr(found, name)
    if isinstance(found, nn.Module) or not callable(found):
        what = "a model" if isinstance(found, nn.Module) else f"a {type(found).__name__}"
        raise ValueError(f"{module_name}:{path} is {what}, not a function that makes a model")
    return found


def _images_for(model: nn.Module, args: argparse.Namespace) -> torch.Tensor:
    """Random images that the model takes, in the first number of BATCHES that works."""
    height, width = (args.img_size,) * 2 if args.img_size else _stated_size(model) or (224, 224)
    channels = args.in_chans or _stated_channels(model)
    generator = torch.Generator().manual_seed(args.seed)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    was_training = model.training
    first: Exception | None = None
    model.eval()
    for count in BATCHES:
        images = torch.randn(count, channels, height, width, generator=generator).to(device)
        try:
            logits(model, images)
        except Exception as error:
            if first is None:
                first = error
            if isinstance(error, ValueError) and "expected logits" in str(error):
                break  # the model runs, and no other batch makes logits of its answer
        else:
            model.train(was_training)
            return images
    assert first is not None
    sizes = f"images ({BATCHES[0]}, {channels}, {height}, {width})"
    hint = "" if args.img_size and args.in_chans else ": --img-size and --in-chans say otherwise"
    raise ValueError(f"{args.factory} does not run on {sizes}: {_told(first)}{hint}") from first


def _stated_size(model: nn.Module) -> tuple[int, int] | None:
    """What vitlib's, timm's and Hugging Face's models state, and those that follow them."""
    for owner in (model, getattr(model, "patch_embed", None), getattr(model, "config", None)):
        for name in ("img_size", "image_size"):
            if size := getattr(owner, name, None):
                return pair(size, name)
    return None


def _stated_channels(model: nn.Module) -> int:
    for owner in (model, getattr(model, "config", None)):
        for name in ("in_chans", "num_channels"):
            if isinstance(count := getattr(owner, name, None), int):
                return count
    convs = (m.in_channels for m in model.modules() if isinstance(m, nn.Conv2d))
    return next(convs, 3)


@contextmanager
def _told_in_one_line(what: str) -> Iterator[None]:
    """Whatever the user's code raises, as a ValueError that says what failed and where."""
    try:
        yield
    except (Exception, SystemExit) as error:
        if _is_ours(error):
            raise
        raise ValueError(f"{what}: {_told(error)}") from error


def _told(error: BaseException) -> str:
    """The error in one line, with the last place outside of installed packages."""
    if _is_ours(error):
        return str(error)
    message = f"{type(error).__name__}: {error}".removesuffix(": ")
    if isinstance(error, SyntaxError):
        return message
    here = [
        frame for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).is_relative_to(os.getcwd())
    ]  # fmt: skip
    if not here:
        return message
    return f"{message} ({Path(here[-1].filename).name}, line {here[-1].lineno})"


def _is_ours(error: BaseException) -> bool:
    """Whether vitlib itself raised it, in words for the user."""
    frames = traceback.extract_tb(error.__traceback__)
    folder = Path(__file__).parents[1]
    return isinstance(error, ValueError) and Path(frames[-1].filename).is_relative_to(folder)
