"use strict";
/* Elements of the page: made and changed without HTML in texts, so that nothing that a node tells is ever read as HTML. */

function byId(id) {
  return document.getElementById(id);
}

/* An element: element("td", {class: "number"}, "12", another). An attribute that is null or false is left out. */
function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value !== null && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

/* Set a text only where it is another: the same one again would be work, and for a screen reader news. */
function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/* A table: columns are {label, isNumber}, rows are arrays of texts; the first cell is the row's heading. `caption` may be
 * hidden, where a heading beside it says the same. */
function tableOf(caption, columns, rows, { isCaptionSeen = true } = {}) {
  const heads = columns.map((column) =>
    element("th", { scope: "col", class: column.isNumber ? "number" : null }, column.label),
  );
  const body = rows.map((row) =>
    element(
      "tr",
      null,
      ...row.map((text, i) => {
        const attributes = { class: columns[i].isNumber ? "number" : null };
        return i ? element("td", attributes, text) : element("th", { ...attributes, scope: "row" }, text);
      }),
    ),
  );
  return element(
    "table",
    null,
    element("caption", { class: isCaptionSeen ? null : "unseen" }, caption),
    element("thead", null, element("tr", null, ...heads)),
    element("tbody", null, ...body),
  );
}
