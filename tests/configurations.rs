//! Each file of `tests/configurations` is wrong, and what is said of it is in the file beside it.
//! `VXTAP_REWRITE=1` writes these.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

use vxtap::config::file::{Config, ConfigError};
use vxtap::host::HostFacts;

/// The folder of the files, as it is named in what is said: tests run at the top of the project.
const FOLDER: &str = "tests/configurations";

fn files() -> Vec<PathBuf> {
    let entries = fs::read_dir(FOLDER).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|end| end == "toml")).collect();
    files.sort();
    files
}

fn said(path: &Path) -> String {
    match Config::read(path).and_then(|config| config.plan(&HostFacts::unknown())) {
        Err(ConfigError::Faults { faults, .. }) => faults.render(false) + "\n",
        Err(error) => panic!("{}: {error}", path.display()),
        Ok(_) => panic!("{}: no fault is found", path.display()),
    }
}

#[test]
fn what_is_said_of_wrong_files() {
    let rewrite = std::env::var_os("VXTAP_REWRITE").is_some();
    let files = files();
    assert!(files.len() >= 50, "only {} files are found", files.len());
    let mut wrong = String::new();
    for path in files {
        let (said, beside) = (said(&path), path.with_extension("txt"));
        if rewrite {
            fs::write(&beside, &said).unwrap();
        }
        let wanted = fs::read_to_string(&beside).unwrap_or_default();
        if said != wanted {
            wrong.push_str(&format!("{}: wanted\n{wanted}\nand got\n{said}\n", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn every_fault_has_its_place_and_no_word_of_the_command_line() {
    for path in files() {
        let said = said(&path);
        for fault in said.split("\n\n") {
            let shown = fault.contains(" --> tests/configurations/") && fault.contains('^');
            let advised = ["  = help: ", "must be ", "is to be", "is given twice", "must be more"];
            let advised = advised.iter().any(|words| fault.contains(words)) || fault.contains("error: include: ");
            assert!((shown && advised) || fault.starts_with("and "), "{}: {fault}", path.display());
        }
        let flags = |word: &str| {
            word.trim_start_matches(['`', '('])
                .strip_prefix("--")
                .is_some_and(|word| word.starts_with(char::is_alphabetic))
        };
        assert!(!said.split_whitespace().any(flags), "{said}");
    }
}
