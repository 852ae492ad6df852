"""What the operator of `turnout train` chooses, as one value that training and retraining hand on."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from turnout.serving.bundles.manifest import Pair
from turnout.serving.router.harness import LATEST_HARNESS_RULES
from turnout.training.fit.fit import FitSettings
from turnout.training.logs.reading import Reading


@dataclass(frozen=True)
class TrainSettings:
    """What the operator chooses.

    Attributes:
        pair: names of the two models.
        name: name of the bundle, the first half of its id.
        seed: of the split, the draws and the bootstraps; same logs and seed give the same router.
        margin: by how much the weak score may fall below the strong one and still match.
        wide_search: search every form and the whole grid.
        reading: how the logs are to be read.
        cache_dir: folder of the dense cache; None for none.
        scores: table of other models' scores on the same prompts (`turnout.training.fit.difficulty`); None for none.
        signals: table of what came with the answers (`turnout.training.check.signals`); None for what the logs hold.
        learning_curve: fit on ever more rows too, and keep what each size was worth; takes as long again.
        fit: form, C and scales to fit with; None chooses them by cross-validation.
        harness_rules: version of the rules by which prompts lose their harness text (`turnout.serving.router.harness`).
        policy: name of the default policy; empty for the strictest promise that is met and of use.
        balance: `source` weighs large sources down, so that none dominates; empty lets every row count the same.
        note: for the card: intended use, origin and licences of the logs; Markdown.
        by_task: promise that is solved task by task too, such as `max_worse=0.02`; empty for none.
        max_wait_twice: largest share of past traffic that may wait for both models under a policy; None for no cap.
        models: names of a ladder's rungs, the cheapest first, the ends of which are the pair; empty for a pair.
        model_scores: table of scores of these models that the logs lack; None for none.
        max_rows: labelled rows that teach, at most about so many: groups by chance, of each source the same share; None
            for all.
    """

    pair: Pair = field(default_factory=Pair)
    name: str = "router"
    seed: int = 0
    margin: float = 0.0
    wide_search: bool = False
    reading: Reading = field(default_factory=Reading)
    cache_dir: Path | None = None
    scores: Path | None = None
    signals: Path | None = None
    learning_curve: bool = False
    fit: FitSettings | None = None
    harness_rules: int = LATEST_HARNESS_RULES
    policy: str = ""
    balance: str = ""
    note: str = ""
    by_task: str = ""
    max_wait_twice: float | None = None
    max_rows: int | None = None
    models: tuple[str, ...] = ()
    model_scores: Path | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Of the rungs, the cheapest first; of a pair its two models."""
        return self.models or (self.pair.weak, self.pair.strong)
