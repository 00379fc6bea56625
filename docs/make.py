"""Writes docs/flags.md from the flags that the scripts declare: make docs."""

import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/flags.md"
SCRIPTS = (
    *("main.py", "celeba-train-diffusion.py", "celeba-train-classifier.py", "compute_metrics.py"),
    *("compute_FR.py", "compute_FVA.py", "compute_MNAC.py", "compute_CD.py", "compute_COUT.py", "compute_FID.py"),
    *("compute_LPIPS.py", "report.py", "audit.py"),
)
INTRODUCTION = """\
# Flags

```bash
python main.py --help
```

Every script answers `--help`. A flag may be written with underscores or with hyphens: `--batch_size`,
`--batch-size`. Switches take `True` or `False`; alone they mean `True`: `--overwrite`. A dash in the tables means
that there is no default.
"""


def flags_page():
    """The text of docs/flags.md."""
    sys.path.insert(0, str(ROOT))
    return "\n".join([INTRODUCTION, *map(_section, SCRIPTS)])


def _section(script):
    """The flags of a script, in a table for each heading of its --help."""
    parser = runpy.run_path(str(ROOT / script))["create_argparser"]()
    lines = [f"## {script}", "", parser.description.removesuffix(".") + ".", ""]
    for heading in dict.fromkeys(flag.group for flag in parser.flags.values()):
        title = f"### {script.removesuffix('.py')}: {heading}"
        lines += [title, "", "| flag | default | meaning |", "|---|---|---|"]
        for name, flag in parser.flags.items():
            if flag.group == heading:
                default = "–" if flag.default in (None, "", []) else flag.default
                lines.append(f"| `--{name}` | {default} | {_meaning(flag, name in parser.required)} |")
        lines.append("")
    return "\n".join(lines)


def _meaning(flag, required):
    return flag.full_help(required, with_default=False).replace("|", "\\|").replace("*", "\\*")


if __name__ == "__main__":
    PAGE.write_text(flags_page(), encoding="utf-8")
