"""What a run prints: which images it explains, what that costs, how far it is, and the result."""

import time

from tqdm import tqdm

from guided_diffusion.ranks.ranks import Ranks

from ..data.datasets import DATASETS


def selection_line(run, num_chosen, looked_at, available):
    """One line: which images will be explained, of how many, and why these."""
    flags, question = run.flags, run.question
    data = flags["dataset"] if flags["dataset"] in DATASETS else flags["data_dir"]
    where = "that --images names" if flags["images"] else f"of {data} {flags['split']}"
    line = f"{question.title}: explaining {num_chosen} of {available} images {where}"
    if flags["num_chunks"] > 1:
        line += f", chunk {flags['chunk']} of {flags['num_chunks']}"
    if flags["num_batches"]:
        line += f"; --num_batches {flags['num_batches']} x --batch_size {flags['batch_size']} is the limit"
    if question.origin is not None:
        line += f"; of the first {looked_at}, {num_chosen} are predicted {question.answer(question.origin)}"
    elif not question.of_every_image:
        target = question.answer(question.target)
        line += f"; of the first {looked_at}, {looked_at - num_chosen} are predicted {target} already"
    return line


def cost_line(num_images, num_finished, cost, num_scales, ranks=None):
    """One line: how many images are left, and how many network evaluations, of this Cost, at least and at most."""
    left = num_images - num_finished
    least, most = (left * (cost.once + cost.each * attempts) for attempts in (1, num_scales))
    shared = f"{cost.once} an image and " if cost.once else ""
    already = f" ({num_finished} of {num_images} are done already)" if num_finished else ""
    backward = f", {cost.backward} of them also backward" if cost.backward else ""
    repeated = ", and again those of finished images in the same batches" if num_finished and left else ""
    if ranks is not None and ranks.several:  # which form batches of what is left
        repeated = f", on {ranks.world_size} ranks"
    return (
        f"{left} images{already}: {shared}{cost.each} network evaluations an attempt{backward}, "
        f"1 to {num_scales} attempts an image, {least:,} to {most:,} evaluations in all{repeated}"
    )


def result_line(summary, experiment, computed=0, seconds=0.0):
    """One line: a summary's figures, how long the images computed now took, and the experiment's folder."""
    if not summary["n"]:
        return f"no images: {experiment}"
    parts = [
        f"flip rate {100 * summary['cf acc']:.1f} % ({summary['cf-cor']} of {summary['n']})",
        f"L1 {summary['l_1']:.3f}",
        f"bKL {summary['bkl']:.3f}",
    ]
    if "oracle fr" in summary:
        parts.append(f"oracle flip rate {100 * summary['oracle fr']:.1f} %")
    if "mnac" in summary:
        parts.append(f"MNAC {summary['mnac']:.2f}")
    line = ", ".join(parts)
    if computed:
        line += f"; {computed} images in {seconds:.1f} s, {seconds / computed:.2f} s each"
    return f"{line}: {experiment}"


class EvaluationBar:
    """A bar of network evaluations, counted an image at a time. Its total grows with each further attempt.

    Call `wrap(model_fn)` for the network to count, `follow` as an Explainer's on_attempt; leaving `with` closes it.
    The first of several ranks shows the evaluations of all.
    """

    def __init__(self, num_images, cost, ranks=None):
        self.ranks, self.each = ranks or Ranks(), cost.each
        self.total = num_images * (cost.once + cost.each)  # evaluations of all images, their first attempts alone
        self.evaluations, self.further = map(self.ranks.counter, ("evaluations", "further evaluations"))
        self.bar = tqdm(
            total=self.total, desc="explaining", unit="eval", smoothing=0.02, disable=not self.ranks.first
        )

    def wrap(self, model_fn):
        def counted(z, t, *labels):
            self._show(len(z), 0)
            return model_fn(z, t, *labels)

        return counted

    def _show(self, evaluations, further):
        done = self.evaluations.count(evaluations)
        # The total leaves out what a resumed run computes again of finished images.
        self.bar.total = max(self.total + self.further.count(further), done)
        self.bar.update(done - self.bar.n)

    def wait_for_all(self):
        """The first rank returns when all have called it, the others at once."""
        done = self.ranks.counter("ranks done")
        for counter in (self.evaluations, self.further):
            counter.add(0)  # passes on what it has not added yet
        done.add(1)
        while self.ranks.first and done.total() < self.ranks.world_size:
            self._show(0, 0)
            time.sleep(0.2)
        self._show(0, 0)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.bar.close()

    def follow(self, jobs):
        self._show(0, self.each * sum(job.attempt > 1 for job in jobs if not job.replayed))
        self.bar.refresh()
