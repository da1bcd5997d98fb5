
// Numbers and times become words, and elements are made.

const commas = new Intl.NumberFormat("en");
const count = (n) => commas.format(n);

/** A rate has three digits that matter. */
function rate(n) {
  if (n === null) return "–";
  if (n === 0) return "0";
  return n < 9.95 ? n.toFixed(1) : count(Math.round(n));
}

function scaled(n, step, units, digits) {
  let at = 0;
  while (n >= step && at < units.length - 1) { n /= step; at += 1; }
  const text = at === 0 ? String(Math.round(n)) : n.toFixed(n < 9.95 ? digits : n < 99.5 ? Math.min(digits, 1) : 0);
  return `${text} ${units[at]}`;
}
const bytes = (n) => scaled(n, 1024, ["B", "KiB", "MiB", "GiB", "TiB", "PiB"], 1);
const bits = (n) => n === null ? "–" : scaled(n * 8, 1000, ["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"], 1);
/** A count where there is little room. */
const brief = (n) => n < 100_000 ? count(n) : scaled(n, 1000, ["", "k", "M", "G", "T"], 2).trim();

/** A time span has two units at most. */
function lasted(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${Math.floor(s / 60) % 60} min`;
  return `${Math.floor(s / 86_400)} d ${Math.floor(s / 3600) % 24} h`;
}

/** A share of a whole is never rounded to nothing, nor to all. */
function share(part, whole) {
  const percent = Math.floor(part * 1000 / Math.max(whole, 1)) / 10;
  if (percent < .1) return "less than 0.1 %";
  return percent < 10 ? `${percent.toFixed(1)} %` : `${Math.floor(percent)} %`;
}

const plural = (n, word) => `${count(n)} ${word}${n === 1 ? "" : "s"}`;
const at = (id) => document.getElementById(id);

/** Makes an element. Text is never read as markup. */
function make(tag, classes = "", text = null) {
  const element = document.createElement(tag);
  if (classes) element.className = classes;
  if (text !== null) element.textContent = text;
  return element;
}

function draw(tag, attributes, text = null) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== null) element.textContent = text;
  return element;
}

/** Sets a text where it differs, so that selections stay and nothing is read out twice. */
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Sets a text in which what is between backticks can be typed. */
function prose(element, text) {
  if (element.textContent === text.replaceAll("`", "")) return;
  element.replaceChildren(...text.split("`").map((part, index) => index % 2 ? make("code", "", part) : part));
}

/** Draws a line of rates, the latest at the right. Losses are red bars, however few they are. */
function spark(rates, losses, slots) {
  const [width, height] = [100, 30];
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  const most = Math.max(1, ...rates, ...(rates.length ? [] : losses));
  const x = (index, length) => (width * (slots - length + index + .5)) / slots;
  const y = (value) => height - 1 - (height - 3) * Math.min(1, value / most);
  svg.append(draw("line", { class: "spark-base", x1: 0, x2: width, y1: height - .5, y2: height - .5 }));
  if (rates.length > 1 && rates.some((value) => value > 0)) {
    const points = rates.map((value, index) => `${x(index, rates.length).toFixed(2)} ${y(value).toFixed(2)}`);
    const [first, last] = [x(0, rates.length).toFixed(2), x(rates.length - 1, rates.length).toFixed(2)];
    svg.append(draw("path", { class: "spark-area", d: `M${first} ${height}L${points.join("L")}L${last} ${height}Z` }));
    svg.append(draw("path", { class: "spark-line", d: `M${points.join("L")}` }));
  }
  losses.forEach((value, index) => {
    if (value <= 0) return;
    const tall = Math.max(3, height - 1 - y(value));
    const left = x(index, losses.length) - width / slots / 2;
    svg.append(draw("rect", { class: "spark-loss", x: left.toFixed(2), y: height - tall, width: width / slots * .8, height: tall }));
  });
  return svg;
}
