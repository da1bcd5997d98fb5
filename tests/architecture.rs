//! The arrow rule: which module may use which, that neither files nor folders import each other in
//! a circle, how long a file may be, and where `unsafe` may be.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "architecture/imports.rs"]
mod imports;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use imports::{Imports, circles};

/// Module and what it may use of the crate. `main` uses all.
const ARROWS: &[(&str, &[&str])] = &[
    // What must hold, whatever the bytes
    (
        "fuzzing",
        &["config", "console", "decap", "evidence", "host", "record", "replay", "route", "session", "sys", "wire"],
    ),
    // What a command does
    (
        "check",
        &[
            "archive", "config", "control", "evidence", "host", "pipeline", "route", "sandbox", "session", "sink",
            "source", "sys", "view", "wire",
        ],
    ),
    ("decap", &["console", "lane", "ledger", "pipeline", "record", "route", "sink", "source", "wire"]),
    ("demo", &["config", "console", "host", "pipeline", "record", "replay", "run", "sandbox", "wire"]),
    (
        "run",
        &[
            "config", "console", "control", "health", "host", "ledger", "metrics", "pipeline", "record", "route",
            "sandbox", "service", "sink", "source", "storage", "view",
        ],
    ),
    ("replay", &["console", "record", "sys", "wire"]),
    ("top", &["console", "control", "record", "session", "view"]),
    ("verify", &["console", "evidence", "storage"]),
    // What it is asked to do
    (
        "config",
        &[
            "archive", "console", "control", "evidence", "host", "lane", "pipeline", "record", "route", "sandbox",
            "session", "sink", "source", "storage", "wire",
        ],
    ),
    (
        "cli",
        &[
            "archive", "config", "console", "decap", "evidence", "lane", "pipeline", "record", "replay", "sandbox",
            "sink", "source", "storage", "top", "watch", "wire",
        ],
    ),
    ("console", &[]),
    // How it does, and who is told
    ("watch", &["control", "record", "route", "wire"]),
    (
        "control",
        &[
            "health", "host", "http", "ledger", "metrics", "page", "record", "route", "service", "session", "sink",
            "view",
        ],
    ),
    ("page", &["http"]),
    ("http", &[]),
    ("health", &["http", "ledger", "record", "session", "view"]),
    ("metrics", &["ledger", "record", "route", "session", "view"]),
    ("view", &["archive", "ledger", "pipeline", "record", "route", "sandbox", "storage"]),
    // The way of a packet
    ("pipeline", &["lane", "ledger", "record", "route", "service", "session", "sink", "source", "wire"]),
    ("source", &["host", "record", "service", "session", "sys", "wire"]),
    (
        "sink",
        &["archive", "evidence", "lane", "ledger", "record", "route", "service", "session", "storage", "sys", "wire"],
    ),
    ("archive", &["evidence", "ledger", "record", "session", "storage"]),
    ("evidence", &["record", "session", "storage"]),
    ("storage", &["sys"]),
    ("lane", &["ledger", "record", "route", "wire"]),
    ("route", &["ledger", "record", "session", "sys", "wire"]),
    ("ledger", &["record", "session", "wire"]),
    // What everything stands on
    ("condition", &[]),
    ("episode", &[]),
    ("setting", &[]),
    ("whose", &[]),
    ("host", &[]),
    ("sandbox", &["sys"]),
    ("service", &["host", "sys"]),
    ("session", &["wire"]),
    ("record", &["wire"]),
    ("wire", &[]),
    ("sys", &[]),
];

/// Modules that every module may use, and which the rows of [`ARROWS`] therefore leave out.
const EVERYWHERE: &[&str] = &["condition", "episode", "setting", "whose"];

/// Lines that a file may have.
const LINES: usize = 600;

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs" || e == "c") {
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
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
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
fn the_table_has_an_order() {
    let edges = ARROWS.iter().map(|(module, may)| (*module, may.iter().copied().collect())).collect();
    let found = circles(&edges);
    assert!(found.is_empty(), "these may use each other: {found:?}");
}

/// Returns which of the files and folders that lie beside each other imports from which, by way of
/// any file in it. The file that stands before a folder is of the folder.
fn between_neighbours<'a>(edges: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let mut found = BTreeMap::<&str, BTreeSet<&str>>::new();
    for (from, to) in edges.iter().flat_map(|(from, all)| all.iter().map(|to| (*from, *to))) {
        let same = from.bytes().zip(to.bytes()).take_while(|(a, b)| a == b).count();
        let folder = from[..same].rfind('/').map_or(0, |at| at + 1);
        let [from, to] = [from, to].map(|file| &file[..file[folder..].find('/').map_or(file.len(), |at| folder + at)]);
        if ![from, to].iter().any(|file| file.ends_with("mod.rs")) {
            found.entry(from).or_default().insert(to);
        }
    }
    found
}

/// Says which of these import each other in a circle.
fn shown(edges: &BTreeMap<&str, BTreeSet<&str>>) -> String {
    let mut found = String::new();
    for circle in circles(edges) {
        found.push_str("a circle:\n");
        for file in &circle {
            let to: Vec<&str> = edges[file].intersection(&circle).copied().collect();
            found.push_str(&format!("  {file} imports {}\n", to.join(", ")));
        }
    }
    found
}

#[test]
fn neither_files_nor_folders_import_each_other_in_a_circle() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files: Vec<(String, String)> = modules()
        .into_iter()
        .map(|(_, file, _)| (file.to_str().unwrap().to_owned(), fs::read_to_string(src.join(&file)).unwrap()))
        .collect();
    let imports = Imports::read(files.iter().map(|(file, code)| (file.as_str(), code.as_str())));
    let found = shown(&imports.edges()) + &shown(&between_neighbours(&imports.edges()));
    assert!(found.is_empty(), "{found}");
}

#[test]
fn no_file_is_too_long() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for dir in ["src", "tests", "benches", "examples"] {
        sources(&top.join(dir), &mut files);
    }
    for path in files {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        let file = path.strip_prefix(top).unwrap();
        assert!(lines <= LINES, "{} has {lines} lines, more than {LINES}", file.display());
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

/// What circles there are in a crate of these files, each file with its name and its code.
fn circles_of(files: &[(&str, &str)]) -> Vec<Vec<String>> {
    let imports = Imports::read(files.iter().copied());
    let owned = |circle: BTreeSet<&str>| circle.into_iter().map(str::to_owned).collect();
    circles(&imports.edges()).into_iter().map(owned).collect()
}

#[test]
fn a_circle_of_files_is_found() {
    let lib = ("lib.rs", "mod a; mod b; mod c;");
    let none = Vec::<Vec<String>>::new();
    let (a, c) = ("pub struct A;", "use crate::{a::A, b}; fn f() { b::new() }");
    assert_eq!(circles_of(&[lib, ("a.rs", a), ("b.rs", "use crate::a::A;"), ("c.rs", c)]), none);
    // By way of three files, one of which names a path in the arguments of a macro.
    let named = "pub struct A; fn f() { log!(x = crate::c::X) }";
    assert_eq!(
        circles_of(&[lib, ("a.rs", named), ("b.rs", "use super::a::A;"), ("c.rs", "use crate::b::B; pub struct X;")]),
        [["a.rs", "b.rs", "c.rs"]]
    );
    // Tests may import what they like, a visibility is no import, and neither is a comment.
    let seen = "// crate::c\npub(in crate::c) struct A; #[cfg(test)] mod tests { use crate::c::C; }";
    assert_eq!(circles_of(&[lib, ("a.rs", seen), ("b.rs", ""), ("c.rs", "use crate::a::A;")]), none);
}

#[test]
fn a_name_is_sought_where_it_is_defined() {
    let lib = ("lib.rs", "mod room;");
    let face = ("room/mod.rs", "mod one; mod two; pub use self::one::One; pub use two::Two;");
    let (one, two) = ("use super::Two; pub struct One;", "pub struct Two;");
    assert_eq!(circles_of(&[lib, face, ("room/one.rs", one), ("room/two.rs", two)]), Vec::<Vec<String>>::new());
    // Each takes the other's name from the face.
    let back = "use super::One; pub struct Two;";
    assert_eq!(circles_of(&[lib, face, ("room/one.rs", one), ("room/two.rs", back)]), [["room/one.rs", "room/two.rs"]]);
    // A child takes from its parent what the parent defines itself.
    let parent = ("room/mod.rs", "mod one; mod two; pub struct Own(one::One);");
    assert_eq!(
        circles_of(&[lib, parent, ("room/one.rs", "use super::Own; pub struct One;"), ("room/two.rs", "")]),
        [["room/mod.rs", "room/one.rs"]]
    );
}
