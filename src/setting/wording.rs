//! Texts are worded for the command line of the sensor. They are put into other words where a file
//! says what it does, and where `vxtap decap` does as it would.

use std::borrow::Cow;

use super::key;

/// Flags with values or words around them that are written otherwise in a file.
const PHRASES: &[(&str, &str)] = &[
    ("--source bpf", "source = \"bpf\" below [receive]"),
    ("--source auto", "source = \"auto\" below [receive]"),
    ("--source udp", "source = \"udp\""),
    ("--attach tc", "attach = \"tc\""),
    ("--attach xdp", "attach = \"xdp\""),
    ("--tap-mode redirect", "mode = \"redirect\""),
    ("--min-free 10%", "min_free = \"10%\""),
    ("--min-free 5%", "min_free = \"5%\""),
    ("--min-free 0", "min_free = 0"),
    ("--tap-mode inject", "mode = \"inject\""),
    ("use --tap alone", "leave out the outputs of kind \"tun\""),
    ("more than one --tap", "more than one output of kind \"tap\""),
    ("use --vni N", "use vni below [sessions]"),
    ("use --duration", "use duration below [run]"),
    ("(--from ", "(below [sessions] from = "),
    ("`--on-publish 'cp \"$1\" /backup/'`", "`on_publish = 'cp \"$1\" /backup/'`"),
    ("name another directory with --write", "name another directory"),
    ("name another with --write", "name another directory"),
    ("`--write /data/captures`", "`directory = \"/data/captures\"`"),
    ("`--write ./-`", "`directory = \"./-\"`"),
    ("for a stream `--tap mirror0 --no-write`", "for a stream an output of kind \"tap\" alone"),
    ("leave the option out", "leave the key out"),
    ("beyond --max-sessions", "beyond sessions.max"),
    ("(--session-idle)", "(sessions.idle)"),
];

/// Flags of the sensor, with words around them, for which `vxtap decap` has others or none.
const OF_DECAP: &[(&str, &str)] = &[
    ("name another with --write", "name another with --into"),
    ("beyond --max-sessions", "beyond those that are told apart"),
    ("--ledger json lists all", "--json lists all"),
];

/// The names by which texts call settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wording {
    /// Settings are flags: `--min-free`.
    #[default]
    Flags,
    /// Settings are keys of a file: `min_free`.
    Keys,
    /// Settings are flags, of which `vxtap decap` has few: `--into` for `--write`.
    Decap,
}

impl Wording {
    /// Puts a text that calls settings by their flags into these words.
    #[must_use]
    pub fn put(self, text: &str) -> Cow<'_, str> {
        match self {
            Wording::Flags => Cow::Borrowed(text),
            Wording::Keys => Cow::Owned(of_a_file(text)),
            Wording::Decap => Cow::Owned(replaced(text, OF_DECAP)),
        }
    }
}

/// Replaces each of these phrases.
fn replaced(text: &str, phrases: &[(&str, &str)]) -> String {
    phrases.iter().fold(text.to_owned(), |text, (phrase, other)| text.replace(phrase, other))
}

fn of_a_file(text: &str) -> String {
    let text = replaced(text, PHRASES);
    let mut words: Vec<String> = Vec::new();
    for word in text.split_inclusive([' ', '\n']) {
        let plain = word.trim_matches(|c: char| !c.is_alphanumeric() && c != '-');
        match key::ALL.iter().find(|key| key.flag == plain) {
            Some(key) => words.push(word.replace(plain, key.path.rsplit('.').next().unwrap_or(key.path))),
            None => words.push(word.to_owned()),
        }
    }
    words.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_become_keys() {
        for (flags, keys) in [
            ("add --source bpf, or leave it", "add source = \"bpf\" below [receive], or leave it"),
            ("give a smaller --rotate-size", "give a smaller rotate_size"),
            ("(--queue)", "(queue)"),
            ("  of --queue\n--rotate-size,\n", "  of queue\nrotate_size,\n"),
            ("write --nothing", "write --nothing"),
        ] {
            assert_eq!((Wording::Keys.put(flags), Wording::Flags.put(flags)), (keys.into(), flags.into()));
        }
    }
}
