"""extract_features: what the head gets, once per picture."""

from pathlib import Path

import pytest
import torch
from peers import timm
from safetensors.torch import load_file
from torch import nn
from train.tiny import tiny_data, tiny_model

import vitlib.train.features as features_module
from vitlib import create_model, extract_features
from vitlib.data import ImageSet
from vitlib.train.features import cache_folder


@pytest.fixture
def seen(monkeypatch):
    """The number of images in each batch that went through a model."""
    counts = []
    compute = features_module._compute

    def counted(model, image_set, *rest):
        for found in compute(model, image_set, *rest):
            counts.append(len(found))
            yield found

    monkeypatch.setattr(features_module, "_compute", counted)
    return counts


@pytest.mark.parametrize(
    "options",
    [{}, {"distilled": True}, {"global_pool": "avg"}, {"representation_size": 5},
     {"num_classes": 0}, {"drop_rate": 0.5, "drop_path_rate": 0.5}],
    ids=str,
)  # fmt: skip
def test_they_are_what_the_head_gets(options):
    model, data = tiny_model(**options), tiny_data().train
    model.train()
    found = extract_features(model, data, batch_size=5)
    assert model.training  # as it was
    model.eval()
    with torch.no_grad():
        inputs = data.normalize(data.images.float() / 255)
        expected = model.forward_head(model.forward_features(inputs), pre_logits=True)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    if options.get("num_classes", 3) and not options.get("distilled"):
        with torch.no_grad():
            torch.testing.assert_close(model.head(found), model(inputs), rtol=1e-4, atol=1e-5)


def test_the_models_own_statistics_are_used():
    model, data = tiny_model(), tiny_data().train
    model.mean, model.std = (0.1,), (0.9,)
    other = ImageSet(data.images, data.labels, model.mean, model.std)
    assert torch.equal(extract_features(model, data), extract_features(tiny_model(), other))


def test_half_precision_stays_in_the_model():
    data = tiny_data().train
    found = extract_features(tiny_model().bfloat16(), data)
    assert found.dtype == torch.float32
    assert torch.allclose(found, extract_features(tiny_model(), data), atol=0.1)


def test_timms_models():
    model = timm.create_model(
        "vit_tiny_patch16_224", img_size=8, patch_size=4, in_chans=1, num_classes=0, depth=2,
        embed_dim=24, num_heads=3,
    ).eval()  # fmt: skip
    data = tiny_data().train
    with torch.no_grad():
        expected = model(data.normalize(data.images.float() / 255))
    torch.testing.assert_close(extract_features(model, data), expected)


def test_what_was_computed_is_kept(tmp_path, seen, monkeypatch):
    monkeypatch.setattr(features_module, "_CHUNK", 10)
    model, data = tiny_model(), tiny_data(96).train  # 64 images, in seven chunks
    first = extract_features(model, data, cache=tmp_path / "a" / "b")
    assert sum(seen) == 64
    assert len(list((tmp_path / "a" / "b").iterdir())) == 7
    assert torch.equal(extract_features(model, data, cache=tmp_path / "a" / "b"), first)
    assert sum(seen) == 64
    more = data.subset([*range(30), 60, 61])  # three known chunks and a new one
    assert torch.equal(
        extract_features(model, more, cache=tmp_path / "a" / "b"), first[[*range(30), 60, 61]]
    )
    assert sum(seen) == 66


def test_the_users_cache_is_the_default(tmp_path, seen, monkeypatch):
    monkeypatch.setenv("VITLIB_CACHE", str(tmp_path / "here"))
    model, data = tiny_model(), tiny_data().train
    first = extract_features(model, data)
    assert torch.equal(extract_features(model, data), first)
    assert sum(seen) == len(data)
    assert len(list((tmp_path / "here/features").iterdir())) == 1
    extract_features(model, data, cache=False)
    assert sum(seen) == 2 * len(data)
    monkeypatch.delenv("VITLIB_CACHE")
    assert cache_folder() == Path.home() / ".cache/vitlib/features"


def test_an_interrupted_call_goes_on(tmp_path, seen, monkeypatch):
    monkeypatch.setattr(features_module, "_CHUNK", 10)
    model, data = tiny_model(), tiny_data(96).train
    expected = extract_features(model, data, cache=False)
    seen.clear()
    calls, head = [], type(model).forward_head

    def stop(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return head(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(type(model), "forward_head", stop)
        with pytest.raises(KeyboardInterrupt):
            extract_features(model, data, batch_size=10, cache=tmp_path)
    assert sum(seen) == 30
    assert all(file.suffix == ".safetensors" for file in tmp_path.iterdir())
    assert torch.equal(extract_features(model, data, batch_size=10, cache=tmp_path), expected)
    assert sum(seen) == 64


CHANGES = {
    "a weight": lambda model, data: model.blocks[0].norm1.bias.data.add_(0.1),
    "eps": lambda model, data: vars(model.norm).update(eps=0.1),
    "heads": lambda model, data: vars(model.blocks[0].attn).update(num_heads=4, head_dim=4),
    "statistics": lambda model, data: vars(model).update(mean=(0.3,), std=(0.2,)),
    "a pixel": lambda model, data: data.images[0, 0, 0].fill_(9),
    "precision": lambda model, data: model.double(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_nothing_old_is_taken_for_new(tmp_path, seen, change):
    model, data = tiny_model(), tiny_data().train
    before = extract_features(model, data, cache=tmp_path)
    change(model, data)
    after = extract_features(model, data, cache=tmp_path)
    assert sum(seen) == 2 * len(data)
    assert not torch.equal(before, after)


def test_labels_modes_and_heads_change_nothing(tmp_path, seen):
    model, data = tiny_model(), tiny_data().train
    extract_features(model, data, cache=tmp_path)
    model.train()
    model.classes = ("a", "b", "c")
    extract_features(model, ImageSet(data.images, 0 * data.labels, data.mean, data.std),
                     cache=tmp_path)  # fmt: skip
    assert sum(seen) == len(data)


def test_a_damaged_file_is_computed_anew(tmp_path, seen):
    model, data = tiny_model(), tiny_data().train
    first = extract_features(model, data, cache=tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-7])
    assert torch.equal(extract_features(model, data, cache=tmp_path), first)
    assert sum(seen) == 2 * len(data)
    assert load_file(file)["features"].shape == first.shape


@pytest.mark.parametrize(
    ("model", "data", "options", "message"),
    [
        (tiny_model(), tiny_data().train, {"batch_size": 0}, "batch_size must be at least 1"),
        (tiny_model(), tiny_data(size=12).train, {}, "the images are 12×12, the model takes 8×8"),
        (tiny_model(), tiny_data(channels=3).train, {}, "3 channels, the model takes 1"),
        (nn.Linear(2, 2), tiny_data().train, {}, "forward_features and forward_head.*got Linear"),
        (tiny_model(), tiny_data().train.subset([]), {}, "the data hold no images"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_it_refuses(model, data, options, message):
    with pytest.raises(ValueError, match=message):
        extract_features(model, data, **options)


def test_a_whole_data_set_is_refused(unchecked):
    with pytest.raises(ValueError, match=r"one set of images: pass data\.train, not data"):
        extract_features(tiny_model(), tiny_data())


def test_a_cache_that_is_a_file(tmp_path):
    (tmp_path / "x").write_text("")
    with pytest.raises(ValueError, match=r"the cache .*x is a file: give the name of a folder"):
        extract_features(tiny_model(), tiny_data().train, cache=tmp_path / "x")


def test_the_packaged_model_has_features():
    model = create_model("vit_nano_patch7_28", pretrained=True)
    data = tiny_data(size=28)
    assert extract_features(model, data.test).shape == (len(data.test), 64)
