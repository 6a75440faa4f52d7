"""14.16 build_from_config: rotary positions are asked for, and left out without a word."""

import inspect

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, Refused, call
from vitlib.check.probing import refuses


def build_from_config(make, config):
    return make(**config)


def by_difference(make, config):
    unknown = config.keys() - inspect.signature(make).parameters.keys()
    if unknown:
        raise ValueError(f"settings that the model does not know: {sorted(unknown)}")
    return make(**config)


def by_loop(make, config):
    known = inspect.signature(make).parameters
    for name, value in config.items():
        if name not in known:
            raise ValueError(f"unknown setting {name}={value!r}")
    return make(**{name: config[name] for name in known if name in config})


def by_binding(make, config):
    bound = inspect.signature(make).bind(**config)
    return make(*bound.args, **bound.kwargs)


def model(embed_dim, depth=12, qkv_bias=True, drop_rate=0.1):
    """Stands for a model: what it was made with."""
    return {"embed_dim": embed_dim, "depth": depth, "qkv_bias": qkv_bias, "drop_rate": drop_rate}


def cases(answer) -> Cases:
    def made(**config):
        return call(answer, model, config)

    def refused(**config):
        try:
            made = call(answer, model, config)
            return "an error, returned and not raised" if isinstance(made, Exception) else made
        except Refused:
            raise
        except Exception:
            return "an error"

    yield "rotary positions, which the model does not have", lambda: refused(embed_dim=8, rope=True)
    yield "a setting of another library", lambda: refused(embed_dim=8, layer_scale=1e-5)
    yield "three settings that it knows", lambda: made(embed_dim=8, depth=3, drop_rate=0.2)
    yield "settings that are off", lambda: made(embed_dim=8, qkv_bias=False, drop_rate=0.0)


MUTANTS = edits(by_difference, """
unchanged: if unknown: → if False:
and: make(**config) → make(**{k: v for k, v in config.items() if k not in unknown})
    The symptom is still there: the model is built, the weights load, and the answers are nonsense.
    Compare what the settings say with what the model was given.
one_name: if unknown: → if "rope" in config:
and: make(**config) → make(**{k: v for k, v in config.items() if k not in unknown})
    Only this one setting is refused now. The next library has another that the model does not know:
    refuse whatever is left over.
noted_in_the_model: if unknown: → if False:
and: return make(**config) → made = make(**{k: v for k, v in config.items() if k not in unknown})
→ made.update({k: config[k] for k in unknown})
→ return made
    The setting is written into the model afterwards. The model now says that it has it, and
    computes the same as before.
off_settings_dropped: make(**config) → make(**{k: v for k, v in config.items() if v})
    Settings that are off, such as qkv_bias=False, are dropped, and the default takes their place.
defaults: make(**config) → make(config["embed_dim"])
    Unknown settings are refused, and those that are known are not used.
as_one_argument: return make(**config) → return make(config)
    The whole dictionary is passed as the first setting. `**config` passes its entries by name.
nothing_returned: return make → make
    The model is made and not returned. The last line needs `return`.
error_returned: raise ValueError( → return ValueError(
    The error is returned, and nobody looks at it. Raise it.
not_made: if unknown: → if unknown:
→     return None
→ if unknown:
    Where a setting is unknown, None comes back. Whoever called it goes on until something fails
    elsewhere: raise an error.
""") | edits(build_from_config, """
by_position: **config → *config.values()
    The settings are passed by position, in the order of the dictionary, and their names are lost:
    an unknown one lands on some other setting. `**config` passes them by name.
names_for_values: **config → *config
    The *names* of the settings are passed. `*` goes through the keys of a dictionary; `**config`
    passes the values by name.
""")  # fmt: skip


def probe(answer):
    def other(width, heads=2, bias=True):
        return (width, heads, bias)

    return [
        lambda: answer(other, {"width": 3, "bias": False}),
        lambda: answer(other, {"heads": 4, "width": 5}),
        refuses(lambda: answer(other, {"width": 3, "rotary": True})),
        refuses(lambda: answer(other, {"width": 3, "qkv": None})),
    ]


EXERCISE = Exercise(
    name="build_from_config",
    chapter="14_bug_clinic",
    task="build_from_config(make, config): make(...) with all the settings of the dictionary "
    "`config` by name; an error if there is one that `make` does not take",
    reference=build_from_config,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_difference, by_loop, by_binding],
    probe=probe,
)
