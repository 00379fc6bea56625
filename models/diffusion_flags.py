"""The flags of a diffusion model: comparing them with those of its weights, and inferring them from its tensors.

Flags have guided-diffusion's names. A wrong flag seldom fails by itself: `num_heads 4` and `num_head_channels 64`
load the same tensors, but compute different functions.
"""

from guided_diffusion.unet import USUAL_CHANNEL_MULT

EVERYWHERE_ELSE = {"norm_groups": 32}  # flags that our files have not always carried, and what older ones mean
# The flags that decide which function the network and its diffusion compute.
DECIDING = (
    *("image_size", "num_channels", "channel_mult", "num_res_blocks", "use_scale_shift_norm", "norm_groups"),
    *("attention_resolutions", "num_head_channels", "num_heads", "num_heads_upsample", "use_new_attention_order"),
    *("resblock_updown", "class_cond", "num_classes", "multiclass", "learn_sigma"),
    *("diffusion_steps", "noise_schedule", "predict_xstart", "rescale_timesteps"),
)
# The flags that decide how a network is trained, and what it costs. Those of sampling, timestep_respacing and
# use_fp16, are in neither.
UNDECIDING = ("dropout", "use_checkpoint", "use_kl", "rescale_learned_sigmas")


def disagreements(wanted, trained):
    """Flags of the command line, flags of the weights -> those that differ: [(name, wanted, trained), ...].

    Compares what the values mean, not how they are written: "8,16" equals "16,8", and an empty channel_mult equals
    the default of its image size. Flags that either side lacks, or that have no effect with the weights' other
    flags, are not compared. ValueError where a value is impossible for its flag.
    """
    unused = _unused(trained)
    wanted_meaning, trained_meaning = _meaning(wanted), _meaning(trained)
    return [
        (name, wanted[name], trained[name])
        for name in DECIDING
        if name in wanted
        and name in trained
        and name not in unused
        # Values written alike differ in meaning only where another flag differs. That one is reported.
        and wanted[name] != trained[name]
        and wanted_meaning[name] != trained_meaning[name]
    ]


def infer_flags(state, image_size):
    """A UNet's state dict -> the flags that follow from names and shapes; {} where it is not a whole UNet's.

    image_size (pixels) is not checked, since no shape depends on it. It is needed to turn the levels with attention
    into attention_resolutions. Shapes do not tell the number of heads, nor flags of the diffusion but learn_sigma.
    """
    try:
        return _infer(state, image_size)
    except (KeyError, IndexError):
        return {}


def _infer(state, image_size):
    def width(name, dim=0):
        return state[name].shape[dim]

    num_channels = width("time_embed.0.weight", 1)
    if width("time_embed.0.weight") != 4 * num_channels:
        return {}
    # On the way up every level but the last ends with an upsampling, after a ResBlock and perhaps attention.
    blocks = len({name.split(".")[1] for name in state if name.startswith("output_blocks.")})
    upsamplings = [f"output_blocks.{block}.{part}." for block in range(blocks) for part in (1, 2)]
    res_ups = sum(module + "in_layers.0.weight" in state for module in upsamplings)
    conv_ups = sum(module + "conv.weight" in state for module in upsamplings)
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
        # A vector of labels goes through a linear layer, which has a bias, a single class through an embedding.
        flags["multiclass"] = "label_emb.bias" in state
        flags["num_classes"] = width("label_emb.weight", 1 if flags["multiclass"] else 0)
    if levels > 1:
        flags["resblock_updown"] = res_ups > 0
    return flags


def _unused(flags):
    """The names of the flags that have no effect because of the others."""
    heads = ("num_heads", "num_heads_upsample") if flags.get("num_head_channels", -1) != -1 else ()
    classes = ("num_classes", "multiclass") if not flags.get("class_cond", True) else ()
    return heads + classes


def _meaning(flags):
    """Flags -> the same flags, with values that are equal exactly if they mean the same."""
    meaning, size = dict(flags), flags.get("image_size")
    try:
        if "channel_mult" in flags:
            meaning["channel_mult"] = tuple(_numbers(flags["channel_mult"])) or USUAL_CHANNEL_MULT.get(size)
        if "attention_resolutions" in flags and size:
            # Resolutions at which the network has no level mean nothing.
            levels = {2**level for level in range(len(meaning.get("channel_mult") or ()))}
            meaning["attention_resolutions"] = levels & {
                size // int(resolution) for resolution in _numbers(flags["attention_resolutions"])
            }
    except (TypeError, ArithmeticError) as error:
        raise ValueError(str(error)) from error
    if flags.get("num_heads_upsample") == -1:
        meaning["num_heads_upsample"] = flags.get("num_heads")
    return meaning


def _numbers(text):
    return [float(part) for part in str(text).split(",") if part.strip()]
