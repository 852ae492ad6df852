"""What a rules file may say: its keys, their defaults and their ranges, as structs that msgspec fills.

Every key is explained, with a complete example, in docs/operate/rules.md.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from turnout.serving.decision.routes import MAX_ESTIMATED_TOKENS, Route

MAX_EXPLORATION = 0.5
"""At a half the tier says nothing of the policy any more; beyond it exploration would be the policy."""

Decider = Literal["model", "strong"]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Percent = Annotated[float, msgspec.Meta(ge=0, le=100)]
ExplorationRate = Annotated[float, msgspec.Meta(ge=0, le=MAX_EXPLORATION)]
Usd = Annotated[float, msgspec.Meta(ge=0)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Globs = Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]


class RuleSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One entry of `[[rules]]`: whom it is for, and what happens to their requests.

    Attributes:
        name: told in the reply; no two rules share it.
        tasks, tenants: shell patterns (`legal*`), case-sensitive; one of each must fit. None fits any.
        route: sends them there without asking the model.
        rung: likewise, the name of a rung; at most one of the two.
        allow: shell patterns over rungs, by name (`o3:high`) or by model whatever the effort; only those are offered.
        rollout_percent: share of sessions that the model may decide on; the others go strong.
        policy, threshold: what the model's p_match is held against; at most one of them.
        bundle: `name` or `name/version` that answers.
        exploration: rate instead of that of the policy or the file.
        both: likewise, of requests that both models are to answer.
    """

    name: Name
    tasks: Globs | None = None
    tenants: Globs | None = None
    route: Route | None = None
    rung: Name | None = None
    allow: Globs | None = None
    rollout_percent: Percent = 100.0
    policy: Name | None = None
    threshold: Share | None = None
    bundle: Name | None = None
    exploration: ExplorationRate | None = None
    both: Share | None = None


class ModelSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One `[models."name"]`: what a model, or one of its efforts, can't do. A rung that can't is not offered.

    Attributes:
        images, audio, files, video: whether it takes such parts.
        tools: whether it takes tools.
        json_schema: whether it answers in JSON where that is asked for, in any way.
        scripts: writing systems that it reads (`Latin`, `Cyrillic`): of a language that is all the router tells. None
            for all.
        context_window: tokens of prompt and answer together, instead of the price list's.
        max_estimated_tokens: longest prompt and answer that it is to get, where that is less than it could take.
    """

    images: bool = True
    audio: bool = True
    files: bool = True
    video: bool = True
    tools: bool = True
    json_schema: bool = True
    scripts: Globs | None = None
    context_window: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_estimated_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None


class SessionSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[session]`: when a session that is at the strong model stays there.

    Attributes:
        stay_strong: always.
        count_switch_cost: where the weak model would cost as much or more, its cold cache counted.
    """

    stay_strong: bool = False
    count_switch_cost: bool = True


class PolicyExplorationSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One entry of `[[exploration.policies]]`: rates instead of the file's where a policy decides.

    Attributes:
        policy: shell pattern over the policy's name (`max_worse=*`); `threshold=*` is a caller's own.
        rate, both: as in `[exploration]`; None for those there.
    """

    policy: Name
    rate: ExplorationRate | None = None
    both: Share | None = None


class ExplorationSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[exploration]`: requests sent to the other tier, or to both, so that there is something to learn from.

    Attributes:
        rate: share of sessions that take the other tier, at most a half.
        both: share of sessions whose requests both models are to answer; costs the second answer, and no quality.
        min_p_match: a request below it is never explored to the weak model. Exploring to the strong model costs
            money, to the weak one quality: this bounds the second.
        max_usd_per_hour: cap of each worker on the expected cost of exploration; None for no cap.
        policies: the first whose pattern fits the policy applied.
    """

    rate: ExplorationRate = 0.0
    both: Share = 0.0
    min_p_match: Share = 0.0
    max_usd_per_hour: Usd | None = None
    policies: tuple[PolicyExplorationSpec, ...] = ()


class RulesSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole rules file; the defaults are what holds without one.

    Attributes:
        salt: of all draws; another one draws anew.
        policy: default policy instead of the bundle's.
        otherwise: who decides on requests that no rule names; `strong` makes the rules an allow-list.
        max_estimated_tokens: longer prompts go strong (UTF-8 bytes / 4).
        images, audio, files, video, unknown_content: who decides on requests that hold them beside text; the model
            reads the text alone.
        other_output: likewise on requests for another output than text.
        stored_content: likewise on requests whose content is in part at the vendor, such as the turns before.
        tools: likewise on requests that offer tools.
        least_task_rows: a request that names a task of which the bundle has fewer labelled rows is out of distribution,
            whatever its words; None for no such look. Requests without a task, and bundles of logs without tasks, go by
            words alone.
        least_tenant_rows: likewise of a tenant, of which bundles keep digests.
        out_of_distribution: who decides on requests unlike what the model was trained on; with `model` the
            promises of the policies no longer hold, which were solved with these requests going strong.
        models: what models can't do, by name or by that of a rung.
        rules: the first that fits applies.
    """

    salt: str = ""
    policy: Name | None = None
    otherwise: Decider = "model"
    max_estimated_tokens: Annotated[int, msgspec.Meta(ge=1)] = MAX_ESTIMATED_TOKENS
    images: Decider = "strong"
    audio: Decider = "strong"
    files: Decider = "strong"
    video: Decider = "strong"
    unknown_content: Decider = "strong"
    other_output: Decider = "strong"
    stored_content: Decider = "strong"
    tools: Decider = "model"
    least_task_rows: Annotated[int, msgspec.Meta(ge=1)] | None = None
    least_tenant_rows: Annotated[int, msgspec.Meta(ge=1)] | None = None
    out_of_distribution: Decider = "strong"
    models: dict[Name, ModelSpec] = {}
    rules: tuple[RuleSpec, ...] = ()
    session: SessionSpec = SessionSpec()
    exploration: ExplorationSpec = ExplorationSpec()


EXPECTED = {
    "salt": "text of at most 64 bytes",
    "policy": "the name of a policy, such as 'max_worse=0.01'",
    "otherwise": "'model' or 'strong'",
    "max_estimated_tokens": "a whole number of tokens, 1 or more",
    "images": "'model' or 'strong'",
    "audio": "'model' or 'strong'",
    "files": "'model' or 'strong'",
    "video": "'model' or 'strong'",
    "unknown_content": "'model' or 'strong'",
    "other_output": "'model' or 'strong'",
    "stored_content": "'model' or 'strong'",
    "tools": "'model' or 'strong'",
    "least_task_rows": "a whole number of rows, 1 or more",
    "least_tenant_rows": "a whole number of rows, 1 or more",
    "out_of_distribution": "'model' or 'strong'",
    "models": 'tables headed [models."name"]',
    "rules": "tables headed [[rules]]",
    "rules.name": "text of 1 to 200 characters",
    "rules.tasks": "a list of one or more patterns, such as ['legal*'], or no such key for any task",
    "rules.tenants": "a list of one or more patterns, such as ['acme'], or no such key for any tenant",
    "rules.route": "'strong' or 'weak'",
    "rules.rung": "the name of a rung, such as 'o3:high'",
    "rules.allow": "a list of one or more rungs, such as ['gpt-4o-mini', 'o3:high'], or no such key for all",
    "rules.rollout_percent": "a number from 0 to 100",
    "rules.policy": "the name of a policy, such as 'max_worse=0.01'",
    "rules.threshold": "a number from 0 to 1",
    "rules.bundle": "the name of a bundle, 'name' or 'name/version'",
    "rules.exploration": "a number from 0 to 0.5",
    "rules.both": "a number from 0 to 1",
    **dict.fromkeys(
        (f"models.{key}" for key in ("images", "audio", "files", "video", "tools", "json_schema")), "true or false"
    ),
    "models.scripts": "a list of one or more writing systems, such as ['Latin'], or no such key for all",
    "models.context_window": "a whole number of tokens, 1 or more",
    "models.max_estimated_tokens": "a whole number of tokens, 1 or more",
    "session": "a table headed [session]",
    "session.stay_strong": "true or false",
    "session.count_switch_cost": "true or false",
    "exploration": "a table headed [exploration]",
    "exploration.rate": "a number from 0 to 0.5",
    "exploration.both": "a number from 0 to 1",
    "exploration.min_p_match": "a number from 0 to 1",
    "exploration.max_usd_per_hour": "USD an hour, 0 or more",
    "exploration.policies": "tables headed [[exploration.policies]]",
    "exploration.policies.policy": "a pattern over names of policies, such as 'max_worse=*'",
    "exploration.policies.rate": "a number from 0 to 0.5",
    "exploration.policies.both": "a number from 0 to 1",
}
"""What each key takes, in the words of a refusal; array indices left out."""
