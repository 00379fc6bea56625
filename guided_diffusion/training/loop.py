"""The training loop of every trainer."""

import math
import time
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from ..compile_util import compiled, wants_compiling
from ..dist_util import peak_memory
from ..ranks.ranks import Ranks
from ..script.errors import UserError
from ..script.storage import is_remote, lock
from .batches import generator
from .checkpoint_folder import CheckpointFolder
from .flags import FREE_FLAGS, TRAIN_FLAGS, choose_precision, parse_rates
from .logger import Logger, Means, read_numbers

MOST_UNREAD = 100  # steps whose numbers stay on the device until they are read
# What opt<step>.pt holds, by name.
STATE = {"optimizer", "scaler", "objective", "means", "averaged", "step", "flags"}


class TrainLoop:
    """Trains `model` to minimise an Objective, as the flags in TRAIN_FLAGS say.

    batches(start=step) -> Batches without end. named_state(model) -> the state dict to save, with or without flags.
    on_save(step, ema_model) is called before every checkpoint, on every rank, with the first rank's averages.
    flags: all flags of the run; those that are not in TRAIN_FLAGS are only kept in the checkpoints.
    A run whose folder holds checkpoints resumes from the last one. UserError where its flags were different.

    ranks: N ranks with a batch_size of B train as one rank with N · B does: gradients are averaged. Only the
    statistics of batch norms are each rank's own.
    """

    def __init__(
        self, model, batches, objective, output_path, device, *, named_state, on_save=None, ranks=None, flags=()
    ):
        self.all_flags = dict(flags)
        self.flags = {name: self.all_flags.get(name, flag.default) for name, flag in TRAIN_FLAGS.items()}
        self.ranks = ranks or Ranks()
        self.global_batch = self.flags["batch_size"] * self.ranks.world_size
        self.device = device
        self.dtype = choose_precision(self.flags["precision"], self.all_flags.get("use_fp16", False), device)
        self.model = model.to(device, memory_format=torch.channels_last)
        self.batches, self.objective = batches, objective
        self.named_state, self.on_save = named_state, on_save

        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=self.flags["lr"], weight_decay=self.flags["weight_decay"], fused=True
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype is torch.float16)
        self.emas = {
            rate: AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(rate), use_buffers=True)
            for rate in parse_rates(self.flags["ema_rate"])
        }
        self.means, self.unread = Means(), []  # unread: the values of the last steps, still on the device
        self.checkpoints = CheckpointFolder(output_path, self.flags["keep_checkpoints"], self.flags["save_format"])
        if self.ranks.first:
            busy = f"--output_path {output_path} is in use by another training ({{holder}}); wait, or name another"
            self.lock = None if is_remote(output_path) else lock(Path(output_path, ".lock"), busy)
            self.checkpoints.remove_parts()
        self.ranks.wait()
        self.step = self._resume()
        steps = sorted(set(self.ranks.gather(torch.tensor([self.step], device=device)).tolist()))
        if len(steps) > 1:
            raise UserError(
                f"--output_path {output_path} is not the same folder for all ranks: they would go on from steps "
                f"{', '.join(map(str, steps))}; name one that all machines share"
            )
        self.logger = Logger(output_path, self.step) if self.ranks.first else None
        steps = self.flags["lr_anneal_steps"] or None
        compiling = wants_compiling(self.flags["compile"], steps, device, self.dtype)
        self.network = compiled(model, device) if compiling else model
        if self.ranks.several:
            self.network = DistributedDataParallel(self.network, [device] if device.type == "cuda" else None)

    def run_loop(self):
        """Trains until step lr_anneal_steps (without end where that is 0). Saves on the way and at the end."""
        f = self.flags
        last = f["lr_anneal_steps"] or None
        ranks = f" ({f['batch_size']} on each of {self.ranks.world_size} ranks)" if self.ranks.several else ""
        print(
            f"training from step {self.step} {f'to {last}' if last else 'without end'}: {self.global_batch} images "
            f"a step{ranks}, {sum(p.numel() for p in self.model.parameters()):,} parameters, {self.dtype} on "
            f"{self.device}",
            flush=True,
        )
        batches = iter(self.batches(start=self.step))
        last_row = self.step, time.perf_counter()
        bar = tqdm(initial=self.step, total=last, unit="step", smoothing=0.05, disable=not self.ranks.first)
        with bar:
            while last is None or self.step < last:
                self.unread.append(self.run_step(next(batches)))
                self.step += 1
                bar.update()
                logs = self.step % f["log_interval"] == 0
                saves = self.step % f["save_interval"] == 0 or self.step == last
                if logs or saves or len(self.unread) == MOST_UNREAD:
                    loss = self._read_values()
                    rate = (bar.format_dict["rate"] or 0) * self.global_batch
                    bar.set_postfix_str(f"loss {loss:.4f}, {rate:.3g} images/s", refresh=False)
                if logs:
                    self._log(last_row)
                    last_row = self.step, time.perf_counter()
                if saves:
                    self.save()

    def run_step(self, batch):
        """One optimizer step on this rank's part of a Batch -> what to log, over all ranks: name -> number.

        The numbers are tensors () on the device, for read_numbers(): nothing waits for the device here.
        """
        f = self.flags
        # For dropout: a resumed training draws the same again, and every rank draws differently.
        torch.manual_seed(int(generator(f["seed"], self.step, self.ranks.rank).integers(2**32)))
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(self.step)
        self.optimizer.zero_grad(set_to_none=True)
        size = len(batch.places)
        parts = list(batch.split(f["microbatch"] if f["microbatch"] > 0 else size))
        terms_of_parts = []
        for part in parts:
            waits = self.ranks.several and part is not parts[-1]  # the ranks add up their gradients at the last one
            with self.network.no_sync() if waits else nullcontext():
                with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not torch.float32):
                    terms = self.objective.losses(self.network, part)
                self.scaler.scale(terms["loss"].sum() / size).backward()
            terms_of_parts.append({name: term.detach().float() for name, term in terms.items()})
        terms = self._gather_terms(terms_of_parts)
        self.objective.observe(terms)
        values = self.objective.summary(terms)
        self.scaler.unscale_(self.optimizer)
        limit = f["grad_clip"] or float("inf")
        values["grad_norm"] = nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        values["lr"] = self.learning_rate(self.step)
        scale = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.scaler.get_scale() >= scale:  # on an overflow the scaler skips the step and lowers its scale
            for ema in self.emas.values():
                ema.update_parameters(self.model)
        return values

    def learning_rate(self, step):
        """The learning rate of a step: linear warm-up times linear annealing."""
        f = self.flags
        rate = f["lr"] * min(1.0, (step + 1) / max(1, f["lr_warmup_steps"]))
        return rate * (1 - step / f["lr_anneal_steps"]) if f["lr_anneal_steps"] else rate

    def save(self):
        """Calls on_save, then writes the checkpoint. A run killed in between repeats both when it is resumed."""
        if self.on_save:
            averages = next(iter(self.emas.values())).module
            for buffer in averages.buffers():  # the statistics of batch norms are each rank's own
                buffer.copy_(self.ranks.gather(buffer[None])[0])
            self.on_save(self.step, averages)
        if self.ranks.first:
            contents = {"model": self.named_state(self.model)}
            for rate, ema in self.emas.items():
                contents[f"ema_{rate}_"] = self.named_state(ema.module)
            contents["opt"] = {
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "objective": self.objective.state_dict(),
                "means": self.means.state_dict(),
                "averaged": {str(rate): int(ema.n_averaged) for rate, ema in self.emas.items()},
                "step": self.step,
                "flags": self._deciding_flags(),
            }
            self.checkpoints.save(self.step, contents)
        self.ranks.wait()

    def _resume(self):
        steps = self.checkpoints.steps()
        if not steps:
            return 0
        step = steps[-1]
        path = self.checkpoints.path("model", step)
        print(f"going on from {path}", flush=True)
        state = self.checkpoints.load("opt", step)
        if not isinstance(state, dict) or not STATE <= state.keys():
            raise self.checkpoints.unusable(self.checkpoints.path("opt", step), step, "no state of a training")
        self._refuse_other_flags(state["flags"], path)
        self._load_weights(self.model, "model", step)
        for rate, ema in self.emas.items():
            self._load_weights(ema.module, f"ema_{rate}_", step)
            ema.n_averaged.fill_(state["averaged"][str(rate)])
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:  # empty where it was saved on a device on which --use_fp16 means another precision
            self.scaler.load_state_dict(state["scaler"])
        self.objective.load_state_dict(state["objective"])
        self.means.load_state_dict(state["means"])
        return step

    def _load_weights(self, network, name, step):
        state = self.checkpoints.load(name, step)
        try:
            network.load_state_dict(state)
        except (RuntimeError, TypeError):
            path = self.checkpoints.path(name, step)
            raise UserError(f"{path} is of another network; give its flags, or another --output_path") from None

    def _deciding_flags(self):
        """The flags that must not change when a training is resumed. batch_size is that of all ranks together."""
        flags = self.all_flags | self.flags | {"batch_size": self.global_batch}
        return {name: value for name, value in flags.items() if name not in FREE_FLAGS}

    def _refuse_other_flags(self, earlier, path):
        now = self._deciding_flags()
        differing = [name for name in earlier | now if now.get(name) != earlier.get(name)]
        if differing:
            changes = ", ".join(f"--{name} {now.get(name)} (was {earlier.get(name)})" for name in differing)
            begin = "resume_checkpoint" in self.all_flags | self.flags
            further = ", with --resume_checkpoint to begin from these weights" * begin
            raise UserError(
                f"{path} was trained with other flags: {changes}; give those, or another --output_path{further}"
            )

    def _gather_terms(self, terms_of_parts):
        """The terms of each microbatch -> name -> (global batch,), over all ranks, in the order of the samples."""
        names = list(terms_of_parts[0])
        stacked = torch.stack([torch.cat([terms[name] for terms in terms_of_parts]) for name in names], 1)
        return dict(zip(names, self.ranks.gather(stacked).unbind(1), strict=True))

    def _read_values(self):
        """Puts the values of the steps since the last call into the means -> the last loss.

        UserError where one is not finite. Weights that it has spoiled are in no checkpoint yet.
        """
        rows, self.unread = read_numbers(self.unread), []
        for step, values in enumerate(rows, self.step - len(rows)):
            self._require_finite("loss", values["loss"], step)
            if not self.scaler.is_enabled():  # with a loss scale the scaler skips the step and halves the scale
                self._require_finite("gradient's norm", values["grad_norm"], step)
            self.means.add(values)
        return rows[-1]["loss"]

    def _require_finite(self, what, value, step):
        if not math.isfinite(value):
            steps = self.checkpoints.steps()
            good = self.checkpoints.path("model", steps[-1]) if steps else "none yet"
            raise UserError(
                f"the {what} is {value} at step {step}; the last good checkpoint is {good}. "
                "Lower --lr, or set --grad_clip 1 or --precision fp32, and start again"
            )

    def _log(self, last_row):
        """Writes a row of the log. last_row: step and time of the row before, for the rate."""
        means = self.means.take()
        if not self.ranks.first:
            return
        images = (self.step - last_row[0]) * self.global_batch
        means["param_norm"] = nn.utils.get_total_norm([p.detach() for p in self.model.parameters()]).item()
        means["images_per_s"] = images / (time.perf_counter() - last_row[1])
        means["memory_mib"] = peak_memory(self.device) / 2**20
        self.logger.log(self.step, means)
