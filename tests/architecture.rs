//! The arrow rule: which module may use which, and where `unsafe` may be.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Module and what it may use of the crate. `main` uses all.
const ARROWS: &[(&str, &[&str])] = &[
    // What a command does
    ("demo", &["cli", "config", "ledger", "pipeline", "record", "replay", "run", "wire"]),
    ("run", &["config", "console", "ledger", "pipeline", "record", "route", "source", "storage"]),
    ("replay", &["cli", "ledger", "record", "sys", "wire"]),
    ("verify", &["archive", "cli", "console", "ledger", "storage"]),
    // What it is asked to do
    (
        "config",
        &["archive", "cli", "lane", "pipeline", "record", "replay", "route", "sink", "source", "storage", "wire"],
    ),
    ("cli", &["archive", "config", "record", "replay", "wire"]),
    ("console", &["cli"]),
    // The way of a packet
    ("pipeline", &["lane", "ledger", "record", "route", "sink", "source", "wire"]),
    ("source", &["record", "sys", "wire"]),
    ("sink", &["archive", "lane", "ledger", "record", "route", "storage", "sys", "wire"]),
    ("archive", &["ledger", "record", "storage", "sys", "wire"]),
    ("storage", &["sys"]),
    ("lane", &["ledger", "record", "route"]),
    ("route", &["ledger", "record", "wire"]),
    ("ledger", &["record", "wire"]),
    // What everything stands on
    ("episode", &[]),
    ("record", &["wire"]),
    ("wire", &[]),
    ("sys", &[]),
];

/// Modules that every module may use, and which the rows of [`ARROWS`] therefore leave out.
const EVERYWHERE: &[&str] = &["episode"];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Module, file and code of every source file, without comments and tests.
fn modules() -> Vec<(String, PathBuf, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    files
        .into_iter()
        .filter(|path| path.file_stem().is_some_and(|name| name != "tests"))
        .filter(|path| path.components().all(|part| part.as_os_str() != "tests"))
        .map(|path| {
            let relative = path.strip_prefix(&src).unwrap();
            let first = relative.components().next().unwrap().as_os_str().to_str().unwrap();
            let text = fs::read_to_string(&path).unwrap();
            let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
            let code: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap()).collect();
            (first.trim_end_matches(".rs").to_owned(), relative.to_path_buf(), code.join("\n"))
        })
        .collect()
}

/// Modules named after `crate::` in `code`, also in braces.
fn used(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let list = match rest.strip_prefix('{') {
            Some(inner) => inner.split('}').next().unwrap().split(',').collect(),
            None => vec![rest],
        };
        for item in list {
            let name: String = item.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            found.insert(name);
        }
    }
    found
}

#[test]
fn arrows_point_one_way() {
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let mut seen = BTreeSet::new();
    for (module, file, code) in modules() {
        if module == "lib" || module == "main" {
            continue;
        }
        let may = allowed.get(module.as_str()).unwrap_or_else(|| panic!("{module} is not in the table of arrows"));
        seen.insert(module.clone());
        for other in used(&code) {
            let fine = other == module || may.contains(&other.as_str()) || EVERYWHERE.contains(&other.as_str());
            assert!(fine, "{} uses {other}, which {module} may not", file.display());
        }
    }
    for module in allowed.keys() {
        assert!(seen.contains(*module), "{module} is in the table of arrows but not in src");
    }
}

#[test]
fn unsafe_code_stays_in_sys() {
    for (module, file, code) in modules() {
        let words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
        let unsafe_words = words.filter(|word| *word == "unsafe").count();
        assert!(module == "sys" || unsafe_words == 0, "{} has unsafe code", file.display());
    }
}

#[test]
fn the_check_sees_what_it_should() {
    let code = "use crate::wire::Vni;\nuse crate::{lane, sink::file};\nfn f() { crate::route::x() }";
    let found: Vec<String> = used(code).into_iter().collect();
    assert_eq!(found, ["lane", "route", "sink", "wire"]);
}
