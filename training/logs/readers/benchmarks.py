"""Published tables of routers: RouterBench (scores and answers of many models) and RouteLLM (right or wrong of two).

RouterBench in its wide form has for each model a column of scores named after it, `<model>|model_response` and
`<model>|total_cost`; RouteLLM's CSV files have `prompt` and a True / False column for each model. Both hold models
of which the pair picks two; rows without both columns are of another pair.
"""

from __future__ import annotations

from typing import Any

import msgspec

from turnout.serving.bundles.manifest import Pair
from turnout.serving.decision.model_names import is_model
from turnout.training.logs.quarantine import Reason
from turnout.training.logs.readers.form import Entry, Fields, Form

RESPONSE_SUFFIX = "|model_response"
INDEX_COLUMNS = ("", "Unnamed: 0")
ANSWER_FIELDS = frozenset({"strong_score", "weak_score"})
VERDICTS = {"true": 1.0, "false": 0.0}


def _recognises_routerbench(fields: Fields) -> bool:
    return "prompt" in fields and any(name.endswith(RESPONSE_SUFFIX) for name in fields)


def _routerbench_entries(fields: Fields, pair: Pair) -> list[Entry]:
    models = [name.removesuffix(RESPONSE_SUFFIX) for name in fields if name.endswith(RESPONSE_SUFFIX)]
    answers = {
        model: {"content": fields[f"{model}{RESPONSE_SUFFIX}"], "score": _score(fields.get(model))}
        for model in _of_pair(models, pair)
    }
    prompt = fields.get("prompt")
    own = {
        "id": fields.get("sample_id"),
        "prompt": "\n\n".join(prompt) if isinstance(prompt, list) else prompt,  # instruction and question
        "source": fields.get("eval_name"),
        "responses": answers,
    }
    return [_entry(own, models, pair)]


def _recognises_routellm(fields: Fields) -> bool:
    others = fields.keys() - {"prompt", *INDEX_COLUMNS}
    return "prompt" in fields and len(others) > 1 and not others & ANSWER_FIELDS and len(_judged(fields)) == len(others)


def _judged(fields: Fields) -> list[str]:
    return [name for name, value in fields.items() if name not in INDEX_COLUMNS and _verdict(value) is not None]


def _routellm_entries(fields: Fields, pair: Pair) -> list[Entry]:
    models = _judged(fields)
    answers = {model: {"score": _verdict(fields[model])} for model in _of_pair(models, pair)}
    return [_entry({"prompt": fields.get("prompt"), "responses": answers}, models, pair)]


def _verdict(value: Any) -> float | None:
    text = bytes(value).decode() if isinstance(value, msgspec.Raw) else str(value)
    return VERDICTS.get(text.lower()) if len(text) <= len("false") else None


def _score(value: Any) -> Any:
    return float(value) if isinstance(value, str) else value


def _of_pair(models: list[str], pair: Pair) -> list[str]:
    return [model for model in models if is_model(model, pair.strong) or is_model(model, pair.weak)]


def _entry(own: dict[str, Any], models: list[str], pair: Pair) -> Entry:
    if all(any(is_model(model, name) for model in models) for name in (pair.strong, pair.weak)):
        return Entry(own)
    return Entry(own, key=", ".join(sorted(models)), reason=Reason.OTHER_PAIR)


ROUTERBENCH = Form("routerbench", _recognises_routerbench, _routerbench_entries)
ROUTELLM = Form("routellm", _recognises_routellm, _routellm_entries)
