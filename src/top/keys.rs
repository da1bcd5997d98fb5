//! What the keys mean.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::model::Model;

/// The longest filter.
const LONGEST: usize = 64;

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// To go on.
    Nothing,
    /// To end.
    End,
}

/// The keys, and what they do.
pub(super) const HELP: [(&str, &str); 8] = [
    ("q, Esc, Ctrl-C", "end"),
    ("s", "next order: rate, bytes, frames, lost, silent, name"),
    ("r", "the other way round"),
    ("/", "show sessions whose name, source, VNI or description has what is typed; Esc shows all"),
    ("Up, Down, PgUp, PgDn", "move through the sessions; Home, End"),
    ("Space", "hold the picture, and go on"),
    ("?", "this help"),
    ("", "LOST is what came and is not where it was to go; `vxtap ledger` has it all"),
];

/// Does what a key asks for.
pub(super) fn heard(key: KeyEvent, model: &mut Model) -> Asked {
    if key.kind == KeyEventKind::Release {
        return Asked::Nothing;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return if matches!(key.code, KeyCode::Char('c' | 'd')) { Asked::End } else { Asked::Nothing };
    }
    if model.types {
        typed(key.code, model);
        return Asked::Nothing;
    }
    let page = model.page.max(1);
    match key.code {
        KeyCode::Esc if model.helps => model.helps = false,
        KeyCode::Esc if !model.filter.is_empty() => model.filter.clear(),
        KeyCode::Char('q') | KeyCode::Esc => return Asked::End,
        KeyCode::Char('?' | 'h') => model.helps = !model.helps,
        KeyCode::Char('s') => model.sort = model.sort.next(),
        KeyCode::Char('r') => model.reversed = !model.reversed,
        KeyCode::Char('/') => model.types = true,
        KeyCode::Char(' ') => model.paused = !model.paused,
        KeyCode::Down | KeyCode::Char('j') => model.skipped += 1,
        KeyCode::Up | KeyCode::Char('k') => model.skipped = model.skipped.saturating_sub(1),
        KeyCode::PageDown => model.skipped += page,
        KeyCode::PageUp => model.skipped = model.skipped.saturating_sub(page),
        KeyCode::Home => model.skipped = 0,
        KeyCode::End => model.skipped = usize::MAX,
        _ => {}
    }
    // What is shown ends with the last session.
    let last = model.sessions().len().saturating_sub(page);
    model.skipped = model.skipped.min(last);
    Asked::Nothing
}

fn typed(code: KeyCode, model: &mut Model) {
    match code {
        KeyCode::Enter => model.types = false,
        KeyCode::Esc => {
            model.types = false;
            model.filter.clear();
        }
        KeyCode::Backspace => _ = model.filter.pop(),
        KeyCode::Char(c) if model.filter.len() < LONGEST && !c.is_control() => model.filter.push(c),
        _ => {}
    }
    model.skipped = 0;
}

#[cfg(test)]
mod tests {
    use super::super::model::Sort;
    use super::super::model::tests::model;
    use super::*;

    fn press(model: &mut Model, keys: &str) -> Asked {
        let mut asked = Asked::Nothing;
        for key in keys.chars() {
            let code = match key {
                '\n' => KeyCode::Enter,
                '\x1b' => KeyCode::Esc,
                '\x08' => KeyCode::Backspace,
                'E' => KeyCode::End,
                key => KeyCode::Char(key),
            };
            asked = heard(KeyEvent::new(code, KeyModifiers::NONE), model);
        }
        asked
    }

    #[test]
    fn keys_choose_what_is_shown() {
        let mut model = model(0);
        assert_eq!(press(&mut model, "ss"), Asked::Nothing);
        assert_eq!(model.sort, Sort::Frames);
        press(&mut model, "/webq\x08\n");
        assert_eq!((model.filter.as_str(), model.types), ("web", false));
        assert_eq!(model.sessions().len(), 1);
        assert_eq!(press(&mut model, "\x1b"), Asked::Nothing);
        assert_eq!(model.sessions().len(), 2);
        press(&mut model, "E");
        assert_eq!(model.skipped, 1);
        press(&mut model, "?");
        assert!(model.helps);
        assert_eq!(press(&mut model, "\x1b"), Asked::Nothing);
        assert_eq!(press(&mut model, "q"), Asked::End);
    }
}
