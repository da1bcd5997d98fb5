//! Debian's changelog is made of that of the project.

use jiff::Timestamp;

/// Columns of a line.
const WIDTH: usize = 78;

/// Returns the changelog of the package: an entry for each version. What has no number yet becomes
/// part of the version that the program has, at `time`.
pub(crate) fn debian(changelog: &str, maintainer: &str, time: Timestamp) -> String {
    let mut made = String::new();
    let versions = changelog.split("\n## [").skip(1);
    for version in versions {
        let (title, text) = version.split_once('\n').unwrap();
        let (name, date) = title.split_once(']').unwrap();
        let (number, when) = match name {
            "Unreleased" => (env!("CARGO_PKG_VERSION"), time),
            number => (number, format!("{}T00:00:00Z", date.trim_start_matches(" - ")).parse().unwrap()),
        };
        let items = text.split("\n- ").skip(1).filter(|item| !item.trim().is_empty());
        let items = items.map(|item| wrapped(&plain(item.split("\n\n").next().unwrap_or_default())));
        let when = when.strftime("%a, %d %b %Y %H:%M:%S +0000");
        made += &format!("vxtap ({number}-1) unstable; urgency=medium\n\n{}\n", items.collect::<String>());
        made += &format!(" -- {maintainer}  {when}\n\n");
    }
    made.trim_end().to_owned() + "\n"
}

/// Returns the text without what Markdown adds to it: backquotes, and the targets of links.
fn plain(item: &str) -> String {
    let mut made = String::new();
    let mut rest = item;
    while let Some((before, behind)) = rest.split_once("](") {
        let (text, name) = before.rsplit_once('[').unwrap();
        made += text;
        made += name;
        rest = behind.split_once(')').map_or("", |(_, after)| after);
    }
    (made + rest).replace('`', "")
}

/// Returns an item of the list, in lines.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::from("  *")];
    for word in text.split_whitespace() {
        let line = lines.last_mut().unwrap();
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(format!("    {word}"));
        } else {
            line.push(' ');
            line.push_str(word);
        }
    }
    lines.join("\n") + "\n"
}
