"use strict";
/* What a node can be told from here. Each is asked about once more, with what will be told, and its answer is shown. */

const RESULTS_MAX = 8;

/* help: what stands in the form; title, said: the question; words: what is sent, from the form's fields. */
const ACTIONS = [
  {
    verb: "purge",
    label: "Purge",
    help: "Soft: what is resident is compared with its files, and served meanwhile. Hard: it is dropped, and loaded anew when it is asked for.",
    fields: purgeFields,
    title: ({ kind, what }) => (kind === "path" ? `Purge ${what}?` : `Purge everything with the ${kind} ${what}?`),
    said: ({ how }) =>
      how === "hard"
        ? "Hard: the next requests for it wait until the files are loaded."
        : "Soft: it is served until it has been compared with the files.",
    words: ({ kind, what, how }) => ({ [kind]: what, hard: how === "hard" }),
  },
  {
    verb: "reload",
    label: "Reload",
    help: "Reads the root again, and flips to what is there. Servlets are loaded anew.",
    title: () => "Reload the content?",
    said: () => "What serves now goes on until the next generation is complete.",
    words: () => ({}),
  },
  {
    verb: "drain",
    label: "Drain",
    help: "The node is not ready any more, so that a balancer turns away from it. Clients are still answered; each answer is its connection's last.",
    title: () => "Drain this node?",
    said: () => "It gets no more requests once the balancer has seen it. Undrain takes it back.",
    words: () => ({}),
  },
  {
    verb: "undrain",
    label: "Undrain",
    help: "The node is to be asked again, exactly as before.",
    title: () => "Take the node back?",
    said: () => "The balancer sees it as ready again.",
    words: () => ({}),
  },
];

function purgeFields() {
  const option = (value, label) => element("option", { value }, label);
  const radio = (value, label, checked) =>
    element("label", { class: "choice" }, element("input", { type: "radio", name: "how", value, checked }), label);
  return [
    element("label", { for: "purge-kind" }, "What"),
    element(
      "div",
      { class: "row" },
      element(
        "select",
        { id: "purge-kind", name: "kind" },
        option("path", "path"),
        option("prefix", "prefix"),
        option("glob", "glob"),
      ),
      element("input", {
        name: "what",
        type: "text",
        required: true,
        "aria-label": "Path, prefix or glob",
        placeholder: "/assets/app.css",
        autocomplete: "off",
        autocapitalize: "off",
        spellcheck: "false",
      }),
    ),
    element(
      "fieldset",
      null,
      element("legend", null, "How"),
      radio("soft", "soft", true),
      radio("hard", "hard", false),
    ),
  ];
}

/* The forms, the question and the results. `post(verb, words)` gives {ok, status, told}. */
class Actions {
  constructor(post) {
    this.post = post;
    this.dialog = byId("confirm");
    byId("forms").append(...ACTIONS.map((action) => this.formOf(action)));
    this.dialog.addEventListener("close", () => this.answered(this.dialog.returnValue));
  }

  formOf(action) {
    const title = element("h3", { id: `${action.verb}-title` }, action.label);
    const form = element(
      "form",
      { "aria-labelledby": `${action.verb}-title`, "data-verb": action.verb },
      title,
      element("p", { class: "quiet" }, action.help),
      ...(action.fields?.() ?? []),
      element("button", { type: "submit" }, `${action.label}…`),
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.ask(action, Object.fromEntries(new FormData(form)));
    });
    return form;
  }

  /* The forms that make sense now: what drains can be taken back, and nothing else can. */
  show(now) {
    const isDraining = Boolean(at(now, "ready.draining"));
    for (const form of document.querySelectorAll("form[data-verb]")) {
      const { verb } = form.dataset;
      form.hidden = (verb === "drain" && isDraining) || (verb === "undrain" && !isDraining);
    }
  }

  ask(action, given) {
    this.asked = { action, given };
    setText(byId("confirm-title"), action.title(given));
    setText(byId("confirm-said"), action.said(given));
    setText(byId("confirm-yes"), action.label);
    this.dialog.returnValue = "no";
    this.dialog.showModal();
  }

  async answered(value) {
    const { asked } = this;
    this.asked = null;
    if (value !== "yes" || !asked) return;
    const { action, given } = asked;
    const words = action.words(given);
    const line = element("li", { "data-tone": "unknown" }, `${action.label}: under way`);
    this.note(line);
    const { ok, status, told } = await this.post(action.verb, words);
    const what = Object.entries(words).filter(([, value]) => value !== false).map(([name, value]) => `${name} ${value}`);
    const head = `${clockText(Date.now() / 1000)} ${[action.label, ...what].join(" ")}: `;
    line.dataset.tone = ok ? "good" : "bad";
    const said = ok ? resultText(told) : told?.error ?? (status ? `refused with ${status}` : "the node did not answer");
    setText(line, head + said);
    announce(`${action.label}: ${said}`);
  }

  note(line) {
    const results = byId("results");
    byId("results-none").hidden = true;
    results.prepend(line);
    while (results.children.length > RESULTS_MAX) results.lastChild.remove();
  }
}

/* {"matched": 3, "bytes": 2048} -> "matched 3, bytes 2 KiB" */
function resultText(told) {
  const words = Object.entries(told ?? {}).map(([name, value]) => {
    const label = name.replace(/_/g, " ").replace(/ bytes$/, "");
    if (value === true) return label;
    if (value === false) return `not ${label}`;
    if (isNumber(value)) return `${label} ${name.endsWith("bytes") ? bytesText(value) : countText(value)}`;
    return value === "" || value === null ? "" : `${label}: ${typeof value === "string" ? value : JSON.stringify(value)}`;
  });
  return words.filter(Boolean).join(", ") || "done";
}
