// The agents and what they offer.

import { ask } from "./call.js";
import { el, put, table } from "./dom.js";
import { bytes, time } from "./units.js";
import { say } from "./words.js";

const EVERY_MS = 5000;

export function show(main, _argument, cx) {
  let timer;
  let stopped = false;
  const place = el("div", {}, el("p", { class: "empty" }, say("loading")));
  put(main, el("h1", {}, say("agents")), place);

  async function load() {
    try {
      const all = (await ask("agents")).agents;
      if (stopped) return;
      cx.line(null);
      draw(all);
    } catch (error) {
      if (stopped) return;
      const words = cx.refused(error);
      if (words === null) return;
      cx.line(words);
    }
    timer = setTimeout(load, EVERY_MS);
  }

  function state(agent) {
    if (agent.revoked) return el("span", { class: "badge failed" }, say("revoked"));
    if (agent.asks_to_return) return el("span", { class: "badge needs_operator" }, say("asks_to_return"));
    return el("span", { class: "badge " + (agent.in_contact ? "succeeded" : "queued") }, say(agent.in_contact ? "in_contact" : "no_contact"));
  }

  function draw(all) {
    if (all.length === 0) {
      put(place, el("p", { class: "empty" }, say("no_agents")));
      return;
    }
    const heads = ["agent", "site", "state", "seen", "version", "active_jobs", "isos", "certificate"].map((key) => say(key));
    const isos = (agent) => (agent.isos.length
      ? el("ul", { class: "bare" }, agent.isos.map((iso) => el("li", {}, iso.name, " ", el("span", { class: "dim" }, bytes(iso.size)))))
      : say("no_isos"));
    put(place, table(heads, all.map((agent) => [
      el("strong", {}, agent.agent_id), agent.site, state(agent), time(agent.seen), agent.version, String(agent.active_jobs),
      isos(agent), agent.certificate_until ? agent.certificate_until.slice(0, 10) : "",
    ]), { class: "list cards" }));
  }

  load();
  return () => {
    stopped = true;
    clearTimeout(timer);
  };
}
