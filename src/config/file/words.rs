//! Advice that was worded for the command line is put into words for a file.

use super::super::key;

/// Flags with values or words around them that are written otherwise in a file.
const PHRASES: &[(&str, &str)] = &[
    ("--source bpf", "source = \"bpf\" below [receive]"),
    ("--source auto", "source = \"auto\" below [receive]"),
    ("--source udp", "source = \"udp\""),
    ("--attach tc", "attach = \"tc\""),
    ("--tap-mode inject", "mode = \"inject\""),
    ("use --tap alone", "leave out the outputs of kind \"tun\""),
    ("more than one --tap", "more than one output of kind \"tap\""),
    ("use --vni N", "use vni below [sessions]"),
    ("use --duration", "use duration below [run]"),
    ("(--from ", "(below [sessions] from = "),
    ("`--on-publish 'cp \"$1\" /backup/'`", "`on_publish = 'cp \"$1\" /backup/'`"),
    ("`--write /data/captures`", "`directory = \"/data/captures\"`"),
    ("`--write ./-`", "`directory = \"./-\"`"),
    ("for a stream `--tap mirror0 --no-write`", "for a stream an output of kind \"tap\" alone"),
    ("leave the option out", "leave the key out"),
];

/// Puts advice for the command line into words for a file.
pub(super) fn of_a_file(text: &str) -> String {
    let mut text = text.to_owned();
    for (flags, keys) in PHRASES {
        text = text.replace(flags, keys);
    }
    let mut words: Vec<String> = Vec::new();
    for word in text.split(' ') {
        let plain = word.trim_matches(|c: char| !c.is_alphanumeric() && c != '-');
        match key::ALL.iter().find(|key| key.flag == plain) {
            Some(key) => words.push(word.replace(plain, key.path.rsplit('.').next().unwrap_or(key.path))),
            None => words.push(word.to_owned()),
        }
    }
    words.join(" ")
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
            ("write --nothing", "write --nothing"),
        ] {
            assert_eq!(of_a_file(flags), keys);
        }
    }
}
