import json
import math
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from assertions import assert_near, refusal
from golden import REFERENCE, golden
from reference_weights import deterministic_array
from torch.nn.attention import SDPBackend, sdpa_kernel
from toy_networks import filled, tiny_unet

from guided_diffusion.nn import GroupNorm32, timestep_embedding
from guided_diffusion.script.errors import UserError
from guided_diffusion.script_util import create_model
from guided_diffusion.unet import AttentionBlock, Downsample, ResBlock, UNetModel, Upsample

# The flags of the authors' README for their CelebA DDPM.
README_FLAGS = {"image_size": 128, "num_channels": 128, "num_res_blocks": 2, "num_heads": 4, "class_cond": False}
README_FLAGS |= {"attention_resolutions": "32,16,8", "learn_sigma": True, "resblock_updown": True, "use_fp16": True}
README_FLAGS |= {"use_scale_shift_norm": True, "diffusion_steps": 500, "noise_schedule": "linear"}
X = deterministic_array("test_unet.x", (2, 3, 8, 8))
T = torch.tensor([3, 250])


def test_output_is_that_of_the_published_network_whatever_the_memory_layout(golden_unet):
    unet, _ = golden_unet
    arrays, flags = golden("unet_tiny")
    assert sum(p.numel() for p in unet.parameters()) == arrays["parameters"]
    x, t = deterministic_array("unet.x", (2, 3, 32, 32), 0.5), torch.from_numpy(arrays["t"])
    assert_near(unet(x, t), arrays["output"])
    other = filled(create_model(**flags).to(memory_format=torch.channels_last))
    assert_near(other(x.to(memory_format=torch.channels_last), t), arrays["output"])


def test_readme_flags_build_exactly_the_tensors_of_the_published_checkpoint():
    with torch.device("meta"):
        state = create_model(**README_FLAGS).state_dict()
    built = {name: [list(tensor.shape), str(tensor.dtype)[len("torch.") :]] for name, tensor in state.items()}
    assert built == json.loads((REFERENCE / "ddpm_celeba128.json").read_text())


def test_a_fresh_network_predicts_zero_and_a_fresh_branch_adds_nothing():
    assert not UNetModel(num_res_blocks=1, channel_mult=(1,), model_channels=32)(X, T).any()
    h = deterministic_array("h", (1, 32, 4, 4))
    assert torch.equal(ResBlock(32, 32, 128, 0.0, True, False)(h, torch.ones(1, 64)), h)
    assert torch.equal(AttentionBlock(32, 2, -1, False, False)(h), h)


def test_the_output_depends_on_the_image_and_its_timestep_alone():
    unet = tiny_unet()
    assert_near(unet(X, T)[1:], unet(X[1:], T[1:]))
    assert (unet(X, T) - unet(X, T + 20)).abs().max() > 0.01


@pytest.mark.parametrize(
    "flags",
    [
        {"channel_mult": "1"},
        {"channel_mult": "1,2,2", "attention_resolutions": "8,2", "num_res_blocks": 2},
        {"channel_mult": "0.5,1", "num_channels": 64, "attention_resolutions": ""},
        {"learn_sigma": True, "resblock_updown": True, "use_scale_shift_norm": False, "image_size": 16},
    ],
)
def test_any_shape_of_network_answers_in_the_shape_of_the_image(flags):
    size = flags.get("image_size", 8)
    x = deterministic_array("x", (2, 3, size, size))
    output = tiny_unet(**flags)(x, T)
    assert output.shape == (2, 6 if flags.get("learn_sigma") else 3, *x.shape[2:])
    assert output.std() > 0.01


def test_the_norms_of_32_channels_see_their_means_only_in_groups_of_several():
    """An image that is brighter all over: with a group for each channel no norm passes that on."""
    shift = torch.zeros(2, 32, 8, 8) + torch.arange(32).reshape(1, 32, 1, 1)
    h = deterministic_array("h", (2, 32, 8, 8))
    for groups, sees in ((32, False), (8, True)):
        layers = tiny_unet(norm_groups=groups).modules()
        norms = [layer for layer in layers if isinstance(layer, torch.nn.GroupNorm)]
        assert len(norms) > 10 and {norm.num_groups for norm in norms} == {groups}
        norm = next(norm for norm in norms if norm.num_channels == 32)
        assert sees != torch.allclose(norm(h + shift), norm(h), atol=1e-4)


def test_in_half_precision_a_norm_is_that_of_float32_rounded():
    norm = GroupNorm32(8, 32)
    with torch.no_grad():
        norm.weight.copy_(deterministic_array("weight", (32,)))
        norm.bias.copy_(deterministic_array("bias", (32,)))
        h = (3 + deterministic_array("h", (2, 32, 9, 9))).to(torch.bfloat16)
        for layout in (torch.contiguous_format, torch.channels_last):
            half, expected = norm(h.to(memory_format=layout)), norm(h.float())
            assert half.dtype is torch.bfloat16  # whose numbers are 2^-8 of their size apart, at most
            torch.testing.assert_close(half.float(), expected, rtol=2**-8, atol=1e-6)


# -- timesteps and labels ------------------------------------------------------------------------------------


def test_timesteps_are_cosines_and_sines_of_geometric_frequencies():
    embedding = timestep_embedding(torch.tensor([0.0, 7.0, 2.5]), 9)  # an odd width ends in a zero
    for row, t in zip(embedding, (0, 7, 2.5), strict=True):
        angles = [t * 10000 ** (-i / 4) for i in range(4)]
        expected = [math.cos(a) for a in angles] + [math.sin(a) for a in angles] + [0]
        torch.testing.assert_close(row, torch.tensor(expected))


def test_a_class_is_the_one_hot_vector_of_a_multi_hot_network():
    by_class = tiny_unet(class_cond=True, num_classes=5, multiclass=False)
    by_vector = tiny_unet(class_cond=True, num_classes=5, multiclass=True)
    state = by_class.state_dict()
    state["label_emb.weight"] = state["label_emb.weight"].T
    by_vector.load_state_dict(state | {"label_emb.bias": torch.zeros(128)})
    classes = torch.tensor([4, 1])
    one, other = by_class(X, T, classes), by_vector(X, T, F.one_hot(classes, 5).float())
    assert_near(one, other)
    assert (one - by_class(X, T, torch.tensor([0, 1]))).abs()[0].max() > 0.01


@pytest.mark.parametrize("class_cond, y", [(True, None), (False, torch.tensor([0, 1]))])
def test_labels_are_given_exactly_where_the_network_takes_them(class_cond, y):
    with pytest.raises(ValueError, match="--class_cond"):
        tiny_unet(class_cond=class_cond, multiclass=False)(X, T, y)


# -- attention -----------------------------------------------------------------------------------------------


def naive_attention(block, x, heads, new_order):
    """Attention of every head, query and key written out in loops: (C, H, W) -> (C, H, W)."""
    c, height, width = x.shape
    pixels = F.group_norm(x[None], 32, block.norm.weight, block.norm.bias)[0].flatten(1)  # (C, L)
    qkv = block.qkv.weight[:, :, 0] @ pixels + block.qkv.bias[:, None]
    d = c // heads
    mixed = torch.zeros_like(pixels)
    for head in range(heads):
        if new_order:  # all queries of all heads, then all keys, then all values
            q, k, v = (qkv[part * c + head * d : part * c + (head + 1) * d] for part in range(3))
        else:  # head by head its queries, keys and values
            q, k, v = (qkv[(3 * head + part) * d : (3 * head + part + 1) * d] for part in range(3))
        for i in range(pixels.shape[1]):
            scores = torch.stack([q[:, i] @ k[:, j] / math.sqrt(d) for j in range(pixels.shape[1])])
            mixed[head * d : (head + 1) * d, i] = v @ scores.softmax(0)
    projected = block.proj_out.weight[:, :, 0] @ mixed + block.proj_out.bias[:, None]
    return x + projected.reshape(c, height, width)


@torch.no_grad()
@pytest.mark.parametrize("new_order", [False, True])
@pytest.mark.parametrize("heads, num_heads, num_head_channels", [(2, 2, -1), (4, 1, 16)])
def test_attention_is_softmax_of_the_scaled_products(new_order, heads, num_heads, num_head_channels):
    block = filled(AttentionBlock(64, num_heads, num_head_channels, new_order, use_checkpoint=False))
    x = deterministic_array("attention.x", (1, 64, 3, 4))
    assert_near(block(x)[0], naive_attention(block, x[0], heads, new_order))


@pytest.mark.parametrize("new_order", [False, True])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_fused_kernel_computes_the_attention(new_order, training, dtype):
    """PyTorch raises where flash attention, the only kernel that it may choose here, declines the inputs."""
    block = filled(AttentionBlock(64, 2, -1, new_order, use_checkpoint=False))
    x = deterministic_array("attention.x", (1, 64, 3, 4)).to(memory_format=torch.channels_last)
    expected = block(x)
    with torch.set_grad_enabled(training), torch.autocast("cpu", dtype, enabled=dtype is not torch.float32):
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            output = block(x)
    assert_near(output, expected, 0.02 if dtype is torch.bfloat16 else 1e-5)


def heads(blocks):
    return {block.num_heads for block in blocks.modules() if isinstance(block, AttentionBlock)}


def test_the_two_attention_orders_are_different_functions_and_heads_on_the_way_up_have_their_own_number():
    old, new = (tiny_unet(use_new_attention_order=order)(X, T) for order in (False, True))
    assert (old - new).abs().max() > 0.01
    same, other = tiny_unet(num_heads=2), tiny_unet(num_heads=2, num_heads_upsample=4)
    assert heads(same.input_blocks) == heads(same.middle_block) == heads(same.output_blocks) == {2}
    assert heads(other.input_blocks) == heads(other.middle_block) == {2} and heads(other.output_blocks) == {4}
    assert (same(X, T) - other(X, T)).abs().max() > 0.01


def test_channels_of_a_head_decide_the_number_of_heads():
    by_channels = tiny_unet(num_heads=3, num_head_channels=16)
    assert heads(by_channels) == {4}
    assert_near(by_channels(X, T), tiny_unet(num_heads=4)(X, T))


@pytest.mark.parametrize("num_heads, num_head_channels", [(3, -1), (0, -1), (1, 24), (1, 128)])
def test_channels_that_heads_cannot_share_are_refused(num_heads, num_head_channels):
    message = refusal(UserError, AttentionBlock, 64, num_heads, num_head_channels, False, False)
    assert f"--num_heads {num_heads} --num_head_channels {num_head_channels}" in message


# -- residual blocks -----------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("scale_shift", [False, True])
@pytest.mark.parametrize("resampling", [{}, {"up": True}, {"down": True}])
def test_a_residual_block_is_its_formula(scale_shift, resampling):
    block = filled(ResBlock(32, 64, 16, 0.0, scale_shift, use_checkpoint=False, **resampling))
    x, embedding = deterministic_array("x", (2, 32, 4, 4)), deterministic_array("embedding", (2, 16))
    weights = block.state_dict()

    def layer(function, name, h, **options):
        return function(h, weights[f"{name}.weight"], weights[f"{name}.bias"], **options)

    def norm(name, h):
        return F.group_norm(h, 32, weights[f"{name}.weight"], weights[f"{name}.bias"], eps=1e-5)

    def resampled(h):
        if "up" in resampling:
            return h.repeat_interleave(2, 2).repeat_interleave(2, 3)
        if "down" in resampling:
            return (h[..., ::2, ::2] + h[..., 1::2, ::2] + h[..., ::2, 1::2] + h[..., 1::2, 1::2]) / 4
        return h

    h = layer(F.conv2d, "in_layers.2", resampled(F.silu(norm("in_layers.0", x))), padding=1)
    e = layer(F.linear, "emb_layers.1", F.silu(embedding))[:, :, None, None]
    if scale_shift:
        h = norm("out_layers.0", h) * (1 + e[:, :64]) + e[:, 64:]
    else:
        h = norm("out_layers.0", h + e)
    h = layer(F.conv2d, "out_layers.3", F.silu(h), padding=1)
    assert_near(block(x, block.emb_layers(embedding)), layer(F.conv2d, "skip_connection", resampled(x)) + h)


@torch.no_grad()
def test_plain_resampling_is_a_convolution_of_every_second_or_every_doubled_pixel():
    x = deterministic_array("x", (2, 32, 4, 6))
    down, up = filled(Downsample(32)), filled(Upsample(32))
    assert_near(down(x), F.conv2d(x, down.op.weight, down.op.bias, padding=1)[..., ::2, ::2])
    doubled = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert_near(up(x), F.conv2d(doubled, up.conv.weight, up.conv.bias, padding=1))


def test_plain_convolutions_change_the_resolution_unless_resblock_updown():
    def resamplers(unet):
        kinds = [type(m) for m in unet.modules() if isinstance(m, Downsample | Upsample)]
        names = [n for n in unet.state_dict() if n.endswith(("op.weight", "0.conv.weight", "2.conv.weight"))]
        return kinds, names

    assert resamplers(tiny_unet(resblock_updown=False)) == (
        [Downsample, Upsample],
        ["input_blocks.2.0.op.weight", "output_blocks.1.2.conv.weight"],
    )
    assert resamplers(tiny_unet(resblock_updown=True)) == ([], [])


# -- training and precision ----------------------------------------------------------------------------------


def test_dropout_acts_in_training_only():
    with_dropout, without = tiny_unet(dropout=0.5), tiny_unet()
    expected = without(X, T)
    assert torch.equal(with_dropout(X, T), expected)
    with_dropout.train()
    torch.manual_seed(0)
    one, other = with_dropout(X, T), with_dropout(X, T)
    assert (one - other).abs().max() > 0.01 and (one - expected).abs().max() > 0.01


def test_checkpointing_recomputes_and_gives_the_same_output_and_gradients():
    results, convolutions = [], []
    for use_checkpoint in (False, True):
        unet, calls = tiny_unet(use_checkpoint=use_checkpoint), []
        x = X.clone().requires_grad_()
        unet.middle_block[0].in_layers[2].register_forward_hook(lambda *_, calls=calls: calls.append(1))
        unet.middle_block[1].qkv.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        output = unet(x, T)
        output.square().mean().backward()
        results.append([output, x.grad, *(p.grad for p in unet.parameters())])
        convolutions.append(len(calls))
    assert convolutions == [2, 4]
    for plain, checkpointed in zip(*results, strict=True):
        assert_near(checkpointed, plain)


def test_under_autocast_the_output_layer_stays_in_float32():
    unet = tiny_unet()
    with torch.autocast("cpu", torch.bfloat16):
        output = unet(X, T)
    assert output.dtype is torch.float32
    assert 1e-5 < (output - unet(X, T)).std() / output.std() < 0.05


def test_a_copy_projects_timesteps_by_its_own_weights():
    """As averaged weights, which are a copy, must."""
    unet = tiny_unet()
    copy, before = deepcopy(unet), unet.projections(T)
    with torch.no_grad():
        for name, parameter in copy.named_parameters():
            if "emb_layers" in name:
                parameter.zero_()
    assert not copy.projections(T).any() and torch.equal(unet.projections(T), before) and before.any()
