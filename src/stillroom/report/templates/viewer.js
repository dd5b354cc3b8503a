"use strict";
// Every text enters the page through textContent; nothing here makes markup from data.
(() => {
  const traces = JSON.parse(document.getElementById("data").textContent);
  const form = document.getElementById("filters");
  if (!form) return;
  const PAGE = 50;
  const rows = document.getElementById("rows");
  const earlier = document.getElementById("earlier");
  const later = document.getElementById("later");
  let found = traces, page = 0, chosen = traces[0];

  function add(parent, tag, kind, text) {
    const node = document.createElement(tag);
    if (kind) node.className = kind;
    if (text !== undefined) node.textContent = text;
    parent.append(node);
    return node;
  }

  // Escapes written by the report (⟨U+202E⟩, ⟨… 12 more characters⟩) are set apart from the text around them.
  function fill(node, text) {
    for (const part of text.split(/(⟨(?:U\+[0-9A-F]{4,6}|…[^⟩]*)⟩)/)) {
      if (/^⟨(?:U\+|…)/.test(part)) add(node, "span", "esc", part.slice(1, -1));
      else node.append(part);
    }
    return node;
  }

  const words = trace => [...trace.asked.map(turn => turn[1]), trace.response].join("\n").toLowerCase();

  function search() {
    const want = Object.fromEntries(new FormData(form));
    const text = want.q.toLowerCase(), problem = want.problem.toLowerCase();
    found = traces.filter(trace =>
      ["shelf", "outcome", "level", "source", "finish"].every(key => !want[key] || String(trace[key]) === want[key]) &&
      (!problem || trace.problem.toLowerCase().includes(problem)) && (!text || words(trace).includes(text)));
    page = 0;
    chosen = found[0];
    list();
    show();
  }

  function list() {
    const first = page * PAGE, last = Math.min(first + PAGE, found.length);
    document.getElementById("count").textContent = found.length
      ? `${first + 1}–${last} of ${found.length.toLocaleString("en")}` : "No trace fits these filters.";
    rows.replaceChildren();
    for (const trace of found.slice(first, last)) {
      const button = add(add(rows, "li"), "button");
      button.type = "button";
      button.setAttribute("aria-current", String(trace === chosen));
      add(button, "span", `outcome ${trace.outcome}`, trace.outcome);
      fill(add(button, "span", "problem"), trace.problem);
      fill(add(button, "span", "start"), trace.response.slice(0, 120));
      button.addEventListener("click", () => {
        chosen = trace;
        for (const other of rows.querySelectorAll("button")) other.setAttribute("aria-current", String(other === button));
        show();
        if (matchMedia("(max-width: 800px)").matches) document.getElementById("trace").scrollIntoView();
      });
    }
    earlier.disabled = page === 0;
    later.disabled = last === found.length;
  }

  function turns(parent, title, messages) {
    add(parent, "h4", "", title);
    for (const [role, text] of messages) {
      add(parent, "p", "role", role);
      fill(add(parent, "pre", "text"), text);
    }
  }

  function show() {
    const box = document.getElementById("trace");
    box.replaceChildren();
    box.scrollTop = 0;
    if (!chosen) return;
    const head = add(box, "p", "facts");
    add(head, "span", `outcome ${chosen.outcome}`, chosen.outcome);
    for (const fact of [chosen.shelf, chosen.source, `level ${chosen.level}`, `finish: ${chosen.finish}`]) fill(add(head, "span"), fact);
    fill(add(box, "h3", ""), chosen.problem);
    if (chosen.pictures.length) {
      const shown = add(box, "p", "pictures");
      chosen.pictures.forEach((source, number) => {
        const picture = add(shown, "img");
        picture.alt = `picture ${number + 1} of the question`;
        picture.src = source;
      });
    }
    turns(box, "Asked", chosen.asked);
    if (chosen.context.length) turns(box, "Taught instead of what was asked", chosen.context);
    add(box, "h4", "", `Response · ${chosen.length.toLocaleString("en")} characters`);
    fill(add(box, "pre", "text response"), chosen.response || "(empty)");
    if (chosen.diff.length) {
      add(box, "h4", "", "Against its parent");
      const diff = add(box, "pre", "text diff");
      for (const [kind, text] of chosen.diff) fill(add(diff, kind === "same" ? "span" : kind === "added" ? "ins" : "del"), text);
    }
    const facts = add(box, "dl", "details");
    for (const [name, value] of [["id", chosen.id], ...chosen.facts]) {
      fill(add(facts, "dt"), name);
      fill(add(facts, "dd"), value);
    }
  }

  for (const select of form.querySelectorAll("select")) {
    const values = [...new Set(traces.map(trace => trace[select.name]))];
    values.sort((a, b) => typeof a === "number" ? a - b : a < b ? -1 : 1);
    add(select, "option", "", "all").value = "";
    for (const value of values) add(select, "option", "", String(value)).value = String(value);
    select.parentElement.hidden = values.length < 2;
  }
  form.addEventListener("input", search);
  form.addEventListener("submit", event => event.preventDefault());
  for (const [button, step] of [[earlier, -1], [later, 1]])
    button.addEventListener("click", () => { page += step; list(); rows.querySelector("button")?.focus(); });
  form.hidden = document.getElementById("viewer").hidden = false;
  list();
  show();
})();
