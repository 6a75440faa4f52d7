"""7.4 split_parameters: weight decay by the kind of layer."""

import torch
from torch import nn

import vitlib
from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, Refused, call


def split_parameters(model):
    decay, no_decay = [], []
    for path, p in model.named_parameters():
        owner, _, name = path.rpartition(".")
        in_layer = isinstance(model.get_submodule(owner), nn.Linear | nn.Conv2d)
        if p.requires_grad:
            (decay if in_layer and name == "weight" else no_decay).append(path)
    return decay, no_decay


def by_sets(model):
    matrices = {
        f"{path}.weight" if path else "weight"
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    }
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    return sorted(trainable & matrices), sorted(trainable - matrices)


def by_identity(model):
    matrices = {id(m.weight) for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)}
    decay, no_decay = [], []
    for name, p in model.named_parameters():
        if p.requires_grad:
            (decay if id(p) in matrices else no_decay).append(name)
    return decay, no_decay


class PaddedConv(nn.Conv2d):
    """A convolution by another name, which it is all the same."""


class SomeonesModel(nn.Module):
    """No no_weight_decay(), other names, layers of other kinds, positions in an nn.Embedding."""

    def __init__(self):
        super().__init__()
        self.cut = PaddedConv(1, 8, 4, stride=4)
        self.summary = nn.Parameter(torch.zeros(1, 1, 8))
        self.where = nn.Embedding(5, 8)
        self.neighbours = nn.Conv1d(8, 8, 3)
        self.mix = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8), nn.Linear(8, 8, bias=False))


def cases(answer) -> Cases:
    def ours(**options):
        return vitlib.VisionTransformer(
            img_size=8, patch_size=4, in_chans=1, num_classes=3, embed_dim=8, depth=1, num_heads=2,
            **options,
        )  # fmt: skip

    def run(model):
        both = call(answer, model)
        if both is None or both is ...:
            return both
        two = "two lists of names should come back: those that decay, and those that go without"
        if not isinstance(both, tuple | list) or len(both) != 2 or isinstance(both[0], dict):
            raise Refused(two)
        decay, no_decay = (list(names) for names in both)
        if not all(isinstance(name, str) for name in decay + no_decay):
            raise Refused(f"{two}, and not the parameters themselves")
        known = [name for name, _ in model.named_parameters()]
        twice = {n for n, _ in model.named_parameters(remove_duplicate=False)} - set(known)
        for name in decay + no_decay:
            if name in twice:
                raise Refused(
                    f"{name!r} is a second name of a parameter that two layers share. It belongs "
                    "to one group, once, by the name that named_parameters gives it"
                )
            if name not in known:
                raise Refused(
                    f"no parameter of this model has the name {name!r}; named_parameters gives "
                    f"names such as {known[0]!r} and {known[-1]!r}"
                )
            if (decay + no_decay).count(name) > 1:
                raise Refused(
                    f"{name!r} stands in the lists twice, and each parameter belongs to one group. "
                    "Do you visit it twice? named_parameters() of a module also gives the "
                    "parameters of the layers inside it"
                )
        return dict.fromkeys(no_decay, "goes without") | dict.fromkeys(decay, "decays")

    def frozen():
        model = ours()
        model.patch_embed.requires_grad_(False)
        return model

    def shared():
        model = SomeonesModel()
        model.mix[2].weight = model.mix[1].weight
        return model

    yield "a ViT of one block with a class token", lambda: run(ours())
    yield (
        "a distilled ViT with registers and LayerScale",
        (lambda: run(ours(distilled=True, reg_tokens=2, init_values=0.1))),
    )
    yield "a ViT whose patch embedding is frozen", lambda: run(frozen())
    yield "someone else's model, with names of its own", lambda: run(SomeonesModel())
    yield "the same, two of whose layers share a weight", lambda: run(shared())
    yield "a model that is one linear layer", lambda: run(nn.Linear(3, 2))


MUTANTS = edits(split_parameters, """
everything_decays: in_layer and name == "weight" → True
    Everything decays: positions, tokens, biases and norms, too. A norm's scale is pulled from 1 to
    0, where it switches its layer off, and positions are pulled to where all are alike. This is
    what AdamW does if you pass it model.parameters().
shared_twice: model.named_parameters() → model.named_parameters(remove_duplicate=False)
    A parameter that two layers share stands in the lists under both of its names. An optimiser
    would move it twice in each step: named_parameters() gives each parameter once, without
    remove_duplicate=False.
spares_biases_only: in_layer and name == "weight" → name != "bias"
    Only the biases are spared. The scales of the norms, the tokens and the positions still decay,
    and should not.
counts_dimensions: in_layer and name == "weight" → p.ndim > 1
    You go by the number of dimensions. That spares biases and norms, but tokens and positions have
    two or three dimensions, and decay. Go by the layer that the parameter belongs to.
called_weight: in_layer and →
    You go by the name `weight`. The scales of the norms bear it, too, and decay. Go by the layer
    that the parameter belongs to.
called_weight_and_a_matrix: in_layer and → p.ndim > 1 and
    You go by the name `weight` and the number of dimensions. That is right until a layer of another
    kind has a matrix: here positions stand in an nn.Embedding, and decay. Go by the layer that the
    parameter belongs to.
like_the_chapter: in_layer and name == "weight" → p.ndim > 1 and path not in model.no_weight_decay()
    This works for vitlib's models only: others have no method no_weight_decay(), and call their
    positions what they like. Go by the layer that the parameter belongs to.
like_the_chapter_with_frozen: if p.requires_grad: → if True:
and: in_layer and name == "weight" → p.ndim > 1 and path not in model.no_weight_decay()
    This works for vitlib's models only: others have no method no_weight_decay(), and call their
    positions what they like. Go by the layer that the parameter belongs to. And leave out what is
    frozen.
names_of_our_models: in_layer and name == "weight" →
→ p.ndim > 1 and path not in getattr(model, "no_weight_decay", set)()
    This works for vitlib's models only. Others do not name their tokens and positions in a method,
    so that these decay. Go by the layer that the parameter belongs to.
biases_of_layers: and name == "weight" →
    The linear and the convolution layers decay whole, with their biases. Only their matrices
    should: look at the parameter's own name, too.
words_in_names: in_layer and name == "weight" →
→ not any(word in path for word in ("norm", "bias", "token", "pos"))
words_in_names_norms_and_biases: in_layer and name == "weight" →
→ not any(word in path for word in ("norm", "bias"))
words_in_names_of_weights: in_layer and name → "norm" not in path and name
    You go by words in the names, such as "norm" or "token". Other people have other names for the
    same things. Go by the layer that the parameter belongs to.
kinds_that_go_without: in_layer and name == "weight" →
→ not isinstance(model.get_submodule(owner), nn.LayerNorm | nn.Embedding) and name != "bias"
kinds_that_go_without_norms_only: in_layer and name == "weight" →
→ not isinstance(model.get_submodule(owner), nn.LayerNorm) and name != "bias"
    You say which layers go without, and everything else decays: tokens and positions that belong to
    no layer, and kinds that you did not think of. Say which ones decay: nn.Linear and nn.Conv2d.
layers_only: p.requires_grad → in_layer
    Only the parameters of linear layers and convolutions are in the lists, and so norms, tokens and
    positions would never be trained. Every other trainable parameter belongs into the second list,
    and a frozen one into neither.
swapped: return decay, no_decay → return no_decay, decay
    The two lists are swapped: those that decay come first.
""") | edits(by_sets, """
exact_types: isinstance(module, nn.Linear | nn.Conv2d) → type(module) in (nn.Linear, nn.Conv2d)
    A class that is derived from nn.Linear or nn.Conv2d is not recognised, and other people's models
    are full of those: nn.MultiheadAttention has one. Ask with isinstance.
embeddings_too: nn.Linear | nn.Conv2d → nn.Linear | nn.Conv2d | nn.Embedding
    The tables of nn.Embedding decay, too. They hold positions or tokens, one row for each, and go
    without: only nn.Linear and nn.Conv2d decay.
convolutions_only: nn.Linear | nn.Conv2d → nn.Conv2d
    The linear layers are forgotten: only the weights of convolutions decay.
linear_only: nn.Linear | nn.Conv2d → nn.Linear
    The patch embedding's convolution is forgotten. Its kernels are a matrix like any other (chapter
    1), and decay.
dot_in_front: f"{path}.weight" if path else "weight" → f"{path}.weight"
    Where the model itself is the layer, its path is empty, and the name that you look for begins
    with a dot: ".weight". named_parameters() calls it "weight".
children_only: model.named_modules() → model.named_children()
    Only the model's own children are looked at, and not the layers inside of these: named_children
    goes one step down, named_modules all the way.
frozen_too: if p.requires_grad →
    Frozen parameters are in the lists. They have requires_grad=False, and stand in neither.
frozen_spared: sorted(trainable - matrices) →
→ [name for name, _ in model.named_parameters() if name not in trainable & matrices]
    Frozen parameters are in the second list. They have requires_grad=False, and stand in neither:
    there is nothing to train.
frozen_decay: trainable & matrices → matrices
    Frozen weights are in the first list. They have requires_grad=False, and stand in neither.
""")  # fmt: skip


def probe(answer):
    class Other(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(1, 4, 2), nn.BatchNorm2d(4))
            self.weight = nn.Parameter(torch.zeros(4, 4))
            self.table = nn.Embedding(3, 4)
            self.attention = nn.MultiheadAttention(4, 2)
            self.out = nn.Linear(4, 2, bias=False)
            self.out.weight.requires_grad_(False)

    models = [Other(), nn.Linear(2, 3), vitlib.create_model("vit_nano_patch7_28")]
    return [lambda m=m: [sorted(names) for names in answer(m)] for m in models]


EXERCISE = Exercise(
    name="split_parameters",
    chapter="07_training",
    task="split_parameters(model) -> (names that decay, names that go without), two lists: the "
    "weights of nn.Linear and nn.Conv2d decay, every other trainable parameter goes without, and "
    "frozen ones stand in neither list",
    reference=split_parameters,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_sets, by_identity],
    probe=probe,
)
