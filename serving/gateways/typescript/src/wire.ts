/**
 * Where the messages of `turnout.v1` meet this client's types: a request's content to `RouteRequest`,
 * `RouteResponse` to `Routed`. The proto file and gRPC's service config lie beside the compiled code.
 */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

/** `between`: of a ladder of more than two models, a rung between the ends, which `model` and `rung` tell. */
export type Tier = "weak" | "between" | "strong";
export type Action = "weak" | "try" | "strong";

/** A message of the OpenAI shape; content in parts is sent as it is. */
export interface Message {
  role?: string;
  content?: string | readonly unknown[] | null;
}

/** What is to be routed: one of the three. */
export type Content =
  | { text: string }
  | { messages: readonly Message[] }
  /** The raw JSON body of a chat.completions call. */
  | { openaiBody: string | Uint8Array };

/** All that may be said of a request beside its content; see `RouteRequest` in router.proto. */
export interface RouteOptions {
  requestId?: string;
  policy?: string;
  /** In [0, 1]; goes before `policy`. */
  threshold?: number;
  bundle?: string;
  tenant?: string;
  task?: string;
  sessionId?: string;
  previousTier?: Tier;
  cachedTokens?: number;
  expectedOutputTokens?: number;
  /** Whether the weak model's answer will be shown to `check` when asked to; allows the action `try`. */
  canCheck?: boolean;
  /** Whether to be told p, threshold and expected cost of each rung. */
  perRung?: boolean;
  /** Of a ladder, the rung that the session's request before went to, in the place of `previousTier`. */
  previousRung?: string;
  /** Deadline of this call in milliseconds. */
  timeoutMs?: number;
}

/** What decided on one rung. */
export interface RungLook {
  rung: string;
  model: string;
  effort: string;
  /** That it is not worse than the top; undefined for the top, and where the model did not run. */
  p?: number;
  threshold?: number;
  costUsd?: number;
  isOffered: boolean;
}

/** Where a request is to go; always usable. Numbers that the server did not give are undefined. */
export interface Routed {
  /** To put into the `model` field of the request. */
  model: string;
  tier: Tier;
  /** What to do. With `try`, have `model` answer and show the answer to `check` before anybody sees it. */
  action: Action;
  pMatch?: number;
  confidence?: number;
  threshold?: number;
  policy: string;
  /** A reason of the contract such as `MODEL`, or `FALLBACK`. */
  reason: string;
  stage?: string;
  /** `name/version` that answered; empty on fallback. */
  bundle: string;
  rule: string;
  routePropensity?: number;
  weakCostUsd?: number;
  strongCostUsd?: number;
  /** Name of the rung, `model` or `model:effort`; empty on fallback. */
  rung: string;
  /** Reasoning effort to put into the request; empty for none. */
  effort: string;
  /** The cheapest first; empty unless `perRung` asked for them. */
  rungs: readonly RungLook[];
  /** As the caller saw it. */
  latencyMs: number;
  /** A gRPC code in lower case, `bad_response` or `client_error`; undefined when there was an answer. */
  fallbackReason?: string;
}

/** The weak model's answer and all that came with it; what did not is left out. */
export interface Answer {
  text?: string;
  /** Number of calls of tools in it. */
  toolCalls?: number;
  isRefusal?: boolean;
  /** The vendor's word, such as `stop` or `length`. */
  finishReason?: string;
  /** Natural log-probability of each token. */
  tokenLogprobs?: readonly number[];
  /** Of the most probable other token at each place, as many. */
  alternativeLogprobs?: readonly number[];
  meanLogprob?: number;
  /** Log-probability that the weak model calls its answer right. */
  selfCheck?: number;
  promptTokens?: number;
  completionTokens?: number;
  latencyMs?: number;
}

/** What is to become of the weak model's answer; `escalate` whenever checking failed. */
export interface Judged {
  verdict: "accept" | "escalate";
  /** The model whose answer is to be shown. */
  model: string;
  /** Name of its rung; empty on failure. */
  rung: string;
  /** Its reasoning effort; empty for none. */
  effort: string;
  pMatch?: number;
  confidence?: number;
  threshold?: number;
  policy: string;
  /** A reason of the contract such as `MODEL`, or `FALLBACK`. */
  reason: string;
  /** `CHECKER`, `SIGNALS` or `NONE`; undefined when the second look did not run. */
  head?: string;
  bundle: string;
  rule: string;
  acceptCostUsd?: number;
  escalateCostUsd?: number;
  signalsUsed: readonly string[];
  signalsIgnored: readonly string[];
  latencyMs: number;
  fallbackReason?: string;
}

/** What became of a routed request; see `ReportOutcomeRequest` in router.proto. */
export interface Outcome {
  tier?: Tier;
  model?: string;
  /** In [0, 1]. */
  score?: number;
  preference?: "weak" | "strong" | "tie";
  errorCode?: string;
  promptTokens?: number;
  completionTokens?: number;
  cachedTokens?: number;
  latencyMs?: number;
  bundle?: string;
  tenant?: string;
  sessionId?: string;
  task?: string;
  /** Whether the call only asked the model if its answer was right. */
  selfCheck?: boolean;
  /** Name of the rung that answered: tells one effort of a model from another. */
  rung?: string;
}

const EFFORTS = new Set(["none", "minimal", "low", "medium", "high", "xhigh"]);

/** Model and effort of `model` or `model:effort`, as a fallback tells them; it names no rung of the server's. */
export function rungOf(name: string): { model: string; rung: string; effort: string } {
  const colon = name.lastIndexOf(":");
  const effort = name.slice(colon + 1);
  const isRung = colon > 0 && EFFORTS.has(effort);
  return isRung ? { model: name.slice(0, colon), rung: "", effort } : { model: name, rung: "", effort: "" };
}

const beside = (name: string): string => fileURLToPath(new URL(name, import.meta.url));

export const SERVICE_CONFIG: string = readFileSync(beside("service_config.json"), "utf8");

const definition = loadSync(beside("router.proto"), { longs: Number, enums: String });
const packages = grpc.loadPackageDefinition(definition) as unknown as {
  turnout: { v1: { RouterService: grpc.ServiceClientConstructor } };
};
export const RouterService: grpc.ServiceClientConstructor = packages.turnout.v1.RouterService;

/** Fields of a message that bring content beside its text; the Python client knows the same. */
const BESIDE_TEXT = ["audio", "images", "files", "videos", "attachments", "parts"];
const TIERS: Record<string, Tier> = { TIER_WEAK: "weak", TIER_STRONG: "strong" };
const ACTIONS: Record<string, Action> = { ACTION_WEAK: "weak", ACTION_TRY: "try", ACTION_STRONG: "strong" };
const VERDICTS: Record<string, Judged["verdict"]> = { VERDICT_ACCEPT: "accept", VERDICT_ESCALATE: "escalate" };
const HEADS: Record<string, string> = {
  CHECK_HEAD_CHECKER: "CHECKER",
  CHECK_HEAD_SIGNALS: "SIGNALS",
  CHECK_HEAD_NONE: "NONE",
};

/** The fields of a `RouteRequest`. */
export function routeRequest(content: Content, options: RouteOptions): object {
  const { threshold, policy, previousTier, timeoutMs: _, ...said } = options;
  return {
    ...said,
    ...contentFields(content),
    ...(threshold !== undefined ? { threshold } : policy ? { policy } : {}),
    ...present({ previousTier: tierName(previousTier) }),
  };
}

/** The fields of a `ReportOutcomeRequest`. */
export function outcomeRequest(requestId: string, outcome: Outcome): object {
  const { tier, ...said } = outcome;
  return { requestId, ...said, ...present({ tier: tierName(tier) }) };
}

/** The fields of a `CheckRequest`; without content it goes by the `requestId` of the options. */
export function checkRequest(answer: Answer, content: Content | undefined, options: RouteOptions): object {
  const { text, toolCalls, isRefusal, finishReason, promptTokens, completionTokens, latencyMs, ...signals } = answer;
  const asked = content
    ? { request: routeRequest(content, options) }
    : { requestId: options.requestId ?? "", tenant: options.tenant ?? "" };
  return {
    ...asked,
    answer: { text: wellFormed(text ?? ""), ...present({ toolCalls, isRefusal, finishReason }) },
    signals: present(signals),
    ...present({ promptTokens, completionTokens, latencyMs }),
  };
}

/** What a `CheckResponse` says; undefined when it names no verdict or no model. */
export function judgedOf(reply: Record<string, any>, latencyMs: number): Judged | undefined {
  const verdict = VERDICTS[reply.verdict];
  if (!verdict || !reply.model) return undefined;
  const { pMatch, confidence, acceptCostUsd, escalateCostUsd } = reply;
  return {
    verdict,
    model: reply.model,
    rung: reply.rung ?? "",
    effort: reply.effort ?? "",
    threshold: reply.threshold ?? 0,
    policy: reply.policy ?? "",
    reason: shortName(reply.reason) ?? "RULE",
    bundle: reply.bundle ?? "",
    rule: reply.rule ?? "",
    signalsUsed: reply.signalsUsed ?? [],
    signalsIgnored: reply.signalsIgnored ?? [],
    latencyMs,
    ...present({ pMatch, confidence, acceptCostUsd, escalateCostUsd }),
    ...present({ head: HEADS[reply.head] }),
  };
}

function contentFields(content: Content): object {
  if ("text" in content) return { text: wellFormed(content.text) };
  if ("openaiBody" in content) return { openaiBody: Buffer.from(content.openaiBody) };
  const { messages } = content;
  if (messages.every(isPlain)) {
    const plain = messages.map(({ role, content: text }) => ({ role: role || "user", text: wellFormed(String(text ?? "")) }));
    return { messages: { messages: plain } };
  }
  return { openaiBody: Buffer.from(JSON.stringify({ messages })) };
}

/** Whether text is all that a message holds, as far as the route is concerned. */
function isPlain(message: Message): boolean {
  return (message.content == null || typeof message.content === "string") && !BESIDE_TEXT.some((name) => name in message);
}

/** Lone surrogates have no UTF-8; the Python client replaces them the same way. */
function wellFormed(text: string): string {
  return text.replace(/\p{Surrogate}/gu, "?");
}

/** Undefined for a rung between, which its name tells. */
function tierName(tier: Tier | undefined): string | undefined {
  return tier && tier !== "between" ? `TIER_${tier.toUpperCase()}` : undefined;
}

/** What a `RouteResponse` says; undefined when it names no model, or neither tier nor rung. */
export function routedOf(reply: Record<string, any>, latencyMs: number): Routed | undefined {
  const isBetween = reply.rung && (reply.tier ?? "TIER_UNSPECIFIED") === "TIER_UNSPECIFIED";
  const tier = TIERS[reply.tier] ?? (isBetween ? "between" : undefined);
  if (!tier || !reply.model) return undefined;
  const { pMatch, confidence, weakCostUsd, strongCostUsd } = reply;
  return {
    model: reply.model,
    tier,
    action: ACTIONS[reply.action] ?? (tier === "weak" ? "weak" : "strong"), // a server from before the field
    rung: reply.rung ?? "",
    effort: reply.effort ?? "",
    rungs: (reply.pRungs ?? []).map(rungLook),
    threshold: reply.threshold ?? 0,
    policy: reply.policy ?? "",
    reason: shortName(reply.reason) ?? "RULE", // a later server may know more reasons
    bundle: reply.bundle ?? "",
    rule: reply.rule ?? "",
    latencyMs,
    ...present({ pMatch, confidence, weakCostUsd, strongCostUsd }),
    ...present({ stage: shortName(reply.stage), routePropensity: reply.routePropensity || undefined }),
  };
}

function rungLook(look: Record<string, any>): RungLook {
  const { rung, model, effort = "", isOffered = false, p, threshold, costUsd } = look;
  return { rung, model, effort, isOffered, ...present({ p, threshold, costUsd }) };
}

/** `MODEL` for `REASON_MODEL`; undefined for the unspecified and for numbers of a later proto. */
function shortName(name: unknown): string | undefined {
  const short = typeof name === "string" ? name.slice(name.indexOf("_") + 1) : "UNSPECIFIED";
  return short === "UNSPECIFIED" ? undefined : short;
}

function present<T extends object>(fields: T): { [K in keyof T]?: NonNullable<T[K]> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value != null)) as {
    [K in keyof T]?: NonNullable<T[K]>;
  };
}
