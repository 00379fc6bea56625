"""The files of an audit, in the folder audit/ of an experiment.

audit.yaml: the Findings, for readers and for the report. attributes.csv: a row for each attribute. map.npz and
map.png: the map of change. Beside them, in folders, examples with what was put back.
"""

from dataclasses import asdict, dataclass, field

import numpy as np
import pandas as pd

from guided_diffusion.script.errors import UserError
from guided_diffusion.script.storage import write_file, write_text

from ..results.layout import FINDINGS
from ..results.records import read_yaml, write_yaml
from ..results.typed import typed
from .change_map import FALSE_ALARMS
from .clusters import Cluster
from .colours import ColourPlace
from .map_picture import draw_map
from .places import Place
from .ranking import Ranked

TABLE, ARRAYS, PICTURE = "attributes.csv", "map.npz", "map.png"
DIGITS = 6


@dataclass
class Findings:
    """What audit.yaml holds.

    asked: the attribute that the classifier is asked about, "" of classes. images: that are looked at; explained:
    None where there is no records.csv. contrasted: real images, 0 for none; labelled: attributes that their data
    tells. no_contrasts, no_attributes: why there are none. records: records_hash of what was audited. question,
    networks: what was asked of which networks; question holds `assumed` where nothing records it. finished: None
    where nothing says so. control: the name of the control experiment.
    attributes: [] without an oracle.
    """

    verdict: str = ""
    limits: list[str] = field(default_factory=list)
    asked: str = ""
    images: int = 0
    explained: int | None = None
    finished: bool | None = True
    contrasted: int = 0
    contrasted_source: str = ""
    labelled: list[str] = field(default_factory=list)
    no_contrasts: str = ""
    no_attributes: str = ""
    records: str | None = None
    question: dict = field(default_factory=dict)
    networks: dict = field(default_factory=dict)
    control: str | None = None
    attributes: list[Ranked] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    colours: list[ColourPlace] = field(default_factory=list)
    clusters: list[Cluster] = field(default_factory=list)


def write_audit(folder, findings, change_map, colour_map):
    """Writes the files of an audit, without its examples, into a folder. change_map: a ChangeMap; colour_map: a
    ColourMap, or None."""
    if findings.attributes:
        table = pd.DataFrame(map(asdict, findings.attributes)).drop(columns="examples")
        write_text(folder / TABLE, table.round(DIGITS).to_csv(index=False))
    m, c = change_map, colour_map
    arrays = {"change": m.change, "signed": m.signed, "original": m.original, "images": m.images, "p": m.p}
    arrays |= {"found": m.p < FALSE_ALARMS} | ({} if m.control is None else {"control": m.control})
    arrays |= {} if c is None else {"colour_effect": c.effect, "colour_p": c.p}
    write_file(folder / ARRAYS, lambda file: np.savez_compressed(file, **arrays))
    draw_map(folder / PICTURE, m, c)
    write_yaml(folder / FINDINGS, _plain(asdict(findings)))


def _plain(value):
    """What YAML can hold: numpy's numbers as Python's, floats rounded, tuples as lists."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    value = value.item() if isinstance(value, np.generic) else value
    return round(value, DIGITS) if isinstance(value, float) else value


def read_audit(folder):
    """The Findings in a folder; None where there is no audit.yaml. UserError where it is another file."""
    path = folder / FINDINGS
    if not path.exists():
        return None
    values = read_yaml(path)
    try:
        return typed(Findings, values)
    except ValueError as error:
        raise UserError(f"{path} is not what audit.py wrote ({error}); run audit.py again") from None
