"""Sample: a synthetic gateway log, to try every step without any real traffic. All of it is invented.

Goes out: rows of the shape that `turnout.training.logs.read` reads, each marked `"source": "synthetic"` with an id that
begins with `synthetic-`. The outcomes are drawn from this model of difficulty, so that what training
should find is known:

    logit P(match) = task + language - 0.6 * (steps - 2) - 0.5 * [follow-up turn]

`task` is one of `TASK_LOGITS`, `language` stands in `training.sample.sample_texts`, and `steps` (1 to 5) is seen in the
prompt: sentences, sums, clues, constraints, calls or keys. Where the draw is no match, the strong model is right
and the weak one wrong. Where it is a match, the strong model is right with probability 0.9, and the weak with it;
else the weak one alone is right with probability 0.2, or both are wrong. Each row keeps its true P(match).
"""

from __future__ import annotations

import gzip
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec

from turnout.training.sample.sample_texts import CITIES, LANGUAGES, NAMES, SYMBOLS, Language

STRONG, WEAK = "gpt-4o", "gpt-4o-mini"
TASK_LOGITS = {
    "classification": 3.6,
    "extraction": 3.1,
    "summarisation": 3.5,
    "translation": 2.9,
    "arithmetic": 2.0,
    "code": 1.6,
    "reasoning": 1.2,
    "factual-qa": 2.9,
    "function-calling": 2.5,
    "json": 3.3,
}
LOGIT_PER_STEP = -0.6
LOGIT_OF_FOLLOW_UP = -0.5
P_STRONG_RIGHT_ON_MATCH = 0.9
P_WEAK_ALONE_RIGHT = 0.2
LANGUAGE_WEIGHTS = (6, 2, 2, 2, 2)
STEP_WEIGHTS = (4, 4, 3, 2, 2)
SESSION_SHARE = 0.06
"""Share of draws that open a conversation of two or three rows: about an eighth of all rows."""

FIRST_CREATED_S = 1_767_225_600
MEAN_GAP_S = 60.0
"""Up to some 10,000 rows stay within a week, so that the split is random: the sample has no drift to split by."""


@dataclass(frozen=True, slots=True)
class Exercise:
    """One request with a right and a wrong answer.

    Attributes:
        reference: the gold answer where one is natural.
        extra: fields of the request body beside the messages.
    """

    prompt: str
    right: str
    wrong: str
    reference: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)


def make_sample(rows: int, seed: int) -> list[dict[str, Any]]:
    """Return `rows` synthetic log rows; the same for the same seed, in any process.

    Each row carries `"synthetic": {"p_match", "steps", "language"}`: the truth behind its draw.
    """
    rng = random.Random(seed)  # noqa: S311  # a sample, not a secret
    made: list[dict[str, Any]] = []
    created = float(FIRST_CREATED_S)
    while len(made) < rows:
        turns = rng.choice((2, 3)) if rng.random() < SESSION_SHARE else 1
        session_id = f"synthetic-session-{seed}-{len(made):06d}" if turns > 1 else None
        messages: list[dict[str, str]] = []
        for _ in range(min(turns, rows - len(made))):
            created += rng.expovariate(1 / MEAN_GAP_S)
            row = _row(rng, messages)
            row |= {"id": f"synthetic-{seed}-{len(made):06d}", "created": round(created, 3)}
            made.append(row | ({"session_id": session_id} if session_id else {}))
            answer = row["responses"][STRONG]["content"] or "OK."
            messages = [*row["request"]["messages"], {"role": "assistant", "content": answer}]
    return made


def write_sample(path: Path, rows: int, seed: int) -> None:
    """Write a sample as JSONL, compressed where the name ends in `.gz`; the same bytes for the same seed."""
    text = b"".join(msgspec.json.encode(row) + b"\n" for row in make_sample(rows, seed))
    path.write_bytes(gzip.compress(text, mtime=0) if path.suffix == ".gz" else text)


def true_p_match(row: dict[str, Any]) -> float:
    """Return the probability of a match that the row's outcome was drawn from."""
    return float(row["synthetic"]["p_match"])


def _row(rng: random.Random, earlier: list[dict[str, str]]) -> dict[str, Any]:
    (language,) = rng.choices(LANGUAGES, LANGUAGE_WEIGHTS)
    (steps,) = rng.choices(range(1, 6), STEP_WEIGHTS)
    task = rng.choice(list(TASK_LOGITS))
    exercise = EXERCISES[task](rng, language, steps)
    logit = TASK_LOGITS[task] + language.logit + LOGIT_PER_STEP * (steps - 2) + LOGIT_OF_FOLLOW_UP * bool(earlier)
    p_match = 1 / (1 + math.exp(-logit))
    strong_right, weak_right = _outcome(rng, p_match)
    messages = [*earlier, {"role": "user", "content": exercise.prompt}]
    row = {
        "task": task,
        "source": "synthetic",
        "request": {"model": STRONG, "messages": messages, **exercise.extra},
        "responses": {
            STRONG: _response(rng, exercise, messages, is_right=strong_right),
            WEAK: _response(rng, exercise, messages, is_right=weak_right),
        },
        "synthetic": {"p_match": round(p_match, 6), "steps": steps, "language": language.code},
    }
    return row if exercise.reference is None else row | {"reference": exercise.reference}


def _outcome(rng: random.Random, p_match: float) -> tuple[bool, bool]:
    if rng.random() >= p_match:
        return True, False
    if rng.random() < P_STRONG_RIGHT_ON_MATCH:
        return True, True
    return False, rng.random() < P_WEAK_ALONE_RIGHT


def _response(
    rng: random.Random, exercise: Exercise, messages: list[dict[str, str]], *, is_right: bool
) -> dict[str, Any]:
    answer = exercise.right if is_right else exercise.wrong
    read = sum(len(message["content"]) for message in messages)
    response: dict[str, Any] = {
        "content": answer,
        "usage": {"prompt_tokens": 8 + read // 4, "completion_tokens": 1 + len(answer) // 4},
        "latency_ms": round(rng.lognormvariate(6.5, 0.4)),
        "score": float(is_right),
    }
    if "tools" in exercise.extra:
        response |= {"content": None, "tool_calls": _tool_calls(answer)}
    return response


def _tool_calls(answer: str) -> list[dict[str, Any]]:
    return [
        {"type": "function", "function": {"name": "book_seats", "arguments": msgspec.json.encode(call).decode()}}
        for call in msgspec.json.decode(answer)
    ]


def _slots(rng: random.Random, language: Language) -> dict[str, Any]:
    name, other = rng.sample(NAMES, 2)
    return {
        "name": name,
        "other": other,
        "city": rng.choice(CITIES),
        "thing": rng.choice(language.things),
        "n": rng.randint(11, 997),
        "m": rng.randint(2, 99),
        "year": rng.randint(1702, 2024),
    }


def _passage(rng: random.Random, language: Language, sentences: int) -> list[str]:
    return [fact.format(**_slots(rng, language)) for fact in rng.sample(language.facts, sentences)]


def _joined(language: Language, sentences: list[str]) -> str:
    return ("" if language.code == "ja" else " ").join(sentences)


def _classification(rng: random.Random, language: Language, steps: int) -> Exercise:
    mood = rng.randrange(3)
    pool = (language.praise, language.blame, (*language.praise, *language.blame))[mood]
    said = [rng.choice(pool) for _ in range(steps + 1)]
    if mood == 2:
        said[:2] = [rng.choice(language.praise), rng.choice(language.blame)]
    text = _joined(language, [sentence.format(**_slots(rng, language)) for sentence in said])
    gold, wrong = language.moods[mood], language.moods[mood - 1]
    return Exercise(language.prompts["classification"].format(text=text), gold, wrong, gold)


def _extraction(rng: random.Random, language: Language, steps: int) -> Exercise:
    text = _joined(language, _passage(rng, language, steps + 2))
    found = sorted((text.index(name), name) for name in NAMES if name in text)
    people = [name for _, name in found] or ["-"]
    right, wrong = ", ".join(people), ", ".join([*people[1:], rng.choice(CITIES)])
    return Exercise(language.prompts["extraction"].format(text=text), right, wrong)


def _summarisation(rng: random.Random, language: Language, steps: int) -> Exercise:
    facts = _passage(rng, language, steps + 2)
    prompt = language.prompts["summarisation"].format(text=_joined(language, facts), k=steps, **_slots(rng, language))
    return Exercise(prompt, _joined(language, facts[:steps]), _joined(language, _passage(rng, language, 1)))


def _translation(rng: random.Random, language: Language, steps: int) -> Exercise:
    target = rng.choice([other for other in LANGUAGES if other is not language])
    chosen = rng.sample(range(len(target.facts)), steps)
    slots = [_slots(rng, language) for _ in chosen]
    text, right = (
        _joined(side, [side.facts[i % len(side.facts)].format(**slot) for i, slot in zip(chosen, slots, strict=True)])
        for side in (language, target)
    )
    return Exercise(language.prompts["translation"].format(text=text, target=target.code), right, text)


def _arithmetic(rng: random.Random, language: Language, steps: int) -> Exercise:
    slots = _slots(rng, language)
    total, clauses = slots["n"], []
    for _ in range(steps):
        step = _slots(rng, language) | {"thing": slots["thing"]}
        kind = rng.randrange(3)
        if kind == 1:
            step["n"] = rng.randint(0, total)
        total = (total + step["n"], total - step["n"], total * 2)[kind]
        clauses.append(language.steps[kind].format(**step))
    prompt = language.prompts["arithmetic"].format(text=", ".join(clauses), **slots)
    return Exercise(prompt, f"#### {total}", f"#### {total + rng.randint(1, 20)}", str(total))


def _code(rng: random.Random, language: Language, steps: int) -> Exercise:
    slots = _slots(rng, language)
    function = f"group_{slots['city']}_{slots['n']}".lower()
    key = rng.choice(("owner", "colour", "weight", "age", "origin")) + f"_{rng.choice(NAMES).lower()}"
    rules = "; ".join(rng.sample(language.rules, steps))
    prompt = language.prompts["code"].format(text=rules, function=function, key=key, thing=slots["thing"])
    right = f"def {function}(rows):\n    found = {{}}\n    for row in rows:\n"
    right += f"        found.setdefault(row['{key}'], []).append(row)\n    return found"
    return Exercise(prompt, right, right.replace("setdefault", "get"))


def _reasoning(rng: random.Random, language: Language, steps: int) -> Exercise:
    people = rng.sample(NAMES, steps + 2)
    clues = [language.older.format(name=name, other=other) for name, other in pairwise(people)]
    rng.shuffle(clues)
    prompt = language.prompts["reasoning"].format(text=_joined(language, clues), city=rng.choice(CITIES))
    return Exercise(prompt, people[0], people[1], people[0])


def _factual_qa(rng: random.Random, language: Language, steps: int) -> Exercise:
    numbers = rng.sample(range(1, len(SYMBOLS) + 1), steps + 2)
    prompt = language.prompts["factual-qa"].format(text=", ".join(SYMBOLS[number - 1] for number in numbers))
    return Exercise(prompt, ", ".join(map(str, numbers)), ", ".join(str(number + 1) for number in numbers))


def _function_calling(rng: random.Random, language: Language, steps: int) -> Exercise:
    calls = [_slots(rng, language) for _ in range(steps)]
    text = ", ".join(language.call.format(**call) for call in calls)
    wanted = [{key: call[key] for key in ("city", "name", "n", "m")} for call in calls]
    right = msgspec.json.encode(wanted).decode()
    wrong = msgspec.json.encode([call | {"n": call["n"] + 1} for call in wanted]).decode()
    properties = {
        "city": {"type": "string"},
        "name": {"type": "string"},
        "n": {"type": "integer"},
        "m": {"type": "integer"},
    }
    tool = {"name": "book_seats", "parameters": {"type": "object", "properties": properties}}
    extra = {"tools": [{"type": "function", "function": tool}]}
    return Exercise(language.prompts["function-calling"].format(text=text), right, wrong, extra=extra)


def _json(rng: random.Random, language: Language, steps: int) -> Exercise:
    fact, slots = rng.choice(language.facts[:3]), _slots(rng, language)
    others = _passage(rng, language, steps)
    keys = [key for key in ("city", "name", "thing", "n", "year") if f"{{{key}}}" in fact][: steps + 1]
    text = _joined(language, [fact.format(**slots), *others])
    right = msgspec.json.encode({key: slots[key] for key in keys}).decode()
    wrong = msgspec.json.encode(dict.fromkeys(keys)).decode()
    extra = {"response_format": {"type": "json_object"}}
    return Exercise(language.prompts["json"].format(text=text, keys=", ".join(keys)), right, wrong, extra=extra)


EXERCISES: dict[str, Callable[[random.Random, Language, int], Exercise]] = {
    "classification": _classification,
    "extraction": _extraction,
    "summarisation": _summarisation,
    "translation": _translation,
    "arithmetic": _arithmetic,
    "code": _code,
    "reasoning": _reasoning,
    "factual-qa": _factual_qa,
    "function-calling": _function_calling,
    "json": _json,
}
