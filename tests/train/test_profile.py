"""Where the time of the steps goes: stages, speed, and the trace."""

import json
import time
from dataclasses import replace

import pytest
import torch
from torch import nn
from train.tiny import SHORT, tiny_data, tiny_model

from vitlib.data import ImageSet
from vitlib.train import Profile, fit
from vitlib.train.profile import STAGES


class Slow(ImageSet):
    """Each batch of training images takes 50 ms."""

    def batch(self, index):
        if len(index) == 8:
            time.sleep(0.05)
        return super().batch(index)

    def subset(self, index):
        return Slow(*super().subset(index).__dict__.values())


def slow_data():
    data = tiny_data()
    return replace(data, train=Slow(*data.train.__dict__.values()))


def test_time_is_counted_where_it_is_spent():
    """50 ms in "data" and 100 in "rest", for each of 11 steps: the first is not counted."""
    profile = Profile()
    fit(
        tiny_model(), slow_data(), SHORT, profile=profile,
        callbacks=[lambda state: time.sleep(0.1)],
    )  # fmt: skip
    assert profile.steps == 11
    assert profile.seconds["data"] >= 11 * 0.05
    assert profile.seconds["rest"] >= 11 * 0.1
    assert all(seconds > 0 for seconds in profile.seconds.values())
    shares = profile.shares()
    assert tuple(shares) == STAGES
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["rest"] > shares["data"] > shares["optimizer"]
    assert profile.images_per_second == pytest.approx(11 * 8 / sum(profile.seconds.values()))
    assert profile.tokens_per_image == 1 + 4  # the class token, and 2×2 patches


def test_a_profile_changes_nothing_and_has_words():
    profile = Profile()
    config = replace(SHORT, accumulate=2)
    assert fit(tiny_model(), tiny_data(), config, profile=profile).loss == (
        fit(tiny_model(), tiny_data(), config).loss
    )
    lines = profile.summary().splitlines()
    assert lines[0].startswith("time of 11 steps: data ")
    assert [part.split()[0] for part in lines[0].split(": ")[1].split(", ")] == list(STAGES)
    assert lines[1].endswith(" tokens per second")
    assert len(lines) == 2


def test_a_trace_has_the_stages_of_three_steps(tmp_path):
    profile = Profile(tmp_path / "new" / "trace.json")
    fit(tiny_model(), tiny_data(), SHORT, profile=profile)
    events = json.loads(profile.trace.read_text())["traceEvents"]
    names = [event["name"] for event in events if event.get("cat") == "user_annotation"]
    for stage in ("forward", "backward", "optimizer", "rest"):
        assert names.count(stage) == 3
    assert any("addmm" in event["name"] for event in events)
    assert profile.summary().endswith("trace.json, for chrome://tracing or ui.perfetto.dev")
    assert [path.name for path in profile.trace.parent.iterdir()] == ["trace.json"]


def test_a_run_that_breaks_off_leaves_no_profiler_behind(tmp_path):
    class Stop(Exception):
        pass

    def stop(state):
        if state.step == 4:  # within the trace
            raise Stop

    profile = Profile(tmp_path / "trace.json")
    with pytest.raises(Stop):
        fit(tiny_model(), tiny_data(), SHORT, profile=profile, callbacks=[stop])
    assert json.loads(profile.trace.read_text())["traceEvents"]
    with torch.profiler.profile() as another:  # fails if one is still running
        torch.ones(2) + 1
    assert another.events()


def test_too_few_steps_say_so(tmp_path):
    profile = Profile(tmp_path / "trace.json")
    fit(tiny_model(), tiny_data(), replace(SHORT, steps=1), profile=profile)
    assert "too few to tell" in profile.summary()
    profile = Profile(tmp_path / "trace.json")
    fit(tiny_model(), tiny_data(), replace(SHORT, steps=2), profile=profile)
    assert profile.summary().endswith("no trace: it begins after 2 steps")
    assert not list(tmp_path.iterdir())
    assert "too few" in Profile().summary()


def test_a_place_where_no_trace_can_be_written_is_refused_before_the_first_step(tmp_path):
    model = tiny_model()
    before = model.head.weight.clone()
    with pytest.raises(ValueError, match="is a folder; give the name of a file"):
        fit(model, tiny_data(), SHORT, profile=Profile(tmp_path))
    assert torch.equal(model.head.weight, before)


def test_a_model_without_patches_has_no_tokens():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    profile = Profile()
    fit(model, tiny_data(), SHORT, profile=profile)
    assert profile.tokens_per_image == 0
    assert "tokens" not in profile.summary()
