/**
 * The client: asks the router, and answers with the strong model whenever that fails.
 *
 * No failure of routing rejects. Falling back costs money, never quality, and is counted by reason.
 */
import * as grpc from "@grpc/grpc-js";

import { count, Failures, textOf, whyFailed } from "./failures.js";
import {
  checkRequest,
  judgedOf,
  outcomeRequest,
  routedOf,
  routeRequest,
  rungOf,
  RouterService,
  SERVICE_CONFIG,
  type Answer,
  type Content,
  type Judged,
  type Outcome,
  type Routed,
  type RouteOptions,
} from "./wire.js";

export interface RouterOptions {
  /** The name to answer with on fallback; `model:effort` for a model at a reasoning effort. */
  strongModel?: string;
  /** Deadline of a call in milliseconds: what a caller is willing to wait for saving money. */
  timeoutMs?: number;
  /** Default policy; empty for the bundle's own. */
  policy?: string;
  /** `name` or `name/version`; empty for the one served. */
  bundle?: string;
  /** `grpc.credentials.createSsl(...)` for TLS; plain text without. */
  credentials?: grpc.ChannelCredentials;
  /** Bearer token shown with every call. Without TLS others can read it on the way. */
  token?: string;
  /** Milliseconds between signs of life asked of the server, so that a dead connection is left; 0 for none. */
  pingMs?: number;
  /** Milliseconds that a sign of life may take. */
  pingTimeoutMs?: number;
  /** gRPC's own, which go before those that this client sets. */
  channelOptions?: grpc.ChannelOptions;
  /** Takes one line a minute at most for each cause of failure; `console.warn` without. */
  warn?: (line: string) => void;
}

const CHANNEL_OPTIONS: grpc.ChannelOptions = {
  "grpc.service_config": SERVICE_CONFIG,
  "grpc.initial_reconnect_backoff_ms": 100,
  "grpc.max_reconnect_backoff_ms": 1000, // the default of two minutes is two minutes of strong answers
  "grpc.enable_http_proxy": 0, // prompts go to the router and nowhere else
  "grpc.use_local_subchannel_pool": 1, // else a new client takes over the dead connection of the old
};
const PING_MS = 10_000;
const PING_TIMEOUT_MS = 4_000;
const OUTCOME_TIMEOUT_MS = 1000; // it waits for a disk, and no user waits for it

type Stub = grpc.Client & Record<string, any>;

export class Router {
  /** How often each reason made it answer with the strong model. */
  readonly fallbacks = new Map<string, number>();
  /** How often each reason made `reportOutcome` resolve to false. */
  readonly unreported = new Map<string, number>();
  /** How often each reason made `check` escalate. */
  readonly unchecked = new Map<string, number>();
  readonly #failures: Failures;
  readonly #target: string;
  readonly #options: { strongModel: string; timeoutMs: number; policy: string; bundle: string };
  readonly #stub: Stub;
  readonly #metadata = new grpc.Metadata();

  /** Names the server, `host:port` or any target of gRPC, and the defaults of every call; connects at the first one. */
  constructor(target = "127.0.0.1:50151", options: RouterOptions = {}) {
    const { credentials = grpc.credentials.createInsecure(), token, channelOptions, warn, ...said } = options;
    const { pingMs = PING_MS, pingTimeoutMs = PING_TIMEOUT_MS, ...defaults } = said;
    this.#target = target;
    this.#failures = new Failures(warn);
    this.#options = { strongModel: "gpt-4o", timeoutMs: 100, policy: "", bundle: "", ...defaults };
    if (token) this.#metadata.set("authorization", `Bearer ${token}`);
    const pings = pingMs && {
      "grpc.keepalive_time_ms": pingMs,
      "grpc.keepalive_timeout_ms": pingTimeoutMs,
      "grpc.keepalive_permit_without_calls": 1,
    };
    const channel = { ...CHANNEL_OPTIONS, ...pings, ...channelOptions };
    this.#stub = new RouterService(target, credentials, channel) as unknown as Stub;
  }

  /** Where the request is to go. */
  async route(content: Content, options: RouteOptions = {}): Promise<Routed> {
    const started = performance.now();
    const { policy, bundle } = this.#options;
    try {
      const request = routeRequest(content, { policy, bundle, ...options });
      const reply = await this.#call("route", request, options.timeoutMs ?? this.#options.timeoutMs);
      const routed = routedOf(reply, performance.now() - started);
      return routed ?? this.#fallback("bad_response", "neither tier nor model in the answer", started);
    } catch (error) {
      return this.#fallback(whyFailed(error), textOf(error), started);
    }
  }

  /**
   * What is to become of the weak model's answer; `escalate` whenever checking fails.
   *
   * Content and options are those of `route`; without content the server is asked to remember the `requestId`.
   */
  async check(answer: Answer, content?: Content, options: RouteOptions = {}, routed?: Routed): Promise<Judged> {
    const started = performance.now();
    const { policy, bundle } = this.#options;
    try {
      const named = { policy, bundle, ...options, ...(routed?.bundle && { bundle: routed.bundle }) };
      const request = checkRequest(answer, content, named);
      const reply = await this.#call("check", request, options.timeoutMs ?? this.#options.timeoutMs);
      return judgedOf(reply, performance.now() - started) ?? this.#escalated("bad_response", started);
    } catch (error) {
      return this.#escalated(whyFailed(error), started, textOf(error));
    }
  }

  /** Tells the server what became of a routed request; false when that is not known to be on its disk. */
  async reportOutcome(requestId: string, outcome: Outcome = {}, timeoutMs = OUTCOME_TIMEOUT_MS): Promise<boolean> {
    try {
      await this.#call("reportOutcome", outcomeRequest(requestId, outcome), timeoutMs);
      return true;
    } catch (error) {
      const why = whyFailed(error);
      count(this.unreported, why);
      this.#failures.note(why, textOf(error), `${this.#target} did not keep an outcome`);
      return false;
    }
  }

  /** How often each cause made a call fail: its reason, and the message that came with it, without its numbers. */
  get causes(): ReadonlyMap<string, number> {
    return this.#failures.causes;
  }

  /** Closes the connection; later calls fall back. */
  close(): void {
    this.#stub.close();
  }

  #call(method: string, request: object, timeoutMs: number): Promise<Record<string, any>> {
    return new Promise((resolve, reject) => {
      const options = { deadline: Date.now() + timeoutMs };
      const done = (error: Error | null, reply: Record<string, any>) => (error ? reject(error) : resolve(reply));
      this.#stub[method](request, this.#metadata, options, done);
    });
  }

  #escalated(why: string, started: number, text = ""): Judged {
    count(this.unchecked, why);
    const { strongModel } = this.#options;
    this.#failures.note(why, text, `${this.#target} gave no verdict, and ${strongModel} is the answer`);
    return {
      verdict: "escalate",
      ...rungOf(strongModel),
      policy: "",
      reason: "FALLBACK",
      bundle: "",
      rule: "",
      signalsUsed: [],
      signalsIgnored: [],
      latencyMs: performance.now() - started,
      fallbackReason: why,
    };
  }

  #fallback(why: string, text: string, started: number): Routed {
    count(this.fallbacks, why);
    const { strongModel } = this.#options;
    this.#failures.note(why, text, `${this.#target} gave no route, and ${strongModel} is the answer`);
    return {
      ...rungOf(strongModel),
      tier: "strong",
      action: "strong",
      rungs: [],
      policy: "",
      reason: "FALLBACK",
      bundle: "",
      rule: "",
      latencyMs: performance.now() - started,
      fallbackReason: why,
    };
  }
}
