
// The sensor is asked once a second, and what it says is shown.

const EACH = 1000;
const PATIENCE = 3000;
/** Rates are those of so many seconds. */
const RECENT = 3;
/** Lines have so many seconds. */
const KEPT = 60;
/** Rows sorted by what changes all the time change their places every so many answers. */
const CALM = 5;

const page = { samples: [], status: null, answers: 0, answered: 0, timer: 0, running: false };

// Differences

const keyOf = (session) => [session.encapsulation, JSON.stringify(session.scope), session.source, session.vni].join(" ");

/** Notes a ledger. A sensor that was started anew begins anew. */
function note(ledger) {
  const last = page.samples.at(-1);
  if (last && last.ledger.started !== ledger.started) page.samples = [];
  const sessions = new Map(ledger.sessions.map((session) => [keyOf(session), session]));
  const { total, missing } = losses(account(ledger));
  page.samples.push({ at: performance.now() / 1000, ledger, sessions, total, missing });
  while (page.samples.length > KEPT + 1) page.samples.shift();
}

/** The growth of a value by second, in all the steps that are known. */
function steps(value) {
  const rates = [];
  for (let index = 1; index < page.samples.length; index += 1) {
    const [before, after] = [page.samples[index - 1], page.samples[index]];
    const [a, b] = [value(before), value(after)];
    rates.push(a === undefined || b === undefined ? 0 : Math.max(0, (b - a) / Math.max(.001, after.at - before.at)));
  }
  return rates;
}

/** The growth of a value by second, of late; none where it was not known before. */
function lately(value) {
  const after = page.samples.at(-1);
  const before = page.samples.at(-1 - RECENT) ?? page.samples[0];
  const [a, b] = [value(before), value(after)];
  if (after === before || a === undefined || b === undefined) return null;
  return Math.max(0, (b - a) / Math.max(.001, after.at - before.at));
}

function line(element, value, lost = null) {
  const rates = value ? steps(value) : [];
  element.replaceChildren(spark(rates, lost ? steps(lost) : [], KEPT));
}

// Tables

const sinceFrame = (last) => (Date.parse(page.samples.at(-1).ledger.ended) - Date.parse(last)) / 1000;
const ago = (seconds) => seconds < 2 ? "now" : `${lasted(seconds)} ago`;

const sessionsTable = new Table("sessions", [
  { name: "name", title: "session", classes: "name", down: false, value: (s) => s.name ?? s.source,
    fill: (cell, s) => {
      const words = `${s.name ? `${s.source} ` : ""}VNI ${s.vni}`;
      lines(cell, s.name ?? s.source, s.description ?? "");
      aside(cell, s.lost ? `${words}, ${count(s.lost)} lost` : words, s.lost > 0);
    } },
  { name: "source", title: "source", classes: "wide", down: false, value: (s) => s.source, fill: (cell, s) => say(cell, s.source) },
  { name: "vni", title: "VNI", classes: "number middle", down: false, value: (s) => s.vni, fill: (cell, s) => say(cell, String(s.vni)) },
  { name: "rate", title: "frames/s", classes: "number", value: (s) => s.rate ?? 0, fill: (cell, s) => speed(cell, s.rate) },
  { name: "line", title: "last minute", classes: "spark", unseen: true, fill: (cell, s) =>
    line(cell, (sample) => sample.sessions.get(s.key)?.frames, (sample) => lostOf(sample.sessions.get(s.key))) },
  { name: "bits", title: "bit/s", classes: "number middle", value: (s) => s.bits ?? 0, fill: (cell, s) => say(cell, s.bits ? bits(s.bits) : rate(s.bits)) },
  { name: "frames", title: "frames", classes: "number", value: (s) => s.frames, fill: (cell, s) => number(cell, s.frames) },
  { name: "lost", title: "lost", classes: "number middle", value: lostOf, fill: (cell, s) => number(cell, lostOf(s), true) },
  { name: "duplicates", title: "duplicates", classes: "number wide", value: (s) => s.duplicates ?? 0, fill: (cell, s) => number(cell, s.duplicates ?? 0) },
  { name: "bytes", title: "bytes", classes: "number wide", value: (s) => s.bytes, fill: (cell, s) => say(cell, bytes(s.bytes)) },
  { name: "last", title: "last frame", classes: "number middle", value: (s) => s.last, fill: (cell, s) => {
    const seconds = sinceFrame(s.last);
    say(cell, ago(seconds));
    cell.classList.toggle("zero", seconds >= 60);
  } },
], { by: "rate", down: true });

const outputsTable = new Table("outputs", [
  { title: "output", classes: "name", fill: (cell, o) => {
    lines(cell, o.name, o.place);
    aside(cell, o.state === "up" ? "" : [o.state, o.reason].filter(Boolean).join(": "), o.state !== "removed");
  } },
  { title: "state", classes: "text middle", fill: (cell, o) => lines(cell, o.state, o.reason, "more lost") },
  { title: "written/s", classes: "number", fill: (cell, o) => speed(cell, o.rate) },
  { title: "last minute", classes: "spark", unseen: true, fill: (cell, o) =>
    line(cell, (sample) => sample.ledger.outputs[o.key]?.written, (sample) => lostBy(sample.ledger.outputs[o.key])) },
  { title: "written", classes: "number middle", fill: (cell, o) => number(cell, o.written) },
  { title: "left out", classes: "number wide", fill: (cell, o) => number(cell, o.filtered) },
  { title: "lost", classes: "number", fill: (cell, o) => number(cell, o.lost, true) },
  { title: "queue", classes: "number middle", fill: queue },
  { title: "free", classes: "number wide", fill: (cell, o) => say(cell, o.free === null ? "–" : bytes(o.free)) },
]);

const lossesTable = new Table("losses", [
  { title: "where", classes: "middle", fill: (cell, o) => say(cell, o.place) },
  { title: "reason", classes: "name", fill: (cell, o) => {
    lines(cell, o.name);
    aside(cell, `${o.place}. ${o.meaning ?? ""}`);
  } },
  { title: "lost", classes: "number", fill: (cell, o) => number(cell, o.frames, true) },
  { title: "lost/s", classes: "number middle", fill: (cell, o) => { speed(cell, o.rate); cell.classList.toggle("lost", o.rate > 0); } },
  { title: "last minute", classes: "spark middle", unseen: true, fill: (cell, o) => line(cell, null, o.value) },
  { title: "what it is, and what helps", classes: "text middle", fill: (cell, o) => prose(cell, o.meaning ?? "") },
]);

/** Fills a cell with how much waits for an output. */
function queue(cell, o) {
  if (!cell.firstChild) {
    const meter = make("span", "meter");
    meter.append(make("i"));
    cell.append(meter, make("span"));
  }
  const [meter, words] = cell.children;
  meter.hidden = o.limit === 0;
  const part = o.limit ? Math.min(1, o.waits / o.limit) : 0;
  meter.firstChild.style.width = `${(part * 100).toFixed(1)}%`;
  meter.classList.toggle("full", part > .9);
  say(words, o.limit ? `${bytes(o.waits)} of ${bytes(o.limit)}` : "–");
}

/** What a session lost, which it says only where it is something. */
function lostOf(session) {
  return session && (session.lost ?? 0);
}

function lostBy(output) {
  if (!output) return undefined;
  return Object.entries(settled(output).dropped).reduce((all, [reason, n]) => all + (ASKED_FOR.has(reason) ? 0 : n), 0);
}

// What is shown

function showHead({ status, ledger }) {
  const up = lasted(status.uptime_seconds);
  const word = status.state === "draining" ? `about to end, after ${up}` : status.ready ? `receiving for ${up}` : `not ready, up for ${up}`;
  at("state").className = `state ${status.ready ? "good" : "bad"}`;
  say(at("state-word"), word);
  const host = /^(localhost|127\.|\[)/.test(location.hostname) ? [] : [location.hostname];
  say(at("where"), [...host, `listens on ${status.listen.join(", ") || "nothing"}`, status.source].join(" · "));
  say(at("age"), `${ledger.ended.slice(11, 19)} UTC`);
  const asked = lately((sample) => sample.ledger.received);
  document.title = `${status.ready ? "" : "NOT READY · "}${asked === null ? "" : `${rate(asked)}/s · `}vxtap`;
  const file = status.config.path ? `configured by ${status.config.path}` : "configured by flags";
  say(at("about"), `vxtap ${status.version}, process ${status.pid}, ${file}, since ${status.started.slice(0, 19).replace("T", " ")} UTC.`);
}

function showBanner(status) {
  const reasons = [...status.reasons];
  if (status.ready && !status.live) reasons.push("a worker stalls");
  banner(status.ready && status.live ? "" : "Not ready:", reasons.join("; ") || "the sensor says no reason");
  const { last } = status.config;
  const notice = at("notice");
  notice.hidden = !last || last.ok;
  if (!notice.hidden) say(notice, `The configuration file was read again at ${last.at.slice(11, 19)} UTC and refused; the sensor runs on as it was.\n${last.error ?? ""}`.trim());
}

function banner(what, why) {
  const element = at("banner");
  say(at("banner-what"), what);
  say(at("banner-why"), what ? why : "");
  element.hidden = what === "";
}

function showVerdict(ledger, all) {
  const arrived = ledger.received + ledger.kernel_dropped;
  const verdict = at("verdict");
  const none = arrived === 0 ? "Nothing has arrived yet" : "Nothing was lost";
  say(verdict, all.total ? `Lost ${share(all.missing, arrived)}` : none);
  verdict.classList.toggle("loss", all.total > 0);
  const [most, ...others] = [...all.lost].sort((a, b) => b.frames - a.frames);
  let more = arrived ? `${plural(arrived, "datagram")}, ${bytes(ledger.received_bytes)}` : "";
  if (most) {
    const where = most.output !== null ? `frames of ${most.output} (${most.name})` : most.name === "kernel_dropped" ? "datagrams in the kernel" : `datagrams without a frame (${most.name})`;
    more = `${count(most.frames)} ${where}${others.length ? `, and for ${plural(others.length, "other reason")}` : ""}`;
  }
  say(at("verdict-more"), more);
}

function showTiles({ status, ledger }) {
  const received = (sample) => sample.ledger.received;
  const missing = (sample) => sample.missing;
  say(at("rate"), rate(lately(received)));
  say(at("bits"), bits(lately((sample) => sample.ledger.received_bytes)));
  line(at("rate-line"), received, missing);
  const lost = lately(missing);
  say(at("lost-rate"), rate(lost));
  at("lost-rate").parentElement.classList.toggle("loss", lost > 0);
  line(at("lost-line"), null, missing);
  say(at("count"), count(status.sessions.count));
  say(at("limit"), `of ${count(status.sessions.limit)}${ledger.overflow.frames ? ": full" : ""}`);
  const busy = status.workers.map(({ worker }) => lately((sample) => sample.workers?.get(worker)));
  const known = busy.filter((part) => part !== null);
  say(at("busy"), known.length ? `${Math.round(100 * Math.min(1, Math.max(...known)))} %` : "–");
  say(at("workers"), status.workers.length === 1 ? "one worker" : `busiest of ${status.workers.length}`);
}

function showFlow() {
  const whole = page.samples.at(-1).ledger;
  const minute = document.querySelector("input[name=span]:checked").value === "minute";
  const ledger = minute ? between(whole, page.samples[0].ledger) : whole;
  const outcomes = account(ledger);
  const seconds = page.samples.at(-1).at - page.samples[0].at;
  say(at("minute"), seconds < KEPT - 2 ? `last ${Math.round(seconds)} s` : "last minute");
  const empty = at("flow-empty");
  const nothing = ledger.received + ledger.kernel_dropped === 0;
  at("picture").toggleAttribute("hidden", nothing);
  empty.hidden = !nothing;
  if (nothing) {
    say(empty, minute ? "Nothing has come for a minute." : "When the first datagram comes, this shows how many there are, what becomes of them, and where any are lost.");
  } else {
    const width = Math.max(280, Math.round(at("flow").clientWidth));
    const { shapes, height } = picture(ledger, outcomes, width);
    at("picture").setAttribute("viewBox", `0 0 ${width} ${height}`);
    at("picture").setAttribute("height", height);
    at("drawing").replaceChildren(...shapes);
    say(at("picture-text"), inWords(ledger, outcomes, minute ? "In the last minute" : "Since the start"));
  }
  showAccount(ledger, outcomes);
  showBesides(ledger);
}

function showAccount(ledger, outcomes) {
  const rows = [["sensor", "received", ledger.received], ["sensor", "decapsulated", ledger.decapsulated]];
  for (const { output, name, frames } of outcomes.filter(({ output }) => output === null)) rows.push(["sensor", name, frames]);
  for (const [name, output] of Object.entries(ledger.outputs)) {
    rows.push([name, "offered", output.offered]);
    for (const outcome of outcomes.filter(({ output }) => output === name)) rows.push([name, outcome.name, outcome.frames]);
    if (output.in_flight) rows.push([name, "on their way", output.in_flight]);
  }
  const body = at("account").tBodies[0];
  while (body.rows.length > rows.length) body.deleteRow(-1);
  rows.forEach(([where, what, n], index) => {
    const row = body.rows[index] ?? body.insertRow();
    while (row.cells.length < 3) row.insertCell();
    row.cells[2].className = "number";
    say(row.cells[0], where);
    say(row.cells[1], what);
    say(row.cells[2], count(n));
  });
}

function showBesides(ledger) {
  const vnis = ledger.unselected_vnis.slice(0, 4).map(({ vni }) => vni).join(", ");
  const all = [
    [ledger.unselected, `from sessions that are not let in${vnis ? ` (VNI ${vnis})` : ""}`],
    [ledger.cut_by_mirror, "arrived cut"],
    [ledger.overflow.frames, "of sessions beyond the limit, which share a file"],
    [ledger.reserved_bits, "with reserved bits set"],
    [ledger.duplicate_frames, "that another session had delivered before"],
    [ledger.beyond_cutoff?.frames, "beyond what is kept of their flows"],
  ];
  const said = all.filter(([n]) => n > 0).map(([n, what], index) => `${index ? count(n) : plural(n, "frame")} ${what}`);
  at("besides").hidden = said.length === 0;
  say(at("besides"), said.length ? `Of these: ${said.join("; ")}.` : "");
}

function showLosses(outcomes, again) {
  const items = outcomes.filter(({ kind }) => kind === "lost").map((outcome) => {
    const { output, name } = outcome;
    const value = ({ ledger }) => output !== null ? settled(ledger.outputs[output] ?? { dropped: {} }).dropped[name] ?? 0 : name === "kernel_dropped" ? ledger.kernel_dropped : ledger.dropped[name];
    const place = output ?? (name === "kernel_dropped" ? "kernel" : "decapsulation");
    return { ...outcome, place, key: `${output ?? ""}/${name}`, value, rate: lately(value) };
  });
  lossesTable.show(items.sort((a, b) => b.frames - a.frames), again);
  at("losses-section").hidden = items.length === 0;
}

function showOutputs({ status, ledger }) {
  const states = new Map(status.outputs.map((output) => [output.name, output]));
  const names = [...new Set([...states.keys(), ...Object.keys(ledger.outputs)])];
  const items = names.map((name) => {
    const state = states.get(name);
    const output = settled(ledger.outputs[name] ?? { written: 0, filtered: 0, dropped: {} });
    const to = state?.directory ?? (state?.interface === name ? "" : state?.interface ?? "");
    return {
      key: name, name, place: [state?.kind, to].filter(Boolean).join(" · "),
      state: !state ? "removed" : state.up ? "up" : "DOWN", reason: state && !state.up ? state.reason ?? "for an unknown reason" : "",
      rate: lately((sample) => sample.ledger.outputs[name]?.written),
      written: output.written, filtered: output.filtered, lost: lostBy(output),
      waits: state?.queue_bytes ?? 0, limit: state?.queue_limit_bytes ?? 0, free: state?.free_bytes ?? null,
    };
  });
  outputsTable.show(items, true);
  at("outputs-empty").hidden = items.length > 0;
}

function showSessions(again) {
  const { status, ledger } = page.samples.at(-1);
  const wanted = at("filter").value.trim().toLowerCase().replace(/\bvni\s+(?=\d)/g, "vni").split(/\s+/).filter(Boolean);
  const all = ledger.sessions.map((session) => {
    const key = keyOf(session);
    const rates = { rate: lately((sample) => sample.sessions.get(key)?.frames), bits: lately((sample) => sample.sessions.get(key)?.bytes) };
    return { ...session, ...rates, key };
  });
  const words = (s) => `${s.name ?? ""} ${s.source} vni${s.vni} ${s.vni} ${s.description ?? ""}`.toLowerCase();
  const items = all.filter((session) => wanted.every((word) => words(session).includes(word)));
  sessionsTable.show(items, again);
  const beyond = status.sessions.count > all.length ? `the ${count(all.length)} with most frames of ${count(status.sessions.count)}` : count(all.length);
  say(at("shown"), all.length === 0 ? "" : wanted.length ? `${count(items.length)} of ${beyond}` : beyond);
  showEmpty(items.length === 0, wanted.length > 0 && all.length > 0, status, ledger);
}

/** Says what to do where there is no session. */
function showEmpty(isEmpty, isFiltered, status, ledger) {
  const empty = at("sessions-empty");
  empty.hidden = !isEmpty;
  if (!isEmpty) return;
  const port = /:(\d+)$/.exec(status.listen[0] ?? "")?.[1] ?? "4789";
  const vnis = ledger.unselected_vnis.slice(0, 8).map(({ vni }) => vni).join(", ");
  let [first, hints] = ["", []];
  if (isFiltered) {
    first = "No session matches. Esc clears the filter.";
  } else if (ledger.unselected > 0) {
    first = `${plural(ledger.unselected, "frame")} came, of sessions that are not let in${vnis ? `: VNI ${vnis}` : ""}.`;
    hints = ["`--vni`, `--from`, `--allow` or `[[session]]` say who is let in; `vxtap config` shows what is in force."];
  } else if (ledger.received > 0) {
    first = `${plural(ledger.received, "datagram")} came, and none has a frame of a session: the losses above say why.`;
  } else {
    first = `Nothing has arrived yet: the sensor listens on ${status.listen.join(", ")}, and waits.`;
    hints = [
      "`vxtap check --watch 10s` on this host says what is missing.",
      `Does anything reach this host? Look with \`tcpdump -ni any udp port ${port}\`.`,
      `If nothing does: this host is the mirror's target, the mirror's filter accepts in both directions, and the target's security group lets in UDP ${port} from the mirrored hosts.`,
      "If datagrams do come: a firewall of this host drops them (`nft list ruleset`), or they are for another address or port.",
    ];
  }
  const signature = [first, ...hints].join("\n");
  if (empty.dataset.said === signature) return;
  empty.dataset.said = signature;
  const list = make("ul");
  for (const hint of hints) prose(list.appendChild(make("li")), hint);
  empty.replaceChildren(make("p", "", first), ...(hints.length ? [list] : []));
}

function show() {
  const sample = page.samples.at(-1);
  const again = page.answers % CALM === 1;
  const outcomes = account(sample.ledger);
  showHead(sample);
  showBanner(sample.status);
  showVerdict(sample.ledger, losses(outcomes));
  showTiles(sample);
  showFlow();
  showLosses(outcomes, again);
  showOutputs(sample);
  showSessions(again);
  document.body.classList.remove("stale");
}

// Asking

async function ask(path) {
  const answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
  if (!answer.ok) throw new Error(`it answers ${answer.status} at ${path}`);
  return answer.json();
}

async function poll() {
  if (page.running || document.hidden) return;
  page.running = true;
  clearTimeout(page.timer);
  const begun = performance.now();
  try {
    const [status, ledger] = await Promise.all([ask("status"), ask("ledger?top=100")]);
    note(ledger);
    const workers = new Map(status.workers.map(({ worker, busy_seconds }) => [worker, busy_seconds]));
    Object.assign(page.samples.at(-1), { status, workers });
    page.answers += 1;
    page.answered = performance.now();
    show();
  } catch (error) {
    unreachable(error);
  }
  page.running = false;
  if (!document.hidden) page.timer = setTimeout(poll, Math.max(0, EACH - (performance.now() - begun)));
}

/** Says that there is no answer. For how long is not read out each second. */
function unreachable(error) {
  const why = error.name === "TimeoutError" ? "there is no answer within 3 s" : error.message.startsWith("it answers") ? error.message : "there is no connection";
  banner("The sensor cannot be reached:", `${why}. It is asked again every second${page.answers ? "; what is below is what it said last" : ""}.`);
  at("state").className = "state bad";
  say(at("state-word"), "no answer");
  if (page.answers) {
    say(at("age"), `last answer ${lasted((performance.now() - page.answered) / 1000)} ago`);
    document.body.classList.add("stale");
  } else {
    say(at("verdict"), "No answer yet");
  }
  document.title = "NO ANSWER · vxtap";
}

document.addEventListener("visibilitychange", () => {
  clearTimeout(page.timer);
  if (!document.hidden) poll();
});
at("filter").addEventListener("input", () => { if (page.samples.length) showSessions(true); });
document.addEventListener("keydown", (event) => {
  const filter = at("filter");
  if (event.key === "/" && document.activeElement !== filter && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    filter.focus();
  } else if (event.key === "Escape" && document.activeElement === filter) {
    filter.value = "";
    showSessions(true);
  }
});
for (const choice of document.querySelectorAll("input[name=span]")) choice.addEventListener("change", () => { if (page.samples.length) showFlow(); });
let drawn = 0;
new ResizeObserver(() => {
  const width = at("flow").clientWidth;
  if (width !== drawn && page.samples.length) showFlow();
  drawn = width;
}).observe(at("flow"));
poll();
