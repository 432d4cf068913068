// Case browser of a page: a list that is filtered and sorted, and the pictures of one case, slice by slice.
// Plain script without a framework, and no NiiVue: see page.py for the reasons. Text from data only ever becomes
// textContent, and a picture only if it is a data URL of a type without scripts.
(() => {
  "use strict";

  const PICTURE = /^data:image\/(webp|png|jpeg);base64,[A-Za-z0-9+/=]*$/;
  const TRUTH = [0, 229, 255], PREDICTION = [255, 255, 255], FILL = [230, 159, 0];
  const KEYS = "Keys: up and down choose a case, left and right a slice, Home and End the first and last slice, " +
    "O switches the overlay, plus and minus change its opacity. The mouse wheel over the pictures changes the slice.";
  const BAR_LENGTHS = [1, 2, 5, 10, 20, 50, 100];

  /** Create an element with properties, attributes (with a dash or "role") and children. */
  function make(tag, properties = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (name.includes("-") || ["role", "for"].includes(name)) element.setAttribute(name, value);
      else element[name] = value;
    }
    element.append(...children);
    return element;
  }

  const format = (value) => (value === null || value === undefined ? "–"
    : Number.isInteger(value) && Math.abs(value) >= 10 ? String(value)
      : Math.abs(value) >= 100 ? value.toFixed(1) : value.toFixed(3));
  const unique = (values) => [...new Set(values)];
  const compareText = (a, b) => a.localeCompare(b, "en", { numeric: true });
  let serial = 0;

  /** Create a control with its label. */
  function control(text, element) {
    element.id = `browser-control-${serial += 1}`;
    return make("div", { className: "control" }, make("label", { for: element.id, textContent: text }), element);
  }

  function select(options) {
    const element = make("select");
    for (const [value, text] of options) element.append(make("option", { value, textContent: text }));
    return element;
  }

  // -- pictures -------------------------------------------------------------------------------------------------

  const images = new Map();
  const MOST_IMAGES = 400;

  /** Decode a picture; null for what is no picture. Kept for later, up to a number. */
  function load(url) {
    if (!url || !PICTURE.test(url)) return Promise.resolve(null);
    if (!images.has(url)) {
      if (images.size >= MOST_IMAGES) images.delete(images.keys().next().value);
      const image = new Image();
      image.src = url;
      images.set(url, image.decode().then(() => image, () => null));
    }
    return images.get(url);
  }

  /** Pixels of a picture at a size. */
  function pixels(image, width, height, smooth) {
    const canvas = make("canvas", { width, height });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.imageSmoothingEnabled = smooth;
    context.drawImage(image, 0, 0, width, height);
    return context.getImageData(0, 0, width, height);
  }

  /** Blend a colour into a pixel. */
  function blend(data, at, colour, share) {
    for (let k = 0; k < 3; k += 1) data[at + k] += (colour[k] - data[at + k]) * share;
  }

  /** Draw a map over an image: colour and opacity grow with the heat, and nothing covers the image where it is low. */
  function drawHeat(base, heat, layer, state) {
    const table = layer.signed ? state.colours.signed : state.colours.plain;
    const last = table.length / 3 - 1;
    const gain = state.own ? 1 : layer.top;
    for (let at = 0; at < base.data.length; at += 4) {
      let level = heat.data[at] / 255;
      if (layer.signed) level = Math.abs(heat.data[at] - 128) < 1 ? 0.5 : 0.5 + ((heat.data[at] - 128) / 127) * 0.5 * gain;
      else level *= gain;
      level = Math.min(Math.max(level, 0), 1);
      const index = Math.round(level * last) * 3;
      const strength = layer.signed ? Math.abs(2 * level - 1) : level;
      blend(base.data, at, [table[index], table[index + 1], table[index + 2]], strength * state.strength * state.opacity);
    }
  }

  /** Draw the outline of a mask, and fill it a little. */
  function drawMask(base, mask, outline, fill, share) {
    const { width, height, data } = mask;
    const inside = (x, y) => x >= 0 && y >= 0 && x < width && y < height && data[(y * width + x) * 4] > 127;
    for (let y = 0; y < height; y += 1) {
      for (let x = 0; x < width; x += 1) {
        if (!inside(x, y)) continue;
        const at = (y * width + x) * 4;
        const edge = !inside(x - 2, y) || !inside(x + 2, y) || !inside(x, y - 2) || !inside(x, y + 2);
        if (edge) blend(base.data, at, outline, 1);
        else if (fill) blend(base.data, at, fill, share);
      }
    }
  }

  /** Write sides of the body and a bar of known length onto a picture. */
  function drawMarks(context, plane) {
    const { width, height } = context.canvas;
    const size = Math.max(12, Math.round(width / 22));
    context.font = `600 ${size}px system-ui, sans-serif`;
    context.textBaseline = "middle";
    const write = (text, x, y, align) => {
      context.textAlign = align;
      context.lineWidth = 3;
      context.strokeStyle = "#000";
      context.fillStyle = "#fff";
      context.strokeText(text, x, y);
      context.fillText(text, x, y);
    };
    if (plane.sides) {
      write(plane.sides[0], 5, height / 2, "left");
      write(plane.sides[1], width - 5, height / 2, "right");
    }
    const fitting = plane.mm ? BAR_LENGTHS.filter((length) => length / plane.mm <= 0.3) : [];
    if (fitting.length) {
      const length = fitting[fitting.length - 1];
      const end = 8 + (length / plane.mm) * width;
      context.fillStyle = "#000";
      context.fillRect(6, height - 13, end - 4, 7);
      context.fillStyle = "#fff";
      context.fillRect(8, height - 11, end - 8, 3);
      write(`${length} mm`, 8, height - 16 - size / 2, "left");
    }
  }

  // -- panes ----------------------------------------------------------------------------------------------------

  /** Rows of panes of a case, one row per input: images, truth, maps and prediction. */
  function listPanes(item, inputs, maps) {
    const rows = [];
    for (const input of inputs) {
      const own = item.layers.map((layer, position) => ({ ...layer, position })).filter((layer) => layer.input === input);
      const kind = (name) => own.filter((layer) => layer.kind === name);
      const base = kind("image")[0];
      if (!base) continue;
      const truths = kind("truth"), truth = truths[0];
      const panes = kind("image").map((layer) => ({ title: layer.name || input || "image", base: layer }));
      for (const layer of truths) {
        panes.push({ title: layer.name ? `truth: ${layer.name}` : "truth", base, truth: layer, role: "truth" });
      }
      for (const map of kind("map")) {
        if (maps === "" || map.name === maps) panes.push({ title: map.name, base, map, truth, note: map.note });
      }
      for (const layer of kind("prediction")) {
        const same = truths.find((own) => own.name === layer.name) ?? (truths.length === 1 ? truth : undefined);
        panes.push({ title: same && same !== truth || truths.length > 1 ? `prediction: ${layer.name}` : layer.name || "prediction",
          base, prediction: layer, truth: same });
      }
      rows.push({ input, panes });
    }
    return rows;
  }

  async function drawPane(pane, plane, slice, state, isCurrent) {
    const url = (layer) => (layer ? slice.pictures[layer.position] : null);
    const [image, heat, truth, prediction] = await Promise.all([url(pane.base), url(pane.map), url(pane.truth),
      url(pane.prediction)].map(load));
    if (!isCurrent()) return;
    const { canvas } = pane;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    pane.missing.hidden = Boolean(image) && (!pane.map || Boolean(heat));
    pane.detail.textContent = pane.map && !state.own && pane.map.top < 0.5
      ? `at most ${Math.round(pane.map.top * 100)} % of the full colour`
      : (pane.role === "truth" && image && !truth) || (pane.prediction && image && !prediction) ? "nothing here" : "";
    canvas.hidden = !image;
    if (!image) return;
    const scale = Math.max(1, Math.min(3, Math.round(420 / image.naturalWidth)));
    canvas.width = image.naturalWidth * scale;
    canvas.height = image.naturalHeight * scale;
    const base = pixels(image, canvas.width, canvas.height, true);
    if (state.overlay) {
      const mask = (picture) => pixels(picture, canvas.width, canvas.height, false);
      if (heat) drawHeat(base, pixels(heat, canvas.width, canvas.height, true), pane.map, state);
      if (prediction) drawMask(base, mask(prediction), PREDICTION, FILL, 0.4 * state.opacity);
      if (truth) drawMask(base, mask(truth), TRUTH, pane.map || pane.prediction ? null : TRUTH, 0.25 * state.opacity);
    }
    context.putImageData(base, 0, 0);
    drawMarks(context, plane);
  }

  // -- one browser ----------------------------------------------------------------------------------------------

  function start(root, data) {
    const cases = data.cases.map((item, position) => ({ ...item, position }));
    const scored = [...cases].sort((a, b) => Object.keys(b.scores).length - Object.keys(a.scores).length);
    const measures = unique([...scored.flatMap((item) => Object.keys(item.scores)),
      ...(cases.some((item) => item.probability !== null) ? ["probability"] : [])]);
    const state = {
      shown: cases, current: null, plane: 0, slice: 0, overlay: true, opacity: 1, own: false, sort: "", down: false,
      colours: data.colours, strength: data.strength, drawing: 0,
    };
    const score = (item) => (measure.value === "probability" ? item.probability : item.scores[measure.value] ?? null);

    // The list and what filters it.
    const search = make("input", { type: "search", placeholder: "name", autocomplete: "off" });
    const choices = (key) => select([["", "all"], ...unique(cases.map((item) => item[key])).filter(Boolean)
      .sort(compareText).map((text) => [text, text])]);
    const label = choices("label"), prediction = choices("prediction");
    const outcome = select([["", "all"], ["wrong", "wrong"], ["right", "right"], ["doubt", "with doubts"]]);
    const measure = select(measures.map((name) => [name, name]));
    const low = make("input", { type: "number", step: "any", placeholder: "any" });
    const high = make("input", { type: "number", step: "any", placeholder: "any" });
    const clear = make("button", { type: "button", textContent: "show all" });
    const filters = make("div", { className: "filters", role: "group", "aria-label": "filters" },
      control(`find ${data.noun}`, search));
    if (label.options.length > 1) filters.append(control("truth", label));
    if (prediction.options.length > 1) filters.append(control("prediction", prediction));
    if (cases.some((item) => item.right !== null || item.doubts.length)) filters.append(control("outcome", outcome));
    if (measures.length) filters.append(control("score", measure), control("score from", low), control("score to", high));
    filters.append(clear);
    const count = make("p", { className: "count", role: "status" });
    const columns = [["id", data.noun === "patients" ? "patient" : "case"], ["label", "truth"],
      ["prediction", "prediction"], ["score", "score"], ["doubt", "doubts"]];
    const heads = columns.map(([key, text]) => make("button", { type: "button", textContent: text, name: key,
      title: `sort by ${text}` }));
    const list = make("div", { className: "list", role: "listbox", tabIndex: 0, "aria-label": `list of ${data.noun}` });
    const rows = cases.map((item) => make("div", { role: "option", id: `browser-case-${serial += 1}`, className: "row" }));

    // The viewer.
    const title = make("h3"), facts = make("dl", { className: "facts" });
    const scores = make("details", { className: "scores" }, make("summary"), make("dl", { className: "facts" }));
    const doubts = make("div", { className: "warning" });
    const input = select([]), map = select([]), plane = select([]);
    const slider = make("input", { type: "range", min: 0, step: 1 }), place = make("output");
    const overlay = make("input", { type: "checkbox", checked: true });
    const opacity = make("input", { type: "range", min: 0, max: 100, step: 5, value: 100 });
    const contrast = select([["shared", "the same for all"], ["own", "of each map alone"]]);
    const controls = {
      input: control("input", input), map: control("map", map), plane: control("plane", plane),
      slice: control("slice", slider), overlay: control("overlay", overlay), opacity: control("opacity", opacity),
      contrast: control("colour scale", contrast),
    };
    controls.slice.append(place);
    const panes = make("div", { className: "panes", tabIndex: 0, role: "group", "aria-label": `pictures. ${KEYS}` });
    const notes = make("div", { className: "notes" }), legend = make("p", { className: "legend" });
    const bars = make("div", { className: "bars" });
    const viewer = make("div", { className: "viewer" }, title, facts, scores, doubts,
      make("div", { className: "controls", role: "group", "aria-label": "view" }, ...Object.values(controls)),
      panes, notes, bars, legend, make("p", { className: "keys", textContent: KEYS }));
    root.replaceChildren(
      make("div", { className: "chooser" }, filters, count,
        make("div", { className: "heads", role: "group", "aria-label": "sort" }, ...heads), list), viewer);

    function describeRow(item) {
      const mark = item.right === null ? "" : item.right ? "✓ " : "✗ ";
      const texts = [item.id, item.label || "–", mark + (item.prediction || "–"), format(score(item)),
        item.doubts.length ? `${item.doubts.length} ⚠` : ""];
      const row = rows[item.position];
      row.replaceChildren(...texts.map((text) => make("span", { textContent: text })));
      const spoken = [`${item.id}`, item.label && `truth ${item.label}`, item.prediction && `prediction ${item.prediction}`,
        item.right === null ? "" : item.right ? "right" : "wrong", score(item) !== null && `${measure.value} ${texts[3]}`,
        item.doubts.length && `${item.doubts.length} doubt${item.doubts.length > 1 ? "s" : ""}`];
      row.setAttribute("aria-label", spoken.filter(Boolean).join(", "));
    }

    function filter() {
      const text = search.value.trim().toLowerCase();
      const least = low.value === "" ? -Infinity : Number(low.value);
      const most = high.value === "" ? Infinity : Number(high.value);
      const limited = low.value !== "" || high.value !== "";
      const fits = (item) => (item.id.toLowerCase().includes(text) || item.patient.toLowerCase().includes(text))
        && (!label.value || item.label === label.value) && (!prediction.value || item.prediction === prediction.value)
        && (outcome.value === "" || (outcome.value === "doubt" ? item.doubts.length > 0
          : item.right === (outcome.value === "right")))
        && (!limited || (score(item) !== null && score(item) >= least && score(item) <= most));
      state.shown = cases.filter(fits);
      const sign = state.down ? -1 : 1;
      const missing = (value) => value === null || value === "";
      const keys = {
        id: (item) => item.id, label: (item) => item.label, prediction: (item) => item.prediction, score,
        doubt: (item) => item.doubts.length + (1 - (item.probability ?? 1)),
      };
      if (state.sort) {
        const key = keys[state.sort];
        state.shown.sort((a, b) => {
          const [x, y] = [key(a), key(b)];
          if (missing(x) || missing(y)) return missing(x) - missing(y); // the unknown always last
          return sign * (typeof x === "number" ? x - y : compareText(x, y)) || a.position - b.position;
        });
      }
      list.replaceChildren(...state.shown.map((item) => rows[item.position]));
      state.shown.forEach(describeRow);
      count.textContent = state.shown.length ? `${state.shown.length} of ${cases.length} ${data.noun}`
        : `none of ${cases.length} ${data.noun} fits these filters`;
      heads.forEach((head) => {
        head.setAttribute("aria-pressed", String(head.name === state.sort));
        const arrow = head.name === state.sort ? (state.down ? " ↓" : " ↑") : "";
        head.textContent = columns.find(([key]) => key === head.name)[1] + arrow;
      });
      if (state.shown.length && !state.shown.includes(state.current)) choose(state.shown[0]);
      viewer.hidden = !state.shown.length;
      mark();
    }

    function mark() {
      rows.forEach((row, position) => row.setAttribute("aria-selected", String(cases[position] === state.current)));
      if (state.current) list.setAttribute("aria-activedescendant", rows[state.current.position].id);
    }

    function scrollTo(row) { // only the list, never the page
      if (row.offsetTop < list.scrollTop) list.scrollTop = row.offsetTop;
      const below = row.offsetTop + row.offsetHeight - list.clientHeight;
      if (below > list.scrollTop) list.scrollTop = below;
    }

    function fill(element, holder, options, keep) {
      element.replaceChildren(...options.map(([value, text]) => make("option", { value, textContent: text })));
      if (options.some(([value]) => value === keep)) element.value = keep;
      holder.hidden = options.length < 2;
    }

    function choose(item) {
      const before = [input.value, map.value];
      state.current = item;
      state.plane = 0;
      title.textContent = item.id;
      const values = { ...(item.patient !== item.id && { patient: item.patient }), ...(item.label && { truth: item.label }),
        ...(item.prediction && { prediction: item.prediction }),
        ...(item.right !== null && { outcome: item.right ? "✓ right" : "✗ wrong" }),
        ...(item.probability !== null && { probability: format(item.probability) }),
        ...item.facts };
      const describe = (entries) => entries.map(([name, value]) => make("div", {},
        make("dt", { textContent: name }), make("dd", { textContent: value })));
      facts.replaceChildren(...describe(Object.entries(values)));
      const numbers = Object.entries(item.scores).map(([name, value]) => [name, format(value)]);
      scores.hidden = !numbers.length;
      scores.firstChild.textContent = numbers.length ? `scores: ${numbers[0].join(" ")}${numbers.length > 1
        ? `, and ${numbers.length - 1} more` : ""}` : "";
      scores.lastChild.replaceChildren(...describe(numbers));
      doubts.replaceChildren(...item.doubts.map((text) => make("p", { textContent: `⚠ ${text}` })));
      doubts.hidden = !item.doubts.length;
      const inputs = unique(item.layers.filter((layer) => layer.kind === "image").map((layer) => layer.input));
      const maps = unique(item.layers.filter((layer) => layer.kind === "map").map((layer) => layer.name));
      fill(input, controls.input, inputs.length > 1 ? [["all", "all"], ...inputs.map((name) => [name, name])] : [], before[0]);
      fill(map, controls.map, maps.length > 1 ? [["", "all"], ...maps.map((name) => [name, name])] : [], before[1]);
      fill(plane, controls.plane, item.planes.map((own, i) => [String(i), own.name || `plane ${i + 1}`]), "0");
      const drawn = item.layers.some((layer) => layer.kind !== "image");
      controls.overlay.hidden = controls.opacity.hidden = !drawn;
      controls.contrast.hidden = !item.layers.some((layer) => layer.kind === "map" && Math.abs(layer.top - 1) > 0.02);
      layOut();
      mark();
      scrollTo(rows[item.position]);
    }

    /** Build the panes of the current case, input, map and plane. */
    function layOut() {
      const item = state.current, own = item.planes[state.plane];
      const inputs = input.value && input.value !== "all" ? [input.value]
        : unique(item.layers.filter((layer) => layer.kind === "image").map((layer) => layer.input));
      state.rows = own ? listPanes(item, inputs, controls.map.hidden ? "" : map.value) : [];
      const few = state.rows.length > 1 && state.rows.every(({ panes: line }) => line.length <= 2);
      if (few) { // several inputs fit next to each other
        const all = state.rows.flatMap(({ input: name, panes: line }) => line.map((pane) => ({ ...pane, input: name })));
        state.rows = [{ input: "", panes: all }];
      }
      panes.replaceChildren(...state.rows.map(({ input: name, panes: line }) => {
        const holder = make("div", { className: "line" });
        line.forEach((pane) => {
          pane.canvas = make("canvas", { role: "img" });
          pane.missing = make("p", { className: "missing", textContent: "no picture of this slice", hidden: true });
          const own = pane.input ?? name;
          const head = inputs.length > 1 && pane.title !== own ? `${own}: ${pane.title}` : pane.title;
          pane.spoken = head;
          pane.detail = make("span", { className: "detail" });
          const caption = make("figcaption", { textContent: `${pane.note ? "⚠ " : ""}${head}` });
          holder.append(make("figure", {}, caption, pane.canvas, pane.missing, pane.detail));
        });
        holder.style.setProperty("--columns", String(few ? 4 : line.length > 5 ? Math.ceil(line.length / 2) : Math.max(line.length, 3)));
        return holder;
      }));
      if (!own) panes.append(make("p", { textContent: "This case has no picture in this page." }));
      const several = own && own.slices.length > 1;
      controls.slice.hidden = !several;
      slider.max = String(own ? own.slices.length - 1 : 0);
      state.slice = own ? own.key : 0;
      const warned = unique(state.rows.flatMap(({ panes: line }) => line.map((pane) => pane.note)).filter(Boolean));
      notes.replaceChildren(...warned.map((text) => make("p", { textContent: `⚠ ${text}` })));
      notes.hidden = !warned.length;
      const layers = item.layers, has = (kind) => layers.some((layer) => layer.kind === kind);
      const shown = unique(state.rows.flatMap(({ panes: line }) => line.map((pane) => pane.map)).filter(Boolean));
      bars.replaceChildren(...[false, true].flatMap((signed) => {
        const own = unique(shown.filter((layer) => layer.signed === signed).map((layer) => layer.name));
        return own.length ? [drawBar(signed, own.join(", "))] : [];
      }));
      legend.textContent = [has("truth") && "Cyan outline: truth.", has("prediction") && "White outline and orange: prediction.",
        own && own.total > own.slices.length && `${own.slices.length} of ${own.total} slices are in this page.`,
        data.note].filter(Boolean).join(" ");
      show(state.slice);
    }

    /** Draw the colours of maps with their meaning. */
    function drawBar(signed, names) {
      const meaning = signed ? `${names}: blue speaks against the class, red for it` : `${names}: from low to high`;
      const bar = make("canvas", { width: 256, height: 1, role: "img", "aria-label": meaning });
      const table = signed ? data.colours.signed : data.colours.plain, context = bar.getContext("2d");
      const line = context.createImageData(256, 1), last = table.length / 3 - 1;
      for (let x = 0; x < 256; x += 1) {
        const index = Math.round((x / 255) * last) * 3;
        line.data.set([table[index], table[index + 1], table[index + 2], 255], x * 4);
      }
      context.putImageData(line, 0, 0);
      return make("p", { className: "bar" }, bar, make("span", { textContent: meaning }));
    }

    /** Show a slice of the current plane. */
    function show(position) {
      const own = state.current?.planes[state.plane];
      if (!own || !own.slices.length) return;
      state.slice = Math.min(Math.max(position, 0), own.slices.length - 1);
      const slice = own.slices[state.slice];
      const text = `${slice.number} (${state.slice + 1} of ${own.slices.length})`;
      slider.value = String(state.slice);
      slider.setAttribute("aria-valuetext", text);
      place.textContent = text;
      const drawing = state.drawing += 1;
      const line = own.slices.length > 1 ? `, slice ${slice.number}` : "";
      const all = state.rows.flatMap(({ panes: several }) => several.map((pane) => {
        pane.canvas.setAttribute("aria-label", `${state.current.id}: ${pane.spoken}${line}`);
        return drawPane(pane, own, slice, state, () => drawing === state.drawing);
      }));
      Promise.all(all).then(() => {
        if (drawing === state.drawing) root.dataset.drawn = `${state.current.id} ${state.plane} ${slice.number}`;
      });
    }

    const move = (by) => {
      const next = state.shown[state.shown.indexOf(state.current) + by];
      if (next) choose(next);
    };
    const setOpacity = (value) => {
      opacity.value = String(Math.min(Math.max(value, 0), 100));
      state.opacity = Number(opacity.value) / 100;
      show(state.slice);
    };
    const setOverlay = (on) => {
      overlay.checked = state.overlay = on;
      show(state.slice);
    };

    [search, label, prediction, outcome, measure, low, high].forEach((element) => element.addEventListener("input", filter));
    clear.addEventListener("click", () => {
      [search, label, prediction, outcome, low, high].forEach((element) => { element.value = ""; });
      filter();
    });
    heads.forEach((head) => head.addEventListener("click", () => {
      state.down = state.sort === head.name ? !state.down : head.name === "doubt";
      state.sort = head.name;
      filter();
    }));
    list.addEventListener("click", (event) => {
      const row = event.target.closest("[role=option]");
      if (row) choose(cases[rows.indexOf(row)]);
    });
    input.addEventListener("input", layOut);
    map.addEventListener("input", layOut);
    plane.addEventListener("input", () => { state.plane = Number(plane.value); layOut(); });
    slider.addEventListener("input", () => show(Number(slider.value)));
    overlay.addEventListener("input", () => setOverlay(overlay.checked));
    opacity.addEventListener("input", () => setOpacity(Number(opacity.value)));
    contrast.addEventListener("input", () => { state.own = contrast.value === "own"; show(state.slice); });
    panes.addEventListener("wheel", (event) => {
      const own = state.current?.planes[state.plane], by = Math.sign(event.deltaY);
      const next = state.slice + by;
      if (!own || event.ctrlKey || !by || next < 0 || next >= own.slices.length) return; // at the end the page scrolls on
      event.preventDefault();
      show(next);
    }, { passive: false });
    root.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.altKey || event.metaKey || ["INPUT", "SELECT"].includes(event.target.tagName)) return;
      const last = (state.current?.planes[state.plane]?.slices.length ?? 1) - 1;
      const actions = {
        ArrowDown: () => move(1), ArrowUp: () => move(-1), ArrowRight: () => show(state.slice + 1),
        ArrowLeft: () => show(state.slice - 1), Home: () => show(0), End: () => show(last),
        o: () => setOverlay(!state.overlay), O: () => setOverlay(!state.overlay),
        "+": () => setOpacity(Number(opacity.value) + 10), "-": () => setOpacity(Number(opacity.value) - 10),
      };
      if (!actions[event.key]) return;
      event.preventDefault();
      actions[event.key]();
    });
    filter();
  }

  for (const root of document.querySelectorAll(".browser")) {
    start(root, JSON.parse(root.nextElementSibling.textContent));
  }
  // A page that gets its cases later dispatches this event at an element, with the data of a browser.
  document.addEventListener("show-cases", (event) => start(event.target, event.detail));
})();
