"""What training never had is told of, and taken as unlike it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from turnout.serving.bundles.baseline import Baseline, bins_of, unseen_in
from turnout.serving.bundles.bundle import load_bundle
from turnout.serving.router.features import STRUCTURAL
from turnout.serving.router.prompt import Prompt
from turnout.serving.router.unseen import MEASURES, said_of, unseen_among
from turnout.serving.service.describe import description

NEVER, SOME = [0.0, 0.0], [0.0, 0.5, 1.0]
CHAMPION = Path("models/gpt-4o_gpt-4o-mini")


@pytest.mark.parametrize("name", MEASURES)
def test_a_measure_that_was_always_zero_is_unseen(name: str):
    edges = {measure: NEVER if measure == MEASURES[name] else SOME for measure in STRUCTURAL}
    rows = {measure: [9] if edges[measure] == NEVER else [5, 4] for measure in STRUCTURAL}
    baseline = Baseline(9, tuple(bins_of(measure, edges[measure], rows[measure]) for measure in STRUCTURAL))
    assert unseen_in(baseline) == unseen_among(edges) == (name,)
    always = tuple(bins_of(measure, [1.0, 1.0], [9]) for measure in STRUCTURAL)
    assert unseen_in(Baseline(9, always)) == unseen_in(None) == ()
    assert said_of(()) == ""
    assert "Never seen" in said_of((name,))


def test_the_packaged_bundle_takes_what_it_never_saw_as_unlike_its_training():
    bundle = load_bundle(CHAMPION / (CHAMPION / "CURRENT").read_text("utf-8").strip())
    assert list(description(bundle.manifest, [], bundle.unseen).unseen) == list(bundle.unseen)
    plain = bundle.golden[0].prompt
    prompts = {
        "images": Prompt(plain, images=1),
        "tools": Prompt(plain, tools=1),
        "json": Prompt(plain, wants_json=True),
    }
    assert bundle.unseen
    for name in bundle.unseen:
        assert bundle.model.predict(prompts[name], 0.5).is_out_of_distribution
    said = bundle.model.predict(Prompt(plain), 0.5)
    assert said.is_out_of_distribution == bundle.golden[0].is_out_of_distribution
    assert np.isfinite(said.p_match)
