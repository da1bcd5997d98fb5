//! What the documents and the unit say, held against the program: commands, options and versions that they name exist.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use vxtap::cli::Cli;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The documents that show commands: those at the top and under `docs/`.
fn documents() -> Vec<PathBuf> {
    let folders = [root().to_path_buf(), root().join("docs")];
    let files = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten();
    files.map(|file| file.unwrap().path()).filter(|path| path.extension().is_some_and(|end| end == "md")).collect()
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

/// The arguments of a command line of vxtap; none of another program's.
fn arguments(command: &str) -> Option<Vec<String>> {
    let words = shlex::split(command).unwrap_or_else(|| panic!("no shell reads this: {command}"));
    let vxtap =
        words.iter().position(|word| word.ends_with("vxtap")).filter(|at| words[..*at].iter().all(|w| w == "sudo"))?;
    Some(words[vxtap..].to_vec())
}

#[track_caller]
fn assert_is_understood(mut words: Vec<String>) {
    // Stands for the hash of a line.
    words.iter_mut().filter(|word| *word == "HASH").for_each(|word| *word = "0".repeat(64));
    if let Err(error) = Cli::try_parse_from(&words) {
        panic!("{words:?}: {error}");
    }
}

#[test]
fn commands_are_understood() {
    let mut found = 0;
    for document in documents() {
        for command in commands(&fs::read_to_string(&document).unwrap()) {
            if let Some(words) = arguments(&command) {
                assert_is_understood(words);
                found += 1;
            }
        }
    }
    assert!(found > 10, "only {found} commands are found");
}

#[test]
fn the_units_command_is_understood() {
    let unit = fs::read_to_string(root().join("systemd/vxtap.service")).unwrap();
    // As systemd reads it.
    let unit = unit.replace("\\\n", " ").replace("%%", "%");
    let command = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    assert_is_understood(arguments(command).unwrap());
    // A page that the steps in the unit's own first lines install, and a directory that is writable for it and of the documents.
    let page = unit.lines().find_map(|line| line.strip_prefix("Documentation=file:")).unwrap();
    assert!(unit.contains(&format!("install -m 644 -D README.md {page}\n")), "{page} is not installed");
    let writable = unit.lines().find_map(|line| line.strip_prefix("ReadWritePaths=")).unwrap();
    assert!(command.contains(&format!("--write {writable} ")), "{command} does not write to {writable}");
    assert!(fs::read_to_string(root().join("README.md")).unwrap().contains(&format!("vxtap run --write {writable}\n")));
}

#[test]
fn the_version_of_rust_is_in_words() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let version =
        manifest.lines().find_map(|line| line.strip_prefix("rust-version = \"")).unwrap().trim_end_matches('"');
    assert!(fs::read_to_string(root().join("README.md")).unwrap().contains(&format!("Rust {version} or later")));
}
