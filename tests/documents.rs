//! The documents are held against the program: commands, options, versions, files and
//! anchors that they name exist, and lines are as wide as one can read.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use clap::Parser;
use vxtap::check::Finding;
use vxtap::check::watch::{SENTENCES, Sentence};
use vxtap::cli::Cli;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns all files below the folders that end so, as paths below the root; `""` is the root
/// without its folders.
fn files(folders: &[&str], end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && folder != root() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == end) {
                found.push(path.strip_prefix(root()).unwrap().to_path_buf());
            }
        }
    }
    found.sort();
    found
}

/// Every document of the project.
fn documents() -> Vec<(PathBuf, String)> {
    let paths = files(&["", "docs", "benches", "fixtures"], "md");
    paths.into_iter().map(|path| (path.clone(), read(path.to_str().unwrap()))).collect()
}

/// A line of a document.
struct Line<'a> {
    number: usize,
    text: &'a str,
    /// The language of the block that the line is in, or of which it is the fence.
    block: Option<&'a str>,
}

fn lines(text: &str) -> Vec<Line<'_>> {
    let mut block = None;
    let mut lines = Vec::new();
    for (number, text) in (1..).zip(text.lines()) {
        match (text.trim().strip_prefix("```"), block) {
            (Some(language), None) => {
                block = Some(language);
                lines.push(Line { number, text, block });
            }
            (Some(_), Some(_)) => lines.push(Line { number, text, block: block.take() }),
            (None, _) => lines.push(Line { number, text, block }),
        }
    }
    assert!(block.is_none(), "a block is not closed");
    lines
}

/// Command lines of shell blocks, with lines joined that end with a backslash or within quotes.
fn commands(text: &str) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    let (mut within, mut quoted) = (false, false);
    for line in text.replace("\\\n", " ").lines().map(str::trim) {
        match (line.strip_prefix("```"), commands.last_mut()) {
            (Some(language), _) => within = language == "sh",
            (None, Some(open)) if quoted => open.push_str(&format!("\n{line}")),
            (None, _) if within => commands.push(line.to_string()),
            (None, _) => {}
        }
        quoted = within && commands.last().is_some_and(|command| shlex::split(command).is_none());
    }
    commands
}

/// Returns the commands of a line that stand side by side, without what the shell takes for itself:
/// where input comes from and output goes.
fn side_by_side(line: &str) -> Vec<Vec<String>> {
    let words = shlex::split(line).unwrap_or_else(|| panic!("no shell reads this: {line}"));
    let mut commands = vec![Vec::new()];
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let redirection = word.trim_start_matches(|c: char| c.is_ascii_digit() || c == '&');
        if ["&&", "||", "|", ";", "&"].contains(&word.as_str()) {
            commands.push(Vec::new());
        } else if [">", ">>", "<"].contains(&redirection) {
            words.next();
        } else if let (false, Some(command)) = (redirection.starts_with(['>', '<']), commands.last_mut()) {
            command.push(word);
        }
    }
    commands
}

/// Returns the arguments of each command of vxtap in a line; other programs' have none.
fn arguments(line: &str) -> Vec<Vec<String>> {
    let of_vxtap = |words: Vec<String>| {
        let vxtap = words.iter().position(|word| word.ends_with("vxtap"))?;
        words[..vxtap].iter().all(|word| word == "sudo").then(|| words[vxtap..].to_vec())
    };
    side_by_side(line).into_iter().filter_map(of_vxtap).collect()
}

#[test]
fn what_the_shell_takes_is_no_argument() {
    for (line, wanted) in [
        ("vxtap run --print-config > a.toml", &["vxtap run --print-config"][..]),
        ("sudo vxtap run >a.json 2>&1 --tap m -v 2> log", &["vxtap run --tap m -v"]),
        (
            "vxtap sessions --from-aws - < a | cat && vxtap check -c b &",
            &["vxtap sessions --from-aws -", "vxtap check -c b"],
        ),
        ("vxtap run --filter 'len > 100'", &["vxtap run --filter len > 100"]),
        ("ls | grep vxtap # vxtap run", &[]),
    ] {
        let found: Vec<String> = arguments(line).iter().map(|words| words.join(" ")).collect();
        assert_eq!(found, wanted, "{line}");
    }
}

#[track_caller]
fn assert_is_understood(document: &Path, mut words: Vec<String>) {
    // Stands for the hash of a line.
    words.iter_mut().filter(|word| *word == "HASH").for_each(|word| *word = "0".repeat(64));
    if let Err(error) = Cli::try_parse_from(&words) {
        panic!("{}: {words:?}: {error}", document.display());
    }
}

#[test]
fn commands_are_understood() {
    let mut found = 0;
    for (document, text) in documents() {
        for command in commands(&text) {
            for words in arguments(&command) {
                assert_is_understood(&document, words);
                found += 1;
            }
        }
    }
    assert!(found > 15, "only {found} commands are found");
}

/// Returns the options of all commands, as `--write`.
fn options() -> HashSet<String> {
    use clap::CommandFactory;
    let mut commands = vec![Cli::command()];
    let mut options = HashSet::from(["--help".to_string(), "--version".to_string()]);
    while let Some(command) = commands.pop() {
        options.extend(command.get_arguments().filter_map(clap::Arg::get_long).map(|long| format!("--{long}")));
        commands.extend(command.get_subcommands().cloned());
    }
    options
}

/// Options of other programs that the documents name in the running text or in tables.
const OTHERS: [&str; 4] = ["--af-packet", "--exclude", "--kill-whom", "--virtual-network-id"];

#[test]
fn options_exist() {
    let known = options();
    for (path, text) in
        documents().iter().filter(|(path, _)| path.starts_with("docs") || path.parent() == Some(Path::new("")))
    {
        // A changelog names what there was.
        if path.ends_with("CHANGELOG.md") {
            continue;
        }
        for line in lines(text).iter().filter(|line| line.block.is_none()) {
            for code in line.text.split('`').skip(1).step_by(2) {
                let words = code.split([' ', '=', '\\', '"', '[', '|']).filter(|word| word.starts_with("--"));
                for word in words.filter(|word| !word.starts_with("--keep-*") && word.len() > 2) {
                    assert!(
                        known.contains(word) || OTHERS.contains(&word) || code.starts_with("cargo "),
                        "{}:{}: there is no option {word}",
                        path.display(),
                        line.number
                    );
                }
            }
        }
    }
}

/// Each option of a command is explained in a document, and not only in `--help`.
#[test]
fn options_are_documented() {
    let pages: String =
        documents().into_iter().filter(|(path, _)| path.starts_with("docs")).map(|(_, text)| text).collect();
    for option in options().iter().filter(|option| !["--help", "--version"].contains(&option.as_str())) {
        let named = |end: char| pages.contains(&format!("{option}{end}"));
        assert!(['`', ' ', '=', ',', '\n'].into_iter().any(named), "{option} is in no page of docs/");
    }
}

/// Returns the anchor that a title gets: lower case, blanks as `-`, and nothing but letters,
/// digits, `-` and `_`.
fn anchor(title: &str) -> String {
    let kept = title.trim().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn anchors(text: &str) -> HashSet<String> {
    let titles = lines(text).into_iter().filter(|line| line.block.is_none() && line.text.starts_with('#'));
    titles.map(|line| anchor(line.text.trim_start_matches('#'))).collect()
}

/// Returns the targets of links and pictures of a document, with their lines. What is between
/// backquotes is no link.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    for line in lines(text).iter().filter(|line| line.block.is_none()) {
        let mut rest = line.text;
        while let Some((_, behind)) = rest.split_once("](") {
            let (target, after) = behind.split_once(')').unwrap();
            links.push((line.number, target.to_string()));
            rest = after;
        }
    }
    links
}

/// Returns a path without `.` and `..`; none where it leads out of the project.
fn normal(path: &Path) -> Option<PathBuf> {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => normal.push(name),
            Component::CurDir => {}
            Component::ParentDir => normal.pop().then_some(())?,
            _ => return None,
        }
    }
    Some(normal)
}

/// Says what is wrong with a link of a document at `from`.
fn dead(from: &Path, target: &str, anchors_of: &HashMap<PathBuf, HashSet<String>>) -> Option<&'static str> {
    if target.starts_with("https://") {
        return None;
    }
    let (path, fragment) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    let to = if path.is_empty() { from.to_path_buf() } else { from.parent().unwrap().join(path) };
    let Some(to) = normal(&to) else { return Some("it leads out of the project") };
    if !root().join(&to).exists() {
        return Some("there is no such file");
    }
    let known = |fragment: &str| anchors_of.get(&to).is_some_and(|anchors| anchors.contains(fragment));
    fragment.is_some_and(|fragment| !known(fragment)).then_some("there is no such title")
}

#[test]
fn no_link_is_dead() {
    let documents = documents();
    let anchors_of = documents.iter().map(|(path, text)| (path.clone(), anchors(text))).collect();
    let mut found = 0;
    for (path, text) in &documents {
        for (number, target) in links(text) {
            found += 1;
            if let Some(why) = dead(path, &target, &anchors_of) {
                panic!("{}:{number}: {target}: {why}", path.display());
            }
        }
    }
    assert!(found > 50, "only {found} links are found");
}

#[test]
fn a_dead_link_is_found() {
    let (from, anchors_of) = (
        Path::new("docs/x.md"),
        HashMap::from([(PathBuf::from("README.md"), anchors("# A b\n```sh\n# c\n```\n## `d`, e"))]),
    );
    for (target, why) in [
        ("../README.md", None),
        ("../README.md#a-b", None),
        ("../README.md#d-e", None),
        ("../README.md#c", Some("there is no such title")),
        ("../docs", None),
        ("READ.md", Some("there is no such file")),
        ("../../etc", Some("it leads out of the project")),
    ] {
        assert_eq!(dead(from, target, &anchors_of), why, "{target}");
    }
    assert_eq!(
        links("a [b](c) [d](e#f)\n```sh\n[g](h)\n```\n![i](j)"),
        [(1, "c".into()), (1, "e#f".into()), (5, "j".into())]
    );
}

/// Says whether there is such a file or folder: below the root, below `src/`, beside the document,
/// or in the room that a row of a table is about.
fn is_there(document: &Path, line: &str, path: &str) -> bool {
    let (src, beside) = (Path::new("src"), document.parent().unwrap());
    let room = line.strip_prefix("| `").and_then(|row| row.split('`').next()).unwrap_or_default();
    let folders = [Path::new(""), src, beside, &src.join(room), Path::new(room)];
    folders.iter().any(|folder| root().join(folder).join(path).exists())
}

/// A map that leads nowhere helps nobody: each file and folder of ours that it names is there, and
/// so is each that a decision names, or the page of what goes where.
#[test]
fn paths_in_the_map_exist() {
    let (mut found, mut dead) = (0, Vec::new());
    for (path, text) in documents() {
        let is_map = ["ARCHITECTURE.md", "docs/extending.md"].iter().any(|map| path == Path::new(map));
        if !is_map && !path.starts_with("docs/decisions") {
            continue;
        }
        for line in lines(&text).iter().filter(|line| line.block.is_none()) {
            for code in line.text.split('`').skip(1).step_by(2).filter(|code| !code.contains([' ', '*', ':', '<'])) {
                let ends = [".rs", ".c", ".sh", ".md", "/"];
                if ends.iter().any(|end| code.ends_with(end)) && !code.starts_with(['/', '.']) {
                    found += 1;
                    if !is_there(&path, line.text, code) {
                        dead.push(format!("{}:{}: {code}", path.display(), line.number));
                    }
                }
            }
        }
    }
    assert!(dead.is_empty(), "there are no such files: {dead:#?}");
    assert!(found > 40, "only {found} paths are found");
}

/// Whoever doubts a figure can measure it: each section with a table of figures has a command.
#[test]
fn figures_have_commands() {
    let page = read("docs/performance.md");
    let sections = page.split("\n## ").filter(|section| section.contains("\n|---"));
    let without: Vec<_> = sections.filter(|section| !section.contains("```sh\n")).map(|s| s.lines().next()).collect();
    assert!(without.is_empty(), "there is no command in {without:?}");
}

/// The page has a row for each finding, in the order in which they come.
#[test]
fn findings_are_documented() {
    let page = read("docs/check.md");
    let (_, table) = page.split_once("## The findings").unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    assert_eq!(rows.collect::<Vec<_>>(), vxtap::check::host::NAMES);
}

/// Each page of `docs/` can be reached from README.md, and each decision from the list of them.
#[test]
fn every_page_is_linked() {
    let pages: HashMap<PathBuf, String> = documents().into_iter().collect();
    let mut reached = HashSet::from([PathBuf::from("README.md")]);
    let mut open: Vec<PathBuf> = reached.iter().cloned().collect();
    while let Some(page) = open.pop() {
        for (_, target) in links(&pages[&page]) {
            let path = target.split('#').next().unwrap();
            let to = normal(&page.parent().unwrap().join(path)).unwrap_or_default();
            if pages.contains_key(&to) && reached.insert(to.clone()) {
                open.push(to);
            }
        }
    }
    for page in pages.keys().filter(|page| page.starts_with("docs")) {
        assert!(reached.contains(page), "nothing leads to {}", page.display());
    }
}

/// Each sentence of `vxtap check --watch` stands in the page as it is said, and no other does.
#[test]
fn each_sentence_of_the_watch_is_explained() {
    let page = read("docs/troubleshooting.md");
    let mut titles: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    for Sentence { name, level, reason, remedy } in SENTENCES {
        assert!(titles.contains(&name), "{name} is not in docs/troubleshooting.md");
        titles.retain(|title| *title != name);
        let remedy = Some(remedy.to_owned()).filter(|remedy| !remedy.is_empty());
        let said = Finding { level, name, reason: reason.to_owned(), remedy };
        let block = format!("### {name}\n\n```text\n{said}\n```\n\n");
        let explained = page.split_once(&block).map(|(_, rest)| rest.lines().next().unwrap_or_default());
        assert!(explained.is_some_and(|line| !line.is_empty() && !line.starts_with('#')), "not there: {block}");
    }
    assert!(titles.is_empty(), "nobody says {titles:?}");
}

fn width(line: &str) -> usize {
    line.chars().count()
}

/// A line of a document may be wider where it cannot be broken: in a table, a block of code, a line
/// with one long link.
fn may_be_wide(line: &Line<'_>) -> bool {
    line.block.is_some() || line.text.starts_with('|') || line.text.starts_with("![")
}

#[test]
fn readme_is_short() {
    let text = read("README.md");
    assert!(text.lines().count() <= 180, "README.md has {} lines", text.lines().count());
    assert!(text.split_whitespace().count() <= 1500, "README.md has {} words", text.split_whitespace().count());
    for line in lines(&text) {
        assert!(width(line.text) <= 120, "README.md:{} has {} columns", line.number, width(line.text));
    }
}

#[test]
fn the_map_is_short() {
    let count = read("ARCHITECTURE.md").lines().count();
    assert!(count <= 95, "ARCHITECTURE.md has {count} lines");
}

#[test]
fn documents_are_narrow() {
    for (path, text) in &documents() {
        for line in lines(text).iter().filter(|line| !may_be_wide(line)) {
            assert!(width(line.text) <= 120, "{}:{} has {} columns", path.display(), line.number, width(line.text));
        }
    }
}

#[test]
fn comments_are_narrow() {
    let mut wide = Vec::new();
    for path in files(&["src", "tests", "benches", "examples"], "rs") {
        let text = read(path.to_str().unwrap());
        for (number, line) in (1..).zip(text.lines()) {
            if line.trim_start().starts_with("//") && width(line) > 100 {
                wide.push(format!("{}:{number}", path.display()));
            }
        }
    }
    assert!(wide.is_empty(), "comments wider than 100 columns: {wide:#?}");
}

/// A test that `ci.sh` leaves out where there is no libpcap would fail there if it had another name
/// by now.
#[test]
fn tests_that_are_left_out_exist() {
    let script = read("ci.sh");
    let names = script.split_once("of_libpcap=(\n").unwrap().1.split_once("\n)").unwrap().0;
    let code: String = files(&["src", "tests"], "rs").iter().map(|path| read(path.to_str().unwrap())).collect();
    for name in names.lines().map(str::trim) {
        // It may say which module it is of.
        let name = name.rsplit("::").next().unwrap();
        assert!(code.contains(&format!("fn {name}(")), "{name}");
    }
}

#[test]
fn the_version_of_rust_is_in_words() {
    let manifest = read("Cargo.toml");
    let version =
        manifest.lines().find_map(|line| line.strip_prefix("rust-version = \"")).unwrap().trim_end_matches('"');
    assert!(read("README.md").contains(&format!("Rust {version} or later")));
}

/// Returns the names of the fields of the log lines in this source text.
fn logged(text: &str) -> Vec<String> {
    let calls = ["trace", "debug", "info", "warn", "error"].map(|level| format!("tracing::{level}!("));
    let bodies = calls.iter().flat_map(|call| text.split(call.as_str()).skip(1));
    let mut names = Vec::new();
    for body in bodies {
        let (mut depth, mut quoted, mut escaped, mut field) = (0, false, false, String::new());
        for sign in body.chars() {
            match sign {
                _ if escaped => escaped = false,
                '\\' if quoted => escaped = true,
                // The message: no field comes behind it.
                '"' if depth == 0 && field.trim().is_empty() => break,
                '"' => quoted = !quoted,
                '(' | '[' | '{' if !quoted => depth += 1,
                ')' if !quoted && depth == 0 => break,
                ')' | ']' | '}' if !quoted => depth -= 1,
                ',' if !quoted && depth == 0 => {
                    let name = field.split('=').next().unwrap().trim().trim_start_matches(['%', '?']);
                    names.push(name.to_owned());
                    field.clear();
                    continue;
                }
                _ => {}
            }
            field.push(sign);
        }
    }
    names
}

#[test]
fn the_fields_of_log_lines_are_documented() {
    let document = read("docs/logs.md");
    let table = document.split("<!-- fields: begin -->").nth(1).unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let documented: BTreeSet<&str> = rows.flat_map(|row| row[1..].split('|').next().unwrap().split('`')).collect();
    let sources = files(&["src"], "rs");
    let logged: BTreeSet<String> = sources.iter().flat_map(|path| logged(&read(path.to_str().unwrap()))).collect();
    assert!(logged.contains("reason") && logged.len() > 40, "{logged:?}");
    let unknown: Vec<&String> = logged.iter().filter(|name| !documented.contains(name.as_str())).collect();
    assert!(unknown.is_empty(), "docs/logs.md lacks {unknown:?}");
    let names =
        documented.iter().filter(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '_') && !name.is_empty());
    let unused: Vec<&&str> = names.filter(|name| **name != "message" && !logged.contains(**name)).collect();
    assert!(unused.is_empty(), "no line has {unused:?}");
}
