"""The UNet of Dhariwal & Nichol 2021 (section 3), with the state-dict names of OpenAI's checkpoints."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from .nn import GroupNorm32, timestep_embedding, zeroed
from .script.errors import UserError

# Widths of the levels where --channel_mult is empty, by image size; guided-diffusion's.
USUAL_CHANNEL_MULT = {
    512: (0.5, 1, 1, 2, 2, 4, 4),
    256: (1, 1, 2, 2, 4, 4),
    128: (1, 1, 2, 3, 4),
    64: (1, 2, 3, 4),
}


class UNetModel(nn.Module):
    """Predicts the noise in an image, and with learn_sigma the variance of the step.

    forward: x (N, in_channels, H, W) float32; timesteps (N,) in the units of the full schedule;
    y (N,) integer classes, or (N, num_classes) multi-hot labels where `multiclass`
    -> (N, out_channels, H, W) float32.

    attention_resolutions: the downsampling factors (not sizes in pixels) at which attention is used.
    num_heads_upsample: heads on the way up; -1: num_heads.
    num_head_channels: channels of a head, from which the number of heads follows; -1: num_heads says it.
    norm_groups: groups of the norms. A group of one channel loses its mean, and with it the image's colour.
    """

    def __init__(
        self,
        in_channels=3,
        model_channels=128,
        out_channels=3,
        num_res_blocks=2,
        attention_resolutions=(8, 16),
        dropout=0.0,
        channel_mult=(1, 2, 4, 8),
        num_classes=None,
        multiclass=False,
        use_checkpoint=False,
        num_heads=1,
        num_head_channels=-1,
        num_heads_upsample=-1,
        use_scale_shift_norm=False,
        resblock_updown=False,
        use_new_attention_order=False,
        norm_groups=32,
    ):
        super().__init__()
        self.model_channels = model_channels
        self.num_classes = num_classes
        embed_dim = 4 * model_channels

        common = {"use_checkpoint": use_checkpoint, "norm_groups": norm_groups}
        res_block = partial(
            ResBlock, embed_dim=embed_dim, dropout=dropout, scale_shift_norm=use_scale_shift_norm, **common
        )
        attention = partial(
            AttentionBlock, num_head_channels=num_head_channels, new_order=use_new_attention_order, **common
        )

        def downsample(channels):
            return res_block(channels, channels, down=True) if resblock_updown else Downsample(channels)

        def upsample(channels):
            return res_block(channels, channels, up=True) if resblock_updown else Upsample(channels)

        self.time_embed = nn.Sequential(
            nn.Linear(model_channels, embed_dim), nn.SiLU(), nn.Linear(embed_dim, embed_dim)
        )
        if num_classes is not None:
            embedding = nn.Linear if multiclass else nn.Embedding
            self.label_emb = embedding(num_classes, embed_dim)

        self.in_channels = in_channels
        channels = first_channels = int(channel_mult[0] * model_channels)
        skip_channels = [channels]
        factor = 1
        self.input_blocks = nn.ModuleList([TimestepSequential(nn.Conv2d(in_channels, channels, 3, padding=1))])
        for level, mult in enumerate(channel_mult):
            for _ in range(num_res_blocks):
                layers = [res_block(channels, int(mult * model_channels))]
                channels = int(mult * model_channels)
                if factor in attention_resolutions:
                    layers.append(attention(channels, num_heads))
                self.input_blocks.append(TimestepSequential(*layers))
                skip_channels.append(channels)
            if level != len(channel_mult) - 1:
                self.input_blocks.append(TimestepSequential(downsample(channels)))
                skip_channels.append(channels)
                factor *= 2

        self.middle_block = TimestepSequential(
            res_block(channels, channels), attention(channels, num_heads), res_block(channels, channels)
        )

        heads_up = num_heads if num_heads_upsample == -1 else num_heads_upsample
        self.output_blocks = nn.ModuleList()
        for level, mult in reversed(list(enumerate(channel_mult))):
            for i in range(num_res_blocks + 1):
                layers = [res_block(channels + skip_channels.pop(), int(mult * model_channels))]
                channels = int(mult * model_channels)
                if factor in attention_resolutions:
                    layers.append(attention(channels, heads_up))
                if level and i == num_res_blocks:
                    layers.append(upsample(channels))
                    factor //= 2
                self.output_blocks.append(TimestepSequential(*layers))

        self.out = nn.Sequential(
            GroupNorm32(norm_groups, channels),
            nn.SiLU(),
            zeroed(nn.Conv2d(first_channels, out_channels, 3, padding=1)),
        )
        self.res_blocks = [block for block in self.modules() if isinstance(block, ResBlock)]  # in the order of use
        self.projection_widths = [block.emb_layers[1].out_features for block in self.res_blocks]

    def forward(self, x, timesteps, y=None):
        return self.torso(x, self.projections(timesteps, y))

    def projections(self, timesteps, y=None):
        """timesteps (N,), labels y -> the projections of their embedding that the ResBlocks use, side by side:
        (N, channels of all blocks).

        They do not depend on the image, so sampling, which uses the same timesteps again and again, keeps them.
        """
        if (y is not None) != (self.num_classes is not None):
            raise ValueError("labels y are given if and only if the UNet is class-conditional (--class_cond)")
        embedding = self.time_embed(timestep_embedding(timesteps, self.model_channels))  # (N, 4C)
        if y is not None:
            embedding = embedding + self.label_emb(y)
        return torch.cat([block.emb_layers(embedding) for block in self.res_blocks], dim=1)

    def torso(self, x, projections):
        """x (N, in_channels, H, W), projections() -> (N, out_channels, H, W): forward() without the embedding."""
        projections = iter(projections.split(self.projection_widths, 1))
        h, skips = x, []
        for block in self.input_blocks:
            h = block(h, projections)
            skips.append(h)
        h = self.middle_block(h, projections)  # (N, mult·C, H/f, W/f)
        for block in self.output_blocks:
            h = block(torch.cat([h, skips.pop()], dim=1), projections)
        with torch.autocast(x.device.type, enabled=False):  # bfloat16's 8 bits are too few for the predicted noise
            return self.out(h.to(x.dtype))  # (N, out_channels, H, W)


class TimestepSequential(nn.Sequential):
    """A Sequential in which each ResBlock takes the next item of `projections`, an iterator."""

    def forward(self, x, projections):
        for layer in self:
            x = layer(x, next(projections)) if isinstance(layer, ResBlock) else layer(x)
        return x


doubled = partial(F.interpolate, scale_factor=2, mode="nearest")
halved = partial(F.avg_pool2d, kernel_size=2)


class Upsample(nn.Module):
    """(N, C, H, W) -> (N, C, 2H, 2W): nearest neighbour, then a convolution."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return self.conv(doubled(x))


class Downsample(nn.Module):
    """(N, C, H, W) -> (N, C, H/2, W/2): a convolution of stride 2."""

    def __init__(self, channels):
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x):
        return self.op(x)


class CheckpointedBlock(nn.Module):
    """A block that computes _forward(); with use_checkpoint it is recomputed in the backward pass."""

    def forward(self, *inputs):
        if self.use_checkpoint and torch.is_grad_enabled():
            return checkpoint(self._forward, *inputs, use_reentrant=False)
        return self._forward(*inputs)


class ResBlock(CheckpointedBlock):
    """norm, SiLU, (resample,) conv; the embedding; norm, SiLU, dropout, conv; plus the skip connection.

    With scale_shift_norm the embedding scales and shifts the second norm, otherwise it is added before it
    (Dhariwal & Nichol 2021, section 3.1, "adaptive group normalisation"). forward takes the output of emb_layers,
    not the embedding.
    """

    def __init__(
        self,
        channels,
        out_channels,
        embed_dim,
        dropout,
        scale_shift_norm,
        use_checkpoint,
        norm_groups=32,
        up=False,
        down=False,
    ):
        super().__init__()
        self.scale_shift_norm = scale_shift_norm
        self.use_checkpoint = use_checkpoint
        self.in_layers = nn.Sequential(
            GroupNorm32(norm_groups, channels), nn.SiLU(), nn.Conv2d(channels, out_channels, 3, padding=1)
        )
        self.resample = doubled if up else halved if down else nn.Identity()
        self.emb_layers = nn.Sequential(
            nn.SiLU(), nn.Linear(embed_dim, 2 * out_channels if scale_shift_norm else out_channels)
        )
        self.out_layers = nn.Sequential(
            GroupNorm32(norm_groups, out_channels),
            nn.SiLU(),
            nn.Dropout(dropout),
            zeroed(nn.Conv2d(out_channels, out_channels, 3, padding=1)),
        )
        self.skip_connection = nn.Identity() if channels == out_channels else nn.Conv2d(channels, out_channels, 1)

    def _forward(self, x, projection):
        norm, activation, conv = self.in_layers
        h = conv(self.resample(activation(norm(x))))
        projection = projection[:, :, None, None]
        if self.scale_shift_norm:
            scale, shift = projection.chunk(2, dim=1)
            h = self.out_layers[1:](self.out_layers[0](h) * (1 + scale) + shift)
        else:
            h = self.out_layers(h + projection)
        return self.skip_connection(self.resample(x)) + h


class AttentionBlock(CheckpointedBlock):
    """Multi-head self-attention over the pixels, added to its input. (N, C, H, W) -> the same shape."""

    def __init__(self, channels, num_heads, num_head_channels, new_order, use_checkpoint, norm_groups=32):
        super().__init__()
        head_channels = num_head_channels if num_head_channels != -1 else channels // max(1, num_heads)
        self.num_heads = channels // max(1, head_channels)
        if num_heads < 1 or head_channels < 1 or self.num_heads * head_channels != channels:
            raise UserError(
                f"attention over {channels} channels cannot be split by --num_heads {num_heads} "
                f"--num_head_channels {num_head_channels}"
            )
        self.new_order = new_order
        self.use_checkpoint = use_checkpoint
        self.norm = GroupNorm32(norm_groups, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = zeroed(nn.Conv1d(channels, channels, 1))

    def _forward(self, x):
        n, c, height, width = x.shape
        pixels = x.reshape(n, c, height * width)
        qkv = self.qkv(self.norm(pixels))  # (N, 3C, L)
        # The order of the 3C channels: (3, heads, C/heads), or in older checkpoints (heads, 3, C/heads).
        if self.new_order:
            q, k, v = qkv.reshape(n, 3, self.num_heads, -1, height * width).unbind(1)
        else:
            q, k, v = qkv.reshape(n, self.num_heads, 3, -1, height * width).unbind(2)
        # (N, heads, L, C/heads). Fused kernels, which never hold the L x L matrix, want the channels side by side.
        q, k, v = (each.transpose(-1, -2).contiguous() for each in (q, k, v))
        h = F.scaled_dot_product_attention(q, k, v)
        h = h.transpose(-1, -2).reshape(n, c, height * width)
        return (pixels + self.proj_out(h)).reshape(n, c, height, width)
