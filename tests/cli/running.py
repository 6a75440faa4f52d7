"""The command line, run in this process."""

from vitlib.cli import main

QUICK = ["--steps", "3", "--batch-size", "20", "--augment", "none", "--device", "cpu"]


def run(capsys, *arguments: object) -> tuple[int, str, str]:
    """The exit code, stdout and stderr."""
    code = main(list(map(str, arguments)))
    out, err = capsys.readouterr()
    return code, out, err


def refused(capsys, *arguments: object) -> str:
    """The one line that a refused command prints."""
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert err.startswith("vitlib: error: ")
    assert err.count("\n") == 1
    return err
