"""What the flags of a diffusion model mean, and what its weights say about them.

Flags have guided-diffusion's names. A wrong one is seldom an error by itself: `num_heads 4` against
`num_head_channels 64` loads the same tensors and computes another function.
"""

from guided_diffusion.unet import USUAL_CHANNEL_MULT

# The flags that decide which function the network and its diffusion compute. Left out on purpose: dropout,
# use_checkpoint and use_fp16 (cost), timestep_respacing (a choice at sampling), use_kl and
# rescale_learned_sigmas (training losses).
DECIDING = (
    "image_size", "num_channels", "channel_mult", "num_res_blocks", "attention_resolutions",
    "num_head_channels", "num_heads", "num_heads_upsample", "use_new_attention_order",
    "use_scale_shift_norm", "resblock_updown", "class_cond", "num_classes", "multiclass",
    "learn_sigma", "diffusion_steps", "noise_schedule", "predict_xstart", "rescale_timesteps",
)


def disagreements(given, trained):
    """Flags of the command line and flags of the weights -> [(name, given value, trained value), ...].

    Compares what the flags mean, not how they are written: "8,16" is "16,8", an empty channel_mult is the
    default of its image size. A flag that either side lacks, or that the weights' other flags make
    meaningless, is not compared. Raises ValueError where a value is nothing that its flag may be.
    """
    moot = _moot(trained)
    given_meaning, trained_meaning = _meaning(given), _meaning(trained)
    return [
        (name, given[name], trained[name])
        for name in DECIDING
        if name in given and name in trained and name not in moot
        # Values written alike differ in meaning only through another flag, which is then the one to report.
        and given[name] != trained[name] and given_meaning[name] != trained_meaning[name]
    ]


def infer_flags(state, image_size):
    """A UNet's state dict (only names and shapes are read) -> the flags that its tensors betray.

    image_size (pixels) is taken on trust, as no shape depends on it: it turns the levels that have attention
    into attention_resolutions. Nor do shapes tell the number of heads or anything about the diffusion but
    learn_sigma. {} where the tensors are not those of a whole UNet.
    """
    try:
        return _infer(state, image_size)
    except (KeyError, IndexError):
        return {}


def _infer(state, image_size):
    def width(name, dim=0):
        return state[name].shape[dim]

    num_channels = width("time_embed.0.weight", 1)
    # Every level but the last ends, on the way up, with an upsampling after its ResBlock and attention.
    blocks = len({name.split(".")[1] for name in state if name.startswith("output_blocks.")})
    tails = [f"output_blocks.{block}.{part}." for block in range(blocks) for part in (1, 2)]
    res_ups = sum(tail + "in_layers.0.weight" in state for tail in tails)
    conv_ups = sum(tail + "conv.weight" in state for tail in tails)
    levels = 1 + res_ups + conv_ups
    per_level, rest = divmod(blocks, levels)
    if per_level == 0 or rest:
        return {}
    # input_blocks: the first convolution, then per level its ResBlocks and a downsampling.
    first_blocks = [f"input_blocks.{1 + level * per_level}" for level in range(levels)]
    widths = [width(f"{block}.0.out_layers.3.weight") for block in first_blocks]
    attention = [f"{block}.1.qkv.weight" in state for block in first_blocks]

    flags = {
        "image_size": image_size,
        "num_channels": num_channels,
        "channel_mult": ",".join(f"{channels / num_channels:g}" for channels in widths),
        "num_res_blocks": per_level - 1,
        "attention_resolutions": ",".join(str(image_size // 2**i) for i in range(levels) if attention[i]),
        "learn_sigma": width("out.2.weight") == 2 * width("input_blocks.0.0.weight", 1),
        "use_scale_shift_norm": width("input_blocks.1.0.emb_layers.1.weight") == 2 * widths[0],
        "class_cond": "label_emb.weight" in state,
    }
    if flags["class_cond"]:
        # Labels that are a vector go through a linear layer, a single class through an embedding.
        flags["multiclass"] = "label_emb.bias" in state
        flags["num_classes"] = width("label_emb.weight", 1 if flags["multiclass"] else 0)
    if levels > 1:
        flags["resblock_updown"] = res_ups > 0
    return flags


def _moot(flags):
    """The flags without effect under the others."""
    heads = {"num_heads", "num_heads_upsample"} if flags.get("num_head_channels", -1) != -1 else set()
    classes = {"num_classes", "multiclass"} if not flags.get("class_cond", True) else set()
    return heads | classes


def _meaning(flags):
    """Flags -> the same flags with values that are equal exactly where they mean the same."""
    try:
        return _understood(flags)
    except (TypeError, ArithmeticError) as error:
        raise ValueError(str(error)) from error


def _understood(flags):
    meaning = dict(flags)
    size = flags.get("image_size")
    if "channel_mult" in flags:
        written = [float(multiple) for multiple in _split(flags["channel_mult"])]
        meaning["channel_mult"] = tuple(written) or USUAL_CHANNEL_MULT.get(size)
    if "attention_resolutions" in flags and size:
        # Only the resolutions that a level has get attention.
        reached = {2**level for level in range(len(meaning.get("channel_mult") or ()))}
        named = {size // int(float(resolution)) for resolution in _split(flags["attention_resolutions"])}
        meaning["attention_resolutions"] = reached & named
    if flags.get("num_heads_upsample") == -1:
        meaning["num_heads_upsample"] = flags.get("num_heads")
    return meaning


def _split(text):
    return [part for part in str(text).split(",") if part.strip()]
