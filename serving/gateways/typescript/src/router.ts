/**
 * The client: asks the router, and answers with the strong model whenever that fails.
 *
 * No failure of routing rejects. Falling back costs money, never quality, and is counted by reason.
 */
import * as grpc from "@grpc/grpc-js";

import {
  checkRequest,
  judgedOf,
  outcomeRequest,
  routedOf,
  routeRequest,
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
  /** The name to answer with on fallback. */
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
}

const CHANNEL_OPTIONS: grpc.ChannelOptions = {
  "grpc.service_config": SERVICE_CONFIG,
  "grpc.initial_reconnect_backoff_ms": 100,
  "grpc.max_reconnect_backoff_ms": 1000, // the default of two minutes is two minutes of strong answers
  "grpc.enable_http_proxy": 0, // prompts go to the router and nowhere else
};
const OUTCOME_TIMEOUT_MS = 1000; // it waits for a disk, and no user waits for it

type Stub = grpc.Client & Record<string, any>;

export class Router {
  /** How often each reason made it answer with the strong model. */
  readonly fallbacks = new Map<string, number>();
  /** How often each reason made `reportOutcome` resolve to false. */
  readonly unreported = new Map<string, number>();
  /** How often each reason made `check` escalate. */
  readonly unchecked = new Map<string, number>();
  readonly #options: Required<Omit<RouterOptions, "credentials" | "token">>;
  readonly #stub: Stub;
  readonly #metadata = new grpc.Metadata();

  /** Names the server, `host:port` or any target of gRPC, and the defaults of every call; connects at the first one. */
  constructor(target = "127.0.0.1:50151", options: RouterOptions = {}) {
    const { credentials = grpc.credentials.createInsecure(), token, ...said } = options;
    this.#options = { strongModel: "gpt-4o", timeoutMs: 100, policy: "", bundle: "", ...said };
    if (token) this.#metadata.set("authorization", `Bearer ${token}`);
    this.#stub = new RouterService(target, credentials, CHANNEL_OPTIONS) as unknown as Stub;
  }

  /** Where the request is to go. */
  async route(content: Content, options: RouteOptions = {}): Promise<Routed> {
    const started = performance.now();
    const { policy, bundle } = this.#options;
    try {
      const request = routeRequest(content, { policy, bundle, ...options });
      const reply = await this.#call("route", request, options.timeoutMs ?? this.#options.timeoutMs);
      return routedOf(reply, performance.now() - started) ?? this.#fallback("bad_response", started);
    } catch (error) {
      return this.#fallback(whyFailed(error), started);
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
      return this.#escalated(whyFailed(error), started);
    }
  }

  /** Tells the server what became of a routed request; false when that is not known to be on its disk. */
  async reportOutcome(requestId: string, outcome: Outcome = {}, timeoutMs = OUTCOME_TIMEOUT_MS): Promise<boolean> {
    try {
      await this.#call("reportOutcome", outcomeRequest(requestId, outcome), timeoutMs);
      return true;
    } catch (error) {
      count(this.unreported, whyFailed(error));
      return false;
    }
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

  #escalated(why: string, started: number): Judged {
    count(this.unchecked, why);
    return {
      verdict: "escalate",
      model: this.#options.strongModel,
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

  #fallback(why: string, started: number): Routed {
    count(this.fallbacks, why);
    return {
      model: this.#options.strongModel,
      tier: "strong",
      action: "strong",
      policy: "",
      reason: "FALLBACK",
      bundle: "",
      rule: "",
      latencyMs: performance.now() - started,
      fallbackReason: why,
    };
  }
}

function count(counts: Map<string, number>, why: string): void {
  counts.set(why, (counts.get(why) ?? 0) + 1);
}

/** A gRPC code in lower case, or `client_error`. */
function whyFailed(error: unknown): string {
  const code = (error as Partial<grpc.ServiceError>).code;
  const name = code === undefined ? undefined : grpc.status[code];
  return name === undefined ? "client_error" : name.toLowerCase();
}
