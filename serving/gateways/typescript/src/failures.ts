/**
 * Why calls failed: counted by cause, and said aloud, for a caller that always has an answer sees nothing.
 *
 * Texts of errors that are not gRPC's stay out: they may quote a prompt.
 */
import * as grpc from "@grpc/grpc-js";

const REPEAT_MS = 60_000; // after the first line of a cause, one a minute says that it goes on
const MAX_CAUSES = 64; // beyond it causes are counted by their code alone
const MAX_TEXT = 300;

export class Failures {
  /** How often each cause was met: a code, and the message that came with it, without its numbers. */
  readonly causes = new Map<string, number>();
  readonly #said = new Map<string, { ms: number; n: number }>();
  readonly #warn: (line: string) => void;

  constructor(warn: (line: string) => void = (line) => console.warn(line)) {
    this.#warn = warn;
  }

  /** Counts a failure, and says it unless the same was said within the last minute. */
  note(why: string, text: string, consequence: string): void {
    const short = text.replace(/\s+/g, " ").slice(0, MAX_TEXT);
    let cause = short ? `${why}: ${short.replace(/\b[0-9a-f]{16}\b|\d+/g, "#")}` : why;
    if (!this.causes.has(cause) && this.causes.size >= MAX_CAUSES) cause = why;
    count(this.causes, cause);
    const n = this.causes.get(cause) ?? 0;
    const last = this.#said.get(cause);
    if (last && performance.now() - last.ms < REPEAT_MS) return;
    this.#said.set(cause, { ms: performance.now(), n });
    const since = n - (last?.n ?? 0);
    const again = since > 1 ? ` (${since} times since this was said last)` : "";
    this.#warn(`turnout: ${consequence}: ${why}${short && `: ${short}`}${again}`);
  }
}

export function count(counts: Map<string, number>, why: string): void {
  counts.set(why, (counts.get(why) ?? 0) + 1);
}

/** A gRPC code in lower case, or `client_error`. */
export function whyFailed(error: unknown): string {
  const code = (error as Partial<grpc.ServiceError>).code;
  const name = code === undefined ? undefined : grpc.status[code];
  return name === undefined ? "client_error" : name.toLowerCase();
}

/** What may be said of a failure. */
export function textOf(error: unknown): string {
  if (whyFailed(error) !== "client_error") return (error as grpc.ServiceError).details ?? "";
  return error instanceof Error ? error.name : "";
}
