"""What the monitors would have said in a replay: drift of features, and the level's gap.

Score drift is not replayed, since no policy decides on it, and neither are the monitors that watch
for broken data: a replay lives through data that passed the contract.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from data import conformal, drift, features, reference
from data.digests import canonical_json, digest_of, sha256_file, write_atomically
from data.params import Params
from data.reference import Reference
from data.task import BINARY
from data.verdicts import Finding, Verdict
from models.governor import CALIBRATION
from models.recalibrate import learn
from models.replay import Season

CODE = (drift, conformal, features, reference)


@dataclass
class Overseer:
    """Watches one season; what it finds of drift is kept on disk.

    Attributes:
        folder: where, for models of the same data.
    """

    season: Season
    params: Params
    folder: Path
    _references: dict[int, Reference] = field(default_factory=dict)
    _found: dict[int, dict[str, Finding]] = field(default_factory=dict)

    def __call__(self, slot: int, champion: int, margin: np.ndarray) -> tuple[Finding, ...]:
        """The findings about a slot that a champion answered with these margins."""
        return self.drift(slot, champion), self.level(slot, margin)

    def level(self, slot: int, margin: np.ndarray) -> Finding:
        label, task = self.season.slots[slot].rows.label, self.season.task
        shift = learn(label, margin, 1.0, task)
        if not shift.any():
            reason = "these outcomes say nothing of the level"
            return Finding(CALIBRATION, Verdict.UNKNOWN, None, None, len(label), reason)
        gap = -float(shift.flat[np.abs(shift).argmax()]) / task.scale
        reason = f"{task.answers} are off by {gap:+.2f} {task.unit}"
        evidence = {"gap": gap, "unit": task.unit}
        return Finding(CALIBRATION, Verdict.OK, abs(gap), None, len(label), reason, evidence)

    def drift(self, slot: int, champion: int) -> Finding:
        """Of the features, against the profile of what the champion learned."""
        found, name = self._kept(champion), str(slot)
        if name not in found:
            found[name] = self._compare(slot, champion)
            content = {place: asdict(finding) for place, finding in found.items()}
            write_atomically(self._path(champion), canonical_json(content))
        return found[name]

    def _compare(self, slot: int, champion: int) -> Finding:
        fitted, rows = self.season.features(champion), self.season.slots[slot].rows
        matrix = features.transform(fitted, rows.columns)
        unused = np.zeros(len(matrix))  # in place of scores
        limits, usual = self.params.monitor, self._reference(champion)
        minimum, rate = limits.minimum_rows, limits.false_alarm_rate
        return drift.compare(usual, matrix, unused, minimum, rate).finding()

    def _reference(self, champion: int) -> Reference:
        """The profile of the slots that a model learned."""
        if champion not in self._references:
            fitted, seen = self.season.features(champion), self.season.slots[:champion]
            matrix = np.concatenate([features.transform(fitted, s.rows.columns) for s in seen])
            period = np.concatenate([slot.rows.period for slot in seen])
            names, bins = [feature.name for feature in fitted], self.params.monitor.bins
            self._references[champion] = reference.build(
                names, matrix, np.zeros(len(matrix)), period, bins, BINARY
            )
        return self._references[champion]

    def _kept(self, champion: int) -> dict[str, Finding]:
        if champion not in self._found:
            path = self._path(champion)
            content = json.loads(path.read_text()) if path.exists() else {}
            self._found[champion] = {n: Finding.from_json(value) for n, value in content.items()}
        return self._found[champion]

    def _path(self, champion: int) -> Path:
        code = [sha256_file(Path(str(module.__file__))) for module in CODE]
        made_by = digest_of([code, self.params.monitor.model_dump()])[:8]
        return self.folder / f"watched-{made_by}" / f"{self.season.name}-{champion:03d}.json"
