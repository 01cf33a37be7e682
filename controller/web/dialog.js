// A question before something is done. What it leads to is done once, however often it is sent.

import { el, text } from "./dom.js";
import { say } from "./words.js";

/// Asks. `send` does it and gives whether the dialog may go; what it throws is said in the dialog, which stays.
export function confirm(main, cx, { title, about, body, yes, danger, wide, send }) {
  const said = el("div", { class: "bad", role: "alert" });
  const go = el("button", { type: "submit", class: danger ? "danger" : "main", id: "yes" }, yes);
  const dialog = el("dialog", { class: wide ? "wide" : null, "aria-labelledby": "dialog-title", on: { close: () => dialog.remove() } },
    el("form", { method: "dialog", on: { submit } },
      el("h2", { id: "dialog-title" }, title), about ? el("p", {}, about) : null, body, said,
      el("div", { class: "buttons" }, el("button", { type: "button", on: { click: () => dialog.close() } }, say("not_now")), go)));
  main.append(dialog);
  dialog.showModal();
  (dialog.querySelector("[data-first]") ?? go).focus();

  async function submit(event) {
    event.preventDefault();
    if (go.disabled) return;
    go.disabled = true;
    refused("");
    try {
      if (await send()) dialog.close();
    } catch (error) {
      refused(cx.refused(error) ?? "");
    }
    go.disabled = false;
  }

  function refused(words) {
    text(said, words);
  }

  return { dialog, go, refused, get open() { return dialog.isConnected; } };
}

/// A field for why something is done; nobody has to say it.
export function reason() {
  const field = el("input", { type: "text", id: "reason", maxlength: 500, "data-first": true });
  return { element: el("label", {}, say("reason"), field), get value() { return field.value; } };
}
