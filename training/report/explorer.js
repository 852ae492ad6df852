"use strict";
(() => {
  const data = JSON.parse(document.getElementById("explorer-data").textContent);
  const byId = (id) => document.getElementById(id);
  const slider = byId("threshold");
  const buttons = [...document.querySelectorAll(".jumps button")];
  const inputs = ["requests", "prompt-tokens", "output-tokens", "weak-input", "weak-output", "strong-input", "strong-output",
    "router-usd"];
  let spoken = 0;

  const amount = (id) => (byId(id).validity.valid ? byId(id).valueAsNumber : NaN);

  const perRequest = (tier) =>
    (amount("prompt-tokens") * amount(tier + "-input") + amount("output-tokens") * amount(tier + "-output")) /
    data.per_price;

  const monthly = (shareWeak) =>
    amount("requests") * (shareWeak * perRequest("weak") + (1 - shareWeak) * perRequest("strong"));

  const dollars = (usd) => {
    if (!Number.isFinite(usd)) return "\u2013";
    const digits = Math.abs(usd) >= 100 ? 0 : 2;
    const shown = Math.abs(usd).toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
    return (usd < 0 ? "\u2212$" : "$") + shown;
  };

  const say = (text) => {
    clearTimeout(spoken);
    spoken = setTimeout(() => { byId("at-spoken").textContent = text; }, 400);
  };

  const show = () => {
    const place = slider.valueAsNumber;
    const at = data.positions[place];
    const cost = monthly(at.share_weak) + (amount("requests") / 1e6) * amount("router-usd");
    const allStrong = monthly(0);
    const texts = {
      "at-threshold": at.threshold, "at-share": at.share, "at-kept": at.kept, "at-kept-range": at.kept_range,
      "at-worse": at.worse, "at-worse-bound": at.worse_bound, "at-cost": dollars(cost),
      "at-saved": dollars(allStrong - cost), "at-all-strong": dollars(allStrong),
    };
    for (const [id, text] of Object.entries(texts)) byId(id).textContent = text;
    if (at.y !== null) {
      byId("mark").setAttribute("cx", at.x);
      byId("mark").setAttribute("cy", at.y);
      for (const end of ["x1", "x2"]) byId("mark-line").setAttribute(end, at.x);
      byId("mark-line").setAttribute("y1", at.y);
    }
    slider.setAttribute("aria-valuetext", at.share + " to " + data.weak);
    for (const button of buttons) button.setAttribute("aria-pressed", String(Number(button.dataset.position) === place));
    return at.share + " to " + data.weak + ": quality " + at.kept + ", worse answers at most " + at.worse_bound +
      ", " + dollars(cost) + " a month, saves " + dollars(allStrong - cost);
  };

  slider.addEventListener("input", () => say(show()));
  for (const id of inputs) byId(id).addEventListener("input", () => say(show()));
  for (const button of buttons) {
    button.addEventListener("click", () => {
      slider.value = button.dataset.position;
      say(show());
    });
  }
  const opened = [];
  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details:not([open])")) {
      details.open = true;
      opened.push(details);
    }
  });
  addEventListener("afterprint", () => {
    for (const details of opened.splice(0)) details.open = false;
  });
  show();
})();
