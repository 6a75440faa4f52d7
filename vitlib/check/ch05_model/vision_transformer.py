"""5.4 vision_transformer: the model in one piece."""

from functools import partial

import torch
from einops import rearrange, repeat
from torch import nn

from vitlib.blocks import Block
from vitlib.check.ch05_model._same_weights import shapes_right, vit_twin
from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, numbers
from vitlib.check.probing import draw, forward, learned, parameter_gradients
from vitlib.model import VisionTransformer
from vitlib.patch import PatchEmbed


class ViT(nn.Module):
    def __init__(self, img_size, patch_size, in_chans, num_classes, embed_dim, depth, num_heads):
        super().__init__()
        num_patches = (img_size // patch_size) ** 2
        self.patch_embed = PatchEmbed(img_size, patch_size, in_chans, embed_dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + num_patches, embed_dim))
        norm = partial(nn.LayerNorm, eps=1e-6)
        blocks = [Block(embed_dim, num_heads, qkv_bias=True, norm_layer=norm) for _ in range(depth)]
        self.blocks = nn.Sequential(*blocks)
        self.norm = norm(embed_dim)
        self.head = nn.Linear(embed_dim, num_classes)

    def forward(self, images):
        x = self.patch_embed(images)
        cls = self.cls_token.expand(len(images), -1, -1)
        x = torch.cat([cls, x], dim=1) + self.pos_embed
        x = self.norm(self.blocks(x))
        return self.head(x[:, 0])


class ByEinops(nn.Module):
    """The same with other names, in another order, with a list of blocks and einops."""

    def __init__(self, img_size, patch, channels, classes, width, depth, heads):
        super().__init__()
        self.proj = nn.Conv2d(channels, width, patch, stride=patch)
        self.cls = nn.Parameter(torch.randn(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, 1 + (img_size // patch) ** 2, width))
        norm = partial(nn.LayerNorm, eps=1e-6)
        self.last = norm(width)
        self.classifier = nn.Linear(width, classes)
        self.layers = nn.ModuleList()
        for _ in range(depth):
            self.layers.append(Block(width, heads, qkv_bias=True, norm_layer=norm))

    def forward(self, images):
        x = rearrange(self.proj(images), "b d h w -> b (h w) d")
        x = torch.hstack([repeat(self.cls, "1 1 d -> b 1 d", b=len(x)), x])
        x = self.positions + x
        for layer in self.layers:
            x = layer(x)
        return self.classifier(self.last(x[:, 0]))


def cases(answer) -> Cases:
    sizes = (12, 4, 2, 5, 12, 2, 3)  # 9 patches, C ≠ P, heads ≠ batch, classes ≠ width

    def logits(batch, training):
        model = vit_twin(answer, ViT, *sizes).train(training)
        return call(model, numbers(batch, 2, 12, 12))

    def gradients():
        model = vit_twin(answer, ViT, *sizes)
        call(model, numbers(2, 2, 12, 12)).square().sum().backward()
        return sum(p.grad is None or not p.grad.any() for p in model.parameters())

    label = "the shapes of its parameters, for ViT(12, 4, 2, 5, 12, 2, 3)"
    yield label, lambda: shapes_right(answer, ViT, *sizes)
    yield "logits of 2 images of 12 × 12, P = 4, D = 12, K = 5", lambda: logits(2, False)
    yield "the same in training mode", lambda: logits(2, True)
    yield "logits of one image", lambda: logits(1, False)
    yield "how many parameters get no gradient", gradients


MUTANTS = edits(ViT, """
class_token_last: [cls, x] → [x, cls]
    The class token is joined behind the patches, while the head reads token 0: the class is read
    off the first patch, and the class token is never used for anything. The order in torch.cat is
    [class token, patches].
positions_before_joining: 1 + num_patches → num_patches
and: dim=1) + self.pos_embed → dim=1)
and: patch_embed(images) → patch_embed(images) + self.pos_embed
    There is a position for every patch and none for the class token. Make N + 1 of them, join the
    class token first, and add the positions to all tokens.
class_token_without_position: dim=1) + self.pos_embed → dim=1)
and: patch_embed(images) → patch_embed(images) + self.pos_embed[:, 1:]
    The positions are added to the patches only: the one for the class token is in the model and
    never used. Add pos_embed after joining.
positions_never_added:  + self.pos_embed →
    pos_embed is in the model, but forward never adds it. The order of the patches is lost then.
positions_not_learned: pos_embed = nn.Parameter → pos_embed =
    The positions are not among the parameters. A plain tensor is never trained and not saved: wrap
    it in nn.Parameter.
one_block_repeated:  for _ in range(depth)] → ] * depth
    All layers are the same block, as [Block(...)] * depth makes it: there is one set of weights,
    used again and again. Build a new block for each layer, in a list comprehension or a loop.
head_width_is_num_classes: nn.Linear(embed_dim, → nn.Linear(num_classes,
    The head takes num_classes numbers in. It reads a token, and a token has embed_dim numbers:
    nn.Linear(embed_dim, num_classes). When both are equal, nobody notices.
no_last_norm: norm(embed_dim) → nn.Identity()
    There is no LayerNorm after the last block. Pre-norm blocks only add to the stream and never
    scale it back, so the head needs one.
last_norm_not_applied: self.norm(self.blocks(x)) → self.blocks(x)
    The last LayerNorm is built, and forward does not use it.
mean_of_all_tokens: x[:, 0] → x.mean(dim=1)
    The head gets the mean of all tokens. Here it should read the class token alone, x[:, 0].
mean_of_patches: x[:, 0] → x[:, 1:].mean(dim=1)
    The head gets the mean of the patches. That is pooling of another kind; here it should read the
    class token, x[:, 0].
last_token_read: x[:, 0] → x[:, -1]
    The head reads the last token, which is a patch. The class token stands in front: x[:, 0].
head_on_every_token: x[:, 0] → x
    The head is applied to every token. Pick the class token first: x[:, 0].
first_image_read: x[:, 0] → x[0]
    x[0] is all tokens of the first image. The class token of every image is x[:, 0].
norm_before_the_blocks: self.norm(self.blocks(x)) → self.blocks(self.norm(x))
    The norm stands before the blocks. It belongs behind the last one, where nothing has scaled the
    stream back.
blocks_not_used: self.blocks(x) → x
    The blocks are built, and forward does not use them.
softmax_at_the_end: x[:, 0]) → x[:, 0]).softmax(dim=-1)
    The model returns probabilities. Logits are wanted, what the head says as it is: cross_entropy
    takes the softmax itself.
class_token_not_expanded: .expand(len(images), -1, -1) →
    cls_token has one row, and a batch has more images: torch.cat wants the same number of both.
    Expand it to the batch first: expand(len(images), -1, -1).
joined_along_the_batch: , dim=1 →
    torch.cat joins along axis 0, the images, unless told otherwise. The tokens are on axis 1:
    dim=1.
class_token_not_learned: cls_token = nn.Parameter → cls_token =
    The class token is not among the parameters. A plain tensor is never trained and not saved: wrap
    it in nn.Parameter.
no_qkv_bias: qkv_bias=True, →
    Query, key and value have no bias. Block leaves it out by default and ViT has it: qkv_bias=True.
default_eps: , eps=1e-6 →
    LayerNorm has PyTorch's own eps of 1e-5 everywhere, where ViT's weights were trained with 1e-6.
    The logits differ in small digits only, so nobody notices until weights are compared.
default_eps_in_the_blocks: norm_layer=norm → norm_layer=nn.LayerNorm
    LayerNorm has PyTorch's own eps of 1e-5 in the blocks, where ViT's weights were trained with
    1e-6. The logits differ in small digits only, so nobody notices until weights are compared.
default_eps_at_the_end: norm(embed_dim) → nn.LayerNorm(embed_dim)
    LayerNorm has PyTorch's own eps of 1e-5 after the last block, where ViT's weights were trained
    with 1e-6. The logits differ in small digits only, so nobody notices until weights are compared.
""") | edits(ByEinops, """
blocks_in_a_plain_list: nn.ModuleList() → []
    The weights of the blocks are not among the parameters, so they would never be trained. PyTorch
    does not look into a Python list: use nn.Sequential or nn.ModuleList.
""")  # fmt: skip


def probe(answer):
    sizes, images = (8, 4, 3, 6, 10, 3, 2), draw(3, 3, 8, 8)
    shapes = sorted(shape for _, shape in learned(answer, *sizes)())
    return [
        lambda: shapes,
        forward(answer, sizes, images),
        forward(answer, sizes, images[:1], train=True),
        forward(answer, (6, 2, 1, 4, 9, 1, 3), draw(2, 1, 6, 6)),
        parameter_gradients(answer, sizes, images),
    ]


EXERCISE = Exercise(
    name="vision_transformer",
    chapter="05_model",
    task="ViT(img_size, patch_size, in_chans, num_classes, embed_dim, depth, num_heads), a module: "
    "images (B, C, H, W) -> logits (B, K)",
    reference=ViT,
    cases=cases,
    mutants=MUTANTS,
    accepted=[ByEinops, lambda *sizes: VisionTransformer(*sizes)],
    probe=probe,
)
