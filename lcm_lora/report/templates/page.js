// Sorting and filtering of tables; all else on the page is HTML and CSS.
"use strict";
for (const area of document.querySelectorAll("[data-numbers]")) {
  const body = area.querySelector("tbody");
  const rows = [...body.rows];
  const heads = [...area.querySelectorAll("thead th")];
  const filters = [...area.querySelectorAll("[data-filter]")];
  const key = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();

  // Numbers by size, words by alphabet, and what is not there last, either way.
  const compare = (a, b, sign) => {
    if (a === "" || b === "") return (a === "") - (b === "");
    const apart = isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b;
    return sign * apart;
  };

  const sort = (column) => {
    const up = heads[column].getAttribute("aria-sort") !== "ascending";
    heads.forEach((head) => head.setAttribute("aria-sort", "none"));
    heads[column].setAttribute("aria-sort", up ? "ascending" : "descending");
    rows.sort((a, b) => compare(key(a, column), key(b, column), up ? 1 : -1));
    body.append(...rows);
  };

  const filter = () => {
    let shown = 0;
    for (const row of rows) {
      row.hidden = !filters.every(({ value, dataset }) => {
        const wanted = value.trim().toLowerCase();
        if (dataset.filter === "text") return row.textContent.toLowerCase().includes(wanted);
        return !wanted || row.dataset[dataset.filter].toLowerCase() === wanted;
      });
      shown += !row.hidden;
    }
    area.querySelector("output").textContent = `${shown} of ${rows.length} shown`;
  };

  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => sort(column));
  });
  filters.forEach((control) => control.addEventListener("input", filter));
  area.querySelectorAll("[data-scripted]").forEach((part) => { part.hidden = false; });
  filter(); // a browser that goes back restores what was chosen
}
