"""Jobs in processes of their own: results in the jobs' order, each found only once if kept."""

from pathlib import Path

from vitlib.runs.in_parallel import one_core_each


def count_up(folder: Path, name: str) -> str:
    """A job that leaves a trace of each of its runs."""
    with open(folder / name, "a") as file:
        file.write("x")
    return name.upper()


def traces(folder: Path) -> list[int]:
    return [len((folder / name).read_text()) for name in "abc"]


def test_kept_results_are_not_computed_again(tmp_path):
    jobs, keep = [(tmp_path, name) for name in "abc"], tmp_path / "kept"
    assert one_core_each(count_up, jobs[:2], keep) == ["A", "B"]
    assert one_core_each(count_up, jobs, keep) == ["A", "B", "C"]
    assert traces(tmp_path) == [1, 1, 1]
    assert one_core_each(count_up, jobs) == ["A", "B", "C"]
    assert traces(tmp_path) == [2, 2, 2]
