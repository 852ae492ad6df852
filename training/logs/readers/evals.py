"""Evaluations: samples of inspect_ai, lm-eval and promptfoo, each with one model's answer and its score.

An inspect_ai log (JSON) is one document with `eval` and `samples`; lm-eval writes one line a document and filter, and
names the model only in the folder of the file; promptfoo's export holds `results`, its JSONL one result a line. A score
counts where there is one only, or several that say the same.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from turnout.serving.bundles.manifest import Pair
from turnout.training.logs.cells import encode
from turnout.training.logs.quarantine import ROW_ERRORS, Reason, RowRefused, reason_of
from turnout.training.logs.readers.completion import completion_answer, read_completion, responses
from turnout.training.logs.readers.form import FILE, Entry, Fields, Form

INSPECT_GRADES = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}
"""Correct, incorrect, partial, and no answer, as inspect_ai's own metrics count them."""

LM_EVAL_METRICS = ("acc", "exact_match", "acc_norm", "pass@1", "em", "prompt_level_strict_acc")


def _plain(fields: Fields, name: str) -> Any:
    return msgspec.json.decode(encode(fields[name])) if name in fields else None


def _each(samples: list[Any], read: Any) -> list[Entry]:
    entries = list[Entry]()
    for sample in samples:
        try:
            entries.append(read(sample))
        except (*ROW_ERRORS, KeyError, AttributeError) as error:
            entries.append(Entry(reason=reason_of(error)))
    return entries


def _grade(value: Any) -> float | None:
    if isinstance(value, str):
        return INSPECT_GRADES.get(value)
    is_share = isinstance(value, bool | int | float) and 0 <= value <= 1
    return float(value) if is_share else None


def _agreed(grades: list[float | None]) -> float | None:
    found = {grade for grade in grades if grade is not None}
    return found.pop() if len(found) == 1 else None


def _inspect_entries(fields: Fields, pair: Pair) -> list[Entry]:
    evaluation = _plain(fields, "eval") or {}
    return _each(_plain(fields, "samples") or [], lambda sample: _inspect_entry(sample, evaluation, pair))


def _inspect_entry(sample: dict[str, Any], evaluation: dict[str, Any], pair: Pair) -> Entry:
    if sample.get("error"):
        raise RowRefused(Reason.FAILED)
    output = sample.get("output") or {}
    answer = completion_answer(read_completion({name: output.get(name) for name in ("choices", "usage")}))
    if answer is None and output.get("completion"):
        answer = {"content": output["completion"]}
    if answer is None:
        raise RowRefused(Reason.FAILED)
    score = _agreed([_grade(one.get("value")) for one in (sample.get("scores") or {}).values()])
    target, asked = sample.get("target"), sample["input"]
    own = {
        "id": f"{sample.get('id')}#{sample.get('epoch', 1)}",
        "task": evaluation.get("task"),
        "reference": target if isinstance(target, str) and target else None,
        "request": {"messages": [{"role": "user", "content": asked}] if isinstance(asked, str) else asked},
        "group_id": str(sample.get("id")),
    }
    names = (output.get("model"), evaluation.get("model"))
    return Entry(own | {"responses": responses(names, answer | ({} if score is None else {"score": score}), pair)})


def _lm_eval_entries(fields: Fields, pair: Pair) -> list[Entry]:
    prompt = _lm_eval_prompt(_plain(fields, "arguments"))
    if prompt is None:
        raise RowRefused(Reason.NO_PROMPT)
    texts = [_text(_plain(fields, name)) for name in ("filtered_resps", "resps")]
    grades = {name: _grade(_plain(fields, name)) for name in LM_EVAL_METRICS}
    score = next((grade for grade in grades.values() if grade is not None), None)
    target = _plain(fields, "target")
    filtered = _plain(fields, "filter")
    answer = {"content": texts[1] or texts[0], "score": score}
    names = (_plain(fields, "model"), _plain(fields, "model_name"), _model_in(fields.get(FILE)))
    own = {
        "id": f"{_plain(fields, 'doc_id')}" + (f"#{filtered}" if filtered and filtered != "none" else ""),
        "reference": target if isinstance(target, str) else None,
        "prompt": prompt,
    }
    if answer["content"] is None and score is None:
        raise RowRefused(Reason.FAILED)
    return [Entry(own | {"responses": responses(names, answer, pair)})]


def _lm_eval_prompt(arguments: Any) -> str | None:
    """Return what was asked: the first argument of the first call; choices that are compared share it."""
    first = next(iter(arguments.values() if isinstance(arguments, dict) else arguments or ()), None)
    found = first.get("arg_0") if isinstance(first, dict) else first[0] if isinstance(first, list) and first else first
    if isinstance(found, str) and found.lstrip().startswith("["):  # a chat, as --apply_chat_template writes it
        try:
            turns = msgspec.json.decode(found)
            return "\n\n".join(one["content"] for one in turns)
        except (msgspec.DecodeError, TypeError, KeyError):
            return found
    return found if isinstance(found, str) else None


def _text(resps: Any) -> str | None:
    while isinstance(resps, list) and resps:
        resps = resps[0]
    return resps if isinstance(resps, str) else None


def _model_in(file: Any) -> str | None:
    """Return the model that the folder of a samples file names: `openai__gpt-4o/samples_gsm8k_2026-11-01.jsonl`."""
    parts = re.split(r"[/\\]", file) if isinstance(file, str) else []
    return parts[-2].rpartition("__")[2] or None if len(parts) > 1 else None


def _promptfoo_entries(fields: Fields, pair: Pair) -> list[Entry]:
    results = _plain(fields, "results")
    if results is None:
        return [_promptfoo_entry({name: _plain(fields, name) for name in fields if name != FILE}, pair)]
    rows = results.get("results") if isinstance(results, dict) else results
    return _each(rows or [], lambda row: _promptfoo_entry(row, pair))


def _promptfoo_entry(row: dict[str, Any], pair: Pair) -> Entry:
    response, provider, prompt = row.get("response") or {}, row.get("provider"), row.get("prompt")
    output, asked = response.get("output"), prompt.get("raw") if isinstance(prompt, dict) else prompt
    if response.get("error") or output is None:
        raise RowRefused(Reason.FAILED)
    if not asked:
        raise RowRefused(Reason.NO_PROMPT)
    used = response.get("tokenUsage") or {}
    answer = {
        "content": output if isinstance(output, str) else encode(output).decode(),
        "usage": {"prompt_tokens": used.get("prompt"), "completion_tokens": used.get("completion")},
        "score": _grade(row.get("score", row.get("success"))),
        "logprobs": response.get("logProbs"),
    }
    model = provider.get("id") if isinstance(provider, dict) else provider
    return Entry({"id": row.get("id"), **_asked(asked), "responses": responses((model,), answer, pair)})


def _asked(prompt: str) -> dict[str, Any]:
    """Return a prompt as messages where it is their JSON, which is how promptfoo writes chats."""
    if prompt.lstrip().startswith("["):
        try:
            turns = msgspec.json.decode(prompt)
        except msgspec.DecodeError:
            turns = []
        if turns and all(isinstance(one, dict) and "role" in one for one in turns):
            return {"request": {"messages": turns}}
    return {"prompt": prompt}


INSPECT = Form(
    "inspect", lambda fields: {"eval", "samples"} <= fields.keys(), _inspect_entries, title="a log of inspect_ai"
)
LM_EVAL = Form(
    "lm-eval",
    lambda fields: {"doc_id", "arguments", "resps"} <= fields.keys(),
    _lm_eval_entries,
    title="samples of lm-eval",
    needs_file=True,
)
PROMPTFOO = Form(
    "promptfoo",
    lambda fields: (
        {"provider", "prompt", "response"} <= fields.keys()
        or ("results" in fields and bool({"evalId", "config"} & fields.keys()))
    ),
    _promptfoo_entries,
    title="results of promptfoo",
)
