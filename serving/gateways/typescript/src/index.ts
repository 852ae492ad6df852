export { Router, type RouterOptions } from "./router.js";
export type { Content, Message, Outcome, Routed, RouteOptions, Tier } from "./wire.js";
