"""Every metric of the server, defined once: name, kind, labels, meaning, buckets, how workers are joined.

`ServerMetrics` builds its instruments from here, the table of docs/operate/observe.md is written from here, and tests
hold alerts and dashboard against it. Names follow Prometheus: base units, `_seconds`, `_total`, and
labels with few values: tenant and anything else that callers make up is never one, but for the tasks of pairs that were
judged, of which a policy has 20 at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PREFIX = "turnout_"
FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Names the folder in which workers share their counts; unset when one process serves."""

Kind = Literal["counter", "gauge", "histogram"]
Joined = Literal["", "livesum", "liveall", "livemax", "livemin", "derived", "supervisor"]

SECONDS_BUCKETS = (1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
"""From a fast head (0.1 to 0.3 ms) over the encoder (1 to 6 ms) to the deadline of a patient caller."""

P_MATCH_BUCKETS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.975, 1.0)
"""Finer where the thresholds of cautious policies lie."""

DIFFERENCE_BUCKETS = (1e-5, 1e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""1e-5 is the parity that the same model keeps; a challenger differs by more."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        name: without the prefix; counters end in `_total`.
        kind: counter, gauge or histogram.
        unit: what one is: `s`, `bytes`, `1` for counts and shares.
        labels: names of its labels.
        meaning: one sentence for operators; it is the HELP text.
        buckets: upper bounds of a histogram.
        joined: how the workers of one server are joined, for gauges: `livesum` adds those alive, `livemax`
            takes the largest, `liveall` keeps one series a worker, told apart by `pid`, and `derived` is computed from
            other gauges, joined already, when the metrics are read (`turnout.serving.observe.drift.derived`). With
            `supervisor` it is the supervisor's own, and there unless one process serves alone.
    """

    name: str
    kind: Kind
    unit: str
    labels: tuple[str, ...]
    meaning: str
    buckets: tuple[float, ...] = ()
    joined: Joined = ""

    @property
    def full_name(self) -> str:
        """The name as Prometheus sees it."""
        return PREFIX + self.name


DRIFT_BASELINE, DRIFT_WINDOW, DRIFT_OUTCOMES = "drift_baseline_requests", "drift_window_requests", "drift_outcomes"
PROMISE = ("bundle", "policy")
DRIFT_RUNG_OUTCOMES = "drift_rung_outcomes"
DRIFT_VALUE, DRIFT_LIMIT = "drift_ratio", "drift_limit_ratio"
WORKER_ENDS, SUPERVISOR_BEAT = "worker_ends_total", "supervisor_beat_timestamp_seconds"

METRICS = (
    Metric(
        "decisions_total",
        "counter",
        "1",
        ("route", "reason", "policy", "bundle", "stage"),
        "Decisions made. `policy` folds callers' own thresholds into `threshold`, and ends in `+check` where callers "
        "check answers and what is tried counts as weak; `stage` is NONE without the model.",
    ),
    Metric(
        "rung_decisions_total",
        "counter",
        "1",
        ("bundle", "rung"),
        "Decisions of ladders of more than two, by the rung that was taken; what is tried counts as the cheapest.",
    ),
    Metric(
        "tries_total",
        "counter",
        "1",
        ("result",),
        "Requests answered with TRY, once their end is known: `checked`, or `unchecked` when no Check came to this "
        "worker within two minutes. One that went to another worker counts in `checks_total` there.",
    ),
    Metric(
        "checks_total",
        "counter",
        "1",
        ("verdict", "head", "reason"),
        "Verdicts on answers of the weak model, by the head that gave them; `OFF` where the second look did not run.",
    ),
    Metric(
        "check_signals_total",
        "counter",
        "1",
        ("signal", "use"),
        "Signals of checked answers: `used`, `ignored` (not to be true, or of a kind that training lacked), `absent`.",
    ),
    Metric(
        "upstream_calls_total",
        "counter",
        "1",
        ("tier", "result"),
        "Calls of the upstream for chat completions: `ok`, the status of HTTP, `timeout`, `unreachable`, `too_large`, "
        "`not_json`, `no_answer` (a status of success without an answer in the reply), `broke_off` (a stream, by the "
        "upstream) or `left` (the caller went before the end); `unasked`: exploration wanted the other answer too, and "
        "it could not be asked for.",
    ),
    Metric(
        "failures_total",
        "counter",
        "1",
        ("code",),
        "Requests and batch items that got no decision, by gRPC code; each INTERNAL is an incident of the log.",
    ),
    Metric(
        "p_match_ratio",
        "histogram",
        "1",
        (),
        "The calibrated p_match of decisions in which the model ran.",
        P_MATCH_BUCKETS,
    ),
    Metric(
        "stage_seconds",
        "histogram",
        "s",
        ("stage",),
        "Where the time of a decision went: `decode`, `queue` (waiting) and `model`; the last two only if it ran.",
        SECONDS_BUCKETS,
    ),
    Metric("rpcs_total", "counter", "1", ("method", "code"), "Calls answered, by method and gRPC code."),
    Metric(
        "rpc_seconds",
        "histogram",
        "s",
        ("method",),
        "Time of a call in the handler; of a RouteStream or Process, its whole life.",
        SECONDS_BUCKETS,
    ),
    Metric("rpcs_in_flight", "gauge", "1", (), "Calls begun and not yet answered.", joined="livesum"),
    Metric("queue_items", "gauge", "1", (), "Items that wait for the model or run on it.", joined="livesum"),
    Metric(
        "refusals_total",
        "counter",
        "1",
        ("cause",),
        "Items refused at the queue: it is full (`queue`), the tenant holds its share, or the deadline can't be met.",
    ),
    Metric(
        "ext_proc_untouched_total",
        "counter",
        "1",
        ("cause",),
        "Requests that Envoy showed and Turnout left alone: `too_large`, `not_chat`, or for an `other_model`.",
    ),
    Metric("cache_lookups_total", "counter", "1", ("result",), "Lookups in the cache of exact prompts: hit or miss."),
    Metric(
        "shadow_decisions_total",
        "counter",
        "1",
        ("agrees",),
        "Decisions that the challenger repeated in the shadow, by whether it took the same route.",
    ),
    Metric(
        "shadow_difference_ratio",
        "histogram",
        "1",
        (),
        "Absolute difference between the p_match of champion and challenger.",
        DIFFERENCE_BUCKETS,
    ),
    Metric(
        "shadow_checks_total",
        "counter",
        "1",
        ("agrees",),
        "Verdicts that the challenger repeated in the shadow, by whether it gave the same one.",
    ),
    Metric("shadow_dropped_total", "counter", "1", (), "Decisions not repeated in the shadow, for lack of time."),
    Metric(
        "canary_events_total",
        "counter",
        "1",
        ("event",),
        "What happened to canaries: `started`, `promoted` or `rolled_back`; each worker counts for itself.",
    ),
    Metric("canary_share_ratio", "gauge", "1", (), "Share of the traffic that a canary answers.", joined="livemax"),
    Metric(
        "reloads_total",
        "counter",
        "1",
        ("kind", "result"),
        "Reloads of `bundle`, `rules`, `tokens` or `tls`: `ok`, or `refused` while the old one serves on; `unread` "
        "where the look itself failed, for lack of descriptors or by a disk, and is repeated.",
    ),
    Metric(
        "tls_begin_timestamp_seconds",
        "gauge",
        "s",
        ("kind",),
        "When the certificate of `tls_expiry_timestamp_seconds` began to hold, in Unix time.",
        joined="livemin",
    ),
    Metric(
        "tls_expiry_timestamp_seconds",
        "gauge",
        "s",
        ("kind",),
        "When the first certificate of the chain served (`server`), or of clients' authorities (`client_ca`), expires.",
        joined="livemin",
    ),
    Metric(
        "decision_log_total",
        "counter",
        "1",
        ("result",),
        "Decisions of the decision log: `written`, counted once they are on the disk, or `dropped` for lack of room "
        "or a write or sync that failed; "
        "`untaught` of those written: both answers were wanted, and no vector to learn from could be made.",
    ),
    Metric(
        "explorations_total",
        "counter",
        "1",
        ("kind",),
        "Decisions that exploration moved (`to_strong`, `to_weak`), or flagged so that both models answer (`both`).",
    ),
    Metric(
        "exploration_spent_usd_total",
        "counter",
        "usd",
        ("kind",),
        "Expected cost of exploration above that of the route it moved; for `both`, that of the second answer.",
    ),
    Metric(
        "exploration_saved_usd_total",
        "counter",
        "usd",
        (),
        "Expected cost that exploration to the cheaper model saved; never set against what it spent.",
    ),
    Metric(
        "exploration_withheld_total",
        "counter",
        "1",
        ("cause",),
        "Decisions that could not be explored: the hourly cap is reached (`capped`), or there is one and no price.",
    ),
    Metric(
        "native_head",
        "gauge",
        "1",
        ("bundle",),
        "1 while the first stage, and of a ladder its rungs, answer in C; 0 while by a graph, ten times as long for "
        "the stage, 60 us more for rungs; the log says why.",
        joined="livemin",
    ),
    Metric("bundle_info", "gauge", "1", ("bundle",), "1 while the worker serves the bundle, else 0.", joined="liveall"),
    Metric(
        "expected_weak_ratio",
        "gauge",
        "1",
        ("bundle", "policy"),
        "Share that goes weak under the policy, as measured on the policy split when the bundle was made.",
        joined="livemax",
    ),
    Metric(
        DRIFT_VALUE,
        "gauge",
        "1",
        ("bundle", "measure"),
        "How far the last requests are from those on which the bundle was measured: PSI of `p_match` and of each "
        "structural measure, the share out of distribution; `calibration_error` and `brier` from outcomes, and "
        "`calibration_error:RUNG` of a rung between.",
        joined="derived",
    ),
    Metric(
        DRIFT_LIMIT,
        "gauge",
        "1",
        ("bundle", "measure"),
        "What chance and small change reach: beyond it, the value of the same labels is drift.",
        joined="derived",
    ),
    Metric(
        DRIFT_WINDOW,
        "gauge",
        "1",
        ("bundle", "measure", "bin"),
        "Requests in the windows of the workers, by bin of the bundle's baseline.",
        joined="livesum",
    ),
    Metric(
        DRIFT_BASELINE,
        "gauge",
        "1",
        ("bundle", "measure", "bin"),
        "Rows of the bundle's baseline in each bin.",
        joined="livemax",
    ),
    Metric(
        DRIFT_OUTCOMES,
        "gauge",
        "1",
        ("bundle", "bin", "of"),
        "Sums over the outcomes in the workers' windows, by bucket of p_match: `n`, `match`, `p_match` and more.",
        joined="livesum",
    ),
    Metric(
        DRIFT_RUNG_OUTCOMES,
        "gauge",
        "1",
        ("bundle", "rung", "bin", "of"),
        "The same sums over pairs of answers that compare a rung between with the top, by bucket of its own p.",
        joined="livesum",
    ),
    Metric(
        "promise_limit_ratio",
        "gauge",
        "1",
        PROMISE,
        "Share that may be made worse under a policy that promises so, once pairs of it were judged.",
        joined="livemax",
    ),
    Metric(
        "promise_pairs",
        "gauge",
        "1",
        (*PROMISE, "task"),
        "Requests of this month (UTC) that both models answered at exploration's wish and somebody judged, over all "
        "workers; `task` is `*` for all, one of at most 20 names, or `(others)`.",
        joined="livemax",
    ),
    Metric(
        "promise_worse_lower_ratio",
        "gauge",
        "1",
        (*PROMISE, "task"),
        "Lower bound, valid whenever one looks, of the share that this month's routing made worse; above the limit "
        "the promise is broken, with the confidence that it was made with.",
        joined="livemax",
    ),
    Metric(
        "promise_worse_upper_ratio",
        "gauge",
        "1",
        (*PROMISE, "task"),
        "Upper bound of that share; at or below the limit, the promise is shown to hold.",
        joined="livemax",
    ),
    Metric(
        "promise_step",
        "gauge",
        "1",
        PROMISE,
        "Steps by which `--tighten` serves a promise more strictly than it was solved: 0 as solved, 6 nothing weak.",
        joined="livemax",
    ),
    Metric(
        "http_connections_ended_total",
        "counter",
        "1",
        ("reason",),
        "HTTP connections ended by the server: `head` or `unread` for slow callers, `idle`, `room` for too many.",
    ),
    Metric(
        "build_info",
        "gauge",
        "1",
        ("version", "python", "onnxruntime"),
        "Always 1; the versions that serve are its labels.",
        joined="livemax",
    ),
    Metric(
        WORKER_ENDS,
        "counter",
        "1",
        ("cause",),
        "Workers that ended though nobody had asked them to: `ended` by a fault or from outside, or `hung` and killed "
        "by the supervisor. Not with `--workers 0`.",
        joined="supervisor",
    ),
    Metric(
        SUPERVISOR_BEAT,
        "gauge",
        "s",
        (),
        "When the supervisor last looked after its workers, in Unix time; once a second. Not with `--workers 0`.",
        joined="supervisor",
    ),
    Metric("worker_ready", "gauge", "1", (), "1 while the worker is warm and takes calls, else 0.", joined="liveall"),
    Metric("worker_start_time_seconds", "gauge", "s", (), "When the worker started, in Unix time.", joined="liveall"),
    Metric("worker_cpu_seconds_total", "counter", "s", (), "CPU time of the workers, user and system."),
    Metric("worker_memory_bytes", "gauge", "bytes", (), "Resident memory of the worker.", joined="liveall"),
)


def named(name: str) -> Metric:
    """Return the metric of that name."""
    return next(metric for metric in METRICS if metric.name == name)


def series_names() -> frozenset[str]:
    """Return every name a query may use; a histogram has `_bucket`, `_sum` and `_count`."""
    names: set[str] = set()
    for metric in METRICS:
        suffixes = ("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",)
        names.update(metric.full_name + suffix for suffix in suffixes)
    return frozenset(names)


def markdown_table() -> str:
    """Return the table of docs/operate/observe.md of all metrics."""
    lines = ["| metric | kind | unit | labels | meaning |", "| --- | --- | --- | --- | --- |"]
    for metric in METRICS:
        labels = ", ".join((*metric.labels, *["pid"] * (metric.joined == "liveall")))
        lines.append(f"| `{metric.full_name}` | {metric.kind} | {metric.unit} | {labels} | {metric.meaning} |")
    return "\n".join(lines)
