"""The training loop and the checkpoints of every trainer."""

import os
from pathlib import Path

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from .dist_util import half_precision
from .errors import UserError
from .logger import Logger
from .script_util import parse_numbers
from .train_data import generator

# flag -> (default, help)
TRAIN_FLAGS = {
    "lr": (1e-4, "learning rate"),
    "weight_decay": (0.0, "weight decay of AdamW"),
    "lr_warmup_steps": (0, "steps over which the learning rate rises to --lr"),
    "lr_anneal_steps": (0, "the training ends at this step, the learning rate falling linearly to 0; 0: never"),
    "batch_size": (32, "images a step"),
    "microbatch": (-1, "images a forward pass, where a whole batch does not fit in memory; -1: the batch"),
    "ema_rate": ("0.9999", "decay of the averaged weights; several separated by commas"),
    "grad_clip": (0.0, "largest norm of the gradient; 0: no limit"),
    "log_interval": (50, "steps between rows of progress.csv"),
    "save_interval": (10000, "steps between checkpoints"),
    "keep_checkpoints": (2, "how many of the newest checkpoints stay"),
    "seed": (0, "seed of the order, the mirroring, the timesteps and the noise"),
    "compile": (False, "torch.compile the network: minutes to start, then faster"),
}


class CheckpointFolder:
    """model<step>.pt, ema_<rate>_<step>.pt and opt<step>.pt in one folder; a step counts once its opt is there."""

    def __init__(self, directory, keep):
        self.directory, self.keep = Path(directory), keep
        self.directory.mkdir(parents=True, exist_ok=True)

    def steps(self):
        """The steps with a complete checkpoint, ascending."""
        numbers = [path.stem[3:] for path in self.directory.glob("opt??????*.pt")]
        return sorted(int(number) for number in numbers if number.isdigit())

    def path(self, name, step):
        return self.directory / f"{name}{step:06d}.pt"

    def load(self, name, step):
        return torch.load(self.path(name, step), map_location="cpu", weights_only=True)

    def save(self, step, contents):
        """contents: name -> what to save, "opt" last. Only when all are on the disk do the oldest go."""
        for name, content in contents.items():
            save_aside(content, self.path(name, step))
        for old in self.steps()[: -self.keep]:
            for name in ["opt", *(name for name in contents if name != "opt")]:
                self.path(name, old).unlink(missing_ok=True)


def save_aside(content, path):
    """torch.save to a neighbouring file, synced, then renamed: `path` is the old file or the new, never a part."""
    aside = Path(f"{path}.part")
    with open(aside, "wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)


class TrainLoop:
    """Trains `model` by the mean of loss_fn over endless `batches(start_step)`, with what TRAIN_FLAGS name.

    loss_fn(network, batch) -> dict of per-image (N,) tensors, of which "loss" is minimised and all are logged.
    named_state(model) -> the state dict to save, flags attached or not. sampler: a schedule sampler or None.
    on_save(step, ema_model) is called after every checkpoint. A run whose folder holds checkpoints goes on.
    """

    def __init__(
        self, model, batches, loss_fn, output_path, device, *, named_state, sampler=None, on_save=None,
        use_fp16=False, **flags,
    ):  # fmt: skip
        self.flags = {name: default for name, (default, _) in TRAIN_FLAGS.items()} | flags
        self.model = model.to(device, memory_format=torch.channels_last)
        self.batches, self.loss_fn = batches, loss_fn
        self.named_state, self.sampler, self.on_save = named_state, sampler, on_save
        self.device = device
        self.dtype = half_precision(device) if use_fp16 else torch.float32

        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=self.flags["lr"], weight_decay=self.flags["weight_decay"]
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype is torch.float16)
        rates = parse_numbers(self.flags["ema_rate"], "ema_rate")
        self.emas = {rate: AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(rate), use_buffers=True)
                     for rate in rates}  # fmt: skip
        self.checkpoints = CheckpointFolder(output_path, self.flags["keep_checkpoints"])
        self.step = self._resume()
        self.logger = Logger(output_path, self.step)
        self.network = torch.compile(model) if self.flags["compile"] else model

    def run_loop(self):
        """Steps until lr_anneal_steps (for ever where that is 0), saving as it goes and at the end."""
        f = self.flags
        last = f["lr_anneal_steps"] or None
        print(
            f"training from step {self.step} to {last or 'the end of time'}: {f['batch_size']} images a step, "
            f"{sum(p.numel() for p in self.model.parameters()):,} parameters, {self.dtype} on {self.device}",
            flush=True,
        )
        bar = tqdm(initial=self.step, total=last, unit="step", smoothing=0.05)
        batches = iter(self.batches(self.step))
        while last is None or self.step < last:
            values = self.run_step(next(batches))
            self.step += 1
            bar.update()
            bar.set_postfix_str(f"loss {values['loss']:.4f}", refresh=False)
            if self.step % f["log_interval"] == 0:
                self.logger.log(self.step, values)
            if self.step % f["save_interval"] == 0 or self.step == last:
                self.save()
        bar.close()

    def run_step(self, batch):
        """One optimizer step on a Batch; returns its means, the gradient norm and the learning rate."""
        f = self.flags
        torch.manual_seed(int(generator(f["seed"], self.step).integers(2**32)))  # dropout, alike when resumed
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(self.step)
        self.optimizer.zero_grad(set_to_none=True)
        sums = {}
        size = len(batch.places)
        for part in batch.split(f["microbatch"] if f["microbatch"] > 0 else size):
            with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not torch.float32):
                terms = self.loss_fn(self.network, part)
            self.scaler.scale(terms["loss"].sum() / size).backward()
            for name, term in terms.items():
                sums[name] = sums.get(name, 0.0) + term.detach().sum().item()
        values = {name: total / size for name, total in sums.items()}
        self._require_finite(values["loss"])

        self.scaler.unscale_(self.optimizer)
        limit = f["grad_clip"] or float("inf")
        values["grad_norm"] = nn.utils.clip_grad_norm_(self.model.parameters(), limit).item()
        values["lr"] = self.learning_rate(self.step)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        for ema in self.emas.values():
            ema.update_parameters(self.model)
        return values

    def learning_rate(self, step):
        """Linear warm-up times linear annealing."""
        f = self.flags
        rate = f["lr"] * min(1.0, (step + 1) / max(1, f["lr_warmup_steps"]))
        return rate * (1 - step / f["lr_anneal_steps"]) if f["lr_anneal_steps"] else rate

    def save(self):
        contents = {"model": self.named_state(self.model)}
        for rate, ema in self.emas.items():
            contents[f"ema_{rate}_"] = self.named_state(ema.module)
        contents["opt"] = {
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "sampler": self.sampler.state_dict() if self.sampler else {},
            "averaged": {str(rate): int(ema.n_averaged) for rate, ema in self.emas.items()},
        }
        self.checkpoints.save(self.step, contents)
        if self.on_save:
            self.on_save(self.step, next(iter(self.emas.values())).module)

    def _resume(self):
        steps = self.checkpoints.steps()
        if not steps:
            return 0
        step = steps[-1]
        path = self.checkpoints.path("model", step)
        print(f"going on from {path}", flush=True)
        try:
            self.model.load_state_dict(self.checkpoints.load("model", step))
        except RuntimeError:
            raise UserError(f"{path} is of another network; give its flags, or another --output_path") from None
        state = self.checkpoints.load("opt", step)
        for rate, ema in self.emas.items():
            if str(rate) not in state["averaged"]:
                kept = ",".join(state["averaged"])
                raise UserError(f"--ema_rate {rate} is not among those of {path}; give --ema_rate {kept}")
            ema.module.load_state_dict(self.checkpoints.load(f"ema_{rate}_", step))
            ema.n_averaged.fill_(state["averaged"][str(rate)])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.sampler:
            self.sampler.load_state_dict(state["sampler"])
        return step

    def _require_finite(self, loss):
        if loss != loss or loss in (float("inf"), float("-inf")):
            steps = self.checkpoints.steps()
            good = self.checkpoints.path("model", steps[-1]) if steps else "none yet"
            raise UserError(
                f"the loss is {loss} at step {self.step}; the last good checkpoint is {good}. "
                "Lower --lr, or set --grad_clip 1 or --use_fp16 False, and start again"
            )
