// Asks through the built TypeScript client: one JSON object a line in, one a line out, in their order.
// First line: {"client": URL of dist/index.js, "target": ..., "options": {...}}; then {"content": ..., "options": ...}
// or {"outcome": ..., "requestId": ...}. Last line out: {"fallbacks": ..., "unreported": ...}.
import { createInterface } from "node:readline";

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const { client, target, options } = JSON.parse((await lines.next()).value);
const { Router } = await import(client);
const router = new Router(target, options);
for await (const line of lines) {
  const { content, options, outcome, requestId } = JSON.parse(line);
  const said = outcome ? await router.reportOutcome(requestId, outcome) : await router.route(content, options);
  console.log(JSON.stringify(said));
}
router.close();
const { fallbacks, unreported } = router;
console.log(JSON.stringify({ fallbacks: Object.fromEntries(fallbacks), unreported: Object.fromEntries(unreported) }));
