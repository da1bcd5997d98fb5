//! A manual page is made of a document of the project.

use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

/// Returns the page `name` in section 5, which is about this, of a document in Markdown as the
/// documents of this project are written. Its title makes way for the name.
pub(crate) fn page(name: &str, about: &str, date: &str, document: &str) -> String {
    let mut page = Roff::new();
    let version = format!("vxtap {}", env!("CARGO_PKG_VERSION"));
    page.control("TH", [name, "5", date, &version, "vxtap"]);
    page.control("SH", ["NAME"]).text([roman(format!("{name} - {about}"))]);
    page.control("SH", ["DESCRIPTION"]);
    let mut lines = document.lines().skip_while(|line| line.starts_with("# ")).peekable();
    while let Some(line) = lines.next() {
        let more = |next: &&str| !next.is_empty() && !next.starts_with(['|', '#', '-', '`']);
        if let Some(title) = line.strip_prefix("## ") {
            page.control("SH", [title.to_uppercase().as_str()]);
        } else if let Some(title) = line.strip_prefix("### ") {
            page.control("SS", [title]);
        } else if line.starts_with("```") {
            // A block of code, as it is.
            page.control("PP", []).control("RS", ["4"]).control("EX", []);
            for code in lines.by_ref().take_while(|line| !line.starts_with("```")) {
                page.text([roman(code)]);
            }
            page.control("EE", []).control("RE", []);
        } else if line.starts_with('|') {
            let header = cells(line);
            // One that says of what its keys are is a title.
            if header[0].starts_with("key of ") {
                page.control("PP", [])
                    .text([inlines(&header[0].replacen("key", "Keys", 1)), vec![roman(":")]].concat());
            }
            let rows: Vec<&str> = std::iter::from_fn(|| lines.next_if(|next| next.starts_with('|'))).collect();
            // The first is the line below the header.
            for row in &rows[1..] {
                entry(&mut page, &header, &cells(row));
            }
        } else if let Some(item) = line.strip_prefix("- ") {
            let rest = std::iter::from_fn(|| lines.next_if(more)).map(str::trim);
            let item = std::iter::once(item).chain(rest).collect::<Vec<_>>().join(" ");
            page.control("IP", ["\\(bu", "2"]).text(inlines(&item));
        } else if !line.is_empty() {
            let rest = std::iter::from_fn(|| lines.next_if(more));
            let text = std::iter::once(line).chain(rest).collect::<Vec<_>>().join(" ");
            page.control("PP", []).text(inlines(&text));
        }
    }
    let pages = [bold("vxtap"), roman("(1), "), bold("vxtap-run"), roman("(1), "), bold("vxtap-check"), roman("(1)")];
    page.control("SH", ["SEE ALSO"]).text(pages);
    page.control("PP", []).text([roman("Pages below "), italic("docs/"), roman(" are in /usr/share/doc/vxtap/.")]);
    page.render()
}

/// Returns the cells of a row.
fn cells(row: &str) -> Vec<String> {
    // `\|` is no border.
    let row = row.trim().trim_matches('|').replace("\\|", "\u{0}");
    row.split('|').map(|cell| cell.trim().replace('\u{0}', "|")).collect()
}

/// Adds a row: its first cell is what the others are about, and a third says what it is.
fn entry(page: &mut Roff, header: &[String], row: &[String]) {
    page.control("TP", []).text(inlines(&row[0]));
    page.text(inlines(row.get(1).map_or("", String::as_str)));
    for (name, cell) in header.iter().zip(row).skip(2).filter(|(_, cell)| !cell.is_empty()) {
        page.control("br", []).text([vec![roman(format!("{name}: "))], inlines(cell)].concat());
    }
}

/// Returns running text with what is set off in it: code, emphasis, links.
fn inlines(text: &str) -> Vec<Inline> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['`', '[', '*']) {
        found.push(roman(&rest[..at]));
        let inner = &rest[at..];
        let taken = if let Some((code, after)) = inner.strip_prefix('`').and_then(|inner| inner.split_once('`')) {
            Some((vec![bold(code)], after))
        } else if let Some((strong, after)) = inner.strip_prefix("**").and_then(|inner| inner.split_once("**")) {
            Some((vec![bold(strong)], after))
        } else {
            link(inner)
        };
        match taken {
            Some((inlines, after)) => {
                found.extend(inlines);
                rest = after;
            }
            None => {
                found.push(roman(&inner[..1]));
                rest = &inner[1..];
            }
        }
    }
    found.push(roman(rest));
    found.retain(|inline| !matches!(inline, Inline::Roman(text) if text.is_empty()));
    found
}

/// Takes a link from the beginning of a text. One to another page of the documents is named by its
/// path, for a reader cannot follow it.
fn link(text: &str) -> Option<(Vec<Inline>, &str)> {
    let (name, behind) = text.strip_prefix('[')?.split_once("](")?;
    let (target, after) = behind.split_once(')')?;
    let file = target.split('#').next().unwrap_or_default();
    let mut made = inlines(name);
    if file.ends_with(".md") && !file.contains('/') {
        made.extend([roman(" ("), italic(format!("docs/{file}")), roman(")")]);
    }
    Some((made, after))
}
