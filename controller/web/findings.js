// What was found in a workbook, cell by cell.

import { el } from "./dom.js";
import { say } from "./words.js";

const ORDER = ["error", "warning", "notice"];

export function findings(problems) {
  const heads = ["severity", "cell", "value", "message", "remedy", "rule"].map((key) => say(key));
  const sorted = [...problems].sort((a, b) => ORDER.indexOf(a.severity) - ORDER.indexOf(b.severity));
  const rows = sorted.map((problem) => {
    const cells = [
      el("span", { class: "badge " + problem.severity }, say("severity." + problem.severity)),
      el("div", {}, el("code", { class: "cell" }, [problem.sheet, problem.cell].filter(Boolean).join("!")),
        problem.label ? el("div", { class: "dim" }, problem.label) : null),
      problem.value ?? "", problem.message, problem.remedy, problem.rule,
    ];
    return el("tr", {}, cells.map((cell, at) => el("td", { "data-head": heads[at] }, cell)));
  });
  return el("table", { class: "cards findings" },
    el("thead", {}, el("tr", {}, heads.map((head) => el("th", { scope: "col" }, head)))), el("tbody", {}, rows));
}
