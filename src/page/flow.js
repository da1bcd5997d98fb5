
// The way of frames is a picture: the width of a band is frames.

const ROW = 21;

/** A band bends on its way to `bend`, and is level from there on. */
function ribbon(kind, x0, y0, x1, y1, thick, bend = x1) {
  const middle = (x0 + bend) / 2;
  const [b0, b1] = [y0 + thick, y1 + thick];
  const there = `C${middle} ${y0} ${middle} ${y1} ${bend} ${y1}H${x1}`;
  const back = `H${bend}C${middle} ${b1} ${middle} ${b0} ${x0} ${b0}`;
  const d = `M${x0} ${y0}${there}V${b1}${back}Z`;
  return draw("path", { class: `band ${kind}`, d });
}

/** Says what an outcome is. */
function label({ output, kind, name }, narrow) {
  if (kind === "written") return narrow ? `to ${output}` : `written to ${output}`;
  if (name === "kernel_dropped") return "lost in the kernel";
  return `${kind === "lost" ? "lost" : "left out"}: ${name}`;
}

/** Shortens a text to what fits. */
function fit(text, width, perLetter) {
  const most = Math.max(3, Math.floor(width / perLetter));
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

/** Draws the picture of a ledger and its outcomes, so many pixels wide. */
function picture(ledger, outcomes, width) {
  const narrow = width < 620;
  const arrived = ledger.received + ledger.kernel_dropped;
  const names = Object.keys(ledger.outputs);
  const thickest = Math.min(96, Math.max(30, 170 / Math.max(1, names.length)));
  const scale = thickest / Math.max(1, arrived);
  // A band that is there can be seen.
  const thick = (frames) => frames > 0 ? Math.max(1.5, frames * scale) : 0;

  const labels = narrow ? 200 : 270;
  const end = width - labels;
  const columns = { received: 0, decapsulated: narrow ? end * .42 : end * .36, outputs: narrow ? end * .74 : end * .68 };
  const bar = narrow ? 6 : 8;
  const top = 44;

  // Places: each outcome has a row, or more where its band is thicker.
  let y = top;
  const groups = new Map();
  const place = (some) => {
    for (const outcome of some) {
      outcome.thick = thick(outcome.frames);
      outcome.room = Math.max(ROW, outcome.thick + 4);
      outcome.y = y + (outcome.room - outcome.thick) / 2;
      y += outcome.room;
    }
  };
  for (const name of names) {
    const own = outcomes.filter(({ output }) => output === name);
    place(own);
    const group = { y: own[0].y, thick: thick(ledger.outputs[name].offered) };
    groups.set(name, group);
    y = Math.max(y, group.y + group.thick) + 10;
  }
  const bottom = y - 10;
  // Without an output the bars have this room for themselves.
  if (!names.length) y = top + thickest + 10;
  const early = outcomes.filter(({ output }) => output === null);
  place(early);
  const height = Math.max(y, bottom, top + thickest) + 6;

  const shapes = [];
  const all = [...groups.values()];
  const middle = all.length ? (all[0].y + all.at(-1).y + all.at(-1).thick) / 2 : top + thickest / 2;
  const start = Math.max(top, middle - thick(ledger.decapsulated) / 2);
  const stage = (name, x, n, y0) => {
    shapes.push(draw("rect", { class: "bar", x, y: y0, width: bar, height: Math.max(1, thick(n)), rx: 1.5 }));
    // Where there is little room, the second heading begins behind the first.
    const left = x > 0 ? Math.max(x, 66) : 0;
    shapes.push(draw("text", { class: "head", x: left, y: 9 }, name));
    shapes.push(draw("text", { class: "strong", x: left, y: 26 }, narrow ? brief(n) : count(n)));
  };

  // What came first flows below what came last, so no two bands cross.
  let from = start + thick(ledger.decapsulated);
  for (const outcome of early) {
    if (outcome.name === "kernel_dropped") from = start + thick(ledger.received) + 3;
    const x = columns.received + bar;
    shapes.push(ribbon(outcome.kind, x, from, end, outcome.y, outcome.thick, columns.decapsulated));
    if (outcome.name === "kernel_dropped") {
      shapes.push(draw("rect", { class: "bar lost", x: 0, y: from, width: bar, height: outcome.thick, rx: 1 }));
    }
    from += outcome.thick;
  }
  shapes.push(ribbon("", columns.received + bar, start, columns.decapsulated, start, thick(ledger.decapsulated)));
  for (const name of names) {
    const { y: y0, thick: whole } = groups.get(name);
    const taken = Math.min(whole, thick(ledger.decapsulated));
    shapes.push(ribbon("", columns.decapsulated + bar, start, columns.outputs, y0, taken));
    shapes.push(draw("rect", { class: "bar", x: columns.outputs, y: y0, width: bar, height: Math.max(1, whole), rx: 1.5 }));
    let below = y0;
    for (const outcome of outcomes.filter(({ output }) => output === name)) {
      shapes.push(ribbon(outcome.kind, columns.outputs + bar, below, end, outcome.y, outcome.thick));
      below += outcome.frames * scale;
    }
    if (!narrow) {
      const text = fit(name, columns.outputs - columns.decapsulated - 40, 8);
      shapes.push(draw("text", { class: "strong end", x: columns.outputs - 8, y: y0 + Math.max(whole / 2, 8) }, text));
    }
  }
  stage("received", columns.received, ledger.received, start);
  stage("decapsulated", columns.decapsulated, ledger.decapsulated, start);
  if (!narrow && names.length) shapes.push(draw("text", { class: "head", x: columns.outputs, y: 9 }, "outputs"));

  for (const outcome of outcomes) {
    const middle = outcome.y + outcome.thick / 2;
    const number = narrow ? brief(outcome.frames) : count(outcome.frames);
    if (outcome.thick) {
      shapes.push(draw("rect", { class: `tip ${outcome.kind}`, x: end, y: outcome.y, width: 3, height: outcome.thick, rx: 1 }));
    }
    const room = labels - 24 - number.length * 7.6;
    const text = draw("text", { class: outcome.kind, x: end + 11, y: middle }, fit(label(outcome, narrow), room, narrow ? 6.5 : 7.1));
    if (outcome.meaning) text.append(draw("title", {}, outcome.meaning.replaceAll("`", "")));
    // What waits is told below where there is room: a row of its own would come and go.
    const waits = outcome.kind === "written" ? ledger.outputs[outcome.output].in_flight ?? 0 : 0;
    if (waits > 0 && outcome.thick > 44) {
      shapes.push(draw("text", { class: "head", x: end + 11, y: middle + 17 }, `${narrow ? brief(waits) : count(waits)} on their way`));
    }
    shapes.push(text, draw("text", { class: `end strong ${outcome.kind}`, x: width, y: middle }, number));
  }
  return { shapes, height };
}

/** Says in words what the picture shows. */
function inWords(ledger, outcomes, span) {
  const parts = [`${span}: ${plural(ledger.received, "datagram")} received, ${count(ledger.decapsulated)} decapsulated.`];
  for (const [name, output] of Object.entries(ledger.outputs)) {
    const own = outcomes.filter((outcome) => outcome.output === name);
    const said = own.map(({ kind, name: what, frames }) => {
      if (kind === "written") return `${count(frames)} written`;
      return kind === "lost" ? `${count(frames)} lost (${what})` : `${count(frames)} left out (${what})`;
    });
    parts.push(`Output ${name}: ${plural(output.offered, "frame")} offered, ${said.join(", ")}.`);
  }
  const early = outcomes.filter(({ output }) => output === null);
  for (const outcome of early) parts.push(`${count(outcome.frames)} ${outcome.kind === "lost" ? "lost" : "refused"} before: ${outcome.name}.`);
  return parts.join(" ");
}
