"""The entry point of the command line: `COMMANDS`, and how errors are shown.

Results go to stdout, progress and errors to stderr. Exit codes: 0; what the command returns, as
`vitlib check` does; 2 for an error in the request (one line, no traceback); 130 after Ctrl-C; 143
after SIGTERM, if a training run could be saved.
"""

import argparse
import io
import os
import shlex
import sys
import warnings
from collections.abc import Sequence
from typing import TextIO

import torch

import vitlib
from vitlib.cli import attend, check, eval, export, probe, train
from vitlib.train import ProcessLost, is_first_process
from vitlib.train.resume import CannotContinue

COMMANDS = (train, probe, eval, attend, export, check)  # in the order of `vitlib --help`


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line with these arguments (by default sys.argv's); return the exit code."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help()
        return 0
    if isinstance(sys.stdout, io.TextIOWrapper):  # a console that can't show every class's name
        sys.stdout.reconfigure(errors="backslashreplace")
    args.command_line = shlex.join(["vitlib", *(sys.argv[1:] if argv is None else argv)])
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            code: int = args.run(args) or 0
        except CannotContinue as error:
            return _failed(f"{error.reason}. --fresh starts over, or choose another --out")
        except (ValueError, OSError, ImportError, FloatingPointError, ProcessLost) as error:
            return _failed(str(error))
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            return _failed("not enough memory: try a smaller --batch-size or --img-size")
        except (KeyboardInterrupt, SystemExit) as stop:
            by_keyboard = isinstance(stop, KeyboardInterrupt)
            if is_first_process():
                what = "interrupted" if by_keyboard else "terminated"
                print(
                    "vitlib: " + "; ".join([what, *getattr(stop, "__notes__", [])]), file=sys.stderr
                )
            return 130 if by_keyboard else 143
    return code


def _failed(message: str) -> int:
    which = "" if is_first_process() else f"process {os.environ['RANK']}: "
    print(f"vitlib: error: {which}{' '.join(message.split())}", file=sys.stderr)
    return 2


def _is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out; on the CPU, torch has no exception of its own for that."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        "can't allocate memory" in str(error)
    )


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    if is_first_process():
        print(f"vitlib: warning: {message}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vitlib", description="Train, evaluate and look into Vision Transformers."
    )
    parser.add_argument("--version", action="version", version=f"vitlib {vitlib.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command")
    for command in COMMANDS:
        command.add_command(commands)
    return parser
