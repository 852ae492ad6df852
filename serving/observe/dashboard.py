"""The Grafana dashboard from a short list of panels; `python -m turnout.serving.observe.dashboard` writes it.

Grafana's own format takes forty lines a panel; here a panel is its title, its unit and its queries.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

PATH = Path(__file__).with_name("dashboard.json")
COLUMNS, WIDTH, HEIGHT = 3, 8, 8
"""Grafana's grid is 24 units wide."""

_OUTCOMES = '{job="$job", instance=~"$instance", measure=~"(calibration_error|brier)(:.+)?"}'
_DRIFT = '{job="$job", instance=~"$instance", measure!~"(calibration_error|brier)(:.+)?"}'
_HERE = '{job="$job", instance=~"$instance"}'


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart: a title, Grafana's name of the unit, what it is good for, and legend -> PromQL."""

    title: str
    unit: str
    description: str
    queries: dict[str, str]


def _rate(name: str, by: str, **labels: str) -> str:
    chosen = ", ".join((_HERE[1:-1], *(f'{key}="{value}"' for key, value in labels.items())))
    return f"sum by ({by}) (rate({name}{{{chosen}}}[$__rate_interval]))"


def _quantile(q: float, name: str, **labels: str) -> str:
    return f"histogram_quantile({q}, {_rate(name + '_bucket', 'le', **labels)})"


def _share(name: str, of: str, **labels: str) -> str:
    return f"{_rate(name, 'job', **labels)} / {_rate(of, 'job')}"


PANELS = (
    Panel(
        "Decisions by route",
        "reqps",
        "How much goes to which model.",
        {"{{route}}": _rate("turnout_decisions_total", "route")},
    ),
    Panel(
        "Decisions by reason",
        "reqps",
        "Everything but MODEL was decided by a rule or a guard.",
        {"{{reason}}": _rate("turnout_decisions_total", "reason")},
    ),
    Panel(
        "Share weak by policy, and as measured",
        "percentunit",
        "A lasting gap means that the traffic is unlike that on which the bundle was measured.",
        {
            "{{policy}}": _rate("turnout_decisions_total", "policy", reason="MODEL", route="weak")
            + " / "
            + _rate("turnout_decisions_total", "policy", reason="MODEL"),
            "{{policy}} measured": f"max by (policy) (turnout_expected_weak_ratio{_HERE})",
        },
    ),
    Panel(
        "Route: latency",
        "s",
        "In the handler; the network comes on top. The shipped client waits 0.1 s.",
        {f"p{q * 100:g}": _quantile(q, "turnout_rpc_seconds", method="Route") for q in (0.5, 0.95, 0.99)},
    ),
    Panel(
        "p95 by stage",
        "s",
        "Where the time goes.",
        {stage: _quantile(0.95, "turnout_stage_seconds", stage=stage) for stage in ("decode", "queue", "model")},
    ),
    Panel(
        "Answered by the fast head",
        "percentunit",
        "Share of the model's decisions that needed no encoder.",
        {
            "fast": _rate("turnout_decisions_total", "job", stage="FAST")
            + " / "
            + _rate("turnout_decisions_total", "job", reason="MODEL")
        },
    ),
    Panel(
        "Calls by code",
        "reqps",
        "Callers fall back to the strong model on everything but OK.",
        {"{{method}} {{code}}": _rate("turnout_rpcs_total", "method, code")},
    ),
    Panel(
        "Requests without a decision",
        "reqps",
        "INTERNAL is a fault of the server: see its log.",
        {"{{code}}": _rate("turnout_failures_total", "code")},
    ),
    Panel(
        "Queue and calls in flight",
        "short",
        "All workers together; sampled once a second.",
        {"queue": f"sum(turnout_queue_items{_HERE})", "in flight": f"sum(turnout_rpcs_in_flight{_HERE})"},
    ),
    Panel(
        "Refused at the queue",
        "reqps",
        "By cause: full, a tenant's share, a deadline that can't be met.",
        {"{{cause}}": _rate("turnout_refusals_total", "cause")},
    ),
    Panel(
        "Cache hits",
        "percentunit",
        "Share of lookups that were answered from the cache of exact prompts.",
        {"hits": _share("turnout_cache_lookups_total", "turnout_cache_lookups_total", result="hit")},
    ),
    Panel(
        "p_match",
        "short",
        "Distribution over the range shown; thresholds of cautious policies lie to the right.",
        {
            "{{le}}": f"sum by (le) (increase(turnout_p_match_ratio_bucket{_HERE}[$__range]))",
        },
    ),
    Panel(
        "Shadow: disagreement",
        "percentunit",
        "Share of the traffic that the challenger would route otherwise.",
        {"disagrees": _share("turnout_shadow_decisions_total", "turnout_shadow_decisions_total", agrees="false")},
    ),
    Panel(
        "Shadow: difference of p_match, and dropped",
        "short",
        "Median absolute difference; decisions a second that the challenger had no time for.",
        {
            "median difference": _quantile(0.5, "turnout_shadow_difference_ratio"),
            "dropped": _rate("turnout_shadow_dropped_total", "job"),
        },
    ),
    Panel(
        "Exploration: USD an hour",
        "currencyUSD",
        "Expected cost of the other tier and of second answers, and what exploring to the cheaper model saved.",
        {
            "{{kind}}": f"3600 * {_rate('turnout_exploration_spent_usd_total', 'kind')}",
            "saved": f"3600 * {_rate('turnout_exploration_saved_usd_total', 'job')}",
        },
    ),
    Panel(
        "Exploration: decisions",
        "reqps",
        "Moved, asked of both models, or withheld at the cap.",
        {
            "{{kind}}": _rate("turnout_explorations_total", "kind"),
            "withheld: {{cause}}": _rate("turnout_exploration_withheld_total", "cause"),
        },
    ),
    Panel(
        "Canary and reloads",
        "short",
        "Share of traffic on the canary; events in the last 5 minutes.",
        {
            "canary share": f"max(turnout_canary_share_ratio{_HERE})",
            "canary {{event}}": f"sum by (event) (increase(turnout_canary_events_total{_HERE}[5m]))",
            "reload {{kind}} {{result}}": f"sum by (kind, result) (increase(turnout_reloads_total{_HERE}[5m]))",
        },
    ),
    Panel(
        "Bundles served",
        "short",
        "Workers that serve each bundle, and workers ready.",
        {
            "{{bundle}}": f"sum by (bundle) (turnout_bundle_info{_HERE})",
            "ready": f"sum(turnout_worker_ready{_HERE})",
        },
    ),
    Panel(
        "Drift of the traffic",
        "short",
        "Each measure over its limit; above 1 the traffic is unlike that on which the bundle was measured.",
        {
            "{{measure}}": f"turnout_drift_ratio{_DRIFT} / on (instance, bundle, measure) "
            f"turnout_drift_limit_ratio{_DRIFT}"
        },
    ),
    Panel(
        "Calibration on reported outcomes",
        "short",
        "Calibration error and Brier score of the last outcomes, with what chance explains.",
        {
            "{{measure}}": f"turnout_drift_ratio{_OUTCOMES}",
            "{{measure}} limit": f"turnout_drift_limit_ratio{_OUTCOMES}",
        },
    ),
    Panel(
        "Made worse this month, and as promised",
        "percentunit",
        "Bounds from judged pairs; a lower bound above the limit is a broken promise.",
        {
            "{{policy}} at least": f'max by (policy) (turnout_promise_worse_lower_ratio{_HERE[:-1]}, task="*"}})',
            "{{policy}} at most": f'max by (policy) (turnout_promise_worse_upper_ratio{_HERE[:-1]}, task="*"}})',
            "{{policy}} limit": f"max by (policy) (turnout_promise_limit_ratio{_HERE})",
        },
    ),
    Panel(
        "Decision log",
        "reqps",
        "Decisions written to the spool; any that are dropped are lost to the next training.",
        {"{{result}}": _rate("turnout_decision_log_total", "result")},
    ),
    Panel(
        "CPU",
        "short",
        "Cores in use; each worker has one thread for the model and one for calls.",
        {"cores": _rate("turnout_worker_cpu_seconds_total", "job")},
    ),
    Panel(
        "CPU time of a decision",
        "s",
        "What the router itself costs, for `turnout savings --cpu-s-per-decision`.",
        {"{{instance}}": f"instance:turnout_cpu_seconds_per_decision:rate1h{_HERE}"},
    ),
    Panel(
        "Age of each worker",
        "s",
        "Time since its start; a drop to zero is a restart.",
        {"{{instance}} {{pid}}": f"time() - turnout_worker_start_time_seconds{_HERE}"},
    ),
    Panel(
        "Memory of each worker",
        "bytes",
        "Resident memory; a line that only rises is a leak.",
        {"{{instance}} {{pid}}": f"turnout_worker_memory_bytes{_HERE}"},
    ),
)


def dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana imports it; it asks for the data source when imported."""
    return {
        "__inputs": [
            {"name": "DS_PROMETHEUS", "label": "Prometheus", "type": "datasource", "pluginId": "prometheus"},
        ],
        "uid": "turnout",
        "title": "Turnout",
        "description": "Routing decisions, their latency, and the health of the server.",
        "tags": ["turnout", "llm"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [_variable("job", several=False), _variable("instance", several=True)]},
        "annotations": {"list": []},
        "panels": list(_panels()),
    }


def _variable(name: str, *, several: bool) -> dict[str, Any]:
    within = "" if name == "job" else '{job="$job"}'
    return {
        "name": name,
        "label": name,
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "${DS_PROMETHEUS}"},
        "query": f"label_values(turnout_worker_ready{within}, {name})",
        "refresh": 2,
        "multi": several,
        "includeAll": several,
    }


def _panels() -> Iterator[dict[str, Any]]:
    for index, panel in enumerate(PANELS):
        row, column = divmod(index, COLUMNS)
        yield {
            "id": index + 1,
            "type": "timeseries",
            "title": panel.title,
            "description": panel.description,
            "datasource": {"type": "prometheus", "uid": "${DS_PROMETHEUS}"},
            "gridPos": {"x": column * WIDTH, "y": row * HEIGHT, "w": WIDTH, "h": HEIGHT},
            "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
            "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
            "targets": [
                {"refId": chr(ord("A") + number), "expr": expression, "legendFormat": legend}
                for number, (legend, expression) in enumerate(panel.queries.items())
            ],
        }


def main() -> None:
    """Write dashboard.json beside this module."""
    PATH.write_bytes(msgspec.json.format(msgspec.json.encode(dashboard()), indent=2) + b"\n")


if __name__ == "__main__":
    main()
