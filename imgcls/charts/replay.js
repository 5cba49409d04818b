// Images as dots that move through the epochs of a run, with the matrix and the curves of each.
// Made to be mounted by a Streamlit component, or by a page of its own: see replay.py, which says
// what `data` holds. Without `setStateValue` nothing can be chosen.

const GLIDE_MS = 220, PLAY_MS = 600, NEAR = 9; // NEAR: pixels from a dot that still mean it
const FULL = 65535; // of a coordinate
const mounted = new WeakMap();

export default function replay({ parentElement, data, setStateValue }) {
  const root = parentElement.querySelector(".replay");
  const known = mounted.get(root);
  if (known?.id === data.id) {
    known.tell = setStateValue;
    return;
  }
  const state = { id: data.id, tell: setStateValue, at: data.epochs.length - 1, chosen: [], group: -1 };
  mounted.set(root, state);
  root.replaceChildren();
  const moving = data.epochs.length > 1;
  const parts = [];
  const update = () => parts.forEach((part) => part());
  const go = (to) => {
    if (to === state.at) return;
    state.at = to;
    update();
    if (state.chosen.length) choose(state.chosen);
  };
  let waiting;
  const choose = (rows) => {
    state.chosen = rows;
    clearTimeout(waiting); // a slider that is drawn along asks for the last of its places only
    waiting = setTimeout(() => state.tell?.("chosen", { at: state.at, rows }), 150);
  };

  if (data.said) root.append(slider(data, state, go, parts));
  const side = made("div", "side");
  if (data.matrix) side.append(matrix(data, state, parts));
  side.append(dots(data, state, choose, parts));
  root.append(side, legend(data, state, update, choose, parts));
  if (data.curves && moving) root.append(curves(data, state, go, parts));
  update();
}

function slider(data, state, go, parts) {
  const row = made("div", "row");
  const play = made("button", "play");
  const range = made("input");
  const said = made("span", "said");
  play.type = "button";
  Object.assign(range, { type: "range", min: 0, max: data.epochs.length - 1, step: 1 });
  range.setAttribute("aria-label", "After epoch");
  range.oninput = () => { stop(); go(Number(range.value)); };
  let timer;
  const stop = () => { clearInterval(timer); timer = undefined; named(); };
  const named = () => {
    play.textContent = timer ? "❚❚" : "▶";
    play.setAttribute("aria-label", timer ? "Pause" : "Play the epochs");
    play.title = play.getAttribute("aria-label");
  };
  play.onclick = () => {
    if (timer) return stop();
    if (state.at === data.epochs.length - 1) go(0);
    timer = setInterval(() => {
      if (!row.isConnected || state.at >= data.epochs.length - 1) return stop();
      go(state.at + 1);
    }, PLAY_MS);
    named();
  };
  named();
  parts.push(() => {
    range.value = state.at;
    range.setAttribute("aria-valuetext", `epoch ${data.epochs[state.at]}`);
    said.textContent = data.said[state.at];
  });
  row.append(...(data.epochs.length > 1 ? [play, range] : []), said);
  return row;
}

function matrix({ matrix: { counts: encoded }, order, groups }, state, parts) {
  const n = order.length, counts = decoded(encoded, Int32Array);
  const table = made("table", n > 20 ? "matrix small" : "matrix");
  table.style.setProperty("--n", n);
  const caption = made("caption", "", "Confusion matrix: true classes down, predicted across");
  const head = made("tr"), body = made("tbody");
  head.append(made("td"), ...order.map((g) => heading(groups[g].name, "col")));
  const cells = order.map((g) => {
    const row = made("tr");
    const own = order.map(() => made("td"));
    row.append(heading(groups[g].name, "row"), ...own);
    body.append(row);
    return own;
  });
  const top = made("thead");
  top.append(head);
  table.append(caption, top, body);
  parts.push(() => {
    const at = counts.subarray(state.at * n * n, (state.at + 1) * n * n);
    const most = [1, 1]; // of mistakes, of right answers: a scale each
    at.forEach((count, i) => {
      const right = Number(i % (n + 1) === 0);
      most[right] = Math.max(most[right], count);
    });
    at.forEach((count, i) => {
      const t = Math.floor(i / n), p = i % n, cell = cells[t][p];
      const strength = count / most[Number(t === p)];
      cell.textContent = count && n <= 20 ? count.toLocaleString("en") : "";
      cell.className = (t === p ? "right" : "wrong") + (strength > 0.7 ? " strong" : "");
      cell.style.setProperty("--strength", 0.03 + 0.75 * strength);
      cell.title = `${groups[order[t]].name} → ${groups[order[p]].name}: ${count.toLocaleString("en")}`;
    });
  });
  const box = made("div", "box");
  box.append(table);
  return box;
}

function dots(data, state, choose, parts) {
  const points = decoded(data.points, Uint16Array), group = decoded(data.group, Uint16Array);
  const called = data.called && decoded(data.called, Uint16Array);
  const n = group.length, box = made("div", "box dots");
  const canvas = made("canvas"), over = svg("svg"), loop = svg("polygon", { class: "loop" });
  const tip = made("div", "tip");
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", data.label);
  over.setAttribute("aria-hidden", "true");
  box.append(canvas, over, tip);
  const order = [...group.keys()].sort((a, b) => group[a] - group[b]); // later groups lie on top
  const places = new Float32Array(2 * n); // now, in shares of the frame
  const margin = data.axes ? { l: 46, r: 10, t: 26, b: 44 } : { l: 6, r: 6, t: 6, b: 6 };
  const size = { w: 0, h: 0 };
  const x = (i) => margin.l + places[2 * i] * (size.w - margin.l - margin.r);
  const y = (i) => size.h - margin.b - places[2 * i + 1] * (size.h - margin.t - margin.b);
  const wrong = (i) => called !== undefined && called[state.at * n + i] !== group[i];

  const paint = () => {
    const pen = canvas.getContext("2d"), chosen = new Set(state.chosen);
    const ratio = devicePixelRatio || 1;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, size.w, size.h);
    let last = -1, lines, fills, faintLines, faintFills;
    const flush = () => {
      if (last < 0) return;
      const color = data.groups[last].color;
      for (const [path, alpha, cross] of [
        [faintLines, 0.16, true], [faintFills, 0.16, false], [lines, 0.85, true], [fills, 0.7, false],
      ]) {
        pen.globalAlpha = alpha;
        if (cross) {
          pen.strokeStyle = data.marks?.wrong ?? color;
          pen.stroke(path);
        } else {
          pen.fillStyle = data.marks?.right ?? color;
          pen.fill(path);
        }
      }
    };
    for (const i of order) {
      if (group[i] !== last) {
        flush();
        last = group[i];
        [lines, fills, faintLines, faintFills] = Array.from({ length: 4 }, () => new Path2D());
      }
      const meant = state.group >= 0 ? group[i] === state.group : !chosen.size || chosen.has(i);
      const a = x(i), b = y(i);
      if (wrong(i)) {
        const path = meant ? lines : faintLines;
        path.moveTo(a - 2.5, b - 2.5);
        path.lineTo(a + 2.5, b + 2.5);
        path.moveTo(a - 2.5, b + 2.5);
        path.lineTo(a + 2.5, b - 2.5);
      } else {
        (meant ? fills : faintFills).rect(a - 1.5, b - 1.5, 3, 3);
      }
    }
    flush();
  };

  let frame = 0, drawn = -1;
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches || n > 20000;
  const move = () => {
    cancelAnimationFrame(frame);
    const from = places.slice(), to = points.subarray(2 * n * state.at, 2 * n * (state.at + 1));
    const start = performance.now(), takes = still || drawn < 0 ? 0 : GLIDE_MS;
    const step = (now) => {
      const share = takes ? Math.min(1, Math.max(0, (now - start) / takes)) : 1;
      for (let i = 0; i < 2 * n; i++) places[i] = from[i] + share * (to[i] / FULL - from[i]);
      paint();
      if (share < 1) frame = requestAnimationFrame(step);
      else box.dataset.at = state.at; // what waits for the dots to arrive can tell
    };
    step(start);
  };
  parts.push(() => {
    if (state.at !== drawn) move();
    else paint();
    drawn = state.at;
  });

  new ResizeObserver(() => {
    Object.assign(size, { w: box.clientWidth, h: box.clientHeight });
    const ratio = devicePixelRatio || 1;
    Object.assign(canvas, { width: size.w * ratio, height: size.h * ratio });
    over.replaceChildren(...(data.axes ? scales(data.axes, margin, size) : []), loop);
    paint();
  }).observe(box);

  const nearest = (a, b) => {
    let best = -1, least = NEAR * NEAR;
    for (let i = 0; i < n; i++) {
      const far = (x(i) - a) ** 2 + (y(i) - b) ** 2;
      if (far < least) [best, least] = [i, far];
    }
    return best;
  };
  let path = [];
  const place = (event) => {
    const { left, top } = canvas.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  };
  canvas.onpointerleave = () => { tip.textContent = ""; };
  canvas.onpointermove = (event) => {
    const [a, b] = place(event);
    if (path.length) {
      path.push([a, b]);
      loop.setAttribute("points", path.map((point) => point.join()).join(" "));
      return;
    }
    const i = nearest(a, b);
    tip.textContent = i < 0 ? "" : said(data, state, group, called, i, n);
    tip.style.cssText = a > size.w / 2
      ? `right:${size.w - a + 10}px;top:${b + 10}px` : `left:${a + 10}px;top:${b + 10}px`;
  };
  if (!state.tell) return box;
  canvas.classList.add("free");
  // A finger that draws would scroll the page instead, so drawing is asked for first.
  const draw = made("button", "pen", "Draw");
  draw.type = "button";
  draw.setAttribute("aria-pressed", "false");
  draw.onclick = () => {
    const on = canvas.classList.toggle("drawing");
    draw.setAttribute("aria-pressed", String(on));
  };
  box.append(draw);
  canvas.onpointerdown = (event) => {
    if (event.button) return;
    canvas.setPointerCapture(event.pointerId);
    path = [place(event)];
    tip.textContent = "";
  };
  canvas.onpointercancel = () => { path = []; loop.removeAttribute("points"); };
  canvas.onpointerup = () => {
    if (!path.length) return;
    const xs = path.map(([a]) => a), ys = path.map(([, b]) => b);
    const wide = Math.max(...xs) - Math.min(...xs), high = Math.max(...ys) - Math.min(...ys);
    let rows = [];
    if (Math.max(wide, high) < 5) {
      rows = [nearest(...path[0])].filter((i) => i >= 0);
    } else {
      const around = new Path2D(), pen = canvas.getContext("2d");
      path.forEach(([a, b]) => around.lineTo(a, b));
      pen.setTransform(1, 0, 0, 1, 0, 0);
      rows = [...group.keys()].filter((i) => pen.isPointInPath(around, x(i), y(i)));
    }
    path = [];
    if (!rows.length) loop.removeAttribute("points");
    choose(rows);
    paint();
  };
  return box;
}

function said(data, state, group, called, i, n) {
  if (data.titles) return data.titles[i];
  return `${data.groups[group[i]].name} → ${data.groups[called[state.at * n + i]].name}`;
}

function scales({ x, y }, { l, r, t, b }, { w, h }) {
  const at = (share) => l + share * (w - l - r), up = (share) => h - b - share * (h - t - b);
  const text = (words, place) => {
    const element = svg("text", place);
    element.textContent = words;
    return element;
  };
  return [
    ...x.ticks.flatMap(([share, words]) => [
      svg("line", { x1: at(share), x2: at(share), y1: t, y2: h - b }),
      text(words, { x: at(share), y: h - b + 16, "text-anchor": "middle" }),
    ]),
    ...y.ticks.flatMap(([share, words]) => [
      svg("line", { x1: l, x2: w - r, y1: up(share), y2: up(share) }),
      text(words, { x: l - 6, y: up(share) + 4, "text-anchor": "end" }),
    ]),
    text(x.title, { x: (l + w - r) / 2, y: h - 8, "text-anchor": "middle" }),
    text(y.title, { x: 2, y: 14 }),
  ];
}

function legend(data, state, update, choose, parts) {
  const list = made("div", "legend"), group = decoded(data.group, Uint16Array);
  const shares = data.curves && decoded(data.curves, Float32Array);
  data.order.forEach((g, place) => {
    const item = made("button", "item"), chip = made("span", "chip"), value = made("span", "value");
    item.type = "button";
    chip.style.background = data.groups[g].color;
    item.append(chip, made("span", "", data.groups[g].name), value);
    const show = (group) => { state.group = group; update(); };
    item.onpointerenter = () => show(g);
    item.onpointerleave = () => show(-1);
    item.onclick = () => {
      if (!state.tell) return;
      choose([...group.keys()].filter((i) => group[i] === g));
      update();
    };
    if (state.tell) item.title = `Show images: ${data.groups[g].name}`;
    item.onfocus = () => show(g);
    item.onblur = () => show(-1);
    list.append(item);
    parts.push(() => {
      if (!shares) return;
      const share = shares[state.at * data.order.length + place];
      value.textContent = Number.isNaN(share) ? "" : `${(100 * share).toFixed(1)}%`;
    });
  });
  return list;
}

function curves(data, state, go, parts) {
  const box = made("div", "curves"), drawing = svg("svg");
  const shares = decoded(data.curves, Float32Array), many = data.order.length;
  drawing.setAttribute("role", "img");
  drawing.setAttribute("aria-label", "Recall of each class over epochs");
  box.append(made("div", "title", "recall"), drawing);
  const first = data.epochs[0], last = data.epochs.at(-1);
  const margin = { l: 46, r: 10, t: 8, b: 30 };
  let size = { w: 0, h: 0 };
  const at = (epoch) =>
    margin.l + ((epoch - first) / Math.max(1, last - first)) * (size.w - margin.l - margin.r);
  const up = (share) => size.h - margin.b - share * (size.h - margin.t - margin.b);
  const now = svg("line", { class: "now" });
  const lines = data.order.map((g) => svg("path", { stroke: data.groups[g].color, class: "curve" }));
  const place = () => {
    const a = at(data.epochs[state.at]);
    for (const [name, value] of Object.entries({ x1: a, x2: a, y1: up(1), y2: up(0) }))
      now.setAttribute(name, value);
    lines.forEach((line, i) => {
      line.classList.toggle("faint", state.group >= 0 && data.order[i] !== state.group);
    });
  };
  new ResizeObserver(() => {
    size = { w: drawing.clientWidth, h: drawing.clientHeight };
    const step = Math.ceil((last - first + 1) / 10);
    const ticks = data.epochs.filter((epoch) => (epoch - first) % step === 0);
    const axes = {
      x: { title: "", ticks: ticks.map((e) => [(e - first) / Math.max(1, last - first), `${e}`]) },
      y: { title: "", ticks: [0, 0.25, 0.5, 0.75, 1].map((s) => [s, `${100 * s}%`]) },
    };
    lines.forEach((line, i) => {
      let path = "", pen = "M";
      data.epochs.forEach((epoch, e) => {
        const share = shares[e * many + i];
        if (Number.isNaN(share)) return;
        path += `${pen}${at(epoch).toFixed(1)} ${up(share).toFixed(1)}`;
        pen = "L";
      });
      line.setAttribute("d", path);
    });
    drawing.replaceChildren(...scales(axes, margin, size), now, ...lines);
    place();
  }).observe(drawing);
  parts.push(place);
  drawing.onclick = (event) => {
    const a = event.clientX - drawing.getBoundingClientRect().left;
    const far = data.epochs.map((epoch) => Math.abs(at(epoch) - a));
    go(far.indexOf(Math.min(...far)));
  };
  return box;
}

function decoded(text, Kind) {
  const letters = atob(text), bytes = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
  return new Kind(bytes.buffer);
}

function made(tag, name = "", text = "") {
  const element = document.createElement(tag);
  if (name) element.className = name;
  if (text) element.textContent = text;
  return element;
}

function heading(text, scope) {
  const element = made("th"), name = made("span", "", text);
  element.scope = scope;
  element.title = text;
  element.append(name);
  return element;
}

function svg(tag, attributes = {}) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}
