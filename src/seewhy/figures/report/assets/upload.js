// Page of a served run: sends the images of a case, and shows the answer. Plain script without a framework. Text from
// the server only ever becomes textContent; pictures are drawn by the case browser (browser.js).
(() => {
  "use strict";

  const settings = JSON.parse(document.querySelector(".settings").textContent);
  const form = document.querySelector("form.case"), answer = document.querySelector(".answer");
  const problem = document.querySelector(".problem"), state = form.querySelector(".state");
  const [bar, words] = [state.querySelector("progress"), state.querySelector("span")];
  const [send, clear, stop] = ["send", "clear", "stop"].map((name) => form.querySelector(`.${name}`));
  const drops = [...form.querySelectorAll(".drop")];
  const hints = new Map(drops.map((drop) => [drop, drop.querySelector(".chosen").textContent]));
  const fileInput = (drop) => drop.querySelector("input");
  const MARKS = { passed: "✓", failed: "⚠", open: "?", "not judged": "?" };
  let request = null;

  /** Create an element with properties and children. */
  function make(tag, properties = {}, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  const formatBytes = (count) => (count >= 1 << 20 ? `${(count / (1 << 20)).toFixed(1)} MiB`
    : count >= 1 << 10 ? `${(count / (1 << 10)).toFixed(1)} KiB` : `${count} bytes`);

  // -- files ----------------------------------------------------------------------------------------------------

  /** Show which files are chosen. */
  function refresh() {
    for (const drop of drops) {
      const files = [...fileInput(drop).files];
      const total = files.reduce((sum, file) => sum + file.size, 0);
      drop.classList.toggle("full", files.length > 0);
      drop.querySelector(".chosen").textContent = !files.length ? hints.get(drop)
        : `${files.length > 1 ? `${files.length} files` : files[0].name}, ${formatBytes(total)}`;
    }
    send.disabled = Boolean(request) || !drops.some((drop) => fileInput(drop).files.length);
  }

  function setFiles(drop, files) {
    const list = new DataTransfer();
    (fileInput(drop).multiple ? files : files.slice(0, 1)).forEach((file) => list.items.add(file));
    fileInput(drop).files = list.files;
  }

  /** Give dropped files to their inputs: by the name of the input in the file's name, else to where they were dropped. */
  function distribute(drop, files) {
    if (drops.length === 1 || files.length === 1) {
      setFiles(drop, files);
    } else {
      const longest = [...drops].sort((a, b) => fileInput(b).name.length - fileInput(a).name.length);
      for (const file of files) {
        const own = longest.find((other) => file.name.toLowerCase().includes(`_${fileInput(other).name.toLowerCase()}`));
        if (own) setFiles(own, [file]);
      }
    }
    refresh();
  }

  for (const drop of drops) {
    fileInput(drop).addEventListener("change", refresh);
    for (const name of ["dragenter", "dragover"]) {
      drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
    }
    for (const name of ["dragleave", "drop"]) drop.addEventListener(name, () => drop.classList.remove("over"));
    drop.addEventListener("drop", (event) => {
      event.preventDefault();
      distribute(drop, [...event.dataTransfer.files]);
    });
  }
  for (const name of ["dragover", "drop"]) window.addEventListener(name, (event) => event.preventDefault());

  // -- requests -------------------------------------------------------------------------------------------------

  function showProblem(text) {
    problem.textContent = text;
    problem.hidden = !text;
  }

  function showState(text, share) {
    state.hidden = !text;
    words.textContent = text;
    if (share === null) bar.removeAttribute("value");
    else bar.value = share;
  }

  function finish() {
    request = null;
    showState("", 0);
    stop.hidden = true;
    refresh();
  }

  /** The fields of the form, without empty ones. */
  function collect() {
    const data = new FormData();
    for (const drop of drops) for (const file of fileInput(drop).files) data.append(fileInput(drop).name, file);
    for (const choice of form.querySelectorAll(".controls [name]")) if (choice.value) data.append(choice.name, choice.value);
    return data;
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const total = drops.flatMap((drop) => [...fileInput(drop).files]).reduce((sum, file) => sum + file.size, 0);
    showProblem("");
    if (total > settings.most_bytes) {
      showProblem(`these files have ${formatBytes(total)}; this server takes up to ${formatBytes(settings.most_bytes)}`);
      return;
    }
    request = new XMLHttpRequest();
    request.open("POST", "predict");
    request.upload.addEventListener("progress", ({ loaded, total: all }) => {
      showState(loaded < all ? `uploading, ${Math.round((100 * loaded) / all)} %` : "predicting …", loaded < all ? loaded / all : null);
    });
    request.addEventListener("load", ({ target }) => {
      finish();
      let data = null;
      try { data = JSON.parse(target.responseText); } catch { /* not from this server */ }
      if (data && target.status === 200) showAnswer(data);
      else showProblem(data?.error ?? `the server answered with status ${target.status}; try again`);
    });
    request.addEventListener("error", () => { finish(); showProblem("the server was not reached; is it still running?"); });
    request.addEventListener("abort", () => { finish(); showProblem("stopped"); });
    showState("uploading", 0);
    stop.hidden = false;
    answer.hidden = true;
    refresh();
    request.send(collect());
    send.disabled = true;
  });
  stop.addEventListener("click", () => request?.abort());
  clear.addEventListener("click", () => {
    drops.forEach((drop) => setFiles(drop, []));
    answer.hidden = true;
    showProblem("");
    refresh();
  });

  // -- the answer -----------------------------------------------------------------------------------------------

  function describeValues({ values, about }) {
    const rows = values.map(({ name, value, unit }) => {
      const share = unit === "probability" && value !== null;
      const text = value === null ? "–" : share ? value.toFixed(3) : `${Number.isInteger(value) ? value : value.toFixed(2)} ${unit}`;
      const meter = share ? [make("meter", { min: 0, max: 1, value, textContent: text })] : [];
      return make("tr", {}, make("th", { scope: "row", textContent: name }), make("td", {}, ...meter), make("td", { textContent: text }));
    });
    return make("div", { className: "table" }, make("table", {}, make("caption", { textContent: about }), make("tbody", {}, ...rows)));
  }

  function describeVerdict(method) {
    if (!method) return make("p", { className: "verdict", textContent: "No method explained this case." });
    const { state: result, text } = method.verdict;
    return make("p", { className: `verdict ${result.replace(" ", "-")}` },
      `${MARKS[result]} ${method.title} explains: ${method.target}. `, make("b", { textContent: `${result}:` }), ` ${text}`);
  }

  function describeDoubts(doubts) {
    if (!doubts.length) return make("p", { textContent: "No doubts were found, which proves nothing." });
    return make("div", { className: "warning" }, ...doubts.map((text) => make("p", { textContent: `⚠ ${text}` })));
  }

  /** Save a file of the answer, as it came. */
  function save({ name, type, content }) {
    const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
    const link = make("a", { download: name.split("/").pop(), href: URL.createObjectURL(new Blob([bytes], { type })) });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  function listFiles(files) {
    return make("ul", { className: "saved" }, ...files.map((file) => {
      const button = make("button", { type: "button", textContent: `${file.name} (${file.size})`, disabled: file.content === null });
      if (file.content === null) button.title = "too large for this page; POST the case to predict.zip";
      button.addEventListener("click", () => save(file));
      return make("li", {}, button);
    }));
  }

  function showAnswer(data) {
    const browser = make("div", { className: `browser${data.cases.length > 1 ? "" : " single"}` });
    const cards = make("dl", { className: "cards" }, make("div", {}, make("dt", { textContent: "answer" }),
      make("dd", { className: "value", textContent: data.predicted || "–" }),
      make("dd", { textContent: data.warnings.length > 1 ? "from a model of synthetic data" : "of a model, not a diagnosis" })));
    answer.replaceChildren(
      make("h2", { textContent: data.id }), cards, describeValues(data), describeVerdict(data.method),
      describeDoubts(data.doubts), ...data.notes.map((text) => make("p", { textContent: text })), browser,
      make("h2", { textContent: "Files" }), make("p", { textContent: "As predict.py writes them." }), listFiles(data.files));
    answer.hidden = false;
    browser.dispatchEvent(new CustomEvent("show-cases", { bubbles: true, detail: {
      cases: data.cases.map((item) => ({ ...item, doubts: [] })), noun: "cases", note: "", colours: settings.colours,
      strength: settings.strength,
    } }));
    answer.scrollIntoView({ block: "start" });
  }

  refresh();
})();
