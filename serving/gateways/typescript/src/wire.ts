/**
 * Where the messages of `turnout.v1` meet this client's types: a request's content to `RouteRequest`,
 * `RouteResponse` to `Routed`. The proto file and gRPC's service config lie beside the compiled code.
 */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

export type Tier = "weak" | "strong";

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
  /** Deadline of this call in milliseconds. */
  timeoutMs?: number;
}

/** Where a request is to go; always usable. Numbers that the server did not give are undefined. */
export interface Routed {
  /** To put into the `model` field of the request. */
  model: string;
  tier: Tier;
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
  /** As the caller saw it. */
  latencyMs: number;
  /** A gRPC code in lower case, `bad_response` or `client_error`; undefined when there was an answer. */
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
}

const beside = (name: string): string => fileURLToPath(new URL(name, import.meta.url));

export const SERVICE_CONFIG: string = readFileSync(beside("service_config.json"), "utf8");

const definition = loadSync(beside("router.proto"), { longs: Number, enums: String });
const packages = grpc.loadPackageDefinition(definition) as unknown as {
  turnout: { v1: { RouterService: grpc.ServiceClientConstructor } };
};
export const RouterService: grpc.ServiceClientConstructor = packages.turnout.v1.RouterService;

const TIERS: Record<string, Tier> = { TIER_WEAK: "weak", TIER_STRONG: "strong" };

/** The fields of a `RouteRequest`. */
export function routeRequest(content: Content, options: RouteOptions): object {
  const { threshold, policy, previousTier, timeoutMs: _, ...said } = options;
  return {
    ...said,
    ...contentFields(content),
    ...(threshold !== undefined ? { threshold } : policy ? { policy } : {}),
    ...(previousTier && { previousTier: tierName(previousTier) }),
  };
}

/** The fields of a `ReportOutcomeRequest`. */
export function outcomeRequest(requestId: string, outcome: Outcome): object {
  const { tier, ...said } = outcome;
  return { requestId, ...said, ...(tier && { tier: tierName(tier) }) };
}

function contentFields(content: Content): object {
  if ("text" in content) return { text: wellFormed(content.text) };
  if ("openaiBody" in content) return { openaiBody: Buffer.from(content.openaiBody) };
  const { messages } = content;
  if (messages.every((message) => message.content == null || typeof message.content === "string")) {
    const plain = messages.map(({ role, content: text }) => ({ role: role || "user", text: wellFormed(String(text ?? "")) }));
    return { messages: { messages: plain } };
  }
  return { openaiBody: Buffer.from(JSON.stringify({ messages })) };
}

/** Lone surrogates have no UTF-8; the Python client replaces them the same way. */
function wellFormed(text: string): string {
  return text.replace(/\p{Surrogate}/gu, "?");
}

function tierName(tier: Tier): string {
  return `TIER_${tier.toUpperCase()}`;
}

/** What a `RouteResponse` says; undefined when it names no tier or no model. */
export function routedOf(reply: Record<string, any>, latencyMs: number): Routed | undefined {
  const tier = TIERS[reply.tier];
  if (!tier || !reply.model) return undefined;
  const { pMatch, confidence, weakCostUsd, strongCostUsd } = reply;
  return {
    model: reply.model,
    tier,
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
