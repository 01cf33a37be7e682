// What can be done to a job: each button is there when the job's state allows it, and asks before it does anything.

import { Refusal, act, ask, wish } from "./call.js";
import { confirm, reason } from "./dialog.js";
import { el, put, table, text } from "./dom.js";
import { findings } from "./findings.js";
import { bytes } from "./units.js";
import { say, stepTitle } from "./words.js";

const OVER = ["succeeded", "failed", "cancelled"];
const NONE = new Uint8Array();

/// The buttons of one job. `told` gets the job as an act has left it.
export function acts(main, id, cx, told) {
  let job = null;
  let view = null;
  /// A hold that was asked for and that the agent has not come to yet.
  let holding = false;
  // The buttons stay where they are while all around them is drawn anew: one may have the focus.
  const button = (name, click, look) => el("button", { type: "button", id: name, class: look, hidden: true, on: { click } }, say("act." + name));
  const pause = button("pause", askPause);
  const resume = button("resume", askResume, "main");
  const retry = button("retry", askRetry, "main");
  const move = button("move", askMove);
  const cancel = button("cancel", askCancel, "danger");
  const element = el("div", { class: "acts" }, resume, retry, pause, move, cancel);

  function draw(newest, newView) {
    if (newest.state !== job?.state || newest.epoch !== job?.epoch) holding = false;
    job = newest;
    view = newView;
    const over = OVER.includes(job.state);
    const free = cx.mayAct && !job.cancel && !job.moving_to;
    pause.hidden = !free || holding || !["queued", "running"].includes(job.state);
    resume.hidden = !free || !(holding || job.state === "paused");
    retry.hidden = !cx.mayAct || !["failed", "cancelled"].includes(job.state) || !view?.steps.length;
    move.hidden = !cx.mayAct || job.state === "succeeded" || (!over && Boolean(job.cancel));
    cancel.hidden = !cx.mayAct || over;
    text(cancel, say(view?.phase === "undoing" ? "act.cancel_again" : "act.cancel"));
  }

  const path = (name) => `jobs/${encodeURIComponent(id)}/${name}`;
  const about = () => [el("strong", {}, job.cluster || job.job_id), " ", job.site];
  const when = () => (job.agent_in_contact ? null : el("p", { class: "dim" }, say("when_back")));

  /// Sends a wish once: when the answer was lost, the same one is sent again.
  function once(name, fields, then) {
    const request_id = wish();
    return async () => {
      const answer = await act(path(name), { ...fields(), request_id });
      then?.();
      if (answer.job) told(answer.job);
      return true;
    };
  }

  function askCancel() {
    const again = view?.phase === "undoing";
    const why = reason();
    confirm(main, cx, {
      title: say("cancel_title"), about: about(), danger: true,
      body: [el("p", {}, say(again ? "cancel_again_text" : "cancel_text")), why.element],
      yes: say(again ? "act.cancel_again" : "act.cancel"),
      send: once("cancel", () => ({ reason: why.value })),
    });
  }

  function askPause() {
    const why = reason();
    confirm(main, cx, {
      title: say("pause_title"), about: about(), body: [el("p", {}, say("pause_text")), when(), why.element], yes: say("act.pause"),
      send: once("pause", () => ({ reason: why.value }), () => {
        holding = true;
      }),
    });
  }

  function askResume() {
    confirm(main, cx, {
      title: say("resume_title"), about: about(), body: [el("p", {}, say("resume_text")), when()], yes: say("act.resume"),
      send: once("resume", () => ({}), () => {
        holding = false;
      }),
    });
  }

  function askDecide(question, choice) {
    const why = reason();
    confirm(main, cx, {
      title: say("decide_title"), about: about(), yes: say("act.decide"), danger: choice.id === "undo",
      body: [el("p", {}, el("code", {}, choice.id), " ", choice.text), when(), why.element],
      send: once("decide", () => ({ choice: choice.id, question: question.seq, reason: why.value })),
    });
  }

  /// A field for a workbook, which goes to the controller as it does from the page that deploys.
  function filing(changed) {
    const field = el("input", { type: "file", id: "workbook", accept: ".xlsx", on: { change: changed } });
    return {
      field,
      async read() {
        const file = field.files[0];
        if (!file) return { name: "", content: NONE };
        if (file.size > cx.me.workbook_bytes) throw new Refusal(0, "too_large", say("too_large", { limit: bytes(cx.me.workbook_bytes) }));
        return { name: file.name, content: new Uint8Array(await file.arrayBuffer()) };
      },
    };
  }

  function askRetry() {
    const request_id = wish();
    const from = el("select", { id: "from", "data-first": true, on: { change: look } },
      el("option", { value: "" }, say("retry_first")),
      view.steps.map((step) => el("option", { value: step.info.id }, stepTitle(step.info.id, step.info.title))));
    const failing = el("select", { id: "failing" },
      ["as_before", "undo", "keep"].map((policy) => el("option", { value: policy }, say("on_failure." + policy))));
    const workbook = filing(look);
    const found = el("div", { id: "fates", role: "status" });
    let looks = 0;
    const box = confirm(main, cx, {
      wide: true, title: say("retry_title"), about: about(), yes: say("act.retry"),
      body: [
        el("p", {}, say("retry_text")), when(),
        el("label", {}, say("retry_from"), from),
        el("label", {}, say("on_failure"), failing),
        el("label", {}, say("retry_workbook"), workbook.field),
        el("p", { class: "dim" }, say("retry_secrets", { command: `ctl retry ${id} --plan FILE` })), found],
      send: () => send(false),
    });
    look();

    async function send(dry_run) {
      const { name, content } = await workbook.read();
      const wishes = { file_name: name, from: from.value, on_failure: failing.value, dry_run, request_id: dry_run ? wish() : request_id };
      const number = ++looks;
      const answer = await act(`${path("retry")}?${new URLSearchParams(wishes)}`, content);
      // A newer look has been asked for.
      if (dry_run && number !== looks) return false;
      tell(answer);
      if (answer.accepted && answer.job) told(answer.job);
      return answer.accepted;
    }

    /// What would become of each step, before anything is done.
    async function look() {
      box.refused("");
      box.go.disabled = true;
      put(found, el("p", { class: "dim" }, say("looking")));
      try {
        await send(true);
      } catch (error) {
        put(found);
        box.refused(cx.refused(error) ?? "");
      }
    }

    function tell(answer) {
      const blocked = answer.steps.some((step) => step.fate === "blocked");
      const reasons = answer.steps.some((step) => step.reason);
      box.go.disabled = blocked || answer.verdict !== null;
      put(found,
        answer.verdict ? el("p", { class: "note error" }, say("verdict." + answer.verdict), " ", say("correct")) : null,
        answer.problems.length ? findings(answer.problems) : null,
        blocked ? el("p", { class: "note error" }, say("retry_blocked")) : null,
        answer.steps.length ? table([say("step"), say("fate"), ...(reasons ? [say("why")] : [])],
          answer.steps.map((step) => [
            stepTitle(step.step), el("span", { class: "badge " + step.fate }, say("fate." + step.fate)), ...(reasons ? [step.reason] : [])]),
          { class: "cards fates" }) : null);
    }
  }

  async function askMove() {
    let others;
    try {
      const all = (await ask("agents")).agents;
      others = all.filter((agent) => agent.site === job.site && !agent.revoked && (agent.agent_id !== job.agent_id || job.refusal));
    } catch (error) {
      cx.line(cx.refused(error));
      return;
    }
    const request_id = wish();
    const from = job.agent_id;
    const over = OVER.includes(job.state);
    const agent = el("select", { id: "agent", "data-first": true }, others.map((one) =>
      el("option", { value: one.agent_id, selected: one.agent_id === job.moving_to },
        one.in_contact ? one.agent_id : `${one.agent_id} (${say("no_contact")})`)));
    const workbook = filing();
    workbook.field.required = true;
    const typed = el("input", { type: "text", id: "typed", autocomplete: "off", "aria-label": say("move_type", { agent: from }) });
    const vouching = el("div", { class: "note error", hidden: true },
      el("p", {}, say("move_vouch", { agent: from })),
      job.agent_in_contact ? el("p", {}, el("strong", {}, say("move_there", { agent: from }))) : null,
      el("label", {}, say("move_type", { agent: from }), typed));
    const off = el("input", { type: "checkbox", id: "off", on: { change: () => {
      vouching.hidden = !off.checked;
    } } });
    const found = el("div", {});
    const box = confirm(main, cx, {
      wide: true, title: say("move_title"), about: about(), yes: say("act.move"), danger: true,
      body: others.length === 0 ? el("p", { class: "note warning" }, say("move_nobody", { agent: from, site: job.site })) : [
        el("p", {}, over ? say("move_text_over") : say("move_text", { agent: from })),
        el("label", {}, say("move_to"), agent),
        el("label", {}, say("move_workbook"), workbook.field),
        over ? null : el("label", { class: "check" }, el("span", {}, off, " ", say("move_off", { agent: from }))), vouching, found],
      send,
    });
    box.go.disabled = others.length === 0;

    async function send() {
      put(found);
      if (off.checked && typed.value.trim() !== from) {
        box.refused(say("move_untyped", { agent: from }));
        return false;
      }
      const { name, content } = await workbook.read();
      const wishes = { file_name: name, agent: agent.value, old_agent_is_off: off.checked, request_id };
      const answer = await act(`${path("move")}?${new URLSearchParams(wishes)}`, content);
      if (answer.verdict) {
        put(found, el("p", { class: "note error" }, say("verdict." + answer.verdict)), findings(answer.problems));
        return false;
      }
      if (answer.job) told(answer.job);
      return true;
    }
  }

  return { element, draw, decide: askDecide, get holding() { return holding; } };
}
