//! The picture: a line on the sensor, what comes and what is lost, the outputs, the sessions.

use std::ops::Range;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Clear, Paragraph, RenderDirection, Row, Sparkline, Table, Wrap};

use super::keys::HELP;
use super::model::{Model, OutputRow, SessionRow};
use super::units::{ago, bytes, count, rate};
use crate::console::printable;

/// Columns of a queue's bar.
const BAR: usize = 8;
/// Lines of the picture of the last minutes, where there is room for it.
const PICTURE: u16 = 3;
/// The height from which on there is room.
const HIGH: u16 = 20;
/// The width from which on there are descriptions and bytes.
const WIDE: u16 = 110;

const PLAIN: Style = Style::new();
const QUIET: Style = Style::new().fg(Color::DarkGray);
const BAD: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
const GOOD: Style = Style::new().fg(Color::Green);
const HEAD: Style = Style::new().fg(Color::Cyan).add_modifier(Modifier::BOLD);

/// Draws what the model has. It notes how many sessions there is room for.
pub(super) fn draw(frame: &mut Frame<'_>, model: &mut Model) {
    let area = frame.area();
    let outputs = model.outputs();
    let banner = model.banner();
    let losses = losses(model);
    // A list of outputs takes a third at most.
    let outputs_high = u16::try_from(outputs.len()).unwrap_or(u16::MAX).min(area.height / 3) + 1;
    let parts = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(u16::from(banner.is_some())),
        Constraint::Length(2),
        Constraint::Length(if area.height >= HIGH { PICTURE } else { 0 }),
        Constraint::Length(outputs_high),
        Constraint::Length(1),
        Constraint::Min(2),
        Constraint::Length(1),
    ]);
    let [title, red, totals, picture, above, _, below, foot] = parts.areas(area);
    frame.render_widget(headline(model), title);
    if let Some(text) = banner {
        let style = Style::new().fg(Color::White).bg(Color::Red).add_modifier(Modifier::BOLD);
        frame.render_widget(Paragraph::new(text).style(style), red);
    }
    frame.render_widget(Paragraph::new(vec![received(model), losses]), totals);
    draw_history(frame, model, picture);
    frame.render_widget(output_table(&outputs, area.width), above);
    draw_sessions(frame, model, below);
    frame.render_widget(footer(model), foot);
    if model.helps {
        draw_help(frame, area);
    }
}

fn headline(model: &Model) -> Paragraph<'static> {
    let Some(now) = &model.now else { return Paragraph::new("vxtap") };
    let status = &now.status;
    let paused = if model.paused { "  (held: Space goes on)" } else { "" };
    let ready = if status.ready { Span::styled("ready", GOOD) } else { Span::styled("not ready", BAD) };
    Paragraph::new(Line::from(vec![
        Span::styled(format!("vxtap {}", printable(&status.version)), HEAD),
        Span::raw(format!(
            "  {} ({})  up {}  ",
            printable(&status.listen.join(" ")),
            printable(&status.source),
            ago(status.uptime_seconds)
        )),
        ready,
        Span::styled(paused, BAD),
    ]))
}

fn received(model: &Model) -> Line<'static> {
    let Some(now) = &model.now else { return Line::default() };
    let (rates, sessions) = (model.rates(), &now.status.sessions);
    let bold = Style::new().add_modifier(Modifier::BOLD);
    Line::from(vec![
        Span::styled(rate(rates.datagrams), bold),
        Span::raw(" datagrams/s  "),
        Span::styled(format!("{:.1}", rates.megabytes), bold),
        Span::raw(format!(
            " MB/s  {} received  {} of {} sessions",
            count(now.ledger.received),
            sessions.count,
            sessions.limit
        )),
    ])
}

fn losses(model: &Model) -> Line<'static> {
    let lost = model.losses();
    if lost.is_empty() {
        let comes = model.now.as_ref().is_some_and(|now| now.ledger.received > 0);
        return if comes {
            Line::styled("nothing lost", GOOD)
        } else {
            Line::styled("nothing has come yet: `vxtap check --watch 10s` looks why", QUIET)
        };
    }
    let mut spans = vec![Span::styled("LOST ", BAD)];
    for (at, lost) in lost.iter().enumerate() {
        let comma = if at > 0 { ", " } else { "" };
        spans.push(Span::raw(format!("{comma}{} {}", lost.what, count(lost.count))));
        if lost.newly > 0 {
            spans.push(Span::styled(format!(" (+{})", count(lost.newly)), BAD));
        }
    }
    Line::from(spans)
}

fn draw_history(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    if area.height == 0 {
        return;
    }
    // The newest is at the right edge.
    let newest_first: Vec<u64> = model.history.iter().rev().copied().collect();
    let most = newest_first.iter().take(usize::from(area.width)).max().copied().unwrap_or(0).max(1);
    let line = Sparkline::default().data(newest_first).max(most).direction(RenderDirection::RightToLeft);
    frame.render_widget(line.style(Style::new().fg(Color::Cyan)), area);
    if most > 1 {
        let label = format!("most: {most}");
        let width = u16::try_from(label.len()).unwrap_or(u16::MAX).min(area.width);
        frame.render_widget(Line::styled(label, QUIET), Rect { width, height: 1, ..area });
    }
}

/// Draws how full a queue is: `▇▇▇·····`.
fn bar(used: u64, limit: u64) -> String {
    let limit = u128::from(limit.max(1));
    let share = (u128::from(used) * BAR as u128 + limit / 2) / limit;
    // More than nothing is seen.
    let full = usize::try_from(share).unwrap_or(BAR).clamp(usize::from(used > 0), BAR);
    format!("{}{}", "▇".repeat(full), "·".repeat(BAR - full))
}

fn right(text: String) -> Cell<'static> {
    Cell::from(Line::from(text).right_aligned())
}

/// Makes the headings of columns, of which these have numbers.
fn head(names: &[&'static str], numbers: Range<usize>) -> Row<'static> {
    let cells = names.iter().enumerate().map(|(at, name)| {
        let line = Line::from(*name);
        Cell::from(if numbers.contains(&at) { line.right_aligned() } else { line })
    });
    Row::new(cells.collect::<Vec<_>>()).style(HEAD)
}

fn output_table(outputs: &[OutputRow], width: u16) -> Table<'static> {
    let rows = outputs.iter().map(|output| {
        let state = &output.state;
        let up = match (&state.reason, state.up) {
            (None, true) => Cell::from(Span::styled("up", GOOD)),
            (reason, _) => {
                let text = format!("DOWN {}", reason.as_deref().unwrap_or_default());
                Cell::from(Span::styled(printable(&text), BAD))
            }
        };
        let dropped = if output.newly_dropped > 0 {
            Line::styled(format!("{} (+{})", count(output.dropped), count(output.newly_dropped)), BAD)
        } else {
            Line::from(count(output.dropped))
        };
        let queue = bar(state.queue_bytes, state.queue_limit_bytes);
        let queue_style = if state.queue_bytes * 4 > state.queue_limit_bytes * 3 { BAD } else { PLAIN };
        Row::new([
            Cell::from(printable(&state.name)),
            up,
            right(rate(output.rate)),
            right(format!("{:.1}", output.megabytes)),
            right(count(output.written)),
            Cell::from(dropped.right_aligned()),
            Cell::from(Line::styled(queue, queue_style).right_aligned()),
            right(state.free_bytes.map_or_else(|| "-".into(), bytes)),
        ])
    });
    let state = if width >= WIDE { Constraint::Fill(1) } else { Constraint::Length(10) };
    let name = if width >= WIDE { Constraint::Length(20) } else { Constraint::Min(8) };
    let widths = [
        name,
        state,
        Constraint::Length(8),
        Constraint::Length(7),
        Constraint::Length(13),
        Constraint::Length(14),
        Constraint::Length(8),
        Constraint::Length(8),
    ];
    Table::new(rows.collect::<Vec<_>>(), widths)
        .header(head(&["OUTPUT", "STATE", "FRAMES/S", "MB/S", "WRITTEN", "DROPPED", "QUEUE", "FREE"], 2..8))
}

fn draw_sessions(frame: &mut Frame<'_>, model: &mut Model, area: Rect) {
    let sessions = model.sessions();
    model.page = usize::from(area.height.saturating_sub(1)).max(1);
    model.skipped = model.skipped.min(sessions.len().saturating_sub(model.page));
    let is_wide = area.width >= WIDE;
    // Where there is no room for both, what is lost is more than how many bytes come.
    let has_lost = is_wide || sessions.iter().any(|session| session.lost > 0);
    let row = |session: SessionRow| {
        let style = if session.rate > 0.0 { PLAIN } else { QUIET };
        let lost = Line::styled(count(session.lost), if session.newly_lost > 0 { BAD } else { style });
        let mut cells = vec![
            Cell::from(session.name),
            Cell::from(session.source),
            right(session.vni.to_string()),
            right(rate(session.rate)),
        ];
        if is_wide || !has_lost {
            cells.push(right(format!("{:.1}", session.megabytes)));
        }
        cells.push(right(count(session.frames)));
        if has_lost {
            cells.push(Cell::from(lost.right_aligned()));
        }
        cells.push(right(ago(session.silent)));
        if is_wide {
            cells.extend([right(bytes(session.bytes)), right(count(session.duplicates))]);
            cells.push(Cell::from(format!("  {}", session.description)));
        }
        Row::new(cells).style(style)
    };
    let shown: Vec<Row<'_>> = sessions.into_iter().skip(model.skipped).take(model.page).map(row).collect();
    let width = Constraint::Length;
    let mut columns = vec![
        ("SESSION", if is_wide { width(28) } else { Constraint::Min(10) }),
        ("SOURCE", width(if is_wide { 39 } else { 16 })),
        ("VNI", width(8)),
        ("FRAMES/S", width(8)),
    ];
    columns.extend(match (is_wide, has_lost) {
        (true, _) => vec![("MB/S", width(7)), ("FRAMES", width(15)), ("LOST", width(11))],
        (false, true) => vec![("FRAMES", width(13)), ("LOST", width(9))],
        (false, false) => vec![("MB/S", width(7)), ("FRAMES", width(15))],
    });
    columns.push(("LAST", width(6)));
    if is_wide {
        columns.extend([("BYTES", width(9)), ("DUPLICATES", width(11)), ("  DESCRIPTION", Constraint::Fill(1))]);
    }
    let (names, widths): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    frame.render_widget(Table::new(shown, widths).header(head(&names, 2..10)), area);
}

fn footer(model: &Model) -> Line<'static> {
    if model.types {
        return Line::from(vec![Span::styled("/", HEAD), Span::raw(printable(&model.filter)), Span::styled("_", HEAD)]);
    }
    let order = format!("{}{}", model.sort.word(), if model.reversed { ", reversed" } else { "" });
    let filter = if model.filter.is_empty() {
        "/ filter".to_owned()
    } else {
        format!("/ {} (Esc: all)", printable(&model.filter))
    };
    Line::styled(
        format!("q end   s order: {order}   {filter}   Space hold   ? help   {}", printable(&model.place)),
        QUIET,
    )
}

fn draw_help(frame: &mut Frame<'_>, area: Rect) {
    let lines: Vec<Line<'_>> = HELP
        .iter()
        .map(|(keys, what)| Line::from(vec![Span::styled(format!("{keys:<22}"), HEAD), Span::raw(*what)]))
        .collect();
    let (width, height) = (area.width.min(76), area.height.min(14));
    let place = Rect { x: (area.width - width) / 2, y: (area.height - height) / 2, width, height };
    frame.render_widget(Clear, place);
    let text = Paragraph::new(lines)
        .wrap(Wrap { trim: false })
        .block(Block::default().borders(Borders::ALL).title(" vxtap top "));
    frame.render_widget(text, place);
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::model::tests::model;
    use super::*;
    use crate::control::ClientError;

    /// Returns what is on a terminal of this size, without what is empty at the ends of lines.
    fn drawn(model: &mut Model, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, model)).unwrap();
        let buffer = terminal.backend().buffer();
        let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        (0..height).map(line).collect()
    }

    #[test]
    fn a_sensor_that_loses_says_so_on_80_columns() {
        let lines = drawn(&mut model(40), 80, 24);
        let wanted = "\
vxtap 0.1.0  0.0.0.0:4789 (udp)  up 12 s  not ready
NOT READY: output evidence: disk full
2000 datagrams/s  2.0 MB/s  8,000 received  2 of 1024 sessions
LOST evidence disk_full 40 (+40)
most: 2000                                                                     █
                                                                               █
                                                                               █
OUTPUT   STATE    FRAMES/S    MB/S       WRITTEN       DROPPED    QUEUE     FREE
evidence DOWN         1980     1.8         7,960      40 (+40) ▇▇······  5.0 TiB

SESSION        SOURCE                VNI FRAMES/S        FRAMES      LOST   LAST
-              192.0.2.10            100     1500         6,000        40   12 s
web-1          10.0.1.5                7      500         2,000         0    now










q end   s order: rate   / filter   Space hold   ? help   /run/vxtap/control";
        assert_eq!(lines.join("\n"), wanted);
    }

    #[test]
    fn a_wide_terminal_has_descriptions() {
        let lines = drawn(&mut model(0), 80, 24).join("\n");
        assert!(lines.contains("FRAMES/S    MB/S          FRAMES   LAST"), "nothing is lost: {lines}");
        let lines = drawn(&mut model(0), 200, 50);
        let text = lines.join("\n");
        assert!(text.contains("LOST   LAST     BYTES  DUPLICATES   DESCRIPTION"), "{text}");
        assert!(lines[0].contains("ready") && text.contains("nothing lost"), "{text}");
        assert!(
            lines.iter().any(|line| line.starts_with("web-1") && line.ends_with("eni-1") && line.contains("3.8 MiB")),
            "{text}"
        );
        assert!(!text.contains("NOT READY"), "{text}");
    }

    #[test]
    fn no_size_is_too_small() {
        for (width, height) in [(1, 1), (10, 3), (40, 8), (79, 5), (300, 2)] {
            drawn(&mut model(40), width, height);
            let mut helps = model(40);
            helps.helps = true;
            drawn(&mut helps, width, height);
        }
    }

    #[test]
    fn a_sensor_that_has_gone_stays_on_the_screen_below_the_reason() {
        let mut model = model(0);
        model.take(Err(ClientError::None("/run/x".into())));
        let text = drawn(&mut model, 80, 24).join("\n");
        assert!(
            text.contains("NO ANSWER: no sensor runs here: there is no /run/x") && text.contains("web-1"),
            "{text}"
        );
    }

    #[test]
    fn a_queue_that_is_not_empty_is_seen() {
        for (used, drawn) in
            [(0, "········"), (1, "▇·······"), (500, "▇▇▇▇····"), (1000, "▇▇▇▇▇▇▇▇"), (2000, "▇▇▇▇▇▇▇▇")]
        {
            assert_eq!(bar(used, 1000), drawn);
        }
        assert_eq!(bar(0, 0), "········");
    }
}
