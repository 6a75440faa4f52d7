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
    sizes = (12, 4, 2, 5, 12, 3, 6)  # 9 patches, C ≠ P, heads ≠ batch, classes ≠ width

    def logits(batch, training):
        model = vit_twin(answer, ViT, *sizes).train(training)
        return call(model, numbers(batch, 2, 12, 12))

    def two_batches():
        model = vit_twin(answer, ViT, *sizes)
        return [call(model, numbers(batch, 2, 12, 12)) for batch in (2, 3)]

    def gradients():
        model = vit_twin(answer, ViT, *sizes)
        call(model, numbers(2, 2, 12, 12)).square().sum().backward()
        idle = [p.shape for p in model.parameters() if p.grad is None or not p.grad.any()]
        return ", ".join(str(tuple(shape)) for shape in idle) or "none"

    label = "the shapes of its parameters, for ViT(12, 4, 2, 5, 12, 3, 6)"
    yield label, lambda: shapes_right(answer, ViT, *sizes)
    yield "logits of 2 images of 12 × 12, P = 4, D = 12, K = 5", lambda: logits(2, False)
    yield "the same in training mode", lambda: logits(2, True)
    yield "logits of one image", lambda: logits(1, False)
    yield "logits of 2 images, then of 3, by one model", two_batches
    yield "which parameters get no gradient", gradients


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
    There is no LayerNorm with weight and bias after the last block. Pre-norm blocks only add to the
    stream and never scale it back, so the head needs one.
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
    LayerNorm has PyTorch's own eps of 1e-5 in the blocks, as without a norm_layer, where ViT's
    weights were trained with 1e-6. The logits differ in small digits only, so nobody notices until
    weights are compared.
default_eps_at_the_end: norm(embed_dim) → nn.LayerNorm(embed_dim)
    LayerNorm has PyTorch's own eps of 1e-5 after the last block, where ViT's weights were trained
    with 1e-6. The logits differ in small digits only, so nobody notices until weights are compared.
second_token_read: x[:, 0] → x[:, 1]
    The head reads token 1, which is the first patch. The class token stands in front: x[:, 0].
sum_of_all_tokens: x[:, 0] → x.sum(dim=1)
    The head gets the sum of all tokens. Here it should read the class token alone, x[:, 0].
class_token_last_and_read: [cls, x] → [x, cls]
and: x[:, 0] → x[:, -1]
    The class token is joined behind the patches and read there. The positions then belong to other
    tokens than in other people's weights: the order is [class token, patches].
class_token_kept: cls = self.cls_token.expand(len(images), -1, -1)
→ if not hasattr(self, "cls"):
→     self.cls = self.cls_token.expand(len(images), -1, -1)
and: [cls, x] → [self.cls, x]
    The class token is expanded once, for the first batch, and kept. It does not fit a batch of
    another size. Expand it anew in every forward.
class_token_never_used: self.cls_token.expand(len(images), -1, -1) → torch.zeros_like(x[:, :1])
    What is joined in front is zeros: cls_token is in the model and never used. Expand it to the
    batch and join that.
class_token_by_width: torch.zeros(1, 1, embed_dim) → torch.zeros(embed_dim)
class_token_by_width_and_row: torch.zeros(1, 1, embed_dim) → torch.zeros(1, embed_dim)
    The class token has another shape than (1, 1, D). The numbers are the same, but no file of
    weights in timm's names fits then.
class_token_for_each_class: torch.zeros(1, 1, embed_dim) → torch.zeros(1, num_classes, embed_dim)
    There are as many class tokens as classes. One is wanted, (1, 1, D): the head makes K logits of
    it.
class_token_for_each_patch: torch.zeros(1, 1, embed_dim) → torch.zeros(1, num_patches, embed_dim)
    There are as many class tokens as patches. One is wanted: (1, 1, D).
positions_without_batch_axis: zeros(1, 1 + num_patches → zeros(1 + num_patches
    The positions have two axes. The sum is the same, but no file of weights in timm's names fits
    then: the shape is (1, N + 1, D).
positions_for_two_more: 1 + num_patches → 2 + num_patches
    There is one position too many. N patches and one class token are N + 1 tokens.
positions_of_one_side: (img_size // patch_size) ** 2 → img_size // patch_size
    The patches of one side of the image are counted. A square image has (H/P)² of them.
positions_of_pixels: (img_size // patch_size) ** 2 → img_size**2
    A position is made for every pixel. There is one for every patch, (H/P)², and one more for the
    class token.
positions_added_twice: torch.cat([cls, x], dim=1) + self.pos_embed
→ torch.cat([cls, x], dim=1) + 2 * self.pos_embed
    The positions are added twice. Once, before the first block, is enough.
positions_in_every_block: x = self.norm(self.blocks(x))
→ for block in self.blocks:
→     x = block(x + self.pos_embed)
→ x = self.norm(x)
and: dim=1) + self.pos_embed → dim=1)
    The positions are added again before every block. They are added once, before the first.
positions_after_the_blocks: dim=1) + self.pos_embed → dim=1)
and: self.blocks(x)) → self.blocks(x) + self.pos_embed)
    The positions are added behind the blocks, which then cannot tell where a patch lay. Add them
    before the first block.
positions_in_training_only: dim=1) + self.pos_embed → dim=1)
→ x = x + self.pos_embed if self.training else x
    The positions are added in training mode only. They belong to the model in evaluation, too.
positions_of_the_class_token_only: dim=1) + self.pos_embed → dim=1)
and: .expand(len(images), -1, -1) → .expand(len(images), -1, -1) + self.pos_embed[:, :1]
    Only the class token gets a position, and the patches get none. Add pos_embed to all tokens,
    after joining.
first_position_for_all: dim=1) + self.pos_embed → dim=1) + self.pos_embed[:, :1]
    Every token gets the position of the class token. Add the whole of pos_embed.
positions_multiplied: dim=1) + self → dim=1) * self
    The tokens are multiplied with the positions. They are added.
positions_filled_once: dim=1) + self.pos_embed → dim=1) + self.pos_embed.detach()
    The positions are added, but they get no gradient, so they are never trained. Add the parameter
    itself, not what detach() or .data gives.
class_token_filled_once: self.cls_token.expand → self.cls_token.detach().expand
    The class token is joined, but it gets no gradient, so it is never trained. Join the parameter
    itself, not what detach() or .data gives.
blocks_added_to_the_stream: self.blocks(x)) → x + self.blocks(x))
    The tokens are added once more to what the blocks return. Each block holds its own residual
    connections; around all of them there is none.
first_block_only: self.blocks(x) → self.blocks[0](x)
    Only the first block is used. All of them are applied, one after the other.
last_block_not_used: self.blocks(x) → self.blocks[:-1](x)
    The last block is built, and forward does not use it.
blocks_twice: self.blocks(x)) → self.blocks(self.blocks(x)))
    All blocks are applied twice. Once is meant.
narrower_mlp: num_heads, qkv → num_heads, 2.0, qkv
    The MLP is twice as wide as the tokens. In ViT it is four times as wide, which Block takes by
    default.
blocks_backwards: x = self.norm(self.blocks(x))
→ for block in reversed(self.blocks):
→     x = block(x)
→ x = self.norm(x)
    The blocks are applied from the last to the first. A file of weights expects the order in which
    they were built.
one_block_less: range(depth) → range(depth - 1)
    One block is missing: range(1, depth) and range(depth - 1) have one turn less than
    range(depth).
one_block_more: range(depth) → range(depth + 1)
    There is one block too many. range(depth) has depth turns.
a_single_block: for _ in range(depth) → for _ in range(1)
    There is a single block, whatever depth says. Build depth of them.
depth_and_heads_exchanged: num_heads, qkv → depth, qkv
and: range(depth) → range(num_heads)
    Depth and heads are exchanged: there are num_heads blocks of depth heads. Look at the order of
    the arguments.
depth_for_heads: num_heads, qkv → depth, qkv
    Block gets depth as its number of heads. Look at the order of the arguments.
width_of_a_head_for_heads: num_heads, qkv → embed_dim // num_heads, qkv
    Block gets the width of a head in place of the number of heads. Pass num_heads.
class_token_added: x = torch.cat([cls, x], dim=1) + self.pos_embed
→ x = x + self.cls_token + self.pos_embed[:, 1:]
class_token_added_and_mean: x = torch.cat([cls, x], dim=1) + self.pos_embed
→ x = x + self.cls_token + self.pos_embed[:, 1:]
and: x[:, 0] → x.mean(dim=1)
    The class token is added to every patch. It is a token of its own, joined in front: torch.cat
    along dim=1.
without_class_token: x = torch.cat([cls, x], dim=1) + self.pos_embed → x = x + self.pos_embed[:, 1:]
without_class_token_and_mean: x = torch.cat([cls, x], dim=1) + self.pos_embed
→ x = x + self.pos_embed[:, 1:]
and: x[:, 0] → x.mean(dim=1)
    The class token is never joined, and the head reads patches only. It stands in front of them,
    and the head reads it.
one_head: num_heads, qkv → 1, qkv
    Attention has a single head. Pass num_heads to Block.
head_without_bias: nn.Linear(embed_dim, num_classes) → nn.Linear(embed_dim, num_classes, bias=False)
    The head has no bias. ViT's has one, as nn.Linear has by default.
head_back_to_width: nn.Linear(embed_dim, num_classes) → nn.Linear(embed_dim, embed_dim)
    The head returns embed_dim numbers. It should return one for each class.
head_not_applied: self.head(x[:, 0]) → x[:, 0]
    The class token comes back, and the head is not applied. What is wanted are logits, one number
    for each class.
activation_before_the_head: self.head(x[:, 0]) → self.head(x[:, 0].relu())
activation_before_the_head_by_gelu: self.head(x[:, 0]) → self.head(nn.functional.gelu(x[:, 0]))
    There is an activation before the head. In ViT the head reads the class token as the last norm
    leaves it.
norm_behind_the_head: self.norm(self.blocks(x)) → self.blocks(x)
and: self.head(x[:, 0]) → self.norm(self.head(x[:, 0]))
    The last LayerNorm stands behind the head, where there are K numbers and not D. It belongs
    between the last block and the head.
class_token_and_mean: x[:, 0] → x[:, 0] + x[:, 1:].mean(dim=1)
    The mean of the patches is added to the class token. Here the head reads the class token alone,
    x[:, 0].
batch_norm: self.norm = norm(embed_dim) → self.norm = nn.BatchNorm1d(embed_dim)
    The last norm is a BatchNorm, which goes over the images. In ViT it is a LayerNorm, over the
    channels of each token.
two_last_norms: self.head = nn.Linear(embed_dim, num_classes)
→ self.head = nn.Sequential(norm(embed_dim), nn.Linear(embed_dim, num_classes))
    There are two LayerNorms after the last block: one in self.norm and one in the head. One is
    enough.
tanh_before_the_head: self.head(x[:, 0]) → self.head(x[:, 0].tanh())
    There is a tanh before the head. In ViT it belongs to the representation layer, which the plain
    model does not have.
log_softmax_at_the_end: x[:, 0]) → x[:, 0]).log_softmax(dim=-1)
    The model returns logarithms of probabilities. Logits are wanted, what the head says as it is:
    cross_entropy takes the softmax itself.
class_at_the_end: x[:, 0]) → x[:, 0]).argmax(dim=-1)
    The model returns the number of a class. Logits are wanted, what the head says as it is.
norm_over_tokens_too: norm(embed_dim) → norm((1 + num_patches, embed_dim))
    The last LayerNorm runs over all tokens at once, with a weight for each place. Each token is
    normalised for itself: nn.LayerNorm(embed_dim).
one_class_more: nn.Linear(embed_dim, num_classes) → nn.Linear(embed_dim, num_classes + 1)
    The head has one class too many. Return one number for each of num_classes.
tokens_scaled: x = self.patch_embed(images) →
→ x = self.patch_embed(images) * self.pos_embed.shape[-1] ** 0.5
    The patches are multiplied by √D before the positions are added, as translation models do. ViT
    takes them as they are.
norm_twice: self.norm(self.blocks(x)) → self.norm(self.norm(self.blocks(x)))
    The last LayerNorm is applied twice, and scales and shifts twice.
norm_before_the_first_block_too: self.norm(self.blocks(x)) → self.norm(self.blocks(self.norm(x)))
    The norm is applied before the blocks as well. It belongs behind the last one only.
dropout: dim=1) + self.pos_embed → dim=1) + self.pos_embed
→ x = nn.functional.dropout(x, 0.1, self.training)
dropout_always: dim=1) + self.pos_embed → dim=1) + self.pos_embed
→ x = nn.functional.dropout(x, 0.1)
    There is a dropout behind the positions. The plain model has none, so that it gives the same
    logits in training mode.
channels_not_passed: patch_size, in_chans, embed_dim) → patch_size, embed_dim=embed_dim)
    PatchEmbed does not get in_chans and takes its default, 3 channels. Images may have any number.
width_not_passed: patch_size, in_chans, embed_dim) → patch_size, in_chans)
    PatchEmbed does not get embed_dim and takes its default of 768. Pass it, too.
image_and_patch_exchanged: PatchEmbed(img_size, patch_size → PatchEmbed(patch_size, img_size
    PatchEmbed gets the sizes in the wrong order. It takes img_size first, then patch_size.
channels_and_width_exchanged: patch_size, in_chans, embed_dim) → patch_size, embed_dim, in_chans)
    PatchEmbed gets channels and width in the wrong order. It takes in_chans first, then embed_dim.
super_not_called: super().__init__() → pass
    super().__init__() is missing. A module must call it before it gets parts of its own.
nothing_returned: return self.head(x[:, 0]) → self.head(x[:, 0])
    forward computes the logits and does not return them. A `return` is missing.
eps_too_small: eps=1e-6 → eps=1e-12
eps_too_small_at_the_end: norm(embed_dim) → nn.LayerNorm(embed_dim, eps=1e-12)
eps_too_small_in_the_blocks: norm_layer=norm → norm_layer=partial(nn.LayerNorm, eps=1e-12)
    A LayerNorm has an eps of 1e-12, where ViT's weights were trained with 1e-6. The logits differ
    in small digits only, so nobody notices until weights are compared.
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
    "images (B, C, H, W) -> logits (B, K), made of PatchEmbed and Block",
    reference=ViT,
    cases=cases,
    mutants=MUTANTS,
    accepted=[ByEinops, lambda *sizes: VisionTransformer(*sizes)],
    excluded=["vitlib.VisionTransformer"],
    probe=probe,
)
