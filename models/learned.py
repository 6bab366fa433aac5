"""The reference profile of a replay's champions, as training keeps it with a model.

Its scores come from models that did not see the periods, so that a profile costs about three fits;
each is made once and kept on disk, for those models that a policy which watches lets serve.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise
from pathlib import Path

import numpy as np

from data import associations, features, field_history, reference, relations
from data.digests import canonical_json, digest_of, sha256_file, write_atomically
from data.params import Params
from data.reference import Reference
from models import concept, profile, quality, slices, tally
from models.fits import Fits, Task
from models.replay import trained

CODE = (associations, concept, field_history, profile, quality, reference, relations, slices, tally)


@dataclass(frozen=True)
class Profiles:
    """Profiles under the folder of the fits, by what they were made with.

    Attributes:
        jobs: fits at a time.
    """

    fits: Fits
    params: Params
    jobs: int

    def get(self, task: Task) -> Reference:
        """That of a model; made now if it is not there."""
        path = self._path(task)
        if not path.exists():
            write_atomically(path, canonical_json(self._made(task).to_json()))
        return Reference.from_json(json.loads(path.read_text()))

    def _made(self, asked: Task) -> Reference:
        season, seen = asked.season, [slot.rows for slot in asked.season.slots[: asked.as_of]]
        fitted, scores = season.features(range(asked.as_of)), self._unseen(asked)
        task = season.task_of(asked.as_of)
        ends = pairwise(accumulate(map(len, seen), initial=0))
        names = [slot.period.name for slot in season.slots[: asked.as_of]]
        rows_of = {name: slice(*each) for name, each in zip(names, ends, strict=True)}
        matrix = np.concatenate([features.transform(fitted, rows.columns) for rows in seen])
        own = zip([feature.name for feature in fitted], matrix.T, strict=True)
        columns = chain(own, task.put(reference.SCORE, np.concatenate(scores)).items())
        found = reference.of_columns(columns, rows_of, self.params.monitor.bins)
        raw = [rows.columns for rows in seen]
        return profile.with_outcomes(
            found, season.problem, task, zip(seen, scores, strict=True), raw
        )

    def _unseen(self, asked: Task) -> list[np.ndarray]:
        """Answers to the rows of each slot, as `models.train.out_of_fold_scores` has them."""
        season, every = asked.season, range(asked.as_of)

        def left_out(block: np.ndarray) -> list[np.ndarray]:
            rest = [slot for slot in every if slot not in block]
            fitted, model = trained(season, rest, self.fits.kind, self.fits.settings, asked.seed)
            rows = [season.slots[slot].rows.columns for slot in block]
            return [model.predict(features.transform(fitted, columns)) for columns in rows]

        blocks = np.array_split(every, min(self.params.train.out_of_fold_blocks, asked.as_of))
        with ThreadPoolExecutor(self.jobs) as pool:
            return [scores for found in pool.map(left_out, blocks) for scores in found]

    def _path(self, task: Task) -> Path:
        code = [sha256_file(Path(str(module.__file__))) for module in CODE]
        blocks, bins = self.params.train.out_of_fold_blocks, self.params.monitor.bins
        made_by = digest_of([code, blocks, bins])[:8]
        name = f"{task.season.name}-{task.as_of:03d}-{task.seed}.json"
        return self.fits.folder / f"profiles-{made_by}" / name
