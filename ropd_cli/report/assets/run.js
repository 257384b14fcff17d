"use strict";
// What is under the pointer of a chart.
for (const svg of document.querySelectorAll("svg[data-chart]")) {
  const data = JSON.parse(svg.dataset.chart);
  const pointer = svg.querySelector(".pointer");
  const under = svg.parentElement.querySelector(".under");
  const show = (event) => {
    const box = svg.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
    let nearest = 0;
    data.x.forEach((x, k) => { if (Math.abs(x - at) < Math.abs(data.x[nearest] - at)) nearest = k; });
    pointer.setAttribute("x1", data.x[nearest]);
    pointer.setAttribute("x2", data.x[nearest]);
    pointer.style.visibility = "visible";
    const shown = data.lines.filter((l) => l.values[nearest] !== null).map((l) => `${l.name} ${l.values[nearest]}`);
    under.textContent = `${data.across} ${data.steps[nearest].toLocaleString("en")}: ${shown.join(", ")}`;
  };
  svg.addEventListener("pointermove", show);
  svg.addEventListener("pointerdown", show);
  svg.addEventListener("pointerleave", () => { pointer.style.visibility = "hidden"; under.textContent = ""; });
}

// The list of groups: a hundred at a time are in the page, whatever their number.
const source = document.getElementById("groups-data");
if (source) {
  const { columns, rows, full } = JSON.parse(source.textContent);
  const shown = new Set(full);
  const body = document.querySelector("#group-list tbody");
  const count = document.getElementById("group-count");
  const more = document.getElementById("group-more");
  const search = document.getElementById("group-search");
  const kind = document.getElementById("group-kind");
  const at = Object.fromEntries(columns.map((name, k) => [name, k]));
  const kinds = {
    all: () => true,
    zero_variance: (row) => row[at.zero_variance],
    below: (row) => row[at.below],
    failed: (row) => row[at.error] !== null,
    missing: (row) => row[at.missing] > 0,
    lint: (row) => row[at.findings] !== "",
    full: (row, number) => shown.has(number),
  };
  let sortBy = null, descending = false, found = [], drawn = 0;
  const texts = rows.map((row) => `${row[at.uid]} ${row[at.question]} ${row[at.findings]}`.toLowerCase());

  const cell = (text, css) => {
    const td = document.createElement("td");
    td.textContent = text;
    if (css) td.className = css;
    return td;
  };
  const means = ["mean", "spread", "teacher"].filter((name) => document.querySelector(`#group-list [data-by="${name}"]`));
  const number = (value) => (value === null ? "–" : value.toFixed(2));
  const line = (n) => {
    const row = rows[n];
    const tr = document.createElement("tr");
    tr.append(cell(row[at.step], "n"));
    const uid = cell("", "uid");
    uid.title = row[at.uid];
    if (shown.has(n)) {
      const link = document.createElement("a");
      link.href = `#g${n}`;
      link.textContent = row[at.uid];
      uid.append(link);
    } else uid.textContent = row[at.uid];
    tr.append(uid, cell(row[at.question], "words"));
    for (const name of means) tr.append(cell(number(row[at[name]]), "n"));
    const notes = [];
    if (row[at.error] !== null) notes.push(`failed: ${row[at.error]}`);
    if (row[at.missing]) notes.push(`${row[at.missing]} rewards missing`);
    if (row[at.zero_variance]) notes.push("without spread");
    if (row[at.findings]) notes.push(row[at.findings]);
    tr.append(cell(notes.join("; ")));
    return tr;
  };
  const draw = (upTo) => {
    const part = document.createDocumentFragment();
    for (; drawn < Math.min(upTo, found.length); drawn += 1) part.append(line(found[drawn]));
    body.append(part);
    more.hidden = drawn >= found.length;
    count.textContent = `${found.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")} groups`;
  };
  const update = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const fits = kinds[kind.value];
    found = [];
    rows.forEach((row, n) => { if (fits(row, n) && words.every((word) => texts[n].includes(word))) found.push(n); });
    if (sortBy !== null) {
      const key = at[sortBy], sign = descending ? -1 : 1;
      found.sort((a, b) => {
        const left = rows[a][key], right = rows[b][key];
        if (left === right) return a - b;
        if (left === null || right === null) return left === null ? 1 : -1;
        return left < right ? -sign : sign;
      });
    }
    body.replaceChildren();
    drawn = 0;
    draw(100);
  };
  let waiting;
  search.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(update, 120); });
  kind.addEventListener("change", update);
  more.addEventListener("click", () => draw(drawn + 200));
  for (const button of document.querySelectorAll("#group-list th button")) {
    button.addEventListener("click", () => {
      descending = sortBy === button.dataset.by ? !descending : false;
      sortBy = button.dataset.by;
      for (const other of document.querySelectorAll("#group-list th")) other.removeAttribute("aria-sort");
      button.parentElement.setAttribute("aria-sort", descending ? "descending" : "ascending");
      update();
    });
  }
  update();
}

// Following a link to a group opens its fold.
const unfold = () => {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  for (let node = target; node; node = node.parentElement) if (node.tagName === "DETAILS") node.open = true;
  if (target) target.scrollIntoView();
};
addEventListener("hashchange", unfold);
unfold();
