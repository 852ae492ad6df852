"""Checks of the bundle that would be served: where it lies, whether it loads, how near its golden answers are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from turnout.serving.bundles.bundle import Bundle, load_bundle
from turnout.serving.bundles.ladder import Rung
from turnout.serving.bundles.manifest import GOLDEN_THRESHOLD, Pair
from turnout.serving.bundles.registry import find_bundle, models_folder
from turnout.serving.cli.doctor.finding import Finding, fail, ok, warn
from turnout.serving.decision.prices import load_prices
from turnout.serving.decision.rungs import rungs_of_pair
from turnout.serving.errors import BundleRefused, PricesRefused, PriceUnknown
from turnout.serving.router.prompt import prompt_from_text
from turnout.serving.router.rungs import RungHeads


def check_models(bundle: Path | None, now: datetime | None = None, *, native_head: bool = True) -> Iterator[Finding]:
    """Check the registry, the champion or the bundle named, which path serves, and the clock against its date."""
    try:
        if bundle is None:
            yield ok("models folder", str(models_folder()))
        folder = find_bundle(bundle)
        yield ok("champion" if bundle is None else "bundle", str(folder))
        loaded = load_bundle(folder, native=native_head)
    except BundleRefused as error:
        yield fail("bundle", str(error), "copy the bundle again, or name another one with --bundle")
        return
    manifest = loaded.manifest
    yield ok("digests", f"{manifest.bundle_id}: {len(manifest.files)} files as the manifest says")
    yield check_golden(loaded)
    yield check_native(loaded, is_wanted=native_head)
    if loaded.rung_heads is not None:
        yield check_rungs(loaded.rung_heads, is_wanted=native_head)
    if manifest.synthetic:
        yield warn(
            "training data", "synthetic", "its figures say nothing of real traffic; train on your own: turnout train"
        )
    yield check_prices(manifest.pair, manifest.ladder)
    yield check_clock(manifest.created, now or datetime.now(UTC))


def check_prices(pair: Pair, ladder: Sequence[Rung] | None = None) -> Finding:
    """Say which prices hold for a bundle's models; without them nothing is said of costs, and requests are routed."""
    try:
        known = load_prices()
        found = [
            known.price(rung.name if known.has(rung.name) else rung.model) for rung in ladder or rungs_of_pair(pair)
        ]
    except PricesRefused as error:
        return fail("prices", str(error), "turnout prices check FILE")
    except PriceUnknown as error:
        return warn("prices", f"{error}; requests are routed, nothing is said of costs", "turnout prices show")
    told = (f"{one.model} {one.input:g} in, {one.output:g} out{' (yours)' * (one.model in known.own)}" for one in found)
    return ok("prices", f"USD per million tokens: {'; '.join(told)}")


def check_golden(bundle: Bundle) -> Finding:
    """Compare this machine's answers to the golden prompts with those of the machine that made the bundle."""
    tolerance = bundle.manifest.golden_tolerance
    deviation = max_golden_deviation(bundle)
    found = f"{len(bundle.golden)} prompts, p_match off by at most {deviation:.1e} (tolerance {tolerance:g})"
    if deviation > tolerance / 2:
        return warn("golden answers", found, "this CPU computes another answer; run turnout evaluate here")
    return ok("golden answers", found)


def check_rungs(heads: RungHeads, *, is_wanted: bool = True) -> Finding:
    """Say whether p of the rungs between is said in C or by their graph, and why."""
    if heads.is_native:
        return ok("rungs", "native: in C, and as their graph says on all prompts that were tried")
    if not is_wanted:
        return ok("rungs", "Python: --no-native-head")
    return warn(
        "rungs",
        f"Python: {heads.path}",
        "answers are the same and take 60 us more; install a C compiler and turnout anew, or --no-native-head",
    )


def check_native(bundle: Bundle, *, is_wanted: bool = True) -> Finding:
    """Say whether the first stage answers in C or by the graph, and why."""
    head = bundle.fast_head
    if head is None:
        return ok("first stage", "none of its own: every answer comes from the whole graph")
    if head.native is not None:
        return ok("first stage", "native: in C, and as the graph says on all prompts that were tried")
    if not is_wanted:
        return ok("first stage", "Python: --no-native-head")
    return warn(
        "first stage",
        f"Python: {head.path}",
        "answers are the same and take ten times as long; install a C compiler and turnout anew, or --no-native-head",
    )


def max_golden_deviation(bundle: Bundle) -> float:
    """Return the largest difference in p_match over the golden prompts, with and without early exit."""
    return max(
        abs(bundle.model.predict(prompt_from_text(item.prompt), GOLDEN_THRESHOLD, early_exit=early).p_match - expected)
        for item in bundle.golden
        for early, expected in ((True, item.p_match), (False, item.p_match_full))
    )


def check_clock(created: str, now: datetime) -> Finding:
    """Compare the clock with the date of the bundle: a machine that thinks it is 1970 refuses all certificates."""
    made = datetime.fromisoformat(created)
    if made.tzinfo is None:
        made = made.replace(tzinfo=UTC)
    if now < made:
        return fail("clock", f"{now:%Y-%m-%d %H:%M} UTC is before the bundle was made, {created}", "set the clock")
    return ok("clock", f"{now:%Y-%m-%d %H:%M} UTC")
