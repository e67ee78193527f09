// What the pages need beyond htmx: live parts, completion of tokens, photos that are dropped or pasted.
"use strict";

// ---- where it looked: the veil of one thing over every picture, or none
let looked = "";
const look = () => {
  for (const veil of document.querySelectorAll("[data-veil]")) veil.hidden = veil.dataset.veil !== looked;
  for (const chip of document.querySelectorAll("[data-look]")) chip.setAttribute("aria-pressed", String(chip.dataset.look === looked));
};
document.addEventListener("click", (event) => {
  const chip = event.target.closest("[data-look]");
  if (!chip) return;
  looked = chip.dataset.look === looked ? "" : chip.dataset.look;
  look();
});

// ---- live parts: <section data-live="URL"> holds elements whose ids the server names with their new content
for (const place of document.querySelectorAll("[data-live]")) {
  const source = new EventSource(place.dataset.live);
  source.onmessage = (message) => {
    for (const [id, html] of Object.entries(JSON.parse(message.data))) {
      const part = place.querySelector(`#${id}`);
      if (!part) continue;
      const focused = part.contains(document.activeElement) ? document.activeElement.value : null;
      part.innerHTML = html;
      window.htmx?.process(part);
      look();
      if (focused) part.querySelector(`[value="${CSS.escape(focused)}"]`)?.focus();
    }
  };
  source.addEventListener("end", () => source.close());
  window.addEventListener("pagehide", () => source.close());
}

// ---- putting text where the cursor is
const insert = (area, from, to, text) => {
  area.setRangeText(text, from, to, "end");
  area.focus();
};

for (const chip of document.querySelectorAll("[data-insert]")) {
  chip.addEventListener("click", () => {
    const area = document.getElementById("prompt");
    const before = area.value.slice(0, area.selectionStart);
    const space = before && !/\s$/.test(before) ? " " : "";
    insert(area, area.selectionStart, area.selectionEnd, space + chip.dataset.insert);
  });
}

// ---- completion: a "<" and what follows it opens the list of tokens
for (const area of document.querySelectorAll("[data-complete]")) {
  const list = document.getElementById(area.dataset.complete);
  const options = [...list.children];
  let shown = [], chosen = -1, start = 0;

  const close = () => {
    list.hidden = true;
    area.removeAttribute("aria-activedescendant");
  };
  const mark = (index) => {
    chosen = index;
    options.forEach((option) => option.setAttribute("aria-selected", String(option === shown[index])));
    if (shown[index]) area.setAttribute("aria-activedescendant", shown[index].id);
  };
  const take = (option) => {
    insert(area, start, area.selectionStart, option.dataset.text);
    close();
  };
  area.addEventListener("input", () => {
    const typed = area.value.slice(0, area.selectionStart).match(/<[a-z0-9_-]*$/i);
    shown = typed ? options.filter((option) => option.dataset.text.startsWith(typed[0].toLowerCase())) : [];
    if (!shown.length) return close();
    start = area.selectionStart - typed[0].length;
    options.forEach((option) => { option.hidden = !shown.includes(option); });
    list.hidden = false;
    mark(0);
  });
  area.addEventListener("keydown", (event) => {
    if (list.hidden) return;
    const moves = { ArrowDown: 1, ArrowUp: -1 };
    if (event.key in moves) mark((chosen + moves[event.key] + shown.length) % shown.length);
    else if (event.key === "Enter" || event.key === "Tab") take(shown[chosen]);
    else if (event.key === "Escape") close();
    else return;
    event.preventDefault();
  });
  area.addEventListener("blur", () => setTimeout(close, 150));
  options.forEach((option) => option.addEventListener("mousedown", (event) => { event.preventDefault(); take(option); }));
}

// ---- photos: dropped on the page, or pasted
const drop = document.querySelector("[data-drop]");
if (drop) {
  const input = drop.querySelector("input[type=file]");
  const give = (files) => {
    const moved = new DataTransfer();
    for (const file of files) if (!file.name.startsWith(".")) moved.items.add(file);
    if (!moved.files.length) return;
    input.files = moved.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  };
  const over = (event) => { if (event.dataTransfer?.types.includes("Files")) event.preventDefault(); };
  document.addEventListener("dragover", (event) => { over(event); drop.classList.add("over"); });
  document.addEventListener("dragleave", () => drop.classList.remove("over"));
  const filesOf = async (entry) => {
    if (entry.isFile) return [await new Promise((found, failed) => entry.file(found, failed))];
    const reader = entry.createReader(), inside = [];
    for (;;) {
      const some = await new Promise((found, failed) => reader.readEntries(found, failed));
      if (!some.length) return inside;
      for (const one of some) inside.push(...await filesOf(one));
    }
  };
  document.addEventListener("drop", async (event) => {
    over(event);
    drop.classList.remove("over");
    const files = [...event.dataTransfer?.files ?? []];
    const entries = [...event.dataTransfer?.items ?? []].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    if (!entries.some((entry) => entry.isDirectory)) return give(files);
    give((await Promise.all(entries.map(filesOf))).flat());
  });
  document.addEventListener("paste", (event) => give(event.clipboardData?.files ?? []));
}

// ---- what went wrong is said at the top of the page, whatever part was asked for
document.body.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.xhr.status < 400) return;
  event.detail.target = document.getElementById("said");
  event.detail.swapOverride = "innerHTML";
});
document.body.addEventListener("htmx:sendError", () => {
  const said = document.createElement("p");
  said.className = "wrong";
  said.textContent = "The studio does not answer. Was it closed? What is being learnt goes on; open it again to see it.";
  document.getElementById("said").replaceChildren(said);
});
