// The pages: who is there, which page is shown, language and light.

import { Refusal, act, ask } from "./call.js";
import { el, put, text } from "./dom.js";
import { choose, language, say } from "./words.js";
import * as agents from "./agents.js";
import * as job from "./job.js";
import * as jobs from "./jobs.js";
import * as submit from "./submit.js";

const PAGES = { jobs, job, agents, deploy: submit };
const THEME = "gantry.theme";
const THEMES = ["auto", "light", "dark"];
/// A call that found no controller is made again after so long.
const AGAIN_MS = 2000;

const by = (id) => document.getElementById(id);
const main = by("main");
let me = null;
let stop = () => {};

/// What every page has at hand.
const cx = {
  get me() {
    return me;
  },
  get mayAct() {
    return me !== null && me.role !== "viewer";
  },
  /// Says on every page that the line is lost, or that it is there again.
  line(words) {
    by("line").hidden = !words;
    text(by("line"), words ?? "");
  },
  /// What a refused call means for the page: its words, or nothing when the page is left.
  refused(error) {
    if (!(error instanceof Refusal)) throw error;
    if (error.status === 401) {
      door();
      return null;
    }
    return error.code === "unreachable" ? say("unreachable") : error.message;
  },
};

function route() {
  stop();
  stop = () => {};
  if (!me) return;
  const [name, argument] = location.hash.replace(/^#\/?/, "").split("/");
  const page = PAGES[name || "jobs"];
  for (const link of by("nav").children) {
    const here = link.hash === "#/" + (name || "jobs") || (name === "job" && link.hash === "#/jobs");
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  main.className = name || "jobs";
  if (page) stop = page.show(main, decodeURIComponent(argument ?? ""), cx) ?? stop;
  else put(main, el("p", { class: "empty" }, say("not_found")));
}

function dress() {
  document.documentElement.lang = language() === "zh" ? "zh-CN" : "en";
  for (const place of document.querySelectorAll("[data-t]")) text(place, say(place.dataset.t));
  text(by("lang"), language() === "zh" ? "English" : "中文");
  const theme = THEMES.includes(localStorage.getItem(THEME)) ? localStorage.getItem(THEME) : "auto";
  document.documentElement.dataset.theme = theme;
  text(by("theme"), say("theme", { now: say("theme." + theme) }));
  if (me) text(by("who"), `${me.operator} (${say("role." + me.role)}${me.sites.length ? ": " + me.sites.join(", ") : ""})`);
  by("nav").hidden = !me;
  by("leave").hidden = !me || me.session_left_s === null;
}

/// What is seen by whoever has no session.
function door(why) {
  stop();
  stop = () => {};
  me = null;
  submit.forget();
  text(by("who"), "");
  dress();
  main.className = "door";
  put(main,
    el("h1", {}, say("door_title")),
    why ? el("p", { class: "bad", role: "alert" }, why) : null,
    el("p", {}, say("door_text")),
    el("pre", {}, "ctl web"),
    el("p", { class: "dim" }, say("door_once")));
}

async function enter(token) {
  put(main, el("p", { class: "empty" }, say("entering")));
  try {
    await act("enter", { token });
  } catch (error) {
    return door(error.code === "unreachable" ? say("unreachable") : error.message);
  }
  return begin();
}

async function begin() {
  try {
    me = await ask("me");
  } catch (error) {
    if (error.status === 401) return door();
    cx.line(error.message || say("unreachable"));
    setTimeout(begin, AGAIN_MS);
    return undefined;
  }
  cx.line(null);
  dress();
  return route();
}

by("lang").addEventListener("click", () => {
  choose(language() === "zh" ? "en" : "zh");
  dress();
  if (me) route();
  else door();
});
by("theme").addEventListener("click", () => {
  localStorage.setItem(THEME, THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length]);
  dress();
});
by("leave").addEventListener("click", async () => {
  await act("leave").catch(() => {});
  door();
});
addEventListener("hashchange", () => {
  route();
  main.focus();
});

dress();
// The token is taken out of the address, and of the history, before anything else.
const token = location.pathname === "/web/enter" ? location.hash.slice(1) : "";
if (location.pathname !== "/") history.replaceState(null, "", "/");
if (token) enter(token);
else begin();
