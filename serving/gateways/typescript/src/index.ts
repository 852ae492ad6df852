export { Router, type RouterOptions } from "./router.js";
export type { Action, Answer, Content, Judged, Message, Outcome, Routed, RouteOptions, Tier } from "./wire.js";
