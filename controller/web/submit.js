// A workbook: checked, its findings shown cell by cell, and deployed.

import { act, ask, wish } from "./call.js";
import { el, pairs, put, text } from "./dom.js";
import { findings as cells } from "./findings.js";
import { bytes } from "./units.js";
import { say } from "./words.js";

const STAGES = ["prepare", "deploy_cloudtower", "attach_cluster", "cloudtower_config", "check_cluster_healthy", "cleanup"];

/// The workbook that was checked last, and what was found: it is still there in another language, or after a look elsewhere.
let kept = null;

export function forget() {
  kept = null;
}

export function show(main, _argument, cx) {
  let stopped = false;
  let workbook = kept?.workbook ?? null;
  const file = el("input", { type: "file", id: "file", accept: ".xlsx", on: { change: () => file.files[0] && take(file.files[0]) } });
  const said = el("p", { class: "bad", role: "alert" });
  const found = el("div", { id: "found" });
  const form = el("div", {});
  const drop = el("label", { class: "drop", for: "file", on: { dragover: over, dragleave: out, drop: dropped } },
    el("strong", {}, say("choose")), el("span", { class: "dim" }, say("choose_text")), file);
  put(main, el("h1", {}, say("deploy")), cx.mayAct ? null : el("p", { class: "note" }, say("viewer_only")), drop, said, found, form);

  function over(event) {
    event.preventDefault();
    drop.classList.add("over");
  }
  function out() {
    drop.classList.remove("over");
  }
  function dropped(event) {
    event.preventDefault();
    out();
    if (event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
  }

  async function take(chosen) {
    text(said, "");
    put(form);
    workbook = null;
    forget();
    if (chosen.size > cx.me.workbook_bytes) {
      put(found);
      text(said, say("too_large", { limit: bytes(cx.me.workbook_bytes) }));
      return;
    }
    put(found, el("p", { class: "empty", role: "status" }, say("checking", { file: chosen.name })));
    try {
      const content = new Uint8Array(await chosen.arrayBuffer());
      const told = await act(`check?${new URLSearchParams({ file_name: chosen.name })}`, content);
      if (stopped) return;
      workbook = { name: chosen.name, content };
      kept = { workbook, told };
      await tell(told);
    } catch (error) {
      put(found);
      text(said, cx.refused(error) ?? "");
    }
    // The same file, corrected, is chosen anew.
    file.value = "";
  }

  async function tell(told) {
    findings(told);
    if (told.verdict === "ok" && cx.mayAct) await wishes();
  }

  function findings(told) {
    const of = (severity) => told.problems.filter((problem) => problem.severity === severity).length;
    const ok = told.verdict === "ok";
    put(found,
      el("p", { class: ok ? "note good" : "note error", role: "status", id: "verdict", "data-verdict": told.verdict },
        el("strong", {}, workbook.name), ": ", say("verdict." + told.verdict), " ", ok ? null : say("correct")),
      el("h2", {}, say("findings")),
      el("p", { class: "dim" }, told.problems.length
        ? say("count", { errors: of("error"), warnings: of("warning"), notices: of("notice") }) : say("no_findings")),
      told.problems.length ? cells(told.problems) : null);
  }

  async function wishes() {
    const agents = (await ask("agents")).agents.filter((agent) => !agent.revoked);
    if (stopped) return;
    const sites = [...new Set(agents.map((agent) => agent.site))];
    const places = sites.flatMap((site) => [
      el("option", { value: JSON.stringify([site, ""]) }, `${site}: ${say("any_agent")}`),
      ...agents.filter((agent) => agent.site === site).map((agent) =>
        el("option", { value: JSON.stringify([site, agent.agent_id]) },
          `${site}: ${agent.agent_id}${agent.in_contact ? "" : ` (${say("no_contact")})`}`)),
    ]);
    const place = el("select", { id: "place" }, places);
    const own = el("input", { type: "checkbox", id: "own-stages", on: { change: choose } });
    const usual = el("span", { class: "dim" }, say("stages_default"));
    function choose() {
      boxes.hidden = !own.checked;
      usual.hidden = own.checked;
    }
    const chosen = STAGES.map((stage) => el("input", { type: "checkbox", value: stage, checked: stage === "prepare" || stage === "deploy_cloudtower" }));
    const boxes = el("div", { class: "boxes", hidden: true },
      chosen.map((box) => el("label", {}, box, " ", say("stage." + box.value))));
    const failing = el("select", {}, ["default", "undo", "keep"].map((policy) => el("option", { value: policy }, say("on_failure." + policy))));
    const go = el("button", { type: "submit", class: "main", id: "go" }, say("deploy_now"));
    const job = wish();
    put(form, el("form", { class: "wishes", on: { submit: send } },
      pairs(
        [el("label", { for: "place" }, say("where")), place],
        [say("stages"), [usual, " ", el("label", {}, own, " ", say("stages_chosen")), boxes]],
        [say("on_failure"), failing]),
      go));

    async function send(event) {
      event.preventDefault();
      go.disabled = true;
      text(go, say("deploying"));
      text(said, "");
      const [site, agent] = JSON.parse(place.value || '["",""]');
      const stages = own.checked ? chosen.filter((box) => box.checked).map((box) => box.value).join(",") : "";
      const query = new URLSearchParams({ job_id: job, file_name: workbook.name, site, agent, on_failure: failing.value, stages });
      try {
        const told = await act("submit?" + query, workbook.content);
        if (told.job) {
          forget();
          location.hash = "#/job/" + told.job.job_id;
          return;
        }
        put(form);
        findings(told);
      } catch (error) {
        text(said, cx.refused(error) ?? "");
        go.disabled = false;
        text(go, say("deploy_now"));
      }
    }
  }

  if (kept) tell(kept.told).catch((error) => text(said, cx.refused(error) ?? ""));
  return () => {
    stopped = true;
  };
}
