// The end of a job's log.

import { el, put } from "./dom.js";
import { clock, duration } from "./units.js";
import { say, stepTitle } from "./words.js";

/// Lines that are kept.
const KEPT = 300;
/// For engineers: `ctl watch` has them.
const QUIET = ["intent", "intent_outcome", "fact", "unknown"];
const WARNINGS = ["cancel_accepted", "paused", "operator_needed", "operator_decided", "surrendered"];

function level(event) {
  if (event.event === "note") return event.level;
  if (event.event === "step_failed") return event.will_retry ? "warning" : "error";
  if (event.event === "undo_finished") return event.failure ? "error" : "info";
  if (event.event === "job_finished") return { failed: "error", cancelled: "warning" }[event.outcome] ?? "info";
  return WARNINGS.includes(event.event) ? "warning" : "info";
}

function words(event) {
  const name = "event." + event.event;
  switch (event.event) {
    case "note": return event.message;
    case "job_started": return say(name, { agent: event.agent });
    case "step_started": return event.attempt > 1 ? say("event.step_started_again", { n: event.attempt }) : say(name);
    case "step_succeeded": return say(name, { took: duration(event.elapsed_ms / 1000) });
    case "step_failed": return say(event.will_retry ? "event.step_will_retry" : name, { why: event.failure.message });
    case "operator_needed": return say(name, { why: event.failure.message });
    case "operator_decided": return say(name, { by: event.by, choice: event.choice });
    case "surrendered": return say(name, { agent: event.to });
    case "undo_finished":
      return event.failure ? say("event.undo_failed", { why: event.failure.message }) : [say(name), ...event.removed].join("; ");
    case "job_finished": return say(name, { outcome: say("state." + event.outcome) });
    default: return say(name, { by: event.by });
  }
}

export function log(id) {
  const list = el("ol", { class: "log", tabindex: 0, "aria-label": say("log") });
  const cut = el("p", { class: "dim", hidden: true }, say("log_cut", { command: `ctl watch ${id} --from-seq 1` }));
  const empty = el("p", { class: "dim" }, say("no_events"));
  const only = el("input", { type: "checkbox", on: { change: () => list.classList.toggle("warnings", only.checked) } });
  const element = el("div", {},
    el("div", { class: "headline" }, el("h2", {}, say("log")), el("label", {}, only, " ", say("warnings_only"))), cut, empty, list);

  function add(event) {
    const loud = level(event);
    if (QUIET.includes(event.event) || loud === "debug") return;
    empty.hidden = true;
    const below = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
    const step = event.step ? stepTitle(event.step) : null;
    list.append(el("li", { class: loud, "data-seq": event.seq },
      el("time", { datetime: event.at }, clock(event.at)),
      el("span", {}, step ? el("b", {}, step) : null, step ? ": " : null, words(event))));
    while (list.children.length > KEPT) {
      list.firstChild.remove();
      cut.hidden = false;
    }
    // Whoever reads further up is left alone.
    if (below) list.scrollTop = list.scrollHeight;
  }

  return { element, add, clear: () => put(list) };
}
