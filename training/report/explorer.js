"use strict";
(() => {
  const data = JSON.parse(document.getElementById("explorer-data").textContent);
  const byId = (id) => document.getElementById(id);
  const slider = byId("threshold");
  const inputs = ["requests", "prompt-tokens", "output-tokens", "weak-input", "weak-output", "strong-input", "strong-output",
    "router-usd"];
  const choices = { one: { positions: data.positions, place: data.start } };
  if (data.second) choices.two = { positions: data.second.positions, place: data.second.start };
  let looks = "one";
  let spoken = 0;

  const amount = (id) => (byId(id).validity.valid ? byId(id).valueAsNumber : NaN);

  const perRequest = (tier) =>
    (amount("prompt-tokens") * amount(tier + "-input") + amount("output-tokens") * amount(tier + "-output")) /
    data.per_price;

  const monthly = (shareWeak, shareBoth) =>
    amount("requests") * ((shareWeak + shareBoth) * perRequest("weak") + (1 - shareWeak) * perRequest("strong"));

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

  const nearest = (value) => {
    const distance = choices[looks].positions.map((at) => Math.abs(at.at - value));
    return distance.indexOf(Math.min(...distance));
  };

  const show = (place) => {
    const { positions } = choices[looks];
    choices[looks].place = place;
    const at = positions[place];
    const cost = monthly(at.share_weak, at.waits) + (amount("requests") / 1e6) * amount("router-usd");
    const allStrong = monthly(0, 0);
    const texts = {
      "at-threshold": at.threshold, "at-share": at.share, "at-kept": at.kept, "at-kept-range": at.kept_range,
      "at-worse": at.worse, "at-worse-bound": at.worse_bound, "at-cost": dollars(cost),
      "at-saved": dollars(allStrong - cost), "at-all-strong": dollars(allStrong),
      "at-rule": at.rule, "at-waits": at.more,
    };
    for (const [id, text] of Object.entries(texts)) if (byId(id)) byId(id).textContent = text;
    if (at.y !== null) {
      byId("mark").setAttribute("cx", at.x);
      byId("mark").setAttribute("cy", at.y);
      for (const end of ["x1", "x2"]) byId("mark-line").setAttribute(end, at.x);
      byId("mark-line").setAttribute("y1", at.y);
    }
    slider.setAttribute("aria-valuetext", at.share + " to " + data.weak);
    for (const button of document.querySelectorAll("#jumps-" + looks + " button"))
      button.setAttribute("aria-pressed", String(Number(button.dataset.position) === place));
    const waits = looks === "two" ? ", " + at.more + " wait for both models" : "";
    return at.share + " to " + data.weak + waits + ": quality " + at.kept + ", worse answers at most " + at.worse_bound +
      ", " + dollars(cost) + " a month, saves " + dollars(allStrong - cost);
  };

  const goTo = (place) => {
    const { positions } = choices[looks];
    const within = Math.max(0, Math.min(positions.length - 1, place));
    slider.value = positions[within].at;
    return show(within);
  };

  const choose = (wanted) => {
    looks = wanted;
    const isTwo = looks === "two";
    byId("explorer-card").classList.toggle("second", isTwo);
    for (const [name, isShown] of [["one", !isTwo], ["two", isTwo]]) {
      for (const part of ["rule-", "more-", "jumps-"]) if (byId(part + name)) byId(part + name).hidden = !isShown;
      if (byId("curve-" + name)) byId("curve-" + name).classList.toggle("faded", !isShown);
    }
    if (byId("plot")) byId("plot").classList.toggle("second", isTwo);
    return goTo(choices[looks].place);
  };

  slider.addEventListener("input", () => say(show(nearest(slider.valueAsNumber))));
  slider.addEventListener("change", () => goTo(choices[looks].place));
  slider.addEventListener("keydown", (event) => {
    const { positions, place } = choices[looks];
    const moves = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10 };
    const to = { Home: 0, End: positions.length - 1 }[event.key] ?? place + (moves[event.key] ?? 0);
    if (!(event.key in moves) && event.key !== "Home" && event.key !== "End") return;
    event.preventDefault();
    say(goTo(to));
  });
  for (const id of inputs) byId(id).addEventListener("input", () => say(show(choices[looks].place)));
  for (const button of document.querySelectorAll(".jumps button"))
    button.addEventListener("click", () => say(goTo(Number(button.dataset.position))));
  for (const name of ["one", "two"])
    if (byId("looks-" + name)) byId("looks-" + name).addEventListener("change", () => say(choose(name)));
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
  goTo(choices.one.place);
})();
