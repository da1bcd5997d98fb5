"""Results as text."""

from lab.load import SEND_CPU

SHARED = f"NOT A MEASUREMENT, the sender shares processor {SEND_CPU}"


def line(trial):
    """One trial, as it ends."""
    lost = [f"{name} {trial['lost_' + key]:,}" for name, key in [("queue", "in_queue"), ("veth", "in_veth"), ("socket", "at_socket")] if trial["lost_" + key]]
    return (
        f"{trial['purpose']:>6} {trial['output']:4} {trial['load']:14} {trial['side']:18} asked {trial['rate']:>9,} offered {trial['offered']:>9,}"
        f"  {trial['ns']:>6.0f}{'~' if trial['disturbed'] else ' '} ns  lost {trial['lost']:>7.3%}  backlog {trial['backlog_s']:.2f} s"
        + (f"  ({', '.join(lost)})" if lost else "")
    )


def thousands(spread):
    if not spread:
        return "-"
    return f"{spread['median'] / 1000:,.0f} ({spread['least'] / 1000:,.0f}-{spread['most'] / 1000:,.0f})"


def plain(spread):
    return f"{spread['median']:,.0f} ({spread['least']:,.0f}-{spread['most']:,.0f})" if spread else "-"


def percent(spread):
    return f"{100 * spread['median']:.1f} ({100 * spread['least']:.1f}-{100 * spread['most']:.1f})" if spread else "-"


def table(summary):
    """One load's results as Markdown: medians, and least and most in brackets."""
    base = summary["base"]
    rows = summary["rows"]
    if not rows:
        return ""
    head = [
        "side",
        f"CPU ns a frame at {base / 1000:,.0f}k/s",
        "lost %",
        "lossless k/s",
        f"arrives of {2 * base / 1000:,.0f}k/s, %",
        f"of {4 * base / 1000:,.0f}k/s, %",
        "at 4x lossless keeps, %",
        "memory MiB",
    ]
    cells = [
        [
            row["side"],
            plain(row["ns"]) + ("~" if row["disturbed"] * 4 > row["trials"] else ""),
            f"{100 * row['lost']['median']:.2f}" if row["lost"] else "-",
            ("≥ " if row["lossless_at_least"] else "") + thousands(row["lossless"]),
            percent(row["share_2x"]) + short(row["offered_2x"], 2 * base),
            percent(row["share_4x"]) + short(row["offered_4x"], 4 * base),
            percent(row["keeps"]),
            plain(row["peak_mib"]),
        ]
        for row in rows
    ]
    lines = [f"{rows[0]['output']}, {summary['load']}, {receiving(summary['receivers'])}:", "", row_of(head), row_of(["---"] * len(head)), *map(row_of, cells)]
    lines += [""] + [f"not here: {name}: {why}" for name, why in summary["absent"].items()]
    return "\n".join(lines).rstrip() + "\n"


def receiving(processors):
    """Which processors the figures are of."""
    many = f"processors {', '.join(map(str, processors))} receive" if len(processors) > 1 else f"processor {processors[0]} receives"
    return many + (f" ({SHARED})" if SEND_CPU in processors else "")


def short(offered, asked):
    """A note where the sender did not reach what was asked for."""
    return f" of {offered['median'] / 1000:,.0f}k" if offered and offered["median"] < 0.97 * asked else ""


def row_of(cells):
    return "| " + " | ".join(cells) + " |"
