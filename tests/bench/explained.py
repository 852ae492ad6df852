"""How well answers with explanations are read: texts made around the rows of a log, with templates of our own.

    python -m tests.bench.explained TABLE [--texts 500] [--seed 0] [--show]

TABLE is a Parquet table with prompts and references. For each of `--texts` rows one text gives the gold answer and one another
answer of its kind (another number, option or class), each in a template with an explanation that names other numbers,
options and classes too. A right text graded 0 is wrong, and so is another answer graded above 0. Prints figures by kind;
`--show` also prints which template was read wrongly, never a row's text.
"""  # noqa: E501

from __future__ import annotations

import argparse
import random
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from turnout.training.labels.choices import gold_letter, options
from turnout.training.labels.classes import are_listed, family_of
from turnout.training.labels.graders import GraderQuestion
from turnout.training.labels.graders.values import gold_value
from turnout.training.labels.reference import ReferenceLabeller, grade_answer
from turnout.training.labels.texts import normal_form

NUMBERS = (
    "{a}\n\nExplanation: starting from {n} and taking away {m} leaves that.",
    "Let me work it out. There are {n} at first, and {m} are added later. Therefore, the answer is {a}.",
    "**{a}**\n\n1. Take the {n} given\n2. Subtract {m}\n3. Compare with {k}",
    "The answer is {a} (one could also write it as a sum of {n} parts).",
    "We know that {n} of them came and {m} left.\n\nAnswer: {a}",
    "The answer is {a}, because each of the {n} rows counts once and {m} rows do not.",
    "{a}. In the first step {n} remain; in the second, {m} are left out.",
    "First I got {n}, but I forgot the last row. The correct answer is {a}.",
    "Step 1: note the {n}.\nStep 2: note the {m}.\nFinal answer: {a}",
    "$\\boxed{{{a}}}$\n\nNote: a rough guess of {n} would be off by {m}.",
    "Some would say {n}; that leaves out the rest. The answer is {a}.",
    "<think>Could it be {n}? Or {m}? No.</think>\nThe answer is {a}.",
    'Reasoning: {n} and {m} are given.\n\n{{"reasoning": "from {n} and {m}", "answer": "{a}"}}',
    "The answer is {a}, not {n}: the {m} days were counted twice there.",
    "Answer: {a}\n\nConfidence: {k} %",
    "Die Antwort ist {a}, denn aus {n} und {m} folgt genau das.",
    "Here is the working: {n} + {m} is what we start with.\n\n#### {a}",
    "**Answer:** {a}\n\n**Why:** the table lists {n} entries, {m} of which are empty.",
    "Final answer: {a} (see step {k})",
    "I get {a}. For comparison, last year it was {n}, and {m} the year before.",
)
CHOICES = (
    "{a}\n\nExplanation: {b} describes something else, and {c} is too broad.",
    "({b}) is tempting, but it leaves out a part. The answer is ({a}).",
    "The correct answer is {a}. Option {b} would hold only in special cases.",
    "**{a}**\n\n{b} is wrong since it mixes two things up; {c} is wrong as well.",
    "Let us look at each. {b} does not fit. {c} does not fit either. So the answer is {a}.",
    "Answer: {a} (not {b})",
    "We can rule out {b} and {c}. That leaves {a}.",
    "The best choice is {a}, because it covers every case that {b} misses.",
    "<think>{b}? No. {c}? No.</think>\nThe answer is {a}.",
    "{a}) {text}\n\nThe others, such as {b}, are about another matter.",
    "$\\boxed{{{a}}}$ since {b} contradicts what is given.",
    "At first I thought of {b}. On reflection, the answer is {a}.",
    "{text}\n\nThis is what the definition says.",
    "Final answer: **{a}**\n\nWhy not {b}: it describes the opposite.",
    'The reasons are plain.\n{{"answer": "{a}", "rejected": "{b}"}}',
    "Option {a} is right: it says {text}. Option {b} is not.",
    "Die richtige Antwort ist {a}, weil {b} etwas anderes meint.",
    "It can't be {b}, so it must be {a}.",
    "Answer: {a}. {text}",
    "The answer is ({a}), as the second part shows; ({c}) holds for the first part only.",
)
CLASSES = (
    "{a}\n\nExplanation: the wording leaves little doubt.",
    "The answer is {a}. One might think of {b}, but the last sentence settles it.",
    "**{a}** - the writer is clear about it.",
    "Label: {a}\nReason: nothing in the text speaks for {b}.",
    "{a}, because of the tone of the text.",
    "Answer: {a} (rather than {b})",
    "<think>It may be {b}.</think>{a}",
    "Classification: {a}\n\nConfidence: 90 %",
    '{{"label": "{a}", "answer": "{a}", "reason": "not {b}"}}',
    "The correct answer is {a}, not {b}.",
    "Final answer: {a}",
    "{a}. The text gives two reasons for it.",
    "Looking at the text as a whole, the answer is {a}.",
    "Parts of it sound like {b}.\n\nAnswer: {a}",
    "Answer: **{a}**\n\nWhy: the second sentence says so.",
)


@dataclass(frozen=True)
class Case:
    """A text made around a row."""

    kind: str
    template: str
    text: str
    reference: str
    prompt: str
    is_right: bool


@dataclass
class Counts:
    """How texts of one kind were read."""

    texts: int = 0
    wrong: int = 0
    abstained: int = 0


def cases_of(rows: list[dict[str, str]], n_texts: int, rng: random.Random) -> list[Case]:
    """Return two texts a row: one with the gold answer, one with another; the kinds take turns as far as rows last."""
    by_kind: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        if kind := kind_of(row):
            by_kind[kind].append(row)
    golds = sorted({normal_form(row["reference"]) for row in by_kind.get("class", [])})
    found = list[Case]()
    for part in by_kind.values():
        rng.shuffle(part)
    queue = [
        row for group in zip(*(_repeated(part, n_texts) for part in by_kind.values()), strict=True) for row in group
    ]
    for row in queue[:n_texts]:
        found += _made(kind_of(row), row, golds, rng)
    return found


def _repeated(rows: list[dict[str, str]], n: int) -> list[dict[str, str]]:
    return [rows[place % len(rows)] for place in range(n)]


def kind_of(row: dict[str, str]) -> str:
    """Return which of our kinds a row's reference is; empty for another."""
    reference, prompt = row["reference"], row["prompt"]
    offered = options(prompt)
    if gold_letter(reference, offered) and len(offered) > 2:
        return "choice"
    if gold_value(reference) is not None and reference.strip().lstrip("-").replace(".", "").replace(",", "").isdigit():
        return "number"
    return "class" if family_of(normal_form(reference)) or _other_class(row, CLASS_WORDS) else ""


CLASS_WORDS = ("positive", "negative", "neutral", "yes", "no", "true", "false", "policy", "toxic", "misinformation")


def _other_class(row: dict[str, str], golds: list[str] | tuple[str, ...]) -> str:
    """Return another class of the same closed set; empty where there is none."""
    wanted = normal_form(row["reference"])
    family = family_of(wanted)
    if family:
        return next(min(names) for names in family if wanted not in names)
    return next((one for one in golds if one != wanted and are_listed(wanted, one, row["prompt"])), "")


def _made(kind: str, row: dict[str, str], golds: list[str], rng: random.Random) -> list[Case]:
    if kind == "number":
        return _numbers(row, rng)
    if kind == "choice":
        return _choices(row, rng)
    gold, other = row["reference"].strip(), _other_class(row, golds)
    template, again = rng.choice(CLASSES), rng.choice(CLASSES)
    texts = template.format(a=gold, b=other), again.format(a=other, b=gold)
    return _pair("class", row, (template, again), texts if other else texts[:1])


def _numbers(row: dict[str, str], rng: random.Random) -> list[Case]:
    gold = gold_value(row["reference"]) or ""
    n, m, k = (str(rng.randrange(2, 99)) for _ in range(3))
    other = str(int(float(gold.replace(",", ""))) + rng.randrange(1, 40))
    template, again = rng.choice(NUMBERS), rng.choice(NUMBERS)
    # the other answer's explanation names the gold value
    texts = template.format(a=gold, n=n, m=m, k=k), again.format(a=other, n=gold, m=m, k=k)
    return _pair("number", row, (template, again), texts)


def _choices(row: dict[str, str], rng: random.Random) -> list[Case]:
    offered = options(row["prompt"])
    gold = gold_letter(row["reference"], offered) or ""
    others = [letter for letter in offered if letter != gold]
    first, second = rng.sample(others, 2)
    template, again = rng.choice(CHOICES), rng.choice(CHOICES)
    texts = (
        template.format(a=gold, b=first, c=second, text=offered[gold]),
        again.format(a=first, b=gold, c=second, text=offered[first]),
    )
    return _pair("choice", row, (template, again), texts)


def _pair(kind: str, row: dict[str, str], templates: tuple[str, str], texts: tuple[str, ...]) -> list[Case]:
    made = zip(templates, texts, (True, False), strict=False)
    return [Case(kind, one, text, row["reference"], row["prompt"], is_right) for one, text, is_right in made]


def is_wrong(score: float | None, *, is_right: bool) -> bool:
    """Whether a score says the contrary of the truth."""
    return score is not None and (score < 1 if is_right else score > 0)


def main() -> None:
    """Print one line a kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--texts", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", action="store_true")
    given = parser.parse_args()
    read = pq.read_table(given.table, columns=["prompt", "reference"]).to_pylist()
    rows = [row for row in read if row["reference"] and row["prompt"]]
    counts, misses = defaultdict[tuple[str, bool], Counts](Counts), Counter[str]()
    labeller = ReferenceLabeller()
    for case in cases_of(rows, given.texts, random.Random(given.seed)):
        found = grade_answer(case.text, labeller.graders_for(GraderQuestion(case.prompt, case.reference)))
        score = found.score if found else None
        for key in ((case.kind, case.is_right), ("all", case.is_right)):
            counts[key].texts += 1
            counts[key].abstained += score is None
            counts[key].wrong += is_wrong(score, is_right=case.is_right)
        if is_wrong(score, is_right=case.is_right):
            misses[f"{'gold' if case.is_right else 'other'} answer in {case.template!r}"] += 1
    print("| texts | gives | n | wrong | abstained |\n| --- | --- | ---: | ---: | ---: |")
    for (kind, is_right), count in sorted(counts.items()):
        what = "the gold answer" if is_right else "another answer"
        shares = f"{count.wrong / count.texts:.2%} | {count.abstained / count.texts:.2%}"
        print(f"| {kind} | {what} | {count.texts} | {shares} |")
    if given.show:
        for template, number in misses.most_common():
            print(number, template)


if __name__ == "__main__":
    main()
