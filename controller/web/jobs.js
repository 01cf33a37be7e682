// The list of jobs, newest first.

import { ask } from "./call.js";
import { el, put, text } from "./dom.js";
import { duration, percent, seconds, time } from "./units.js";
import { say, stepTitle } from "./words.js";

/// How often the list is asked for, and how long a page of it is.
const EVERY_MS = 2000;
const PAGE = 100;

export const badge = (state) => el("span", { class: "badge " + state }, say("state." + state, null, state));

export function contact(job) {
  const there = job.agent_in_contact;
  return el("span", { class: there ? "contact there" : "contact gone", title: say(there ? "in_contact" : "no_contact") },
    job.agent_id, there ? null : ` (${say("no_contact")})`);
}

export function show(main, _argument, cx) {
  let timer;
  let stopped = false;
  let older = [];
  let newest = [];
  let end = false;
  const rows = new Map();
  const heads = ["state", "cluster", "site", "agent", "progress", "step", "created", "took"].map((key) => say(key));
  const search = el("input", { type: "search", id: "search", placeholder: say("search"), "aria-label": say("search_label") });
  const active = el("input", { type: "checkbox", id: "active" });
  const body = el("tbody", {});
  const told = el("p", { class: "empty", role: "status" }, say("loading"));
  const more = el("button", { type: "button", hidden: true, on: { click: page } }, say("older"));
  put(main,
    el("div", { class: "headline" },
      el("h1", {}, say("jobs")),
      el("div", { class: "filters" }, search, el("label", {}, active, " ", say("active_only")))),
    el("table", { class: "list cards" },
      el("thead", {}, el("tr", {}, heads.map((head) => el("th", { scope: "col" }, head)))), body),
    told, more, el("p", { class: "dim keys" }, say("keys")));

  async function load() {
    clearTimeout(timer);
    if (!document.hidden) {
      try {
        newest = (await ask(`jobs?limit=${PAGE}&active=${active.checked}`)).jobs;
        if (stopped) return;
        cx.line(null);
        draw();
      } catch (error) {
        if (stopped) return;
        const words = cx.refused(error);
        if (words === null) return;
        cx.line(words);
      }
    }
    timer = setTimeout(load, EVERY_MS);
  }

  async function page() {
    const last = older.at(-1) ?? newest.at(-1);
    try {
      const next = (await ask(`jobs?limit=${PAGE}&active=${active.checked}&before=${last.job_id}`)).jobs;
      older = older.concat(next);
      end = next.length < PAGE;
      draw();
    } catch (error) {
      cx.line(cx.refused(error));
    }
  }

  function draw() {
    const known = new Set(newest.map((job) => job.job_id));
    const all = newest.concat(older.filter((job) => !known.has(job.job_id)));
    const wanted = search.value.trim().toLowerCase();
    const fits = (job) =>
      [job.job_id, job.cluster, job.site, job.agent_id, job.file_name, job.vm_name, job.cloudtower_ip, job.submitted_by]
        .some((word) => word.toLowerCase().includes(wanted));
    const shown = all.filter(fits);
    const kept = new Set(shown.map((job) => job.job_id));
    for (const [id, row] of rows) {
      if (!kept.has(id)) {
        row.remove();
        rows.delete(id);
      }
    }
    shown.forEach((job, at) => {
      let row = rows.get(job.job_id);
      if (!row) {
        row = line(job.job_id);
        rows.set(job.job_id, row);
      }
      fill(row, job);
      // Only what stands elsewhere is moved: a row that has the focus keeps it.
      if (body.children[at] !== row) body.insertBefore(row, body.children[at] ?? null);
    });
    told.hidden = shown.length > 0;
    text(told, say(all.length === 0 ? "no_jobs" : "no_match"));
    more.hidden = end || newest.length < PAGE;
  }

  function line(id) {
    const link = el("a", { href: "#/job/" + id });
    return el("tr", { on: { click: (event) => event.target === link || (location.hash = link.hash) } },
      heads.map((head, at) => el("td", { "data-head": head }, at === 1 ? link : null)));
  }

  function fill(row, job) {
    const [state, cluster, site, agent, progress, step, created, took] = row.children;
    if (row.dataset.state !== job.state) {
      row.dataset.state = job.state;
      put(state, badge(job.state));
    }
    text(cluster.firstChild, job.cluster || job.file_name || job.job_id);
    text(site, job.site);
    put(agent, contact(job));
    let bar = progress.firstChild;
    if (!bar) {
      bar = el("progress", { max: 100 });
      progress.append(bar, el("span", { class: "number" }));
    }
    bar.value = job.percent;
    bar.className = job.state;
    bar.setAttribute("aria-label", percent(job.percent));
    text(progress.lastChild, percent(job.percent));
    text(step, job.current_step ? stepTitle(job.current_step) : "");
    text(created, time(job.created));
    const until = job.finished ?? new Date().toISOString();
    text(took, job.started ? duration(seconds(job.started, until)) : "");
  }

  function keys(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const typing = event.target === search;
    if (event.key === "/" && !typing) {
      event.preventDefault();
      search.focus();
    } else if (event.key === "Escape" && typing) {
      search.value = "";
      draw();
      search.blur();
    } else if (event.key === "Enter" && typing) {
      body.querySelector("a")?.focus();
    } else if ((["j", "k"].includes(event.key) && !typing) || ["ArrowDown", "ArrowUp"].includes(event.key)) {
      const links = [...body.querySelectorAll("a")];
      const at = links.indexOf(document.activeElement);
      const down = event.key === "j" || event.key === "ArrowDown";
      const next = links[at < 0 ? 0 : Math.min(Math.max(at + (down ? 1 : -1), 0), links.length - 1)];
      if (next) {
        event.preventDefault();
        next.focus();
      }
    }
  }

  search.addEventListener("input", draw);
  active.addEventListener("change", () => {
    older = [];
    end = false;
    load();
  });
  document.addEventListener("keydown", keys);
  document.addEventListener("visibilitychange", load);
  load();
  return () => {
    stopped = true;
    clearTimeout(timer);
    document.removeEventListener("keydown", keys);
    document.removeEventListener("visibilitychange", load);
  };
}
