from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Tier(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TIER_UNSPECIFIED: _ClassVar[Tier]
    TIER_WEAK: _ClassVar[Tier]
    TIER_STRONG: _ClassVar[Tier]

class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REASON_UNSPECIFIED: _ClassVar[Reason]
    REASON_MODEL: _ClassVar[Reason]
    REASON_RULE: _ClassVar[Reason]
    REASON_TOO_LONG: _ClassVar[Reason]
    REASON_OUT_OF_DISTRIBUTION: _ClassVar[Reason]
    REASON_SESSION: _ClassVar[Reason]
    REASON_EXPLORATION: _ClassVar[Reason]
    REASON_ROLLOUT: _ClassVar[Reason]
    REASON_NO_ANSWER: _ClassVar[Reason]
    REASON_CAPABILITY: _ClassVar[Reason]

class Stage(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STAGE_UNSPECIFIED: _ClassVar[Stage]
    STAGE_FAST: _ClassVar[Stage]
    STAGE_FULL: _ClassVar[Stage]

class Action(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACTION_UNSPECIFIED: _ClassVar[Action]
    ACTION_WEAK: _ClassVar[Action]
    ACTION_TRY: _ClassVar[Action]
    ACTION_STRONG: _ClassVar[Action]

class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERDICT_UNSPECIFIED: _ClassVar[Verdict]
    VERDICT_ACCEPT: _ClassVar[Verdict]
    VERDICT_ESCALATE: _ClassVar[Verdict]

class CheckHead(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CHECK_HEAD_UNSPECIFIED: _ClassVar[CheckHead]
    CHECK_HEAD_CHECKER: _ClassVar[CheckHead]
    CHECK_HEAD_SIGNALS: _ClassVar[CheckHead]
    CHECK_HEAD_NONE: _ClassVar[CheckHead]
TIER_UNSPECIFIED: Tier
TIER_WEAK: Tier
TIER_STRONG: Tier
REASON_UNSPECIFIED: Reason
REASON_MODEL: Reason
REASON_RULE: Reason
REASON_TOO_LONG: Reason
REASON_OUT_OF_DISTRIBUTION: Reason
REASON_SESSION: Reason
REASON_EXPLORATION: Reason
REASON_ROLLOUT: Reason
REASON_NO_ANSWER: Reason
REASON_CAPABILITY: Reason
STAGE_UNSPECIFIED: Stage
STAGE_FAST: Stage
STAGE_FULL: Stage
ACTION_UNSPECIFIED: Action
ACTION_WEAK: Action
ACTION_TRY: Action
ACTION_STRONG: Action
VERDICT_UNSPECIFIED: Verdict
VERDICT_ACCEPT: Verdict
VERDICT_ESCALATE: Verdict
CHECK_HEAD_UNSPECIFIED: CheckHead
CHECK_HEAD_CHECKER: CheckHead
CHECK_HEAD_SIGNALS: CheckHead
CHECK_HEAD_NONE: CheckHead

class RouteRequest(_message.Message):
    __slots__ = ("request_id", "text", "messages", "openai_body", "anthropic_body", "policy", "threshold", "bundle", "tenant", "task", "session_id", "previous_tier", "cached_tokens", "expected_output_tokens", "explain", "can_check", "per_rung", "previous_rung")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    OPENAI_BODY_FIELD_NUMBER: _ClassVar[int]
    ANTHROPIC_BODY_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_TIER_FIELD_NUMBER: _ClassVar[int]
    CACHED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    CAN_CHECK_FIELD_NUMBER: _ClassVar[int]
    PER_RUNG_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_RUNG_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    text: str
    messages: Messages
    openai_body: bytes
    anthropic_body: bytes
    policy: str
    threshold: float
    bundle: str
    tenant: str
    task: str
    session_id: str
    previous_tier: Tier
    cached_tokens: int
    expected_output_tokens: int
    explain: bool
    can_check: bool
    per_rung: bool
    previous_rung: str
    def __init__(self, request_id: _Optional[str] = ..., text: _Optional[str] = ..., messages: _Optional[_Union[Messages, _Mapping]] = ..., openai_body: _Optional[bytes] = ..., anthropic_body: _Optional[bytes] = ..., policy: _Optional[str] = ..., threshold: _Optional[float] = ..., bundle: _Optional[str] = ..., tenant: _Optional[str] = ..., task: _Optional[str] = ..., session_id: _Optional[str] = ..., previous_tier: _Optional[_Union[Tier, str]] = ..., cached_tokens: _Optional[int] = ..., expected_output_tokens: _Optional[int] = ..., explain: _Optional[bool] = ..., can_check: _Optional[bool] = ..., per_rung: _Optional[bool] = ..., previous_rung: _Optional[str] = ...) -> None: ...

class Messages(_message.Message):
    __slots__ = ("messages",)
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[Message]
    def __init__(self, messages: _Optional[_Iterable[_Union[Message, _Mapping]]] = ...) -> None: ...

class Message(_message.Message):
    __slots__ = ("role", "text")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    role: str
    text: str
    def __init__(self, role: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class RouteResponse(_message.Message):
    __slots__ = ("request_id", "tier", "model", "p_match", "confidence", "threshold", "policy", "reason", "stage", "bundle", "timings", "route_propensity", "weak_cost_usd", "strong_cost_usd", "rule", "contributions", "wants_both", "pair_propensity", "check_wanted", "action", "rung", "effort", "p_rungs", "other")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    P_MATCH_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    ROUTE_PROPENSITY_FIELD_NUMBER: _ClassVar[int]
    WEAK_COST_USD_FIELD_NUMBER: _ClassVar[int]
    STRONG_COST_USD_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    CONTRIBUTIONS_FIELD_NUMBER: _ClassVar[int]
    WANTS_BOTH_FIELD_NUMBER: _ClassVar[int]
    PAIR_PROPENSITY_FIELD_NUMBER: _ClassVar[int]
    CHECK_WANTED_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    RUNG_FIELD_NUMBER: _ClassVar[int]
    EFFORT_FIELD_NUMBER: _ClassVar[int]
    P_RUNGS_FIELD_NUMBER: _ClassVar[int]
    OTHER_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    tier: Tier
    model: str
    p_match: float
    confidence: float
    threshold: float
    policy: str
    reason: Reason
    stage: Stage
    bundle: str
    timings: Timings
    route_propensity: float
    weak_cost_usd: float
    strong_cost_usd: float
    rule: str
    contributions: _containers.RepeatedCompositeFieldContainer[Contribution]
    wants_both: bool
    pair_propensity: float
    check_wanted: bool
    action: Action
    rung: str
    effort: str
    p_rungs: _containers.RepeatedCompositeFieldContainer[RungLook]
    other: Rung
    def __init__(self, request_id: _Optional[str] = ..., tier: _Optional[_Union[Tier, str]] = ..., model: _Optional[str] = ..., p_match: _Optional[float] = ..., confidence: _Optional[float] = ..., threshold: _Optional[float] = ..., policy: _Optional[str] = ..., reason: _Optional[_Union[Reason, str]] = ..., stage: _Optional[_Union[Stage, str]] = ..., bundle: _Optional[str] = ..., timings: _Optional[_Union[Timings, _Mapping]] = ..., route_propensity: _Optional[float] = ..., weak_cost_usd: _Optional[float] = ..., strong_cost_usd: _Optional[float] = ..., rule: _Optional[str] = ..., contributions: _Optional[_Iterable[_Union[Contribution, _Mapping]]] = ..., wants_both: _Optional[bool] = ..., pair_propensity: _Optional[float] = ..., check_wanted: _Optional[bool] = ..., action: _Optional[_Union[Action, str]] = ..., rung: _Optional[str] = ..., effort: _Optional[str] = ..., p_rungs: _Optional[_Iterable[_Union[RungLook, _Mapping]]] = ..., other: _Optional[_Union[Rung, _Mapping]] = ...) -> None: ...

class Rung(_message.Message):
    __slots__ = ("name", "model", "effort", "rows", "match_rate", "figures")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    EFFORT_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    MATCH_RATE_FIELD_NUMBER: _ClassVar[int]
    FIGURES_FIELD_NUMBER: _ClassVar[int]
    name: str
    model: str
    effort: str
    rows: int
    match_rate: float
    figures: _containers.RepeatedCompositeFieldContainer[Figure]
    def __init__(self, name: _Optional[str] = ..., model: _Optional[str] = ..., effort: _Optional[str] = ..., rows: _Optional[int] = ..., match_rate: _Optional[float] = ..., figures: _Optional[_Iterable[_Union[Figure, _Mapping]]] = ...) -> None: ...

class RungLook(_message.Message):
    __slots__ = ("rung", "model", "effort", "p", "threshold", "cost_usd", "is_offered")
    RUNG_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    EFFORT_FIELD_NUMBER: _ClassVar[int]
    P_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    COST_USD_FIELD_NUMBER: _ClassVar[int]
    IS_OFFERED_FIELD_NUMBER: _ClassVar[int]
    rung: str
    model: str
    effort: str
    p: float
    threshold: float
    cost_usd: float
    is_offered: bool
    def __init__(self, rung: _Optional[str] = ..., model: _Optional[str] = ..., effort: _Optional[str] = ..., p: _Optional[float] = ..., threshold: _Optional[float] = ..., cost_usd: _Optional[float] = ..., is_offered: _Optional[bool] = ...) -> None: ...

class WeakAnswer(_message.Message):
    __slots__ = ("text", "tool_calls", "is_refusal", "finish_reason")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TOOL_CALLS_FIELD_NUMBER: _ClassVar[int]
    IS_REFUSAL_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    text: str
    tool_calls: int
    is_refusal: bool
    finish_reason: str
    def __init__(self, text: _Optional[str] = ..., tool_calls: _Optional[int] = ..., is_refusal: _Optional[bool] = ..., finish_reason: _Optional[str] = ...) -> None: ...

class AnswerSignals(_message.Message):
    __slots__ = ("token_logprobs", "alternative_logprobs", "mean_logprob", "self_check")
    TOKEN_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    ALTERNATIVE_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    MEAN_LOGPROB_FIELD_NUMBER: _ClassVar[int]
    SELF_CHECK_FIELD_NUMBER: _ClassVar[int]
    token_logprobs: _containers.RepeatedScalarFieldContainer[float]
    alternative_logprobs: _containers.RepeatedScalarFieldContainer[float]
    mean_logprob: float
    self_check: float
    def __init__(self, token_logprobs: _Optional[_Iterable[float]] = ..., alternative_logprobs: _Optional[_Iterable[float]] = ..., mean_logprob: _Optional[float] = ..., self_check: _Optional[float] = ...) -> None: ...

class CheckRequest(_message.Message):
    __slots__ = ("request", "request_id", "answer", "signals", "prompt_tokens", "completion_tokens", "latency_ms", "tenant")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    SIGNALS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    LATENCY_MS_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    request: RouteRequest
    request_id: str
    answer: WeakAnswer
    signals: AnswerSignals
    prompt_tokens: int
    completion_tokens: int
    latency_ms: float
    tenant: str
    def __init__(self, request: _Optional[_Union[RouteRequest, _Mapping]] = ..., request_id: _Optional[str] = ..., answer: _Optional[_Union[WeakAnswer, _Mapping]] = ..., signals: _Optional[_Union[AnswerSignals, _Mapping]] = ..., prompt_tokens: _Optional[int] = ..., completion_tokens: _Optional[int] = ..., latency_ms: _Optional[float] = ..., tenant: _Optional[str] = ...) -> None: ...

class CheckResponse(_message.Message):
    __slots__ = ("request_id", "verdict", "model", "p_match", "confidence", "threshold", "policy", "reason", "head", "bundle", "timings", "verdict_propensity", "accept_cost_usd", "escalate_cost_usd", "rule", "signals_used", "signals_ignored", "rung", "effort", "p_rungs", "tier")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    P_MATCH_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    VERDICT_PROPENSITY_FIELD_NUMBER: _ClassVar[int]
    ACCEPT_COST_USD_FIELD_NUMBER: _ClassVar[int]
    ESCALATE_COST_USD_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    SIGNALS_USED_FIELD_NUMBER: _ClassVar[int]
    SIGNALS_IGNORED_FIELD_NUMBER: _ClassVar[int]
    RUNG_FIELD_NUMBER: _ClassVar[int]
    EFFORT_FIELD_NUMBER: _ClassVar[int]
    P_RUNGS_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    verdict: Verdict
    model: str
    p_match: float
    confidence: float
    threshold: float
    policy: str
    reason: Reason
    head: CheckHead
    bundle: str
    timings: Timings
    verdict_propensity: float
    accept_cost_usd: float
    escalate_cost_usd: float
    rule: str
    signals_used: _containers.RepeatedScalarFieldContainer[str]
    signals_ignored: _containers.RepeatedScalarFieldContainer[str]
    rung: str
    effort: str
    p_rungs: _containers.RepeatedCompositeFieldContainer[RungLook]
    tier: Tier
    def __init__(self, request_id: _Optional[str] = ..., verdict: _Optional[_Union[Verdict, str]] = ..., model: _Optional[str] = ..., p_match: _Optional[float] = ..., confidence: _Optional[float] = ..., threshold: _Optional[float] = ..., policy: _Optional[str] = ..., reason: _Optional[_Union[Reason, str]] = ..., head: _Optional[_Union[CheckHead, str]] = ..., bundle: _Optional[str] = ..., timings: _Optional[_Union[Timings, _Mapping]] = ..., verdict_propensity: _Optional[float] = ..., accept_cost_usd: _Optional[float] = ..., escalate_cost_usd: _Optional[float] = ..., rule: _Optional[str] = ..., signals_used: _Optional[_Iterable[str]] = ..., signals_ignored: _Optional[_Iterable[str]] = ..., rung: _Optional[str] = ..., effort: _Optional[str] = ..., p_rungs: _Optional[_Iterable[_Union[RungLook, _Mapping]]] = ..., tier: _Optional[_Union[Tier, str]] = ...) -> None: ...

class CheckBatchRequest(_message.Message):
    __slots__ = ("requests",)
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[CheckRequest]
    def __init__(self, requests: _Optional[_Iterable[_Union[CheckRequest, _Mapping]]] = ...) -> None: ...

class CheckBatchResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[CheckResult]
    def __init__(self, results: _Optional[_Iterable[_Union[CheckResult, _Mapping]]] = ...) -> None: ...

class CheckStreamRequest(_message.Message):
    __slots__ = ("request",)
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    request: CheckRequest
    def __init__(self, request: _Optional[_Union[CheckRequest, _Mapping]] = ...) -> None: ...

class CheckStreamResponse(_message.Message):
    __slots__ = ("result",)
    RESULT_FIELD_NUMBER: _ClassVar[int]
    result: CheckResult
    def __init__(self, result: _Optional[_Union[CheckResult, _Mapping]] = ...) -> None: ...

class CheckResult(_message.Message):
    __slots__ = ("response", "failure")
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    response: CheckResponse
    failure: RouteFailure
    def __init__(self, response: _Optional[_Union[CheckResponse, _Mapping]] = ..., failure: _Optional[_Union[RouteFailure, _Mapping]] = ...) -> None: ...

class Contribution(_message.Message):
    __slots__ = ("start", "end", "p_match_without")
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    P_MATCH_WITHOUT_FIELD_NUMBER: _ClassVar[int]
    start: int
    end: int
    p_match_without: float
    def __init__(self, start: _Optional[int] = ..., end: _Optional[int] = ..., p_match_without: _Optional[float] = ...) -> None: ...

class ReportOutcomeRequest(_message.Message):
    __slots__ = ("request_id", "tier", "model", "score", "preference", "error_code", "prompt_tokens", "completion_tokens", "cached_tokens", "latency_ms", "bundle", "tenant", "session_id", "task", "self_check", "rung")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    PREFERENCE_FIELD_NUMBER: _ClassVar[int]
    ERROR_CODE_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CACHED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    LATENCY_MS_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    SELF_CHECK_FIELD_NUMBER: _ClassVar[int]
    RUNG_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    tier: Tier
    model: str
    score: float
    preference: str
    error_code: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    latency_ms: float
    bundle: str
    tenant: str
    session_id: str
    task: str
    self_check: bool
    rung: str
    def __init__(self, request_id: _Optional[str] = ..., tier: _Optional[_Union[Tier, str]] = ..., model: _Optional[str] = ..., score: _Optional[float] = ..., preference: _Optional[str] = ..., error_code: _Optional[str] = ..., prompt_tokens: _Optional[int] = ..., completion_tokens: _Optional[int] = ..., cached_tokens: _Optional[int] = ..., latency_ms: _Optional[float] = ..., bundle: _Optional[str] = ..., tenant: _Optional[str] = ..., session_id: _Optional[str] = ..., task: _Optional[str] = ..., self_check: _Optional[bool] = ..., rung: _Optional[str] = ...) -> None: ...

class ReportOutcomeResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RouteBatchRequest(_message.Message):
    __slots__ = ("requests",)
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[RouteRequest]
    def __init__(self, requests: _Optional[_Iterable[_Union[RouteRequest, _Mapping]]] = ...) -> None: ...

class RouteBatchResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[RouteResult]
    def __init__(self, results: _Optional[_Iterable[_Union[RouteResult, _Mapping]]] = ...) -> None: ...

class RouteStreamRequest(_message.Message):
    __slots__ = ("request",)
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    request: RouteRequest
    def __init__(self, request: _Optional[_Union[RouteRequest, _Mapping]] = ...) -> None: ...

class RouteStreamResponse(_message.Message):
    __slots__ = ("result",)
    RESULT_FIELD_NUMBER: _ClassVar[int]
    result: RouteResult
    def __init__(self, result: _Optional[_Union[RouteResult, _Mapping]] = ...) -> None: ...

class RouteResult(_message.Message):
    __slots__ = ("response", "failure")
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    response: RouteResponse
    failure: RouteFailure
    def __init__(self, response: _Optional[_Union[RouteResponse, _Mapping]] = ..., failure: _Optional[_Union[RouteFailure, _Mapping]] = ...) -> None: ...

class RouteFailure(_message.Message):
    __slots__ = ("request_id", "code", "message", "retry_pushback_ms")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RETRY_PUSHBACK_MS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    code: int
    message: str
    retry_pushback_ms: int
    def __init__(self, request_id: _Optional[str] = ..., code: _Optional[int] = ..., message: _Optional[str] = ..., retry_pushback_ms: _Optional[int] = ...) -> None: ...

class DescribeModelRequest(_message.Message):
    __slots__ = ("bundle",)
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    bundle: str
    def __init__(self, bundle: _Optional[str] = ...) -> None: ...

class DescribeModelResponse(_message.Message):
    __slots__ = ("bundle", "created", "synthetic", "strong_model", "weak_model", "encoder", "calibrator", "default_policy", "policies", "figures", "served", "unseen", "has_second_look", "ladder")
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    SYNTHETIC_FIELD_NUMBER: _ClassVar[int]
    STRONG_MODEL_FIELD_NUMBER: _ClassVar[int]
    WEAK_MODEL_FIELD_NUMBER: _ClassVar[int]
    ENCODER_FIELD_NUMBER: _ClassVar[int]
    CALIBRATOR_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_POLICY_FIELD_NUMBER: _ClassVar[int]
    POLICIES_FIELD_NUMBER: _ClassVar[int]
    FIGURES_FIELD_NUMBER: _ClassVar[int]
    SERVED_FIELD_NUMBER: _ClassVar[int]
    UNSEEN_FIELD_NUMBER: _ClassVar[int]
    HAS_SECOND_LOOK_FIELD_NUMBER: _ClassVar[int]
    LADDER_FIELD_NUMBER: _ClassVar[int]
    bundle: str
    created: str
    synthetic: bool
    strong_model: str
    weak_model: str
    encoder: Encoder
    calibrator: str
    default_policy: str
    policies: _containers.RepeatedCompositeFieldContainer[Policy]
    figures: _containers.RepeatedCompositeFieldContainer[Figure]
    served: _containers.RepeatedScalarFieldContainer[str]
    unseen: _containers.RepeatedScalarFieldContainer[str]
    has_second_look: bool
    ladder: _containers.RepeatedCompositeFieldContainer[Rung]
    def __init__(self, bundle: _Optional[str] = ..., created: _Optional[str] = ..., synthetic: _Optional[bool] = ..., strong_model: _Optional[str] = ..., weak_model: _Optional[str] = ..., encoder: _Optional[_Union[Encoder, _Mapping]] = ..., calibrator: _Optional[str] = ..., default_policy: _Optional[str] = ..., policies: _Optional[_Iterable[_Union[Policy, _Mapping]]] = ..., figures: _Optional[_Iterable[_Union[Figure, _Mapping]]] = ..., served: _Optional[_Iterable[str]] = ..., unseen: _Optional[_Iterable[str]] = ..., has_second_look: _Optional[bool] = ..., ladder: _Optional[_Iterable[_Union[Rung, _Mapping]]] = ...) -> None: ...

class Encoder(_message.Message):
    __slots__ = ("name", "sha256", "max_tokens", "dim")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    DIM_FIELD_NUMBER: _ClassVar[int]
    name: str
    sha256: str
    max_tokens: int
    dim: int
    def __init__(self, name: _Optional[str] = ..., sha256: _Optional[str] = ..., max_tokens: _Optional[int] = ..., dim: _Optional[int] = ...) -> None: ...

class Policy(_message.Message):
    __slots__ = ("name", "kind", "target", "threshold", "is_met", "share_weak", "quality_kept", "share_worse", "share_worse_bound", "delta", "checked", "t_rungs")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    IS_MET_FIELD_NUMBER: _ClassVar[int]
    SHARE_WEAK_FIELD_NUMBER: _ClassVar[int]
    QUALITY_KEPT_FIELD_NUMBER: _ClassVar[int]
    SHARE_WORSE_FIELD_NUMBER: _ClassVar[int]
    SHARE_WORSE_BOUND_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    CHECKED_FIELD_NUMBER: _ClassVar[int]
    T_RUNGS_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: str
    target: float
    threshold: float
    is_met: bool
    share_weak: float
    quality_kept: float
    share_worse: float
    share_worse_bound: float
    delta: float
    checked: CheckedPolicy
    t_rungs: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[str] = ..., target: _Optional[float] = ..., threshold: _Optional[float] = ..., is_met: _Optional[bool] = ..., share_weak: _Optional[float] = ..., quality_kept: _Optional[float] = ..., share_worse: _Optional[float] = ..., share_worse_bound: _Optional[float] = ..., delta: _Optional[float] = ..., checked: _Optional[_Union[CheckedPolicy, _Mapping]] = ..., t_rungs: _Optional[_Iterable[float]] = ...) -> None: ...

class CheckedPolicy(_message.Message):
    __slots__ = ("t_strong", "t_weak", "t_accept", "is_met", "share_weak", "share_tried", "share_escalated", "share_answered_weak", "quality_kept", "share_worse", "share_worse_bound", "delta", "cost_ratio", "t_rungs")
    T_STRONG_FIELD_NUMBER: _ClassVar[int]
    T_WEAK_FIELD_NUMBER: _ClassVar[int]
    T_ACCEPT_FIELD_NUMBER: _ClassVar[int]
    IS_MET_FIELD_NUMBER: _ClassVar[int]
    SHARE_WEAK_FIELD_NUMBER: _ClassVar[int]
    SHARE_TRIED_FIELD_NUMBER: _ClassVar[int]
    SHARE_ESCALATED_FIELD_NUMBER: _ClassVar[int]
    SHARE_ANSWERED_WEAK_FIELD_NUMBER: _ClassVar[int]
    QUALITY_KEPT_FIELD_NUMBER: _ClassVar[int]
    SHARE_WORSE_FIELD_NUMBER: _ClassVar[int]
    SHARE_WORSE_BOUND_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    COST_RATIO_FIELD_NUMBER: _ClassVar[int]
    T_RUNGS_FIELD_NUMBER: _ClassVar[int]
    t_strong: float
    t_weak: float
    t_accept: float
    is_met: bool
    share_weak: float
    share_tried: float
    share_escalated: float
    share_answered_weak: float
    quality_kept: float
    share_worse: float
    share_worse_bound: float
    delta: float
    cost_ratio: float
    t_rungs: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, t_strong: _Optional[float] = ..., t_weak: _Optional[float] = ..., t_accept: _Optional[float] = ..., is_met: _Optional[bool] = ..., share_weak: _Optional[float] = ..., share_tried: _Optional[float] = ..., share_escalated: _Optional[float] = ..., share_answered_weak: _Optional[float] = ..., quality_kept: _Optional[float] = ..., share_worse: _Optional[float] = ..., share_worse_bound: _Optional[float] = ..., delta: _Optional[float] = ..., cost_ratio: _Optional[float] = ..., t_rungs: _Optional[_Iterable[float]] = ...) -> None: ...

class Figure(_message.Message):
    __slots__ = ("name", "value", "low", "high")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: float
    low: float
    high: float
    def __init__(self, name: _Optional[str] = ..., value: _Optional[float] = ..., low: _Optional[float] = ..., high: _Optional[float] = ...) -> None: ...

class Timings(_message.Message):
    __slots__ = ("decode_ns", "queue_ns", "model_ns")
    DECODE_NS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_NS_FIELD_NUMBER: _ClassVar[int]
    MODEL_NS_FIELD_NUMBER: _ClassVar[int]
    decode_ns: int
    queue_ns: int
    model_ns: int
    def __init__(self, decode_ns: _Optional[int] = ..., queue_ns: _Optional[int] = ..., model_ns: _Optional[int] = ...) -> None: ...
