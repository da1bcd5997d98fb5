//! A configuration file has faults, which are shown with their lines: what is wrong, where, and
//! what to write instead.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use super::super::origin::Place;

/// The most faults that are shown. One slip can have many.
const MOST: usize = 20;

/// A fault of a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// What is wrong.
    pub title: String,
    /// The places that it is about, each with a word on it. The first is that to change.
    pub labels: Vec<(Place, String)>,
    /// What to write instead.
    pub advice: Option<String>,
    /// The file or directory that could not be read for want of a right.
    pub denied: Option<PathBuf>,
}

impl Fault {
    /// Makes a fault that is about one place.
    pub(super) fn new(title: impl Into<String>, place: Place) -> Self {
        Self { title: title.into(), labels: vec![(place, String::new())], advice: None, denied: None }
    }

    /// Adds what to write instead.
    pub(super) fn advise(mut self, advice: impl Into<Option<String>>) -> Self {
        self.advice = advice.into();
        self
    }

    /// Adds what could not be read for want of a right.
    pub(super) fn denied(mut self, path: Option<PathBuf>) -> Self {
        self.denied = path;
        self
    }

    /// Says something of the first place.
    pub(super) fn label(mut self, text: impl Into<String>) -> Self {
        if let Some((_, label)) = self.labels.first_mut() {
            *label = text.into();
        }
        self
    }

    /// Adds a place that has to do with it.
    pub(super) fn and(mut self, place: Place, text: impl Into<String>) -> Self {
        self.labels.push((place, text.into()));
        self
    }
}

/// A file as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text {
    pub path: Arc<Path>,
    pub text: String,
    /// Where the first bytes stood that are not UTF-8. The text has a sign in place of them.
    pub broken: Option<std::ops::Range<usize>>,
}

impl Text {
    /// Makes the text of the file `path` of its bytes.
    pub(super) fn new(path: &Path, bytes: Vec<u8>) -> Self {
        let path = path.into();
        match String::from_utf8(bytes) {
            Ok(text) => Self { path, text, broken: None },
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
                Self { path, text, broken: Some(at..at + char::REPLACEMENT_CHARACTER.len_utf8()) }
            }
        }
    }
}

/// All faults that were found in a configuration file and in those that it includes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    texts: Vec<Text>,
    faults: Vec<Fault>,
}

impl Faults {
    /// Puts faults into the order of their places. There is at least one.
    pub(super) fn new(texts: Vec<Text>, mut faults: Vec<Fault>) -> Self {
        let order = |fault: &Fault| {
            let place = fault.labels.first().map(|(place, _)| place)?;
            Some((texts.iter().position(|text| text.path == place.path), place.span.start))
        };
        faults.sort_by_key(order);
        faults.dedup();
        Self { texts, faults }
    }

    /// Adds what to do about what could not be read for want of a right, as `advice` says.
    pub(super) fn advise(&mut self, advice: impl Fn(&Path) -> Option<&'static str>) {
        for fault in &mut self.faults {
            if let Some(advice) = fault.denied.as_deref().and_then(&advice) {
                fault.advice = Some(advice.into());
            }
        }
    }

    /// Shows all faults with their lines, for people; `colours` is for a terminal.
    #[must_use]
    pub fn render(&self, colours: bool) -> String {
        let renderer = if colours { Renderer::styled() } else { Renderer::plain() };
        let mut shown = String::new();
        for fault in self.faults.iter().take(MOST) {
            let group = Level::ERROR.primary_title(&fault.title).elements(self.snippets(fault));
            let group: Group<'_> = match &fault.advice {
                Some(advice) => group.element(Level::HELP.message(advice)),
                None => group,
            };
            shown.push_str(&renderer.render(&[group]));
            shown.push_str("\n\n");
        }
        if let Some(more) = self.more() {
            shown.push_str(&more);
            shown.push('\n');
        }
        shown.truncate(shown.trim_end().len());
        shown
    }

    /// Returns the places of a fault, file by file.
    fn snippets<'a>(&'a self, fault: &'a Fault) -> Vec<annotate_snippets::Element<'a>> {
        let mut elements = Vec::new();
        let first = fault.labels.first().map(|(place, _)| &place.path);
        // The file of the first place is shown first.
        let order = |text: &&Text| Some(&text.path) != first;
        let mut texts: Vec<&Text> = self.texts.iter().collect();
        texts.sort_by_key(order);
        for text in texts {
            let here = fault.labels.iter().enumerate().filter(|(_, (place, _))| place.path == text.path);
            let annotations: Vec<_> = here
                .map(|(number, (place, label))| {
                    let kind = if number == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
                    let label = Some(label.as_str()).filter(|label| !label.is_empty());
                    kind.span(within(&text.text, place.span.start, place.span.end)).label(label)
                })
                .collect();
            if !annotations.is_empty() {
                let path = text.path.to_string_lossy();
                elements.push(Snippet::source(text.text.as_str()).path(path).annotations(annotations).into());
            }
        }
        if let (true, Some(text)) = (elements.is_empty(), self.texts.first()) {
            elements.push(Origin::path(text.path.to_string_lossy()).into());
        }
        elements
    }

    /// Returns the faults in one line each, as `vxtap.toml:12: what; advice`.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let line = |fault: &Fault| {
            let at = match (fault.labels.first(), self.texts.first()) {
                (Some((place, _)), _) => format!("{}:{}: ", place.path.display(), place.line),
                (None, Some(text)) => format!("{}: ", text.path.display()),
                (None, None) => String::new(),
            };
            let advice = fault.advice.as_ref().map(|advice| format!("; {advice}")).unwrap_or_default();
            format!("{at}{}{advice}", fault.title)
        };
        self.faults.iter().take(MOST).map(line).chain(self.more())
    }

    /// Says how many faults are not shown.
    fn more(&self) -> Option<String> {
        let more = self.faults.len().saturating_sub(MOST);
        (more > 0).then(|| format!("and {more} more"))
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.lines().collect();
        f.write_str(&lines.join("\n"))
    }
}

/// Returns the span between two bytes of a text, widened to whole characters that are there.
fn within(text: &str, start: usize, end: usize) -> std::ops::Range<usize> {
    let start = text.floor_char_boundary(start.min(text.len()));
    start..text.ceil_char_boundary(end.clamp(start, text.len()))
}
