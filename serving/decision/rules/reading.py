"""From a TOML file to a `RulesSpec`, accepted or refused as a whole.

A refusal names the file, the key (`rules[1].rollout_percent`, counted from 0), what was expected and what is there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from turnout.serving.decision.rules.draws import MAX_SALT_BYTES
from turnout.serving.decision.rules.spec import EXPECTED, ModelSpec, RuleSpec, RulesSpec
from turnout.serving.errors import RulesRefused

MAX_FILE_BYTES = 1 << 20
MAX_SHOWN = 60
_PLACE = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<path>[^`]*)`)?$", re.DOTALL)
_STEP = re.compile(r"\[(\d+)\]|([^.\[\]]+)")
_UNKNOWN = re.compile(r"unknown field `(.*)`")
_MISSING = re.compile(r"missing required field `(.*)`")


def read_rules(path: Path) -> RulesSpec:
    """Read a rules file.

    Raises:
        RulesRefused: it can't be read, is not TOML, or holds a key or a value that it may not.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise RulesRefused(f"{path}: cannot be read: {error.strerror}") from error
    return decode_rules(raw, str(path))


def decode_rules(raw: bytes, where: str) -> RulesSpec:
    """Decode and check the bytes of a rules file; `where` heads the messages. Raises as `read_rules` does."""
    if len(raw) > MAX_FILE_BYTES:
        raise RulesRefused(f"{where}: expected at most {MAX_FILE_BYTES} bytes, got more")
    try:
        fields = msgspec.toml.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RulesRefused(f"{where}: not TOML in UTF-8: {error}") from error
    try:
        spec = msgspec.convert(fields, RulesSpec)
    except msgspec.ValidationError as error:
        said = _model_explained(fields) or _explained(str(error), fields)
        raise RulesRefused(f"{where}: {said}") from error
    if contradiction := next(_contradictions(spec), None):
        raise RulesRefused(f"{where}: {contradiction}")
    return spec


def _explained(message: str, fields: dict[str, Any]) -> str:
    """Put msgspec's message into the words of `EXPECTED`, with what the file says there."""
    found = _PLACE.match(message)
    what, path = (found["what"], found["path"] or "") if found else (message, "")
    kind = ".".join(name for _, name in _STEP.findall(path) if name)
    if unknown := _UNKNOWN.search(what):
        prefix = f"{kind}." if kind else ""
        known = [key.removeprefix(prefix) for key in EXPECTED if key.startswith(prefix)]
        return f"{_joined(path, unknown[1])}: unknown key; known: {', '.join(key for key in known if '.' not in key)}"
    if missing := _MISSING.search(what):
        return f"{_joined(path, missing[1])}: expected {EXPECTED[f'{kind}.{missing[1]}']}, got nothing"
    return f"{path}: expected {EXPECTED.get(kind, what)}, got {_shown(_value_at(fields, path))}"


def _model_explained(fields: dict[str, Any]) -> str | None:
    """Return what is wrong with the first bad model, whose name msgspec's own message lacks; None where none is."""
    models = fields.get("models")
    for name, found in models.items() if isinstance(models, dict) else ():
        try:
            msgspec.convert(found, ModelSpec)
        except msgspec.ValidationError as error:
            place = f"models.{msgspec.json.encode(name).decode()}"
            what = _PLACE.match(str(error))
            path = (what["path"] if what else None) or ""
            if unknown := _UNKNOWN.search(str(error)):
                return f"{place}.{unknown[1]}: unknown key; known: {', '.join(ModelSpec.__struct_fields__)}"
            key = ".".join(name for _, name in _STEP.findall(path) if name)
            expected = EXPECTED.get(f"models.{key}", "a table of what the model can't do")
            return f"{_joined(place, path)}: expected {expected}, got {_shown(_value_at(found, path))}"
    return None


def _joined(path: str, key: str) -> str:
    return ".".join(filter(None, (path, key)))


def _value_at(fields: Any, path: str) -> Any:
    for index, name in _STEP.findall(path):
        fields = fields[int(index)] if index else fields[name]
    return fields


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def _contradictions(spec: RulesSpec) -> Iterator[str]:
    if (n_bytes := len(spec.salt.encode())) > MAX_SALT_BYTES:
        yield f"salt: expected {EXPECTED['salt']}, got {n_bytes} bytes"
    seen: dict[str, int] = {}
    fits_all: int | None = None
    for index, rule in enumerate(spec.rules):
        here = f"rules[{index}]"
        if rule.name in seen:
            yield f"{here}.name: expected a name of its own, got {rule.name!r}, which rules[{seen[rule.name]}] has"
        if fits_all is not None:
            yield f"{here} ({rule.name!r}): never applies, as rules[{fits_all}] fits every request; put it before"
        yield from _contradictions_of(rule, here)
        seen[rule.name] = index
        fits_all = index if rule.tasks is None and rule.tenants is None else fits_all


def _contradictions_of(rule: RuleSpec, here: str) -> Iterator[str]:
    if rule.policy is not None and rule.threshold is not None:
        yield f"{here} ({rule.name!r}): expected a policy or a threshold, got both"
    decided = {
        "rollout_percent": rule.rollout_percent < 100,
        "policy": rule.policy is not None,
        "threshold": rule.threshold is not None,
        "exploration": rule.exploration is not None,
        "both": rule.both is not None,
        "allow": rule.allow is not None,
    }
    if rule.route is not None and rule.rung is not None:
        yield f"{here} ({rule.name!r}): expected a route or a rung, got both"
    named = "route" if rule.route is not None else "rung"
    if (rule.route or rule.rung) and (idle := [key for key, is_set in decided.items() if is_set]):
        yield (
            f"{here} ({rule.name!r}): expected no {idle[0]} beside {named}, which decides without the model; "
            f"drop one of the two"
        )
