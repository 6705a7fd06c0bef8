"use strict";
(() => {
const D = JSON.parse(document.getElementById("data").textContent);
const $ = id => document.getElementById(id);
const N = D.files.length, EXCLUDED = -1, NOWHERE = -2, SHOWN = 6;
const make = (tag, attributes = {}, ...inside) => {
  const e = document.createElement(tag);
  for (const [k, v] of Object.entries(attributes)) {
    if (k === "class") e.className = v; else if (k.startsWith("on")) e.addEventListener(k.slice(2), v);
    else if (v === true) e.setAttribute(k, ""); else if (v !== false && v !== null && v !== undefined) e.setAttribute(k, v);
  }
  e.append(...inside);
  return e;
};
const number = (v, digits = 2) => v === null || v === undefined ? "–" : Number(v).toFixed(digits);
const percent = v => v === null || v === undefined ? "–" : `${(v * 100).toFixed(v < 0.1 ? 1 : 0)} %`;
const whole = D.collection && D.collection.images; // images of a collection that these N are a sample of
const counted = n => `${n.toLocaleString("en")} image${n === 1 ? "" : "s"}`;
// Verdict and notes speak of clusters by number, and two may have one name.
const unsaid = id => !new RegExp(`(?<!\\d)${id}(?!\\d)`).test(names.get(id));
const called = id => names.has(id) ? names.get(id) + (unsaid(id) ? ` · ${id}` : "") : id === NOWHERE ? "belongs nowhere" : "excluded";
const colour = id => id < 0 ? "#8a93a3" : D.colours[id % D.colours.length];
const original = new Map(D.clusters.map(c => [c.id, c]));

// The state: what the model said, with the edits applied in order. A cluster that an edit splits in
// `pending` parts is shown whole: which images are in which part, `vtcc refine` finds out.
let edits = [], cluster, names, pending, clusters, origin, chosen = new Set(), chosenClusters = new Set();
// Edits that are not exported yet are those of a page that numbers new clusters as this one does.
const KEPT = `vtcc-${D.digest}-${D.next}${location.pathname}`;
try { edits = JSON.parse(sessionStorage.getItem(KEPT)) || []; } catch { edits = []; }
const rowOf = new Map(D.files.map((f, i) => [f, i]));
function apply() {
  cluster = D.cluster.slice();
  names = new Map(D.clusters.map(c => [c.id, c.name]));
  pending = new Map(); origin = new Map();
  let next = D.next;
  const move = (files, to) => { for (const f of files) { const i = rowOf.get(f); if (i !== undefined) cluster[i] = to; } };
  for (const e of edits) {
    if (e.do === "rename") names.set(e.cluster, e.name);
    else if (e.do === "merge") {
      const all = new Set(e.clusters);
      cluster.forEach((k, i) => { if (all.has(k)) cluster[i] = e.into; });
      for (const k of all) if (k !== e.into) names.delete(k);
      if (e.name) names.set(e.into, e.name);
    } else if (e.do === "split" && e.files) {
      e.files.forEach((files, part) => { if (part) { origin.set(next, origin.get(e.cluster) ?? e.cluster); names.set(next, `cluster ${next}`); move(files, next++); } });
    } else if (e.do === "split") { pending.set(e.cluster, e.into); next += e.into - 1; }
    else if (e.do === "exclude") { cluster.forEach((k, i) => { if (k === e.cluster) cluster[i] = EXCLUDED; }); names.delete(e.cluster); }
    else if (e.do === "exclude_files") move(e.files, EXCLUDED);
    else if (e.do === "move") move(e.files, e.to);
    else if (e.do === "new") { const id = names.has(e.cluster) ? next++ : e.cluster; names.set(id, e.name); move(e.files, id); }
  }
  const rows = new Map([...names.keys()].map(id => [id, []]));
  cluster.forEach((k, i) => rows.get(k)?.push(i));
  clusters = [...rows].map(([id, members]) => ({ ...summary(id, members), name: names.get(id), parts: pending.get(id) }));
}
// What is known of a cluster: all of it while its images are those of the model, else what its images tell.
function summary(id, rows) {
  const known = original.get(id);
  if (known && known.size === rows.length && rows.every(i => D.cluster[i] === id)) return { ...known, changed: false };
  const far = i => D.distance[i] ?? 2000, sure = D.confidence;
  const typical = rows.slice().sort((a, b) => far(a) - far(b) || sure[b] - sure[a] || a - b);
  const unsure = rows.slice().sort((a, b) => sure[a] - sure[b] || a - b);
  return {
    id, changed: true, size: rows.length, spread: null, nearest: null, nearestDistance: null, mean: null,
    confidence: rows.length ? rows.reduce((sum, i) => sum + sure[i], 0) / rows.length / 1000 : null,
    prototypes: typical.slice(0, SHOWN), boundary: unsure.slice(0, Math.min(SHOWN, Math.max(Math.floor(rows.length / 4), 1))),
    outliers: rows.filter(i => D.outlier[i]).length, duplicates: [], attention: [], about: [], labels: [],
  };
}
// The name that was typed, as `vtcc refine` takes it; null where it is none. Any blank is a plain one, as those of Japanese keyboards.
function nameOf(typed) {
  const name = typed.replace(/\p{Zs}/gu, " ").trim(), odd = name.match(/[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/u);
  if (odd) { alert(`This name holds U+${odd[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}, which does not print. Type it without that.`); return null; }
  return /[^\p{Zs}\p{Cf}]/u.test(name) ? name : null;
}
function edit(e) { edits.push(e); changed(); }
// The press of a button ends the typing of a name: made anew before the release, the button would get no click.
let pressed = false, late = false;
// A touch has its own mouse events after its end; of a button that cannot be pressed there are none.
for (const begin of ["pointerdown", "mousedown"]) addEventListener(begin, () => { pressed = true; }, true);
for (const end of ["pointerup", "pointercancel", "mouseup"]) addEventListener(end, () => { pressed = false; setTimeout(() => late && !pressed && changed(), 50); }, true);
function rename(id, name) { edits.push({ do: "rename", cluster: id, name }); late = pressed; if (late) $("undo").disabled = $("export").disabled = false; else changed(); }
function changed() {
  late = false;
  try { sessionStorage.setItem(KEPT, JSON.stringify(edits)); } catch { /* a page of its own is enough */ }
  const card = document.activeElement?.closest("article[data-id]"), parts = "input, button, summary";
  const nth = card && [...card.querySelectorAll(parts)].indexOf(document.activeElement);
  apply();
  for (const id of [...chosenClusters]) if (!names.has(id) || pending.has(id)) chosenClusters.delete(id);
  showClusters(); showProposals(); fillClusters(); filter(); draw(); showConfused(); showEdits();
  if (!card || document.activeElement !== document.body) return;
  const same = document.querySelector(`article[data-id="${card.dataset.id}"]${card.matches(".proposal") ? ".proposal" : ":not(.proposal)"}`);
  const focused = same?.querySelectorAll(parts)[nth];
  (focused?.disabled ? same.querySelector("input[type=text]") : focused)?.focus({ preventScroll: true });
}

// Tiles.
const per = D.columns * D.columns, pixelated = D.thumb <= 32;
function dress(e, i, side) {
  const t = D.tile[i], at = t % per, x = at % D.columns, y = Math.floor(at / D.columns), scale = side / D.thumb;
  const last = Math.floor((D.tiles - 1) / per), in_last = Math.floor(t / per) === last;
  const lines = in_last ? Math.ceil((D.tiles - last * per) / D.columns) : D.columns;
  e.style.width = e.style.height = side + "px";
  e.style.backgroundImage = `url("${D.sprites}/s${Math.floor(t / per)}.jpg")`;
  e.style.backgroundSize = `${D.columns * D.thumb * scale}px ${lines * D.thumb * scale}px`;
  e.style.backgroundPosition = `${-x * side}px ${-y * side}px`;
  e.classList.toggle("pixelated", pixelated);
  e.classList.toggle("outlier", !!D.outlier[i]);
  e.classList.toggle("chosen", chosen.has(i));
  e.title = D.files[i];
}
function tile(i, side, over) {
  const e = make("button", { type: "button", class: "tile", "aria-label": D.files[i], onclick: () => open(i, [i]) });
  dress(e, i, side);
  if (over) e.append(make("img", { class: "over", src: over, alt: "" }));
  return e;
}

// Clusters.
$("collection").hidden = !whole;
if (whole) $("collection").textContent = `${N.toLocaleString("en")} of ${whole.toLocaleString("en")} images are shown here: ${D.collection.made_of.toLocaleString("en")} that the clusters were made of${N > D.collection.made_of ? `, and ${(N - D.collection.made_of).toLocaleString("en")} of those added since` : ""}. The others were assigned to them; each has its row in the tables, and "in all" counts them. Edits apply to all. ${D.collection.alike.toLocaleString("en")} of all look nearly like an earlier one (duplicates.csv).`;
function showClusters() {
  const by = $("cluster-sort").value, key = { size: c => -c.size, confidence: c => -(c.confidence ?? 0), spread: c => c.spread ?? 9, name: c => c.name }[by];
  const sorted = clusters.slice().sort((a, b) => { const x = key(a), y = key(b); return x < y ? -1 : x > y ? 1 : a.id - b.id; });
  const largest = Math.max(1, ...clusters.map(c => c.size));
  const groups = grouped();
  $("clusters").replaceChildren(...(groups ? groups.map(g => grouping(g, sorted.filter(c => g.ids.has(c.id)), largest)) : sorted.map(c => article(c, largest))));
  $("merge").disabled = chosenClusters.size < 2;
  showNowhere();
}
// The tree over the clusters. A join that is open is shown as its two branches, one that is shut as a group. Clusters
// that edits merge or exclude are no longer in it; one that is split off is where its images were.
const joins = [];
{
  const above = new Map(), node = id => above.get(id) ?? { ids: [id] };
  for (const [a, b] of D.tree) {
    const join = { parts: [node(a), node(b)] };
    join.ids = join.parts.flatMap(p => p.ids);
    join.parts.forEach(p => p.up = join); join.ids.forEach(id => above.set(id, join)); joins.push(join);
  }
}
let opened = null;  // null: no groups
const folded = new Set(), living = () => {
  const there = new Set(clusters.map(c => origin.get(c.id) ?? c.id)), lives = n => n.ids.some(id => there.has(id));
  return joins.filter(j => j.parts.every(lives));
};
function grouped() {
  const alive = living(), most = alive.length + 1;
  $("cut-label").hidden = most < 3;
  if (most < 3) opened = null;
  if (opened) for (const j of alive.slice().reverse()) { const above = up(j, alive); if (above && !opened.has(above)) opened.delete(j); }
  $("cut").max = most; $("cut").value = opened ? alive.filter(j => opened.has(j)).length + 1 : most;
  $("cut-shown").textContent = opened ? `${$("cut").value} of ${most}` : "none";
  $("levels").replaceChildren(...D.levels.map(n => make("option", { value: n })));
  if (!opened) return null;
  const groups = [], rest = new Set(clusters.map(c => c.id));
  const walk = n => {
    if (n.parts && (opened.has(n) || !alive.includes(n))) { n.parts.forEach(walk); return; }
    const ids = new Set([...rest].filter(id => n.ids.includes(origin.get(id) ?? id)));
    ids.forEach(id => rest.delete(id)); if (ids.size) groups.push({ node: n, ids });
  };
  joins.filter(j => !j.up).forEach(walk);
  return [...groups, ...[...rest].map(id => ({ node: { ids: [id] }, ids: new Set([id]) }))];
}
// The next join above that still divides something.
const up = (n, alive) => { for (let j = n.up; j; j = j.up) if (alive.includes(j)) return j; return null; };
function grouping(g, of, largest) {
  const n = of.reduce((sum, c) => sum + c.size, 0), alive = living(), above = up(g.node, alive);
  const by = of.slice().sort((a, b) => b.size - a.size), title = by.slice(0, 3).map(c => c.name).join(", ") + (by.length > 3 ? ` and ${by.length - 3} more` : "");
  const turn = what => { what(); showClusters(); document.querySelector(`.group[data-of~="${of[0].id}"] summary`)?.focus(); };
  return make("details", { class: "group", "data-of": of.map(c => c.id).join(" "), open: !folded.has(g.node), ontoggle: e => e.target.open ? folded.delete(g.node) : folded.add(g.node) },
    make("summary", {}, make("b", {}, title), ` · ${of.length} cluster${of.length === 1 ? "" : "s"} · ${counted(n)}, ${percent(n / N)}`),
    make("div", { class: "controls" },
      make("button", { class: "push divide", disabled: !alive.includes(g.node), onclick: () => turn(() => opened.add(g.node)) }, "Divide this group"),
      make("button", { class: "push join", disabled: !above, onclick: () => turn(() => opened.delete(above)) }, "Join with the nearest"),
      make("button", { class: "push merge", disabled: of.length < 2 || of.some(c => c.parts), onclick: () => merge(of.map(c => c.id)) }, "Merge this group")),
    make("div", { class: "cards" }, ...of.map(c => article(c, largest))));
}
$("cut").addEventListener("input", e => {
  const alive = living(), n = +e.target.value;
  opened = n > alive.length ? null : new Set(alive.slice(alive.length - n + 1));
  showClusters();
});
// Images that belong nowhere.
function showNowhere() {
  const rows = cluster.flatMap((k, i) => k === NOWHERE ? [i] : []).sort((a, b) => D.confidence[a] - D.confidence[b] || a - b);
  $("nowhere").hidden = !D.unclustered;
  if (!D.unclustered) return;
  const e = make("article", { class: "cluster", "data-id": NOWHERE }, make("div", { class: "head" }, make("h3", {}, "Belongs nowhere"), make("p", {}, `${counted(rows.length)}, ${percent(rows.length / N)}` + (whole ? `; ${D.collection.sizes[NOWHERE].toLocaleString("en")} in all` : ""))),
    make("p", { class: "note" }, `In no cluster: over ${number(D.unclustered.limit)} times as far from the cluster they would be in as from the next. Show them all, choose some, and move them where they belong. A merge takes in those between its clusters: vtcc refine finds them.`),
    make("div", { class: "row-of-tiles" }, ...rows.slice(0, 24).map(i => tile(i, 88))),
    make("div", { class: "controls" }, make("button", { class: "push", onclick: () => showAll(NOWHERE), disabled: !rows.length }, "Show all")));
  e.style.setProperty("--colour", colour(NOWHERE));
  $("nowhere").replaceChildren(e);
}
const unfolded = new Set();
const showAll = id => { $("of").value = String(id); filter(); $("images").scrollIntoView(); };
function article(c, largest) {
  const box = make("input", { type: "checkbox", "aria-label": `choose ${called(c.id)}`, checked: chosenClusters.has(c.id), disabled: !!c.parts, onchange: e => {
    e.target.checked ? chosenClusters.add(c.id) : chosenClusters.delete(c.id); $("merge").disabled = chosenClusters.size < 2; } });
  const name = make("input", { type: "text", value: c.name, "aria-label": "Name", maxlength: 100,
    onchange: e => { const text = nameOf(e.target.value); text && text !== c.name ? rename(c.id, text) : e.target.value = c.name; } });
  const figure = (value, what) => make("span", {}, make("b", {}, value), what);
  const figures = make("p", {}, figure(counted(c.size).split(" ")[0], ` ${counted(c.size).split(" ")[1]}, ${percent(c.size / N)}`), figure(number(c.confidence), " confidence"));
  if (whole && !c.changed) figures.append(figure(D.collection.sizes[c.id].toLocaleString("en"), " in all"));
  if (c.outliers) figures.append(figure(String(c.outliers), ` outlier${c.outliers === 1 ? "" : "s"}`));
  const filled = make("i"); filled.style.width = `${100 * c.size / largest}%`;
  const e = make("article", { class: "cluster", "data-id": c.id },
    make("div", { class: "head" }, make("h3", { class: "editable" }, box, make("i", { class: "swatch" }), name, ...(unsaid(c.id) ? [make("span", { class: "quiet", title: "number of the cluster" }, String(c.id))] : [])), figures, make("div", { class: "share" }, filled)));
  e.style.setProperty("--colour", colour(c.id));
  const note = (text, to = e) => to.append(make("p", { class: "note" }, text));
  const row = (to, title, rows, overs = []) => { if (rows.length) to.append(...(title ? [make("h4", {}, title)] : []), make("div", { class: "row-of-tiles" }, ...rows.map((i, n) => tile(i, 88, overs[n])))); };
  row(e, "", c.prototypes);
  if (c.about.length) note("Looks " + c.about.join("; "));
  if (c.labels.length) note("Classes: " + c.labels.map(([n, s]) => `${n} ${percent(s)}`).join(", "));
  if (c.parts) note(`To be split in ${c.parts}. Which image is in which part, vtcc refine finds out; until then it is shown whole.`);
  else if (c.changed) note("Edited: looks, spread and mean image follow with vtcc refine.");
  // Made when it is opened, which stays so through edits.
  const more = make("details", { class: "more", open: unfolded.has(c.id), ontoggle: () => { more.open ? unfolded.add(c.id) : unfolded.delete(c.id); fill(); } },
    make("summary", {}, "Least certain images, figures"));
  const fill = () => {
    if (!more.open || more.children.length > 1) return;
    row(more, "Least certain", c.boundary);
    if (c.attention.length) row(more, "Where the model looks", c.prototypes.slice(0, c.attention.length), c.attention);
    if (c.duplicates.length) row(more, `Look alike (${c.duplicates.length} group${c.duplicates.length === 1 ? "" : "s"})`, c.duplicates[0].slice(0, SHOWN));
    if (c.mean) more.append(make("h4", {}, "Mean image"), make("img", { class: "mean tile" + (pixelated ? " pixelated" : ""), src: c.mean, alt: "mean image" }));
    if (c.spread !== null) note(`Spread ${number(c.spread, 3)}: mean cosine distance of the images from the cluster's centre`, more);
    if (c.nearest !== null && names.has(c.nearest)) note(`Nearest: ${called(c.nearest)}, ${number(c.nearestDistance, 3)} away`, more);
  };
  e.append(more); fill();
  e.append(make("div", { class: "controls" },
    make("button", { class: "push", onclick: () => showAll(c.id) }, "Show all"),
    make("button", { class: "push", onclick: () => edit({ do: "split", cluster: c.id, into: 2 }), disabled: !!c.parts || c.size < 2 }, "Split in two"),
    make("button", { class: "push", onclick: () => edit({ do: "exclude", cluster: c.id }), disabled: !!c.parts || clusters.length < 2 }, "Exclude")));
  return e;
}
$("cluster-sort").addEventListener("change", showClusters);
$("merge").addEventListener("click", () => merge([...chosenClusters]));
function merge(ids) {
  ids.sort((a, b) => a - b);
  const largest = ids.reduce((a, b) => (clusters.find(c => c.id === b).size > clusters.find(c => c.id === a).size ? b : a));
  chosenClusters.clear();
  edit({ do: "merge", clusters: ids, into: largest });
}

// The grid: only what is in sight exists.
let waiting;
function soon() { clearTimeout(waiting); waiting = setTimeout(filter, 80); }
let shown = [], size = 72, columns = 1, here = 0, pool = new Map();
function fillClusters() {
  const options = of => of.slice().sort((a, b) => a.id - b.id).map(c => make("option", { value: c.id }, `${called(c.id)} (${c.size})`));
  const before = $("of").value, to = $("move-to").value;
  $("of").replaceChildren(make("option", { value: "" }, "all"), ...options(clusters), make("option", { value: EXCLUDED }, "excluded"),
    ...(D.unclustered ? [make("option", { value: NOWHERE }, "belongs nowhere")] : []));
  $("of").value = before; if (!$("of").value) $("of").value = "";
  $("move-to").replaceChildren(...options(clusters.filter(c => !c.parts)));
  $("move-to").value = to; if (!$("move-to").value) $("move-to").selectedIndex = 0;
  $("move").disabled = !$("move-to").options.length;
}
// Columns that came with the images. Each has controls, and a test of image i where they ask for something.
const valueOf = (f, i) => f.kind === "number" ? f.at[i] : f.at[i] < 0 ? null : f.values[f.at[i]];
const fields = D.fields.map(f => {
  const input = (type, more) => make("input", { type, "data-field": f.name, "aria-label": f.name + more, oninput: soon });
  if (f.kind === "few") {
    const counts = new Map(), option = k => make("option", { value: k }, `${k < 0 ? "(none)" : f.values[k]} (${counts.get(k)})`);
    for (const k of f.at) counts.set(k, (counts.get(k) || 0) + 1);
    const select = make("select", { "data-field": f.name, onchange: soon }, make("option", { value: "" }, "all"), ...[...counts.keys()].sort((a, b) => (a < 0) - (b < 0) || a - b).map(option));
    return { ...f, controls: [select], test: () => select.value === "" ? null : i => f.at[i] === +select.value };
  }
  if (f.kind === "text") {
    const search = input("search", "");
    return { ...f, controls: [search], test: () => {
      const text = search.value.toLocaleLowerCase();
      if (!text) return null;
      const hit = f.values.map(v => v.toLocaleLowerCase().includes(text));
      return i => f.at[i] >= 0 && hit[f.at[i]];
    } };
  }
  const day = f.kind === "day", low = input(day ? "date" : "number", " from"), high = input(day ? "date" : "number", " to");
  if (!day) low.step = high.step = "any";
  const known = day ? v => v.slice(0, 10) : v => v, asked = e => e.value === "" ? null : day ? e.value : +e.value;
  return { ...f, controls: [low, "to", high], test: () => {
    const a = asked(low), b = asked(high);
    if (a === null && b === null) return null;
    return i => { const v = valueOf(f, i); return v !== null && (a === null || known(v) >= a) && (b === null || known(v) <= b); };
  } };
});
$("fields").hidden = !fields.length && !D.fieldsLeftOut.length;
$("field-controls").append(...fields.map(f => make("label", {}, f.name + " ", ...f.controls.flatMap(c => [c, " "]))));
$("fields-left-out").hidden = !D.fieldsLeftOut.length;
$("fields-left-out").textContent = "Too large for this page, in assignments.csv: " + D.fieldsLeftOut.join(", ");
$("fields-clear").addEventListener("click", () => { for (const f of fields) for (const c of f.controls) if (c.tagName) c.value = ""; filter(); });
function filter() {
  const tests = fields.map(f => f.test()).filter(t => t);
  $("fields-used").textContent = tests.length ? `(${tests.length} in use)` : ""; $("fields-clear").disabled = !tests.length;
  const text = $("search").value.toLocaleLowerCase(), of = $("of").value, which = $("which").value;
  shown = [];
  for (let i = 0; i < N; i++) {
    if (of !== "" && cluster[i] !== +of) continue;
    if (which === "outlier" && !D.outlier[i]) continue;
    if (which === "unsure" && D.confidence[i] >= 500) continue;
    if (which === "chosen" && !chosen.has(i)) continue;
    if (text && !D.files[i].toLocaleLowerCase().includes(text)) continue;
    if (tests.some(t => !t(i))) continue;
    shown.push(i);
  }
  const by = $("sort").value, c = D.confidence, d = D.distance;
  if (by === "sure") shown.sort((a, b) => cluster[a] - cluster[b] || c[b] - c[a] || a - b);
  else if (by === "unsure") shown.sort((a, b) => c[a] - c[b] || a - b);
  else if (by === "far") shown.sort((a, b) => (d[b] ?? 0) - (d[a] ?? 0) || a - b);
  else shown.sort((a, b) => (D.files[a] < D.files[b] ? -1 : 1));
  here = 0; $("shown").textContent = `${shown.length} of ${N} images` + (whole ? ` shown here, of ${whole.toLocaleString("en")} in all` : "");
  $("grid").scrollTop = 0; lay();
}
function lay() {
  size = +$("tile-size").value; columns = Math.max(1, Math.floor(($("grid").clientWidth - 4) / (size + 4)));
  $("space").style.height = Math.ceil(shown.length / columns) * (size + 4) + 4 + "px";
  for (const e of pool.values()) e.remove(); pool.clear(); inSight();
}
function inSight() {
  const top = $("grid").scrollTop, high = $("grid").clientHeight, step = size + 4;
  const first = Math.max(0, Math.floor(top / step) - 2) * columns, last = Math.min(shown.length, (Math.ceil((top + high) / step) + 2) * columns);
  for (const [at, e] of pool) if (at < first || at >= last) { e.remove(); pool.delete(at); }
  for (let at = first; at < last; at++) if (!pool.has(at)) {
    const i = shown[at], e = make("div", { class: "tile", role: "option", "data-at": at, "aria-label": D.files[i] });
    dress(e, i, size); e.style.left = 4 + (at % columns) * step + "px"; e.style.top = 4 + Math.floor(at / columns) * step + "px";
    if (at === here) e.classList.add("here");
    $("space").append(e); pool.set(at, e);
  }
}
let ticking = false;
$("grid").addEventListener("scroll", () => { if (!ticking) { ticking = true; requestAnimationFrame(() => { ticking = false; inSight(); }); } });
$("grid").addEventListener("click", e => {
  const t = e.target.closest(".tile"); if (!t) return;
  const at = +t.dataset.at; go(at);
  if (e.ctrlKey || e.metaKey || e.shiftKey || chosen.size) choose(shown[at]); else open(shown[at], shown);
});
$("grid").addEventListener("contextmenu", e => { const t = e.target.closest(".tile"); if (t) { e.preventDefault(); choose(shown[+t.dataset.at]); } });
function go(at) {
  pool.get(here)?.classList.remove("here"); here = Math.min(Math.max(at, 0), Math.max(shown.length - 1, 0));
  const step = size + 4, y = Math.floor(here / columns) * step, g = $("grid");
  if (y < g.scrollTop) g.scrollTop = y; else if (y + step > g.scrollTop + g.clientHeight) g.scrollTop = y + step + 4 - g.clientHeight;
  inSight(); pool.get(here)?.classList.add("here");
}
function choose(i) {
  chosen.has(i) ? chosen.delete(i) : chosen.add(i);
  for (const [at, e] of pool) e.classList.toggle("chosen", chosen.has(shown[at]));
  withChosen();
}
function withChosen() { $("with-chosen").hidden = !chosen.size; $("chosen").textContent = `${chosen.size} chosen:`; }
$("grid").addEventListener("keydown", e => {
  const moves = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns, PageDown: columns * 5, PageUp: -columns * 5, Home: -Infinity, End: Infinity };
  if (e.key in moves) { e.preventDefault(); go(moves[e.key] === Infinity ? shown.length - 1 : moves[e.key] === -Infinity ? 0 : here + moves[e.key]); }
  // Not prevented, the same key press would close the dialog, whose button gets the focus.
  else if (e.key === "Enter" && shown.length) { e.preventDefault(); open(shown[here], shown); }
  else if (e.key === " " && shown.length) { e.preventDefault(); choose(shown[here]); }
});
const files = () => [...chosen].sort((a, b) => a - b).map(i => D.files[i]);
const after = e => { chosen.clear(); withChosen(); edit(e); };
$("move").addEventListener("click", () => after({ do: "move", files: files(), to: +$("move-to").value }));
$("exclude-files").addEventListener("click", () => after({ do: "exclude_files", files: files() }));
$("split-off").addEventListener("click", () => {
  const of = new Set([...chosen].map(i => cluster[i]));
  if (of.size > 1 || of.has(EXCLUDED) || of.has(NOWHERE)) { alert("Choose images of one cluster to split them off it."); return; }
  if ([...of].some(k => pending.has(k))) { alert("This cluster is to be split already: undo that first, or refine."); return; }
  const [k] = of, apart = files(), rest = D.files.filter((f, i) => cluster[i] === k && !chosen.has(i));
  if (!rest.length) { alert("All images of the cluster are chosen: nothing would stay."); return; }
  after({ do: "split", cluster: k, files: [rest, apart] });
});
$("unchoose").addEventListener("click", () => { chosen.clear(); withChosen(); filter(); });
for (const id of ["of", "which", "sort"]) $(id).addEventListener("change", filter);
$("search").addEventListener("input", soon);
$("tile-size").addEventListener("input", lay);
addEventListener("resize", () => { lay(); draw(); });

// One image.
const dialog = $("zoom"), picture = dialog.querySelector(".picture");
const file = dialog.querySelector(".caption b"), about = dialog.querySelector(".caption span");
let around = [], at = 0;
// The one way by touch: a long press is no `contextmenu` on iOS.
const chooser = make("button", { type: "button", class: "push", id: "choose", onclick: () => { choose(around[at]); zoom(); } });
dialog.append(make("div", { class: "controls" }, chooser));
function open(i, list) { around = list; at = list.indexOf(i); zoom(); if (!dialog.open) dialog.showModal(); }
function zoom() {
  const i = around[at], k = cluster[i], img = make("img", { alt: D.files[i] });
  // Bytes that are not UTF-8 are shown as %XX: a file of that very name is asked for first, then one of those bytes.
  const shown = D.files[i].split("/").map(encodeURIComponent).join("/"), bytes = shown.replace(/%25([89A-F][0-9A-F])/g, "%$1");
  const asked = bytes === shown ? [shown] : [shown, bytes], ask = () => { img.src = D.root + asked.shift(); };
  img.addEventListener("error", () => {
    if (asked.length) { ask(); return; }
    const e = make("div", { class: "tile" }); dress(e, i, 256); picture.replaceChildren(e);
  });
  ask();
  picture.replaceChildren(img);
  const facts = [called(k), `confidence ${number(D.confidence[i] / 1000)}`];
  if (D.second[i] !== k && names.has(D.second[i])) facts.push(`then ${called(D.second[i])}`);
  if (D.distance[i] !== null) facts.push(`${number(D.distance[i] / 1000, 3)} from the centre`);
  if (D.outlier[i]) facts.push("unlike the rest of its cluster");
  const said = fields.filter(f => valueOf(f, i) !== null).map(f => `${f.name}: ${valueOf(f, i)}`);
  file.textContent = D.files[i]; about.textContent = [facts.join(" · "), ...said].join("\n");
  chooser.textContent = chosen.has(i) ? "Do not choose" : "Choose";
  $("prev").disabled = at <= 0; $("next").disabled = at >= around.length - 1;
}
const turn = by => { const to = at + by; if (to >= 0 && to < around.length) { at = to; zoom(); } };
$("prev").addEventListener("click", () => turn(-1)); $("next").addEventListener("click", () => turn(1));
$("close").addEventListener("click", () => dialog.close());
dialog.addEventListener("keydown", e => { if (e.key === "ArrowLeft") turn(-1); else if (e.key === "ArrowRight") turn(1); });
dialog.addEventListener("click", e => { if (e.target === dialog) dialog.close(); });
addEventListener("keydown", e => { if (e.key === "/" && !/INPUT|SELECT|TEXTAREA/.test(document.activeElement.tagName)) { e.preventDefault(); $("search").focus(); } });

// The map.
const canvas = $("map"), pen = canvas.getContext("2d"); let near = new Map(), cell = 24;
function place(i) { const m = 12; return [m + D.x[i] / 1000 * (canvas.clientWidth - 2 * m), m + (1 - D.y[i] / 1000) * (canvas.clientHeight - 2 * m)]; }
function draw() {
  const ratio = devicePixelRatio || 1; canvas.width = canvas.clientWidth * ratio; canvas.height = canvas.clientHeight * ratio;
  pen.setTransform(ratio, 0, 0, ratio, 0, 0); pen.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight);
  const r = N > 5000 ? 1.6 : N > 1000 ? 2.4 : 3.5, groups = new Map(); near = new Map();
  for (let i = 0; i < N; i++) {
    const [x, y] = place(i), k = cluster[i]; if (!groups.has(k)) groups.set(k, []); groups.get(k).push(x, y);
    const c = Math.floor(x / cell) + "," + Math.floor(y / cell); if (!near.has(c)) near.set(c, []); near.get(c).push(i);
  }
  for (const [k, points] of groups) { pen.fillStyle = colour(k); for (let j = 0; j < points.length; j += 2) pen.fillRect(points[j] - r / 2, points[j + 1] - r / 2, r, r); }
}
function under(e) {
  const box = canvas.getBoundingClientRect(), x = e.clientX - box.left, y = e.clientY - box.top, cx = Math.floor(x / cell), cy = Math.floor(y / cell);
  let best = -1, least = cell * cell;
  for (let a = -1; a <= 1; a++) for (let b = -1; b <= 1; b++) for (const i of near.get(cx + a + "," + (cy + b)) || []) {
    const [u, v] = place(i), d = (u - x) ** 2 + (v - y) ** 2; if (d < least) { least = d; best = i; } }
  return [best, x, y];
}
canvas.addEventListener("pointermove", e => {
  const [i, x, y] = under(e), tip = $("tip"); tip.hidden = i < 0; if (i < 0) return;
  const preview = make("div", { class: "tile" }); dress(preview, i, 96);
  tip.replaceChildren(preview, make("div", {}, D.files[i]), make("div", { class: "quiet" }, called(cluster[i])));
  tip.style.left = Math.min(x + 12, canvas.clientWidth - 130) + "px"; tip.style.top = Math.min(y + 12, canvas.clientHeight - 130) + "px";
});
canvas.addEventListener("pointerleave", () => $("tip").hidden = true);
canvas.addEventListener("click", e => { const [i] = under(e); if (i >= 0) open(i, [i]); });

// How good, and how many.
// A column of `words` may break, one of figures never does.
function table(head, rows, words = []) {
  const cells = r => r.map((v, n) => make("td", { class: words.includes(n) ? "" : "n" }, v));
  return make("div", { class: "scroll" }, make("table", {}, make("thead", {}, make("tr", {}, ...head.map(h => make("th", {}, h)))),
    make("tbody", {}, ...rows.map(r => make("tr", {}, ...cells(r))))));
}
function showTrust() {
  const t = D.trust, rows = [];
  const add = (k, v, why) => { if (v !== undefined && v !== null) rows.push([k, number(v), why]); };
  add("same clusters again", t.seeds, "adjusted Rand index with the groups of the second training alone, from another seed, which had a part in these clusters: 1 the same, 0 as by chance");
  add("groups apart", t.map_silhouette, "silhouette of as many groups in a map of what was learned: 1 far apart, 0 touching");
  add("halves agree", t.halves, "grouping of either half of the images, compared: 1 the same");
  add("apart in plain features", t.reference_silhouette, `silhouette in features that no training here made (of the encoder, else gradients); k-means there, its own best: ${number(t.reference_kmeans)}`);
  add("gap between neighbours", t.gap, "how empty it is between a cluster and its nearest in those features: 0 as dense as in them, as where one kind is cut, 1 empty");
  add("predictable", t.predicted, "how well the clusters are foretold from those features: 0 as by chance, 1 always");
  add("confidence", t.confidence, "mean probability of the cluster given");
  add("balance", t.balance, "1: all clusters of one size");
  const again = D.applied.some(e => e.do !== "rename" && e.do !== "decline") ? [make("p", { class: "hint" }, "Measured on the clusters before they were edited.")] : [];
  $("measures").replaceChildren(...again, table(["", "", "what it says"], rows, [0, 2]), make("p", { id: "confused" }));
  showConfused();
  const n = D.count;
  if (n.curve?.length) {
    $("count").replaceChildren(make("h2", {}, `How many clusters: ${n.clusters} (${n.low} to ${n.high})`), ...(n.curve.length > 1 ? [curve(n)] : []),
      make("ul", {}, ...n.reasons.map(r => make("li", {}, r))),
      make("details", {}, make("summary", {}, "Figures"), table(["K", "score", "silhouette", "halves", "maps"], n.curve.map(c => [String(c.clusters), number(c.score), number(c.silhouette), number(c.stability), n.curve.length > 1 ? number(c.maps) : "–"]))));
  }
  if (D.baselines.length) $("baselines").replaceChildren(make("h2", {}, "Beside simpler methods"), table(["method", "agreement with these clusters", ...(D.baselines.some(b => b.nmi !== undefined) ? ["NMI with the sub-folders", "ACC"] : [])],
    D.baselines.map(b => [b.title, number(b.agreement), ...(D.baselines.some(c => c.nmi !== undefined) ? [b.nmi, b.acc].map(n => n === undefined ? "–" : number(n, 3)) : [])]), [0]));
  $("choices").replaceChildren(table(["", "chosen", "because"], Object.entries(D.choices).map(([k, c]) => [k, String(c.value), String(c.why)]), [0, 1, 2]));
}
function showConfused() {
  const pairs = (D.trust.confused || []).filter(([a, b]) => names.has(a) && names.has(b));
  $("confused").hidden = !pairs.length;
  $("confused").textContent = "Confused: " + pairs.map(([a, b, s]) => `${called(a)} and ${called(b)} (${percent(s)} alike)`).join("; ");
}
function curve(n) {
  const w = 560, h = 190, m = 32, ks = n.curve.map(c => c.clusters), lo = Math.min(...ks), hi = Math.max(...ks, lo + 1);
  const x = k => m + (k - lo) / (hi - lo) * (w - 2 * m), y = s => h - m - Math.max(s, 0) * (h - 2 * m);
  const s = (tag, a, text) => { const e = document.createElementNS("http://www.w3.org/2000/svg", tag); for (const k in a) e.setAttribute(k, a[k]); if (text) e.textContent = text; return e; };
  const g = s("svg", { viewBox: `0 0 ${w} ${h}`, role: "img", "aria-label": `score by number of clusters, best from ${n.low} to ${n.high}`, style: "max-width:560px;width:100%" });
  g.append(s("rect", { x: x(n.low) - 4, y: m / 2, width: x(n.high) - x(n.low) + 8, height: h - 1.5 * m, fill: "var(--accent)", opacity: .15 }));
  const line = (f, c, o) => g.append(s("polyline", { points: n.curve.filter(p => f(p) !== null).map(p => `${x(p.clusters)},${y(f(p))}`).join(" "), fill: "none", stroke: c, "stroke-width": o, opacity: o > 1 ? 1 : .5 }));
  line(p => p.silhouette, "#c77", 1); line(p => p.stability, "#7a7", 1); line(p => p.maps, "#77c", 1); line(p => p.score, "var(--ink)", 2.5);
  for (const k of [lo, n.clusters, hi]) g.append(s("text", { x: x(k), y: h - m / 2 + 4, "text-anchor": "middle" }, String(k)));
  g.append(s("line", { x1: x(n.clusters), x2: x(n.clusters), y1: m / 2, y2: h - m, stroke: "var(--accent)", "stroke-dasharray": "4 3" }));
  g.append(s("text", { x: 4, y: y(1) + 4 }, "1"), s("text", { x: 4, y: y(0) + 4 }, "0"), s("text", { x: w / 2, y: h - 2, "text-anchor": "middle" }, "number of clusters"));
  return g;
}

// What `vtcc add` brought: groups that may be clusters, and what comes in beside what was there.
const typed = new Map();
function showProposals() {
  const settled = new Set(edits.filter(e => e.do === "new" || e.do === "decline").map(e => e.cluster));
  $("proposals").replaceChildren(...D.proposals.filter(p => !settled.has(p.id)).map(proposal));
}
function proposal(p) {
  const rows = p.files.map(f => rowOf.get(f)).filter(i => i !== undefined), name = make("input", { type: "text", value: typed.get(p.id) ?? p.name, "aria-label": "Name of the proposed cluster", maxlength: 100, oninput: e => typed.set(p.id, e.target.value) });
  const held = new Map();
  for (const i of rows) held.set(cluster[i], (held.get(cluster[i]) || 0) + 1);
  const now = [...held].sort((a, b) => b[1] - a[1]).map(([k, n]) => `${n} in ${called(k)}`).join(", ");
  return make("article", { class: "cluster proposal", "data-id": p.id }, make("div", { class: "head" }, make("h3", { class: "editable" }, name)),
    make("p", { class: "note" }, `${counted(rows.length)} unlike all that the clusters were made of, now ${now}`),
    make("div", { class: "row-of-tiles" }, ...rows.slice(0, 24).map(i => tile(i, 88))),
    make("div", { class: "controls" },
      make("button", { class: "push confirm", onclick: () => { const text = nameOf(name.value.trim() || p.name); if (text) edit({ do: "new", cluster: p.id, name: text, files: p.files }); } }, "Make it a cluster"),
      make("button", { class: "push decline", onclick: () => edit({ do: "decline", cluster: p.id }) }, "Not a cluster")));
}
function showAdded() {
  const last = D.additions.at(-1);
  $("added").hidden = $("added-link").hidden = !last;
  if (!last) return;
  const d = last.drift, both = (a, b, show) => `${show(a)} → ${show(b)}`;
  const proposed = (last.proposed || []).length, settled = proposed && !D.proposals.length;
  const all = settled && d.level === "look here" && d.verdict.split(", ").length === proposed;  // nothing else moved
  $("drift").textContent = settled ? `${d.verdict}; what was proposed is confirmed or declined since` : d.verdict;
  $("drift").classList.add(all ? "good" : { fine: "good", "look here": "warn" }[d.level] || "bad");
  $("drift-table").replaceChildren(table(["", "images", "share", "confidence", "novel"], d.lines.map(l => [l.name, `${l.images_before} + ${l.images_now}`,
    both(l.share_before, l.share_now, percent), both(l.confidence_before, l.confidence_now, number), both(l.novel_before, l.novel_now, percent)]), [0]));
  $("additions").replaceChildren(table(["", "new", "changed", "gone", "unreadable", "images", "verdict"], D.additions.map(a => [a.at.replace("T", " ").replace("Z", ""),
    ...[a.new, a.changed, a.gone, a.unreadable, a.images].map(String), a.drift.verdict]), [0, 6]));
}

// Edits.
const inWords = e => {
  const n = k => names.has(k) ? called(k) : original.get(k)?.name ?? `cluster ${k}`;
  return { rename: () => `rename ${original.get(e.cluster)?.name ?? `cluster ${e.cluster}`} to "${e.name}"`, merge: () => `merge ${e.clusters.map(n).join(", ")} into ${n(e.into)}`,
    split: () => e.files ? `split ${e.files[1].length} images off ${n(e.cluster)}` : `split ${n(e.cluster)} in ${e.into}: refine finds the parts`, exclude: () => `exclude ${n(e.cluster)}`,
    exclude_files: () => `exclude ${e.files.length} images`, move: () => `move ${e.files.length} images to ${n(e.to)}`,
    new: () => `make ${e.files.length} added images the cluster "${e.name}"`, decline: () => `no cluster of the proposed ${e.cluster}` }[e.do]();
};
function showEdits() {
  $("edits").replaceChildren(...edits.map(e => make("li", {}, inWords(e))));
  $("edit-count").textContent = edits.length ? `(${edits.length})` : "";
  $("undo").disabled = $("export").disabled = !edits.length;
}
$("undo").addEventListener("click", () => { edits.pop(); changed(); });
const exported = () => JSON.stringify({ format: 1, model: D.digest, next: D.next, edits }, null, 1) + "\n";
$("export").addEventListener("click", () => {
  const a = make("a", { href: URL.createObjectURL(new Blob([exported()], { type: "application/json" })), download: "edits.json" });
  a.click(); setTimeout(() => URL.revokeObjectURL(a.href), 1000);
});
window.vtcc = { exported, state: () => ({ cluster, names: [...names], clusters, shown: shown.length }) };

apply(); showTrust(); showAdded(); showClusters(); showProposals(); fillClusters(); filter(); showEdits(); withChosen();
requestAnimationFrame(draw);
})();
