"""Numbers and policies in words, as the report's page shows them."""

from __future__ import annotations

from turnout.serving.bundles.manifest import Pair
from turnout.serving.bundles.policy import Policy
from turnout.training.policy.by_task import task_of

NONE = "\u2013"
_SPACE = "\u00a0"


def percent(value: float | None, digits: int = 1) -> str:
    """A share as `24.5 %`; nothing and the whole go without decimals."""
    if value is None:
        return NONE
    shown = f"{100 * value:.{digits}f}"
    whole = shown.rstrip("0").rstrip(".") if float(shown) in {0.0, 100.0} else shown
    return f"{whole.removeprefix('-') if float(shown) == 0 else whole}{_SPACE}%"


def target(value: float) -> str:
    """A share that somebody chose, without decimals it does not have: `1 %`, `0.5 %`."""
    return f"{100 * value:.6g}{_SPACE}%"


def number(value: float | None) -> str:
    """A metric with three decimals, four under 0.1."""
    if value is None:
        return NONE
    return f"{value:.4f}" if abs(value) < 0.1 else f"{value:.3f}"


def rule_of_three(t_strong: float, t_weak: float, t_accept: float) -> str:
    """What three thresholds do, in one sentence without its full stop."""
    if t_accept > 1.0 or t_strong > 1.0:
        return "Nothing is tried, and everything goes to the strong model"
    tried = f"Tried from a p_match of {t_strong:.3f} on, accepted from {t_accept:.3f} on the second look"
    return tried + (f"; unchecked from {t_weak:.3f}" if t_weak <= 1.0 else "; none unchecked")


def milliseconds(value: float) -> str:
    """A time as `340 ms` or `1.26 s`, with a real minus."""
    size = f"{abs(value):.0f}{_SPACE}ms" if abs(value) < 999.5 else f"{abs(value) / 1000:.2f}{_SPACE}s"
    return f"{chr(0x2212) if value < 0 else ''}{size}"


def between(interval: tuple[float, float] | None, *, as_percent: bool, digits: int = 1) -> str:
    """An interval as `21.0 to 27.9 %` or `0.652 to 0.684`."""
    if interval is None:
        return NONE
    if as_percent:
        return f"{percent(interval[0], digits).removesuffix(_SPACE + '%')} to {percent(interval[1], digits)}"
    return f"{number(interval[0])} to {number(interval[1])}"


def count(value: float) -> str:
    """A whole number with a comma at the thousands."""
    return f"{value:,.0f}"


def usd(value: float | None) -> str:
    """An amount in dollars, three digits under a hundred: `$1.25`, `$0.0432`, `$312`."""
    if value is None:
        return NONE
    return f"${value:,.0f}" if value >= 99.95 else f"${value:#.3g}"


def monthly(value: float) -> str:
    """A month's cost in dollars: `$3,250`, under a hundred `$32.50`; with a real minus where it is a loss."""
    digits = 0 if abs(value) >= 100 else 2
    return f"{chr(0x2212) if value < 0 else ''}${abs(value):,.{digits}f}"


def change(value: float | None) -> str:
    """A change against the strong model, with its sign, a real minus: `+0.4 %`."""
    if value is None:
        return NONE
    shown = f"{100 * abs(value):.1f}{_SPACE}%"
    return shown if float(f"{100 * value:.1f}") == 0 else f"{'+' if value > 0 else chr(0x2212)}{shown}"


def change_between(low: float, high: float) -> str:
    """An interval of changes: `+0.2 to +1.1 %`."""
    return f"{change(low).removesuffix(_SPACE + '%')} to {change(high)}"


def policy_rule(policy: Policy, pair: Pair) -> str:
    """What the policy asks for, in one sentence."""
    wanted = target(policy.target)
    task = task_of(policy)
    whom = f"the requests of task {task}" if task else "all requests"
    rules = {
        "max_worse": f"At most {wanted} of {whom} get a worse answer than {pair.strong} would have given.",
        "max_worse_of_weak": f"At most {wanted} of what {pair.weak} answers is worse than {pair.strong} would be.",
        "min_quality": f"Keep at least {wanted} of {pair.strong}'s mean quality.",
        "max_strong_share": f"Send at most {wanted} of the requests to {pair.strong}.",
        "max_cost_usd_per_1k": f"Spend at most ${policy.target:g} on 1,000 requests, at the best quality that buys.",
        "threshold": f"Use {pair.weak} where p_match is at least {policy.target:g}.",
    }
    return rules.get(policy.kind, f"{policy.kind} = {policy.target:g}")


def policy_bound(policy: Policy, pair: Pair) -> str:
    """How firmly the policy's promise stands, in one sentence."""
    if not policy.is_met and policy.kind == "max_cost_usd_per_1k":
        return f"Even {pair.weak} alone costs more, so nothing goes weak."
    if not policy.is_met and policy.kind == "max_strong_share":
        return f"More than that is unlike the training data and goes to {pair.strong}; all else goes weak."
    if not policy.is_met:
        return "Could not be shown on this data, so nothing goes weak. More labelled rows may change that."
    if policy.kind == "min_quality" and policy.delta is not None:
        return f"At least {target(policy.target)} of the quality, with {target(1 - policy.delta)} confidence."
    if policy.share_worse_bound is None or policy.delta is None:
        return "No promise: given by hand." if policy.kind == "threshold" else "No promise: set from past traffic."
    return f"At most {percent(policy.share_worse_bound, 2)}, with {target(1 - policy.delta)} confidence."
