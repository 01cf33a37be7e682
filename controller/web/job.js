// One job as it goes on. What its events add up to is told by the controller; here it is only shown.

import { acts } from "./acts.js";
import { ask } from "./call.js";
import { chart } from "./chart.js";
import { el, pairs, put, table, text } from "./dom.js";
import { badge, contact } from "./jobs.js";
import { log } from "./log.js";
import { about, duration, partOf, percent, seconds, speed, time } from "./units.js";
import { language, say, stepTitle } from "./words.js";

const AGAIN_MS = 2000;
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
  const question = el("div", {});
  const steps = el("div", {});
  const curve = chart();
  const lines = log(id);
  const result = el("div", {});
  const wishes = acts(main, id, cx, changed);
  const title = el("h1", {}, say("loading"));
  const facts = el("div", {});
  put(head, el("div", { class: "headline" }, title, wishes.element), facts);
  put(main, head, question, story,
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
    on("speeds", (told) => curve.begin(told.points));
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

  /// An act has left the job so. One that had ended goes on: it is followed again.
  function changed(told) {
    const again = over && told.epoch > job.epoch;
    job = told;
    if (again) {
      over = false;
      view = null;
      curve.clear();
      delete main.dataset.ended;
      put(result);
      put(steps);
      follow();
    }
    draw();
  }

  function draw() {
    if (!job) return;
    const undoing = view?.phase === "undoing";
    const until = view?.finished ?? new Date().toISOString();
    wishes.draw(job, view);
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
    drawQuestion();
    if (view) drawSteps();
  }

  function drawStory() {
    const failure = view?.failure ?? job.failure;
    put(story,
      wishes.holding ? el("p", { class: "note", id: "holding" }, say("holding")) : null,
      job.refusal ? el("p", { class: "note warning" }, say("order_refused", { why: job.refusal })) : null,
      job.moving_to ? el("p", { class: "note" }, say("moving", { agent: job.moving_to })) : null,
      job.cancel ? el("p", { class: "note", id: "cancelled" }, say("cancel." + job.cancel)) : null,
      failure ? el("section", { class: job.state === "failed" ? "note error" : "note warning", id: "failure" },
        el("h2", {}, say(job.state === "cancelled" ? "state.cancelled" : "failure")), cause(failure)) : null,
      view?.undo && job.state !== "succeeded" ? el("p", { class: "note" }, `${say("undo")}: ${say("undo." + view.undo)}`) : null,
      view?.leftovers?.length ? el("section", { class: "note error" }, el("h2", {}, say("leftovers")),
        table([say("kind"), say("name"), say("id"), say("by_hand")],
          view.leftovers.map((left) => [left.kind, left.name, el("code", {}, left.id), left.remedy]), { class: "cards" })) : null);
  }

  /// Drawn anew only when it is another question, or has an answer: one of its buttons may have the focus.
  function drawQuestion() {
    const asked = job.question;
    const open = cx.mayAct && !asked?.answered && !job.cancel;
    const drawn = asked ? `${asked.seq} ${open}` : "";
    if (question.dataset.drawn === drawn) return;
    question.dataset.drawn = drawn;
    put(question, asked ? el("section", { class: "note warning", id: "question" }, el("h2", {}, say("question")), cause(asked.failure),
      el("ul", { class: "choices" }, asked.choices.map((choice) => el("li", {},
        open ? el("button", { type: "button", "data-choice": choice.id, on: { click: () => wishes.decide(asked, choice) } }, choice.id)
          : el("code", {}, choice.id),
        " ", choice.text))),
      asked.answered ? el("p", {}, say("question_answered")) : null) : null);
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
              step.attempt > 1 || state === "retrying" ? `${say("attempt")} ${step.attempt}/${Math.max(info.attempts, step.attempt)}` : null,
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
    const report = (query) => `/web/api/jobs/${encodeURIComponent(id)}/report?${new URLSearchParams(query)}`;
    const handover = el("section", { id: "handover" }, el("h2", {}, say("report")),
      el("p", { class: "dim" }, say("report_text")),
      el("div", { class: "buttons left" },
        el("a", { class: "button main", id: "report", href: report({ lang: language() }), target: "_blank", rel: "noopener" }, say("report_open")),
        el("a", { class: "button", id: "report-json", href: report({ form: "json" }), download: `report-${id}.json` }, say("report_json"))));
    put(result, handover);
    try {
      const told = (await ask(`jobs/${encodeURIComponent(id)}/result`)).result;
      if (!over) return;
      const made = Object.entries(told?.deploy_cloudtower ?? {}).filter(([, value]) => ["string", "number", "boolean"].includes(typeof value));
      put(result, handover, el("section", { id: "result" }, el("h2", {}, say("result")),
        pairs(...made.map(([key, value]) => [key, String(value)])),
        el("details", {}, el("summary", {}, say("result_all")), el("pre", {}, JSON.stringify(told, null, 2)))));
    } catch (error) {
      cx.line(cx.refused(error));
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
