"""A Hub of models that asks no network."""

import logging
import shutil
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
from huggingface_hub import errors


class Hub:
    """The Hub without a network: its repositories are folders, its cache is another folder."""

    def __init__(self, root: Path, monkeypatch):
        self.root, self.asked, self.failure = root, [], None
        (root / "cache").mkdir()
        for name in ("model_info", "hf_hub_download"):
            monkeypatch.setattr(huggingface_hub, name, getattr(self, name))

    def repository(self, name: str) -> Path:
        folder = self.root / "hub" / name
        folder.mkdir(parents=True)
        return folder

    def _reach(self, name: str, revision: str | None) -> Path:
        self.asked.append((name, revision))
        logging.getLogger("huggingface_hub.utils").warning("Retrying in 1s [Retry 1/5].")
        if self.failure:
            raise self.failure
        return self.root / "hub" / name

    def model_info(self, repo_id, *, revision=None) -> SimpleNamespace:
        folder = self._reach(repo_id, revision)
        names = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=name) for name in names])

    def hf_hub_download(self, repo_id, filename, *, revision=None, local_files_only=False) -> str:
        target = self.root / "cache" / repo_id / filename
        if local_files_only:
            if not target.exists():
                raise errors.LocalEntryNotFoundError(f"{filename} is not in the cache")
            return str(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(self._reach(repo_id, revision) / filename, target)
        return str(target)
