"""The Hugging Face Hub: a repository's weights and their settings, as files in a folder.

`huggingface_hub` does the downloading, caching and progress bar; its own switches work, such as
HF_HUB_OFFLINE=1 and HF_HOME. What is in the cache is found without a network.
"""

import contextlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

from vitlib.wording import first_few

SUFFIXES = (".safetensors", ".bin", ".pth", ".pt", ".npz", ".ckpt")  # of files that hold weights
SETTINGS = ("config.json", "preprocessor_config.json")  # of files that say how to use them
# If a folder has several files of weights, the first of these is taken. They hold the same weights:
# in a format that runs no code, or as a pickle, and each of them whole or in shards.
_USUAL_NAMES = (
    "model.safetensors", "model.safetensors.index.json",
    "pytorch_model.bin", "pytorch_model.bin.index.json",
)  # fmt: skip
_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")


def is_hub_id(name: str) -> bool:
    """Whether `name` can be an id, "owner/name" or "owner/name@revision", and not a file's name."""
    return bool(_ID.fullmatch(name)) and not name.lower().endswith((*SUFFIXES, ".json"))


def choose_weights(names: Sequence[str], where: str) -> str:
    """Which of a folder's files holds the weights, or lists the shards that do (*.index.json).

    `where` is what messages call the folder. Raises ValueError if there is none, or no telling.
    """
    for usual in _USUAL_NAMES:
        if usual in names:
            return usual
    indices = [name for name in names if name.endswith(".index.json")]
    found = indices or [name for name in names if name.lower().endswith(SUFFIXES)]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(
            f"{where} holds several files of weights: {first_few(sorted(found))}. "
            "Download the one that you want, and give its path."
        )
    have = first_few(sorted(name for name in names if not name.startswith(".")))
    raise ValueError(
        f"{where} holds no weights that vitlib reads ({', '.join(SUFFIXES)}); "
        + (f"it has {have}" if have else "it has no files")
    )


def list_shards(index: Path) -> list[str]:
    """The names of the files that an index of shards lists; a ValueError if it is not one."""
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        plain = all(name == Path(name).name for name in names)  # in this folder, and nowhere else
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{index} lists no shards in a weight_map ({error!r})") from error
    if not names or not plain:
        raise ValueError(f"{index} names no files, or files outside its folder: {first_few(names)}")
    return names


def fetch(name: str) -> Path:
    """Download the weights and settings of the repository `name`; return their folder in the cache.

    Raises ValueError for a repository that is unknown, gated or out of reach, and says what to do;
    ImportError if huggingface_hub is not installed.
    """
    hub = _huggingface_hub(name)
    repository, _, revision = name.partition("@")
    version = {"revision": revision or None}
    not_here = f"there is no file or folder {name!r} here, and "
    page = f"https://huggingface.co/{repository}"
    try:
        with quiet_hub():
            # Not list_repo_files: without a network, it retries six times, for 23 seconds.
            files = [file.rfilename for file in hub.model_info(repository, **version).siblings]
            listed = [file for file in files if "/" not in file]
            weights = choose_weights(listed, f"{name} on the Hub")
            folder = Path(hub.hf_hub_download(repository, weights, **version)).parent
            more = [setting for setting in SETTINGS if setting in listed]
            if weights.endswith(".index.json"):
                more += list_shards(folder / weights)
            for file in more:
                hub.hf_hub_download(repository, file, **version)
            return folder
    except hub.errors.GatedRepoError as error:
        raise ValueError(
            f"{not_here}{repository} on the Hub is gated: accept its terms on {page}, log in with "
            "`hf auth login`, and try again"
        ) from error
    except hub.errors.RepositoryNotFoundError as error:
        raise ValueError(
            f"{not_here}the Hub has no model {repository!r} that you may see. Check the name; "
            "a private one needs `hf auth login`"
        ) from error
    except hub.errors.RevisionNotFoundError as error:
        raise ValueError(f"{repository} on the Hub has no revision {revision!r}") from error
    except ValueError:
        raise
    except Exception as error:  # no connection, offline mode, a server that is down, a full disk
        cached = _find_cached(hub, repository, version)
        if cached is not None:
            return cached
        raise ValueError(
            f"{not_here}the Hugging Face Hub can't be reached ({type(error).__name__}: {error}), "
            f"nor is {name} in its cache. Check the name and the connection.\n"
            "Without one: on another machine, download model.safetensors (or what weights there "
            f"are), config.json and preprocessor_config.json from {page}/tree/{revision or 'main'} "
            "into one folder, copy it here, and give the folder's path instead of the id"
        ) from error


@contextlib.contextmanager
def quiet_hub() -> Iterator[None]:
    """Keep the Hub's client from announcing each of its retries; one error at the end is enough."""
    from huggingface_hub.utils import logging  # it sets its level when first imported, so before us

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


def _find_cached(hub: ModuleType, repository: str, version: dict[str, str | None]) -> Path | None:
    """The repository's folder in the cache; None if its weights are not there, or not complete."""
    for name in (*_USUAL_NAMES, *SETTINGS):
        with contextlib.suppress(Exception):  # each way of not being there has its own class
            found = hub.hf_hub_download(repository, name, local_files_only=True, **version)
            folder = Path(found).parent
            choose_weights([entry.name for entry in folder.iterdir()], str(folder))
            return folder
    return None


def _huggingface_hub(name: str) -> ModuleType:
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError as error:
        raise ImportError(
            f"there is no file or folder {name!r} here. The Hub needs the package huggingface_hub: "
            'pip install "vitlib[hub]"'
        ) from error
    return huggingface_hub
