"""Weights on the Hub: what is fetched of a repository, the cache, and repositories out of reach."""

import os
import subprocess
import sys

import pytest
from checkpoints.test_reading import WEIGHTS, equal, write_shards
from foreign_files import lively, vit, write_hugging_face
from huggingface_hub import errors

from vitlib.checkpoints import read_foreign


def refusal(kind: type[Exception], text: str) -> Exception:
    """An error of the Hub's client, whose classes want a response."""
    error = kind.__new__(kind)
    error.args = (text,)
    return error


def test_a_repository_on_the_hub(hub, caplog):
    folder = write_hugging_face(lively(vit()), hub.repository("owner/a.vit_tiny-16"))
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.safetensors").write_bytes(b"another file")
    found = read_foreign("owner/a.vit_tiny-16")
    assert found.origin == "owner/a.vit_tiny-16"
    assert len(found.tensors) == 40
    assert found.config["num_attention_heads"] == 2
    assert sorted(os.listdir(hub.root / "cache" / "owner" / "a.vit_tiny-16")) == [
        "config.json", "model.safetensors",
    ]  # fmt: skip
    assert {revision for _, revision in hub.asked} == {None}
    read_foreign("owner/a.vit_tiny-16@v1.0")
    assert hub.asked[-1] == ("owner/a.vit_tiny-16", "v1.0")
    assert caplog.text == ""  # the client's retries are not announced


def test_shards_on_the_hub(hub):
    write_shards(hub.repository("owner/big"))
    assert equal(read_foreign("owner/big").tensors, WEIGHTS)


def test_without_a_connection_the_cache_serves_or_the_way_out_is_said(hub):
    write_hugging_face(lively(vit()), hub.repository("owner/name"))
    hub.failure = errors.OfflineModeIsEnabled("offline mode is enabled")
    with pytest.raises(ValueError, match="no file or folder 'owner/name' here, and") as caught:
        read_foreign("owner/name")
    for words in (
        "can't be reached (OfflineModeIsEnabled: offline mode is enabled)",
        "download model.safetensors (or what weights there are), config.json and preprocessor_con",
        "from https://huggingface.co/owner/name/tree/main into one folder",
        "give the folder's path instead of the id",
    ):
        assert words in str(caught.value)
    hub.failure = None
    read_foreign("owner/name")
    hub.failure = ConnectionError("Name or service not known")
    assert len(read_foreign("owner/name").tensors) == 40
    (
        hub.root / "cache" / "owner" / "name" / "model.safetensors"
    ).unlink()  # a download that stopped
    with pytest.raises(ValueError, match=r"can't be reached \(ConnectionError: Name or service"):
        read_foreign("owner/name")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (errors.GatedRepoError, r"is gated: accept its terms on https://.*owner/name, log in with"),
        (errors.RepositoryNotFoundError, "has no model 'owner/name' that you may see"),
        (errors.RevisionNotFoundError, "on the Hub has no revision 'v9'"),
    ],
)
def test_repositories_that_cannot_be_had(kind, words, hub):
    hub.failure = refusal(kind, "403 Client Error")
    with pytest.raises(ValueError, match=words):
        read_foreign("owner/name@v9")


def test_a_repository_without_weights(hub):
    (hub.repository("owner/empty") / "flax_model.msgpack").write_bytes(b"")
    with pytest.raises(ValueError, match=r"owner/empty on the Hub holds no weights.*flax_model"):
        read_foreign("owner/empty")


def test_the_client_is_quiet_from_its_first_word_on():
    # Its logger gets its level when the client is first imported, here within quiet_hub.
    code = (
        "import logging\n"
        "from vitlib.checkpoints.hub import quiet_hub\n"
        "with quiet_hub():\n"
        "    import huggingface_hub.hf_api\n"
        "    logging.getLogger('huggingface_hub.utils').warning('Retrying')\n"
        "logging.getLogger('huggingface_hub.utils').warning('and afterwards')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "and afterwards\n"


def test_without_huggingface_hub_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"'owner/name' here\. .*pip install \"vitlib\[hub\]\""):
        read_foreign("owner/name")
