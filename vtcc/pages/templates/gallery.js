"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const press = (group, button) => {
    for (const b of group.querySelectorAll("button")) b.setAttribute("aria-pressed", b === button);
  };

  // Order of the clusters
  const list = $("clusters");
  $("sort").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    press($("sort"), button);
    const { key, down } = button.dataset;
    const cards = [...list.children];
    cards.sort((a, b) => (down ? b.dataset[key] - a.dataset[key] : a.dataset[key] - b.dataset[key]) || a.dataset.number - b.dataset.number);
    list.append(...cards);
  });

  // Enlarged image; all file names go in as text
  const zoom = $("zoom"), picture = zoom.querySelector(".picture");
  const name = zoom.querySelector("b"), facts = zoom.querySelector("span");
  let tile = null;
  const show = (next) => {
    tile = next;
    const card = tile.closest(".cluster");
    const sprite = getComputedStyle(tile);
    picture.style.backgroundImage = sprite.backgroundImage;
    picture.style.backgroundSize = sprite.backgroundSize;
    picture.style.backgroundPosition = tile.style.backgroundPosition;
    name.textContent = tile.dataset.path;
    facts.textContent = `cluster ${card.dataset.number} · confidence ${tile.dataset.confidence}` +
      (tile.dataset.class ? ` · class ${tile.dataset.class}` : "");
    if (!zoom.open) zoom.showModal();
  };
  const step = (by) => {
    const all = [...tile.closest(".cluster").querySelectorAll(".tile")];
    show(all[(all.indexOf(tile) + by + all.length) % all.length]);
  };
  list.addEventListener("click", (event) => {
    const found = event.target.closest(".tile");
    if (found) show(found);
  });
  $("prev").onclick = () => step(-1);
  $("next").onclick = () => step(1);
  $("close").onclick = () => zoom.close();
  zoom.addEventListener("click", (event) => { if (event.target === zoom) zoom.close(); });
  zoom.addEventListener("close", () => tile && tile.focus());
  zoom.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });

  // The embedding
  const data = JSON.parse($("points").textContent), colours = JSON.parse($("colours").textContent);
  const unpack = (text) => {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    return Array.from({ length: bytes.length / 2 }, (_, i) => bytes[2 * i] | (bytes[2 * i + 1] << 8));
  };
  const xy = unpack(data.xy), clusters = unpack(data.cluster);
  const classes = data.class ? unpack(data.class) : [];
  const canvas = $("map"), hint = $("maphint"), standing = hint.textContent;
  let by = "cluster", lit = -1, width = 0, height = 0, side = 0, left = 0, top = 0;
  const at = (i) => [left + (xy[2 * i] / 65535) * side, top + (1 - xy[2 * i + 1] / 65535) * side];
  const draw = () => {
    const ratio = window.devicePixelRatio || 1;
    width = canvas.clientWidth;
    height = canvas.clientHeight;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    side = Math.min(width, height) - 16;
    left = (width - side) / 2;
    top = (height - side) / 2;
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const radius = Math.max(1.4, Math.min(3.6, 90 / Math.sqrt(clusters.length)));
    const groups = by === "class" ? classes : clusters;
    const shades = by === "class" ? data.classColours : colours;
    for (const pass of [0, 1]) {
      for (let i = 0; i < clusters.length; i++) {
        const on = lit < 0 || clusters[i] === lit;
        if (on !== (pass === 1)) continue;
        pen.globalAlpha = on ? 0.8 : 0.1;
        pen.fillStyle = shades[groups[i]] || "#8a93a3";
        const [x, y] = at(i);
        pen.beginPath();
        pen.arc(x, y, radius, 0, 7);
        pen.fill();
      }
    }
  };
  const light = (cluster) => {
    if (cluster === lit) return;
    lit = cluster;
    draw();
  };
  const nearest = (event) => {
    const box = canvas.getBoundingClientRect();
    const px = event.clientX - box.left, py = event.clientY - box.top;
    let best = -1, distance = 14 * 14;
    for (let i = 0; i < clusters.length; i++) {
      const [x, y] = at(i), d = (x - px) ** 2 + (y - py) ** 2;
      if (d < distance) [best, distance] = [i, d];
    }
    return best;
  };
  canvas.addEventListener("mousemove", (event) => {
    const i = nearest(event);
    light(i < 0 ? -1 : clusters[i]);
    hint.textContent = i < 0 ? standing
      : `Cluster ${clusters[i]}` + (classes.length ? ` · class ${data.classNames[classes[i]] ?? "unknown"}` : "");
  });
  canvas.addEventListener("mouseleave", () => { light(-1); hint.textContent = standing; });
  canvas.addEventListener("click", (event) => {
    const i = nearest(event), card = i < 0 ? null : $(`cluster-${clusters[i]}`);
    if (!card) return;
    for (const c of list.children) c.classList.toggle("found", c === card);
    card.scrollIntoView({ block: "start" });
  });
  document.querySelector(".map .switch").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    press(button.parentNode, button);
    by = button.dataset.by;
    canvas.setAttribute("aria-label", `images as points, coloured by ${by}`);
    draw();
  });
  new ResizeObserver(draw).observe(canvas);
})();
