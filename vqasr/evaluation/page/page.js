"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";
const COLUMNS = [
  ["system", (v) => v],
  ["coded_bps", (v) => v.toFixed(0)],
  ["prior_bps", (v) => v.toFixed(0)],
  ["nominal_bps", (v) => v.toFixed(0)],
  ["wer", (v) => (100 * v).toFixed(1) + " %"],
  ["delta_wer", (v) => (100 * v).toFixed(1)],
  ["delta_wer_ci95", (v) => v.map((x) => (100 * x).toFixed(1)).join(" to ")],
  ["cer", (v) => (100 * v).toFixed(1) + " %"],
  ["substitutions", (v) => v],
  ["deletions", (v) => v],
  ["insertions", (v) => v],
  ["hallucinations", (v) => v],
  ["pesq_wb", (v) => v.toFixed(2)],
  ["stoi", (v) => v.toFixed(3)],
  ["estoi", (v) => v.toFixed(3)],
  ["encode_rtf", (v) => v.toFixed(4)],
  ["coding_rtf", (v) => v.toFixed(4)],
  ["asr_rtf", (v) => v.toFixed(4)],
  ["threads", (v) => v],
  ["peak_memory_mib", (v) => v.toFixed(0)],
];
const FLOORS = ["text", "text:xz"];
const isKnown = (value) => value !== null && value !== undefined;
// Without uncompressed audio there is no difference to it, so the word error rate itself is drawn.
const MEASURE = data.rows.some((r) => isKnown(r.delta_wer)) ? "delta_wer" : "wer";

function format(row, [name, formatValue]) {
  return isKnown(row[name]) ? formatValue(row[name]) : "-";
}

function add(parent, tag, attributes, text) {
  const element = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}

function drawCurve() {
  const svg = document.getElementById("curve");
  const rows = data.rows.filter((r) => r.coded_bps > 0 && isKnown(r[MEASURE]) && !FLOORS.includes(r.system));
  const floors = data.rows.filter((r) => FLOORS.includes(r.system));
  if (!rows.length) {
    add(svg, "text", { x: 20, y: 30 }, "No system is both coded and transcribed.");
    return;
  }
  const [left, right, top, bottom] = [60, 880, 15, 370];
  const logs = [...rows, ...floors].map((r) => Math.log10(r.coded_bps));
  const low = Math.floor(2 * Math.min(...logs)) / 2, high = Math.ceil(2 * Math.max(...logs)) / 2;
  const interval = (r) => r[MEASURE + "_ci95"];
  const ceiling = data.rows.find((r) => r.system === "vqasr:continuous" && isKnown(r[MEASURE]));
  const ends = [...rows, ...(ceiling ? [ceiling] : [])].flatMap((r) => [r[MEASURE], ...(interval(r) || [])]);
  const worst = Math.min(1, Math.max(0.02, ...ends)), best = Math.min(0, ...ends);
  const x = (bps) => left + ((Math.log10(bps) - low) / Math.max(0.5, high - low)) * (right - left);
  const y = (wer) => bottom - ((Math.min(1, wer) - best) / (worst - best)) * (bottom - top);
  for (let e = Math.ceil(low); e <= high; e++)
    for (const m of [1, 2, 5]) {
      const bps = m * 10 ** e;
      if (Math.log10(bps) > high) continue;
      add(svg, "line", { class: "grid", x1: x(bps), x2: x(bps), y1: top, y2: bottom });
      add(svg, "text", { x: x(bps), y: bottom + 18, "text-anchor": "middle" }, bps >= 1000 ? bps / 1000 + "k" : bps);
    }
  const step = worst - best > 0.3 ? 0.1 : worst - best > 0.1 ? 0.05 : 0.01;
  for (let v = Math.ceil(best / step) * step; v <= worst + 1e-9; v += step) {
    add(svg, "line", { class: "grid", x1: left, x2: right, y1: y(v), y2: y(v) });
    add(svg, "text", { x: left - 8, y: y(v) + 4, "text-anchor": "end" }, (100 * v).toFixed(0));
  }
  add(svg, "line", { class: "zero", x1: left, x2: right, y1: y(0), y2: y(0) });
  add(svg, "text", { x: (left + right) / 2, y: 412, "text-anchor": "middle" }, "bits per second, bytes on disk");
  add(svg, "text", { x: 14, y: (top + bottom) / 2, transform: `rotate(-90 14 ${(top + bottom) / 2})`, "text-anchor": "middle" },
    MEASURE === "wer" ? "word error rate, percent" : "difference of the word error rate, points");
  for (const r of floors) {
    add(svg, "line", { class: "floor", x1: x(r.coded_bps), x2: x(r.coded_bps), y1: top, y2: bottom });
    add(svg, "text", { x: x(r.coded_bps) + 4, y: bottom - 6 }, r.system);
  }
  if (ceiling) {
    add(svg, "line", { class: "floor", x1: left, x2: right, y1: y(ceiling[MEASURE]), y2: y(ceiling[MEASURE]) });
    add(svg, "text", { x: right, y: y(ceiling[MEASURE]) - 4, "text-anchor": "end" }, ceiling.system);
  }
  const families = [...new Set(rows.map((r) => data.families[r.system]))];
  families.forEach((name, i) => {
    const colour = `hsl(${(i * 137 + 215) % 360} 60% 42%)`;
    const group = add(svg, "g", { "data-family": name });
    const members = rows.filter((r) => data.families[r.system] === name).sort((a, b) => a.coded_bps - b.coded_bps);
    add(group, "polyline", { class: "line", stroke: colour, points: members.map((r) => `${x(r.coded_bps)},${y(r[MEASURE])}`).join(" ") });
    for (const r of members) {
      if (interval(r)) {
        const [a, b] = interval(r);
        add(group, "line", { class: "whisker", stroke: colour, x1: x(r.coded_bps), x2: x(r.coded_bps), y1: y(a), y2: y(b) });
      }
      const point = add(group, "circle", { class: "point", cx: x(r.coded_bps), cy: y(r[MEASURE]), r: 5, fill: colour });
      add(point, "title", {}, COLUMNS.map((c) => `${c[0]}: ${format(r, c)}`).join("\n"));
    }
    const last = members[members.length - 1];
    add(group, "text", { x: Math.min(x(last.coded_bps) + 8, right - 70), y: y(last[MEASURE]) - 8, style: `fill:${colour}` }, name);
  });
}

function drawTable() {
  const table = document.getElementById("systems");
  const head = table.tHead.insertRow();
  const fill = (rows) => {
    table.tBodies[0].replaceChildren(
      ...rows.map((row) => {
        const line = document.createElement("tr");
        for (const column of COLUMNS) line.insertCell().textContent = format(row, column);
        return line;
      })
    );
  };
  COLUMNS.forEach(([name]) => {
    const cell = document.createElement("th");
    const button = document.createElement("button");
    button.textContent = name.replaceAll("_", " "); // lets long names wrap
    button.addEventListener("click", () => {
      const rising = cell.getAttribute("aria-sort") !== "ascending";
      for (const other of head.cells) other.removeAttribute("aria-sort");
      cell.setAttribute("aria-sort", rising ? "ascending" : "descending");
      const key = (row) => (Array.isArray(row[name]) ? row[name][0] : row[name]);
      const order = (a, b) => (typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b);
      const known = data.rows.filter((r) => isKnown(key(r)));
      const unknown = data.rows.filter((r) => !known.includes(r));
      known.sort((a, b) => (rising ? 1 : -1) * order(key(a), key(b)));
      fill([...known, ...unknown]);
    });
    cell.append(button);
    head.append(cell);
  });
  fill(data.rows);
  for (const reason of Object.values(data.skipped).reverse()) {
    const note = document.createElement("p");
    note.className = "note";
    note.textContent = "Left out: " + reason;
    table.after(note);
  }
}

function drawRatios() {
  const section = document.getElementById("ratios");
  section.hidden = !data.ratios.length;
  for (const row of data.ratios) {
    const line = section.querySelector("tbody").insertRow();
    const interval = row.rate_ratio_ci95;
    line.insertCell().textContent = row.family;
    line.insertCell().textContent =
      row.rate_ratio === null ? "the curves do not meet" : row.rate_ratio.toPrecision(3);
    line.insertCell().textContent = interval ? interval.map((x) => x.toPrecision(3)).join(" to ") : "-";
  }
}

function drawTexts() {
  const parent = document.getElementById("texts");
  data.texts.forEach((text, i) => {
    const box = document.createElement("div");
    box.className = "utterance";
    const list = document.createElement("dl");
    const entry = (name, content, sound) => {
      const term = document.createElement("dt");
      term.textContent = name;
      const words = document.createElement("dd");
      if (sound) {
        const player = document.createElement("audio");
        player.controls = true;
        player.preload = "none";
        player.src = sound;
        words.append(player);
      }
      words.insertAdjacentHTML("beforeend", content);
      list.append(term, words);
    };
    const reference = document.createElement("span");
    reference.textContent = text.reference;
    entry("reference", reference.outerHTML, (data.sounds.reference || [])[i]);
    for (const [system, marked] of Object.entries(text.hypotheses))
      entry(system, marked, (data.sounds[system] || [])[i]);
    box.append(list);
    parent.append(box);
  });
}

document.querySelector("h1").textContent = data.title;
drawCurve();
drawTable();
drawRatios();
drawTexts();
