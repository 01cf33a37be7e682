// One job as it goes on. What its events add up to is told by the controller; here it is only shown.

import { act, ask, wish } from "./call.js";
import { chart } from "./chart.js";
import { el, pairs, put, table, text } from "./dom.js";
import { badge, contact } from "./jobs.js";
import { log } from "./log.js";
import { about, duration, partOf, percent, seconds, speed, time } from "./units.js";
import { say, stepTitle } from "./words.js";

const AGAIN_MS = 2000;
const OVER = ["succeeded", "failed", "cancelled"];
const ICONS = { waiting: "·", running: "▸", retrying: "↻", done: "✓", failed: "✕", undoing: "↶", undone: "↩", undo_failed: "!" };

export function show(main, id, cx) {
  let source = null;
  let timer;
  let last = 0;
  let job = null;
  let view = null;
  let over = false;
  const head = el("div", { class: "jobhead" });
  const story = el("div", {});
  const steps = el("div", {});
  const curve = chart();
  const lines = log(id);
  const result = el("div", {});
  const cancel = el("button", { type: "button", class: "danger", id: "cancel", hidden: true, on: { click: askCancel } });
  // The button stays where it is while all around it is drawn anew: it may have the focus.
  const title = el("h1", {}, say("loading"));
  const facts = el("div", {});
  put(head, el("div", { class: "headline" }, title, cancel), facts);
  put(main, head, story,
    el("div", { class: "columns" },
      el("section", {}, el("h2", {}, say("steps")), steps),
      el("div", {}, el("section", {}, el("h2", {}, say("upload_speed")), curve.element), el("section", {}, lines.element))),
    result);

  function follow() {
    clearTimeout(timer);
    source = new EventSource(`/web/api/jobs/${encodeURIComponent(id)}/events?after=${last}`);
    const on = (name, take) => source.addEventListener(name, (message) => take(JSON.parse(message.data)));
    source.onopen = () => cx.line(null);
    on("job", (told) => {
      job = told;
      draw();
    });
    on("view", (told) => {
      view = told;
      draw();
    });
    on("sample", (told) => {
      if (told.unit === "bytes") curve.add(told.at, told.per_second);
    });
    on("event", (told) => {
      if (told.seq <= last) return;
      last = told.seq;
      lines.add(told, view);
    });
    on("broken", (told) => cx.line(told.message || say("line_lost")));
    on("end", () => {
      over = true;
      source.close();
      cx.line(null);
      main.dataset.ended = "yes";
      ending();
    });
    source.onerror = async () => {
      cx.line(say("line_lost"));
      // A browser comes back by itself unless the answer was no stream: then the controller says why.
      if (source.readyState !== EventSource.CLOSED || over) return;
      try {
        await ask("jobs/" + encodeURIComponent(id));
      } catch (error) {
        const words = cx.refused(error);
        if (words === null) return;
        cx.line(null);
        if (error.status >= 400 && error.status < 500 && error.status !== 429) {
          put(head, el("p", { class: "bad", role: "alert" }, words));
          return;
        }
        cx.line(words);
      }
      timer = setTimeout(follow, AGAIN_MS);
    };
  }

  function draw() {
    if (!job) return;
    const undoing = view?.phase === "undoing";
    const until = view?.finished ?? new Date().toISOString();
    cancel.hidden = over || OVER.includes(job.state) || !cx.mayAct;
    text(cancel, say(undoing ? "cancel_again" : "cancel"));
    const share = view ? view.percent : job.percent;
    put(title, job.cluster || job.job_id, " ", badge(job.state),
      undoing ? el("span", { class: "badge undoing" }, say("stepstate.undoing")) : null);
    put(facts,
      el("div", { class: "whole" },
        el("progress", { max: 100, value: share, class: job.state, "aria-label": percent(share) }),
        el("span", { class: "number" }, percent(share))),
      pairs(
        [say("job"), el("code", { class: "id" }, job.job_id)],
        [say("site"), job.site],
        [say("agent"), contact(job)],
        [say("vm"), job.vm_name],
        [say("address"), job.cloudtower_ip],
        [say("file"), job.file_name],
        [say("by"), job.submitted_by],
        [say("created"), time(job.created)],
        [say("took"), view?.started ? duration(seconds(view.started, until)) : null],
        [say("eta"), view?.eta_seconds ? left(view) : null],
        [say("epoch"), job.epoch > 1 ? String(job.epoch) : null]));
    drawStory();
    if (view) drawSteps();
  }

  function drawStory() {
    const failure = view?.failure ?? job.failure;
    const asked = job.question;
    put(story,
      job.refusal ? el("p", { class: "note warning" }, say("order_refused", { why: job.refusal })) : null,
      job.moving_to ? el("p", { class: "note" }, say("moving", { agent: job.moving_to })) : null,
      job.cancel ? el("p", { class: "note", id: "cancelled" }, say("cancel." + job.cancel)) : null,
      asked ? el("section", { class: "note warning" }, el("h2", {}, say("question")), cause(asked.failure),
        el("ul", {}, asked.choices.map((choice) => el("li", {}, el("code", {}, choice.id), " ", choice.text))),
        el("p", {}, asked.answered ? say("question_answered") : say("question_how", { command: `ctl decide ${job.job_id}` }))) : null,
      failure ? el("section", { class: job.state === "failed" ? "note error" : "note warning", id: "failure" },
        el("h2", {}, say(job.state === "cancelled" ? "state.cancelled" : "failure")), cause(failure)) : null,
      view?.undo && job.state !== "succeeded" ? el("p", { class: "note" }, `${say("undo")}: ${say("undo." + view.undo)}`) : null,
      view?.leftovers?.length ? el("section", { class: "note error" }, el("h2", {}, say("leftovers")),
        table([say("kind"), say("name"), say("id"), say("by_hand")],
          view.leftovers.map((left) => [left.kind, left.name, el("code", {}, left.id), left.remedy]), { class: "cards" })) : null);
  }

  function drawSteps() {
    const rows = view.steps.map((step) => {
      const { info, state, sample } = step;
      const share = sample?.total > 0 ? Math.min((100 * sample.done) / sample.total, 100) : null;
      const took = step.started ? duration(seconds(step.started, step.finished ?? new Date().toISOString())) : "";
      const busy = ["running", "undoing"].includes(state);
      return el("li", { class: state, "data-step": info.id, "aria-current": busy ? "step" : null },
        el("span", { class: "icon", "aria-hidden": "true" }, ICONS[state] ?? "?"),
        el("div", { class: "what" },
          el("div", { class: "title" }, stepTitle(info.id, info.title)),
          el("div", { class: "dim" },
            [say("stepstate." + state, null, state), took,
              step.attempt > 1 || state === "retrying" ? `${say("attempt")} ${step.attempt}/${info.attempts}` : null,
              busy && sample?.unit === "bytes" ? partOf(sample.done, sample.total) : null,
              busy && sample?.unit === "bytes" && sample.per_second > 0 ? speed(sample.per_second) : null]
              .filter(Boolean).join("  ·  ")),
          busy && share !== null ? el("progress", { max: 100, value: share, "aria-label": percent(share) }) : null,
          busy && sample?.text ? el("div", { class: "dim live" }, sample.text) : null,
          step.failure && state !== "done" ? el("div", { class: "bad" }, step.failure.message) : null,
          step.removed.length ? el("ul", { class: "dim" }, step.removed.map((one) => el("li", {}, one))) : null));
    });
    put(steps, el("ol", { class: "steps" }, rows));
  }

  function cause(failure) {
    return [
      el("p", { class: "said" }, failure.message),
      failure.causes?.length ? el("p", {}, say("because"), ": ", failure.causes.join(" ← ")) : null,
      failure.remedy ? el("p", {}, el("strong", {}, say("to_do")), ": ", failure.remedy) : null,
      failure.code ? el("p", { class: "dim" }, say("code"), ": ", el("code", {}, failure.code)) : null,
    ];
  }

  async function ending() {
    draw();
    try {
      const told = (await ask(`jobs/${encodeURIComponent(id)}/result`)).result;
      const made = Object.entries(told?.deploy_cloudtower ?? {}).filter(([, value]) => ["string", "number", "boolean"].includes(typeof value));
      put(result, el("section", { id: "result" }, el("h2", {}, say("result")),
        pairs(...made.map(([key, value]) => [key, String(value)])),
        el("p", { class: "dim" }, say("report_how", { command: `ctl report ${id} --out report.html` })),
        el("details", {}, el("summary", {}, say("result_all")), el("pre", {}, JSON.stringify(told, null, 2)))));
    } catch (error) {
      cx.line(cx.refused(error));
    }
  }

  function askCancel() {
    const again = view?.phase === "undoing";
    const request = wish();
    const reason = el("input", { type: "text", id: "reason", maxlength: 500 });
    const said = el("p", { class: "bad", role: "alert" });
    const yes = el("button", { type: "submit", class: "danger" }, say(again ? "cancel_again" : "cancel"));
    const dialog = el("dialog", { "aria-labelledby": "cancel-title", on: { close: () => dialog.remove() } },
      el("form", { method: "dialog", on: { submit: send } },
        el("h2", { id: "cancel-title" }, say("cancel_title")),
        el("p", {}, el("strong", {}, job.cluster || job.job_id), " ", job.site),
        el("p", {}, say(again ? "cancel_again_text" : "cancel_text")),
        el("label", {}, say("reason"), reason), said,
        el("div", { class: "buttons" }, el("button", { type: "button", on: { click: () => dialog.close() } }, say("keep_on")), yes)));
    main.append(dialog);
    dialog.showModal();
    reason.focus();

    async function send(event) {
      event.preventDefault();
      yes.disabled = true;
      try {
        job = (await act(`jobs/${encodeURIComponent(id)}/cancel`, { reason: reason.value, request_id: request })).job ?? job;
        dialog.close();
        draw();
      } catch (error) {
        text(said, cx.refused(error) ?? "");
        yes.disabled = false;
      }
    }
  }

  follow();
  // What is counted from now goes on although nothing happens.
  const tick = setInterval(() => over || draw(), 5000);
  return () => {
    clearTimeout(timer);
    clearInterval(tick);
    source?.close();
    cx.line(null);
    delete main.dataset.ended;
  };
}

/** How long is left, with its range unless that is the same to a reader. */
function left(view) {
  const [low, high] = view.eta_range.map(about);
  return low === high ? about(view.eta_seconds) : `${about(view.eta_seconds)} (${low} – ${high})`;
}
