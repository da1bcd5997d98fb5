//! Sessions get names that paths can have, each its own.

use std::collections::HashMap;

use super::super::entry::Name;

/// The most characters of a name.
const LONGEST: usize = 64;

/// Makes a name of the first of these texts that one can be made of.
fn name(texts: &[&str]) -> Option<Name> {
    texts.iter().find_map(|text| valid(text))
}

/// Makes a name of a text: what a name cannot have becomes `-`.
fn valid(text: &str) -> Option<Name> {
    let mut made = String::new();
    for c in text.chars() {
        match c {
            c if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') => made.push(c),
            _ if made.ends_with('-') => {}
            _ => made.push('-'),
        }
    }
    let made = made.trim_matches(['-', '.', '_']);
    let made = made.get(..LONGEST).unwrap_or(made).trim_end_matches(['-', '.', '_']);
    if made.is_empty() {
        return None;
    }
    // One that begins as no name may is a name with something in front, or something behind.
    let others = [made.to_owned(), format!("s-{made}"), format!("{made}-s")];
    others.iter().find_map(|made| made.get(..LONGEST.min(made.len()))?.parse().ok())
}

/// Makes a name for each session of the texts that it can be called by and its ID. Names that
/// several would have are told apart by the ID, for all of them: which comes first may change from
/// day to day, and a name that is in paths should not.
pub(super) fn unique(sessions: &[(Vec<&str>, &str)]) -> Vec<Option<Name>> {
    let names: Vec<Option<Name>> = sessions.iter().map(|(texts, _)| name(texts)).collect();
    let mut count: HashMap<&str, usize> = HashMap::new();
    names.iter().flatten().for_each(|name| *count.entry(name.as_str()).or_default() += 1);
    let with_id = |name: &Name, id: &str| {
        let room = LONGEST.saturating_sub(id.len() + 1);
        let short = name.as_str().get(..room).unwrap_or(name.as_str());
        valid(&format!("{short}-{id}"))
    };
    let names: Vec<Option<Name>> = names
        .iter()
        .zip(sessions)
        .map(|(name, (_, id))| match name {
            Some(name) if count.get(name.as_str()).is_some_and(|count| *count > 1) => with_id(name, id),
            name => name.clone(),
        })
        .collect();
    // What is the same even so has no name: a session can do without.
    let mut count: HashMap<&str, usize> = HashMap::new();
    names.iter().flatten().for_each(|name| *count.entry(name.as_str()).or_default() += 1);
    let is_own = |name: &Name| count.get(name.as_str()) == Some(&1);
    names.iter().map(|name| name.clone().filter(|name| is_own(name))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_made_of_any_text() {
        for (text, wanted) in [
            ("web 1", Some("web-1")),
            ("Web server (prod) / eu", Some("Web-server-prod-eu")),
            ("größe", Some("gr-e")),
            ("vni-mirror", Some("s-vni-mirror")),
            ("overflow", Some("s-overflow")),
            ("geneve", Some("s-geneve")),
            ("..hidden", Some("hidden")),
            ("日本", None),
            ("", None),
        ] {
            assert_eq!(valid(text).as_ref().map(Name::as_str), wanted, "{text}");
        }
        let long = valid(&"x y".repeat(60)).unwrap();
        assert!(long.as_str().len() <= LONGEST && !long.as_str().ends_with('-'), "{long}");
    }

    #[test]
    fn names_that_several_would_have_are_told_apart_by_the_id() {
        let sessions = [
            (vec!["web"], "tms-1"),
            (vec!["", "web"], "tms-2"),
            (vec!["db"], "tms-3"),
            (vec!["日本"], "tms-4"),
            (vec!["same"], "tms-5"),
            (vec!["same"], "tms-5"),
        ];
        let names = unique(&sessions);
        let names: Vec<Option<&str>> = names.iter().map(|name| name.as_ref().map(Name::as_str)).collect();
        assert_eq!(names, [Some("web-tms-1"), Some("web-tms-2"), Some("db"), None, None, None]);
        let long = "x".repeat(64);
        let names = unique(&[(vec![&*long], "tms-0123456789abcdef0"), (vec![&*long], "tms-0123456789abcdef1")]);
        assert!(names.iter().all(|name| name.as_ref().is_some_and(|name| name.as_str().len() == 64)));
    }
}
