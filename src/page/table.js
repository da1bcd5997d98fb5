
// A table keeps its rows while what they say changes.

class Table {
  /** A column has a name, a title, classes, a function that fills a cell, and a value to sort by. */
  constructor(id, columns, order = null) {
    this.table = at(id);
    this.columns = columns;
    this.order = order;
    this.rows = new Map();
    this.sequence = "";
    const row = make("tr");
    for (const column of columns) {
      const th = make("th", column.classes ?? "");
      th.scope = "col";
      if (order && column.value) {
        const button = make("button", "", column.title);
        button.type = "button";
        button.addEventListener("click", () => this.sortBy(column));
        th.append(button);
      } else if (column.unseen) {
        th.append(make("span", "unseen", column.title));
      } else {
        th.textContent = column.title;
      }
      column.th = th;
      row.append(th);
    }
    this.table.tHead.append(row);
    if (order) this.mark();
  }

  sortBy(column) {
    const same = this.order.by === column.name;
    this.order = { by: column.name, down: same ? !this.order.down : column.down ?? true };
    this.mark();
    this.show(this.items, true);
  }

  mark() {
    for (const { name, th } of this.columns) {
      if (name === this.order.by) th.setAttribute("aria-sort", this.order.down ? "descending" : "ascending");
      else th.removeAttribute("aria-sort");
    }
  }

  sorted(items) {
    const { value } = this.columns.find(({ name }) => name === this.order.by);
    const sign = this.order.down ? -1 : 1;
    const keyed = items.map((item) => [value(item), item]);
    keyed.sort(([a, x], [b, y]) => sign * compare(a, b) || compare(x.key, y.key));
    return keyed.map(([, item]) => item);
  }

  /** Shows these items. Rows change their places only where `again` says so, or others are there. */
  show(items, again) {
    this.items = items;
    const sequence = items.map(({ key }) => key).sort().join("\n");
    const places = again || sequence !== this.sequence;
    const ordered = this.order && places ? this.sorted(items) : items;
    this.sequence = sequence;
    const body = this.table.tBodies[0];
    for (const item of ordered) {
      let row = this.rows.get(item.key);
      if (!row) {
        row = make("tr");
        for (const column of this.columns) row.append(make("td", column.classes ?? ""));
        this.rows.set(item.key, row);
      }
      this.columns.forEach((column, index) => column.fill(row.cells[index], item));
    }
    for (const [key, row] of this.rows) {
      if (!items.some((item) => item.key === key)) { row.remove(); this.rows.delete(key); }
    }
    if (places) {
      ordered.forEach((item, index) => {
        const row = this.rows.get(item.key);
        if (body.rows[index] !== row) body.insertBefore(row, body.rows[index] ?? null);
      });
    }
    this.table.hidden = items.length === 0;
  }
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), "en", { numeric: true });
}

/** Fills a cell with a count, which is grey where it is nothing. */
function number(cell, n, lost = false) {
  say(cell, count(n));
  cell.classList.toggle("zero", n === 0);
  cell.classList.toggle("lost", lost && n > 0);
}

/** Fills a cell with a rate. */
function speed(cell, n) {
  say(cell, rate(n));
  cell.classList.toggle("zero", !n);
}

/** Fills a cell with a text, and a smaller one below it. */
function lines(cell, text, more = "", moreClasses = "more") {
  if (!cell.firstChild) cell.append(make("span"), make("span"));
  const [first, second] = cell.children;
  say(first, text);
  second.className = moreClasses;
  say(second, more);
  second.hidden = more === "";
}

/** Adds what other columns say, where there is no room for these. */
function aside(cell, text, lost = false) {
  if (!cell.children[2]) cell.append(make("span", "more only-narrow"));
  prose(cell.children[2], text);
  cell.children[2].classList.toggle("lost", lost);
}
