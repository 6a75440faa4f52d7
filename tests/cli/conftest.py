"""Each test of the command line runs in an empty folder of its own."""

import pytest

pytest.register_assert_rewrite("cli.running")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
