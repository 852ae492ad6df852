"""`turnout recalibrate`: new probabilities and policies for a bundle, without a refit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from turnout.serving.bundles.bundle import load_bundle
from turnout.serving.bundles.registry import find_encoder
from turnout.training.cli.figures import print_trained
from turnout.training.cli.options import (
    LEARNING,
    OUTPUT,
    BundleFolder,
    Cache,
    EncoderInside,
    Flat,
    LearningOptions,
    Logs,
    ModelScores,
    OutputFormat,
    Seed,
    cache_dir,
    ladder_names,
)
from turnout.training.encoders.encoders import load_encoder
from turnout.training.learn.recalibrate import RecalibrateSettings
from turnout.training.learn.recalibrate import recalibrate as recalibrate_bundle
from turnout.training.logs.sources import find_logs
from turnout.training.progress import Reporter


def recalibrate(
    bundle: BundleFolder,
    logs: Logs,
    /,
    *,
    out: Path,
    seed: Seed = 0,
    policy: str = "",
    model_scores: ModelScores = None,
    data: Annotated[LearningOptions, Flat] = LEARNING,
    encoder: EncoderInside = "",
    cache: Cache = True,
    output: Annotated[OutputFormat, Flat] = OUTPUT,
) -> None:
    """Fit probabilities and policies of a bundle again on a few hundred new labelled rows, without a refit.

    For traffic where the weak model fails more or less often than it did, on the same kinds of requests. The
    result is a new bundle with the old one as parent: same regression, same encoder. Needs 100 groups and 10
    rows with a worse weak answer that the bundle has not seen. Calibration figures are cross-fitted. Of a ladder each
    rung between needs as many; one with fewer keeps its calibrator, and no policy takes it, which is said.

    Args:
        out: Folder of the new bundle; not that of the old one. An earlier bundle is replaced.
        policy: Policy that is served unless a request names another; without it the strictest promise that is met and
            sends at least a tenth to the weak model.
    """
    found, parent = find_logs(logs), load_bundle(bundle)
    ladder_names(parent.manifest, model_scores)
    settings = RecalibrateSettings(seed, data.reading, cache_dir(cache), policy, model_scores)
    model = load_encoder(find_encoder(encoder or parent.manifest.encoder.name))
    recalibrated = recalibrate_bundle(parent, found, out, model, settings, Reporter(quiet=output.quiet))
    print_trained(recalibrated, as_json=output.as_json)
