"""What one worker counts. Made once a worker; the methods stand in the path of every request.

In: decisions, ends of calls, and changes of state. Out: series of `catalog.METRICS`, in this process or,
when `PROMETHEUS_MULTIPROC_DIR` is set, in files that the supervisor adds up. prometheus_client looks
at that variable once, when it is imported: it is imported here, when the first `ServerMetrics` is
made, and never with this module.

Every count is written at once: a killed worker loses none. Histograms gather, and are written by `sample`.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import resource
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import grpc

from turnout.serving.decision.routes import Reason
from turnout.serving.decision.rules.budget import Exploration
from turnout.serving.errors import TurnoutError
from turnout.serving.observe.catalog import (
    DRIFT_BASELINE,
    DRIFT_OUTCOMES,
    DRIFT_RUNG_OUTCOMES,
    DRIFT_WINDOW,
    FOLDER_VARIABLE,
    METRICS,
    Metric,
)
from turnout.serving.observe.drift.calibration import SUMS
from turnout.serving.observe.drift.derived import DerivedDrift
from turnout.serving.observe.gathered import GatheredHistogram

if TYPE_CHECKING:  # a supervisor counts without the model's libraries
    from turnout.serving.bundles.baseline import Baseline
    from turnout.serving.bundles.manifest import Manifest
    from turnout.serving.decision.decision import Decision
    from turnout.serving.decision.rules.exploring import After
    from turnout.serving.wire.check import Judgement
    from turnout.serving.wire.route import Timings

NO_STAGE = "NONE"
NO_HEAD = "OFF"
"""Label of a verdict that was given without the second look."""
SIGNALS = {
    "mean_logprob": frozenset({"mean_logprob", "token_logprobs"}),
    "self_check": frozenset({"self_check"}),
}
"""Kinds of signals that are counted, and the names under which a verdict may say that one was ignored."""
OWN_THRESHOLD = "threshold"
"""Label of every policy that is a caller's own threshold: `threshold=0.123` would be a series for each number."""

_OWN_BEGINS = f"{OWN_THRESHOLD}="

OVER_THREE = "+check"
"""Ends the label of a policy where its rule over three actions decided; what is tried counts as weak there."""

ALERTED = (
    ("failures_total", "INTERNAL"),
    ("canary_events_total", "rolled_back"),
    *(("reloads_total", kind, "refused") for kind in ("bundle", "rules", "tokens", "tls")),
    ("decision_log_total", "dropped"),
    ("tries_total", "unchecked"),
    *(("exploration_withheld_total", state) for state in (Exploration.CAPPED, Exploration.UNPRICED)),
)
"""Series there from the start: Prometheus sees no increase in one that is born with the value 1."""

Reloadable = Literal["bundle", "rules", "tokens", "tls"]
NOT_OURS = frozenset({"derived", "supervisor"})
"""Kinds of metrics that no worker writes."""

_PAGE_BYTES = resource.getpagesize()
_STATM = Path("/proc/self/statm")


class MetricsMisplaced(TurnoutError):
    """prometheus_client was imported before the folder of the workers was named."""


def policy_label(policy: str) -> str:
    """Return the policy's name as a label value; all thresholds of callers are one."""
    return OWN_THRESHOLD if policy.startswith(_OWN_BEGINS) else policy


def build_versions() -> tuple[str, str, str]:
    """Return the versions of Turnout, Python and onnxruntime, as `build_info` has them; empty where not installed."""
    return installed("turnout"), platform.python_version(), installed("onnxruntime")


def installed(package: str) -> str:
    """Return the version of an installed package; empty where it is run from its sources or not there."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


class ServerMetrics:
    """The instruments of one worker.

    What a call costs is measured by `tests/bench/metrics.py`. For one thread: that of the event loop.

    Attributes:
        registry: what to expose in a single process; empty of meaning with several workers.
        in_flight: calls begun and not yet answered.
    """

    def __init__(self) -> None:
        """Make all instruments.

        Raises:
            MetricsMisplaced: the folder was named too late; counts would stay in this process.
        """
        import prometheus_client as prometheus  # noqa: PLC0415  # the variable must be set before this import
        from prometheus_client import values  # noqa: PLC0415

        if FOLDER_VARIABLE in os.environ and values.ValueClass is values.MutexValue:
            raise MetricsMisplaced(
                f"{FOLDER_VARIABLE} was set after prometheus_client had been imported; set it before the worker starts"
            )
        self._share_again: Callable[[], None] = lambda: None
        if FOLDER_VARIABLE in os.environ:
            from turnout.serving.observe.counts_file import share_again, take_room_first  # noqa: PLC0415  # the same

            take_room_first()
            self._share_again = share_again
        prometheus.disable_created_metrics()  # type: ignore[no-untyped-call]  # series that nothing reads
        self.registry = prometheus.CollectorRegistry()
        self.in_flight = 0
        self._made = {
            metric.name: self._make(prometheus, metric) for metric in METRICS if metric.joined not in NOT_OURS
        }
        windows = (
            self._made[name].collect for name in (DRIFT_WINDOW, DRIFT_BASELINE, DRIFT_OUTCOMES, DRIFT_RUNG_OUTCOMES)
        )
        self.registry.register(DerivedDrift(windows))
        self._children: dict[tuple[str, ...], Callable[..., None]] = {}
        self._bundles: set[str] = set()
        self._cpu_s = 0.0
        self._logged = {"written": 0, "dropped": 0, "untaught": 0}
        self._rpc_seconds: dict[str, GatheredHistogram] = {}
        self._p_match = GatheredHistogram(self._made["p_match_ratio"])
        stages = self._made["stage_seconds"]
        self._decode, self._queue, self._model = (
            GatheredHistogram(stages.labels(stage)) for stage in ("decode", "queue", "model")
        )
        for name, *labels in ALERTED:
            self._made[name].labels(*labels)
        self._made["worker_start_time_seconds"].set(time.time())
        self._made["build_info"].labels(*build_versions()).set(1)
        self.ready(is_ready=False)

    def _make(self, prometheus: Any, metric: Metric) -> Any:
        arguments: dict[str, Any] = {"registry": self.registry}
        if metric.kind == "gauge":
            arguments["multiprocess_mode"] = metric.joined
        if metric.kind == "histogram":
            arguments["buckets"] = metric.buckets
        kinds = {"counter": prometheus.Counter, "gauge": prometheus.Gauge, "histogram": prometheus.Histogram}
        return kinds[metric.kind](metric.full_name, metric.meaning, metric.labels, **arguments)

    def _count(self, name: str, *labels: str) -> None:
        """Add one; the child of each set of labels is looked up once."""
        key = (name, *labels)
        increment = self._children.get(key)
        if increment is None:
            made = self._made[name]
            child = made.labels(*labels) if labels else made
            increment = self._children[key] = child._value.inc  # noqa: SLF001  # what `inc` calls, in a third of its time
        increment(1.0)

    def http_ended(self, reason: str) -> None:
        """Count an HTTP connection that the server ended."""
        self._count("http_connections_ended_total", reason)

    def decided(self, decision: Decision, bundle_id: str, timings: Timings) -> None:
        """Count one decision and where its time went."""
        stage = decision.stage or NO_STAGE
        policy = policy_label(decision.policy) + (OVER_THREE if decision.over_three else "")
        self._count("decisions_total", decision.route, decision.reason, policy, bundle_id, stage)
        if decision.n_rungs > 2:
            self._count("rung_decisions_total", bundle_id, decision.rung)
        self._decode.observe(timings.decode_ns / 1e9)
        if decision.p_match is not None:
            self._p_match.observe(decision.p_match)
            self._queue.observe(timings.queue_ns / 1e9)
            self._model.observe(timings.model_ns / 1e9)

    def tried(self, result: str, n: int) -> None:
        """Count requests that were tried, once it is known whether their answer was `checked` or `unchecked`."""
        self._made["tries_total"].labels(result).inc(n)

    def checked(self, judged: Judgement) -> None:
        """Count a verdict, and which kinds of signals it had to go by."""
        self._count("checks_total", judged.verdict, judged.head or NO_HEAD, judged.reason)
        for kind, names in SIGNALS.items():
            use = "used" if kind in judged.used else "ignored" if names & set(judged.ignored) else "absent"
            self._count("check_signals_total", kind, use)

    def upstream(self, tier: str, result: str) -> None:
        """Count a call of the upstream: `ok`, the status of HTTP, or why there was none."""
        self._count("upstream_calls_total", tier, result)

    def explored(self, after: After) -> None:
        """Count what exploration did to a decision, what that is expected to cost, or why it did nothing."""
        if after.exploration is Exploration.NONE:
            return
        if after.exploration is not Exploration.OPEN:
            self._count("exploration_withheld_total", after.exploration)
        elif after.wants_both or after.reason is Reason.EXPLORATION:
            kind = "both" if after.wants_both else f"to_{after.route}"
            usd = after.extra_usd or 0.0
            self._count("explorations_total", kind)
            self._made["exploration_spent_usd_total"].labels(kind).inc(max(0.0, usd))
            self._made["exploration_saved_usd_total"].inc(max(0.0, -usd))

    def failed(self, code: grpc.StatusCode) -> None:
        """Count a request or an item of a batch that got no decision."""
        self._count("failures_total", code.name)

    def began(self) -> None:
        """Count a call as in flight, until `answered`."""
        self.in_flight += 1

    def answered(self, method: str, code: str, seconds: float) -> None:
        """Count a call that ended, with the name of its gRPC code."""
        self.in_flight -= 1
        self._count("rpcs_total", method, code)
        gathered = self._rpc_seconds.get(method)
        if gathered is None:
            gathered = self._rpc_seconds[method] = GatheredHistogram(self._made["rpc_seconds"].labels(method))
        gathered.observe(seconds)

    def refused(self, cause: str) -> None:
        """Count an item that the queue refused: `queue`, `tenant` or `deadline`."""
        self._count("refusals_total", cause)

    def untouched(self, cause: str) -> None:
        """Count a request of Envoy's that was left as it is: `too_large`, `not_chat` or `other_model`."""
        self._count("ext_proc_untouched_total", cause)

    def cache(self, *, hit: bool) -> None:
        """Count a lookup in the cache of exact prompts."""
        self._count("cache_lookups_total", "hit" if hit else "miss")

    def shadow(self, *, agrees: bool, abs_dp: float) -> None:
        """Count a decision that the challenger repeated, and by how much its p_match differs."""
        self._count("shadow_decisions_total", "true" if agrees else "false")
        self._made["shadow_difference_ratio"].observe(abs_dp)

    def shadow_check(self, *, agrees: bool) -> None:
        """Count a verdict that the challenger repeated."""
        self._count("shadow_checks_total", "true" if agrees else "false")

    def shadow_dropped(self) -> None:
        """Count a decision that the challenger had no time for."""
        self._count("shadow_dropped_total")

    def canary(self, event: Literal["started", "promoted", "rolled_back"], share: float) -> None:
        """Count what happened to a canary, and keep the share of traffic it answers from now on, in [0, 1]."""
        self._count("canary_events_total", event)
        self._made["canary_share_ratio"].set(share)

    def reloaded(self, kind: Reloadable, *, ok: bool) -> None:
        """Count a reload that was taken or refused."""
        self._count("reloads_total", kind, "ok" if ok else "refused")

    def looked(self, kind: Reloadable, result: Literal["ok", "refused", "unread"]) -> None:
        """Count as `reloaded`, or a look that failed, after which nothing is known to have changed."""
        self._count("reloads_total", kind, result)

    def certificate(self, kind: str, begins_s: float, ends_s: float) -> None:
        """State from when to when the first of these certificates to expire holds, in Unix time."""
        self._made["tls_begin_timestamp_seconds"].labels(kind).set(begins_s)
        self._made["tls_expiry_timestamp_seconds"].labels(kind).set(ends_s)

    def logged(self, written: int, dropped: int, untaught: int) -> None:
        """State how many decisions this worker's log has written, dropped, and written to no use of training."""
        for result, total in (("written", written), ("dropped", dropped), ("untaught", untaught)):
            self._made["decision_log_total"].labels(result).inc(total - self._logged[result])
            self._logged[result] = total

    def serves(self, manifests: Iterable[Manifest]) -> None:
        """State all bundles served from now on; those of before are set to 0, as a series never goes away."""
        served = {manifest.bundle_id: manifest for manifest in manifests}
        for bundle_id in self._bundles | served.keys():
            self._made["bundle_info"].labels(bundle_id).set(bundle_id in served)
        self._bundles |= served.keys()
        expected = self._made["expected_weak_ratio"]
        for manifest in served.values():
            for policy in manifest.policies:
                expected.labels(manifest.bundle_id, policy.name).set(policy.share_weak)
                checked = policy.checked
                if checked is not None and checked.is_met:
                    share = checked.share_weak + checked.share_tried
                    expected.labels(manifest.bundle_id, policy.name + OVER_THREE).set(share)

    def native_head(self, bundle_id: str, *, is_native: bool) -> None:
        """State whether the first stage of a bundle, and of a ladder its rungs, answer in C."""
        self._made["native_head"].labels(bundle_id).set(is_native)

    def drift_baseline(self, bundle_id: str, baseline: Baseline) -> None:
        """State what is expected of the traffic of a bundle."""
        self._set_bins(DRIFT_BASELINE, bundle_id, baseline, [bins.n for bins in baseline.bins])

    def drift_window(self, bundle_id: str, baseline: Baseline, counts: Sequence[Sequence[float]]) -> None:
        """State the last requests of a bundle, as counts by bin of each measure of its baseline."""
        self._set_bins(DRIFT_WINDOW, bundle_id, baseline, counts)

    def drift_outcomes(self, bundle_id: str, sums: Sequence[Sequence[float]]) -> None:
        """State the last outcomes of a bundle, as `SUMS` by bin of p_match."""
        for number, of_bin in enumerate(sums):
            for name, value in zip(SUMS, of_bin, strict=True):
                self._made[DRIFT_OUTCOMES].labels(bundle_id, str(number), name).set(value)

    def drift_rung_outcomes(self, bundle_id: str, rung: str, sums: Sequence[Sequence[float]]) -> None:
        """State the last outcomes that compare a rung between with the top, as `SUMS` by bin of its own p."""
        for number, of_bin in enumerate(sums):
            for name, value in zip(SUMS, of_bin, strict=True):
                self._made[DRIFT_RUNG_OUTCOMES].labels(bundle_id, rung, str(number), name).set(value)

    def promise_bounds(self, bundle: str, policy: str, task: str, pairs: int, between: tuple[float, float]) -> None:
        """State the pairs of this month, and between which shares that lies which is made worse."""
        lower, upper = between
        for name, value in (("pairs", pairs), ("worse_lower_ratio", lower), ("worse_upper_ratio", upper)):
            self._made[f"promise_{name}"].labels(bundle, policy, task).set(value)

    def promise_kept(self, bundle: str, policy: str, level: float, step: int) -> None:
        """State what is promised, and at which step of its ladder it is served."""
        self._made["promise_limit_ratio"].labels(bundle, policy).set(level)
        self._made["promise_step"].labels(bundle, policy).set(step)

    def _set_bins(self, name: str, bundle_id: str, baseline: Baseline, counts: Sequence[Sequence[float]]) -> None:
        for bins, of_measure in zip(baseline.bins, counts, strict=True):
            for number, value in enumerate(of_measure):
                self._made[name].labels(bundle_id, bins.name, str(number)).set(value)

    def ready(self, *, is_ready: bool) -> None:
        """State whether the worker is warm and takes calls."""
        self._made["worker_ready"].set(is_ready)

    def sample(self, queue_items: int) -> None:
        """Write the histograms, and what is measured from time to time: queue, calls in flight, CPU and memory."""
        for gathered in (self._p_match, self._decode, self._queue, self._model, *self._rpc_seconds.values()):
            gathered.flush()
        self._share_again()
        self._made["queue_items"].set(queue_items)
        self._made["rpcs_in_flight"].set(self.in_flight)
        cpu_s = time.process_time()
        self._made["worker_cpu_seconds_total"].inc(cpu_s - self._cpu_s)
        self._cpu_s = cpu_s
        with contextlib.suppress(OSError):  # no descriptors left: as it was a second ago
            self._made["worker_memory_bytes"].set(int(_STATM.read_bytes().split()[1]) * _PAGE_BYTES)
