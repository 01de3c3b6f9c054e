"use strict";
// Tables that sort: each heading is a button; cells carry their number in data-v.
for (const button of document.querySelectorAll("table.sortable th > button")) {
  button.addEventListener("click", () => {
    const head = button.parentElement, column = head.cellIndex, body = head.closest("table").tBodies[0];
    const before = head.getAttribute("aria-sort"), number = head.classList.contains("num");
    const down = before === "none" ? number : before === "ascending";
    for (const other of head.parentElement.querySelectorAll("[aria-sort]")) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = (row) => number ? Number(row.cells[column].dataset.v) : row.cells[column].textContent;
    const order = (a, b) => number ? value(a) - value(b) : value(a).localeCompare(value(b), "en", { numeric: true });
    body.append(...[...body.rows].sort((a, b) => down ? order(b, a) : order(a, b)));
  });
}

// Charts that tell the values under the pointer; arrow keys walk through the epochs.
const readouts = JSON.parse(document.getElementById("readouts").textContent);
for (const figure of document.querySelectorAll(".chart")) {
  const rows = readouts[figure.dataset.chart], plot = figure.querySelector(".plot");
  const cross = plot.querySelector(".cross"), values = figure.querySelectorAll(".key output");
  const where = figure.querySelector(".axis output");
  if (!rows.length) continue;
  let at = -1;
  const tell = (index) => {
    at = index;
    const row = rows[at];
    cross.hidden = !row;
    if (row) cross.style.left = row[0] + "%";
    where.textContent = row ? row[1] : "samples seen";
    values.forEach((output, i) => { output.textContent = row ? row[i + 2] : ""; });
  };
  const nearest = (event) => {
    const box = plot.getBoundingClientRect(), x = 100 * (event.clientX - box.left) / box.width;
    let best = 0;
    rows.forEach((row, i) => { if (Math.abs(row[0] - x) < Math.abs(rows[best][0] - x)) best = i; });
    tell(best);
  };
  plot.tabIndex = 0;
  plot.addEventListener("pointermove", nearest);
  plot.addEventListener("pointerdown", nearest);
  plot.addEventListener("pointerleave", () => tell(-1));
  plot.addEventListener("focus", () => { if (at < 0) tell(rows.length - 1); });
  plot.addEventListener("blur", () => tell(-1));
  plot.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    tell(Math.min(rows.length - 1, Math.max(0, at + step)));
  });
}

// Pictures that open large.
const viewer = document.getElementById("viewer");
for (const button of document.querySelectorAll(".zoom")) {
  button.addEventListener("click", () => {
    const picture = button.querySelector("img"), large = viewer.querySelector("img");
    large.src = picture.src;
    large.alt = viewer.querySelector("p").textContent = picture.alt;
    viewer.showModal();
  });
}
viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });

const copy = document.getElementById("copy");
if (copy && navigator.clipboard) {
  copy.hidden = false;
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById("command").textContent);
    copy.textContent = "Copied";
  });
}

// On paper nothing stays folded.
let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  for (const one of folded) one.open = true;
});
addEventListener("afterprint", () => { for (const one of folded) one.open = false; });
