// Asks through the built TypeScript client: one JSON object a line in, one a line out, in their order.
// First line: {"client": URL of dist/index.js, "target": ..., "options": {...}}; then {"content": ..., "options": ...}
// or {"outcome": ..., "requestId": ...}, or {"answer": ..., "content": ..., "options": ...} to check.
// Last line out: {"fallbacks": ..., "unreported": ..., "unchecked": ...}.
import { createInterface } from "node:readline";

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const { client, target, options } = JSON.parse((await lines.next()).value);
const { Router } = await import(client);
const router = new Router(target, options);
for await (const line of lines) {
  const { answer, content, options, outcome, requestId } = JSON.parse(line);
  const ask = () => (answer ? router.check(answer, content, options) : router.route(content, options));
  const said = outcome ? await router.reportOutcome(requestId, outcome) : await ask();
  console.log(JSON.stringify(said));
}
router.close();
const { fallbacks, unreported, unchecked } = router;
const counts = { fallbacks, unreported, unchecked };
console.log(JSON.stringify(Object.fromEntries(Object.entries(counts).map(([name, by]) => [name, Object.fromEntries(by)]))));
