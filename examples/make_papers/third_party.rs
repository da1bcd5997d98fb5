//! The notices of what the program is linked with go along with it, as their licences ask.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use jiff::Timestamp;
use serde_json::{Value, json};

/// How names of files with a licence or a notice begin.
const NOTICES: [&str; 5] = ["LICENSE", "LICENCE", "COPYING", "NOTICE", "COPYRIGHT"];

/// What cargo says of the crates.
pub(crate) struct Crates(Value);

impl Crates {
    /// Asks cargo.
    pub(crate) fn of(root: &Path) -> Self {
        let cargo = env::var_os("CARGO").unwrap_or("cargo".into());
        let mut command = Command::new(cargo);
        command.args(["metadata", "--format-version", "1", "--locked", "--filter-platform"]);
        let output =
            command.arg(format!("{}-unknown-linux-gnu", env::consts::ARCH)).current_dir(root).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self(serde_json::from_slice(&output.stdout).unwrap())
    }
}

/// Returns what is in the program as a list for programs, in the format CycloneDX 1.5.
pub(crate) fn bill(crates: &Crates, time: Timestamp) -> String {
    let part = |kind: &str, package: &Value| {
        let (name, version) = (&package["name"], &package["version"]);
        let place = format!("pkg:cargo/{}@{}", name.as_str().unwrap(), version.as_str().unwrap());
        let licence = package["license"].as_str().unwrap_or_default().replace('/', " OR ");
        json!({ "type": kind, "bom-ref": place, "name": name, "version": version, "purl": place,
            "licenses": [{ "expression": licence }] })
    };
    let of = |package: &&Value| package["id"] == crates.0["resolve"]["root"];
    let program = crates.0["packages"].as_array().unwrap().iter().find(of).unwrap();
    let components: Vec<Value> = linked(&crates.0).into_iter().map(|package| part("library", package)).collect();
    let bill = json!({ "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "metadata": { "timestamp": time.to_string(), "component": part("application", program) },
        "components": components });
    serde_json::to_string_pretty(&bill).unwrap() + "\n"
}

/// Returns the names, versions and licences of the crates in the program, and their texts, each
/// once.
pub(crate) fn notices(crates: &Crates) -> String {
    let mut list = String::from("vxtap is linked with these:\n\n");
    let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in linked(&crates.0) {
        let text = |key: &str| package[key].as_str().unwrap_or_default();
        let name = format!("{} {}", text("name"), text("version"));
        list += &format!("  {name}: {}\n", text("license"));
        for text in licences(Path::new(text("manifest_path")).parent().unwrap()) {
            texts.entry(text).or_default().insert(name.clone());
        }
    }
    for (text, names) in texts {
        let names: Vec<String> = names.into_iter().collect();
        list += &format!("\n{}\n{}:\n\n{}\n", "-".repeat(78), names.join(", "), text.trim_end());
    }
    list
}

/// Returns the packages in the program but for itself, in the order of their names. What runs when
/// it is built is none of them.
fn linked(metadata: &Value) -> Vec<&Value> {
    let array = |value: &'_ Value| value.as_array().unwrap().clone();
    let packages: HashMap<&str, &Value> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| (package["id"].as_str().unwrap(), package))
        .collect();
    let nodes: HashMap<String, Value> = array(&metadata["resolve"]["nodes"])
        .into_iter()
        .map(|node| (node["id"].as_str().unwrap().to_owned(), node))
        .collect();
    let root = metadata["resolve"]["root"].as_str().unwrap().to_owned();
    let mut found = BTreeSet::new();
    let mut open = vec![root.clone()];
    while let Some(id) = open.pop() {
        for dep in array(&nodes[&id]["deps"]) {
            let next = dep["pkg"].as_str().unwrap().to_owned();
            let is_linked = array(&dep["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
            let is_macro = array(&packages[next.as_str()]["targets"])
                .iter()
                .any(|target| array(&target["kind"]).iter().any(|kind| kind == "proc-macro"));
            if is_linked && !is_macro && found.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    found.remove(&root);
    let mut found: Vec<&Value> = found.iter().map(|id| packages[id.as_str()]).collect();
    found.sort_by_key(|package| (package["name"].as_str(), package["version"].as_str()));
    found
}

/// Returns the texts that stand beside a manifest, and those of the C code below it.
fn licences(folder: &Path) -> Vec<String> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
            let is_notice = NOTICES.iter().any(|notice| name.starts_with(notice));
            if path.is_dir() {
                open.push(path);
            } else if let (true, Ok(text)) = (is_notice, fs::read_to_string(&path)) {
                found.insert(path, text);
            }
        }
    }
    found.into_values().collect()
}
