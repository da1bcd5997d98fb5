//! Writes the papers that go with the program in a package: manual pages, completions for shells,
//! notices and a list of what it is linked with, and Debian's changelog.
//!
//! ```text
//! SOURCE_DATE_EPOCH=SECONDS cargo run --example make_papers DIRECTORY
//! ```
//!
//! What the program says of itself is where the pages of commands and the completions come from.
//! `docs/configure.md` is where vxtap.toml(5) comes from, and `CHANGELOG.md` where the changelog
//! does. So none can differ. The same source gives the same bytes: the only clock is
//! `SOURCE_DATE_EPOCH`, in seconds since 1970.
#![allow(clippy::unwrap_used, clippy::panic, reason = "without one of these papers there is no package")]

mod changelog;
mod commands;
mod markdown;
mod third_party;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use clap_complete::Shell;
use jiff::Timestamp;
use vxtap::cli;

fn main() {
    let Some(directory) = env::args_os().nth(1).map(PathBuf::from) else { panic!("name a directory") };
    let seconds = env::var("SOURCE_DATE_EPOCH").map_or(0, |text| text.parse().unwrap());
    let time = Timestamp::from_second(seconds).unwrap();
    write(&directory, time);
}

/// Writes everything to a directory.
fn write(directory: &Path, time: Timestamp) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| fs::read_to_string(root.join(name)).unwrap();
    let date = time.strftime("%Y-%m-%d").to_string();
    let man = directory.join("man");
    fs::create_dir_all(&man).unwrap();
    for (name, page) in commands::pages(&date) {
        fs::write(man.join(name), page).unwrap();
    }
    let page = markdown::page("vxtap.toml", "configuration file of vxtap", &date, &read("docs/configure.md"));
    fs::write(man.join("vxtap.toml.5"), page).unwrap();

    let completions = directory.join("completions");
    fs::create_dir_all(&completions).unwrap();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut cli::command(), "vxtap", &completions).unwrap();
    }

    let crates = third_party::Crates::of(root);
    fs::write(directory.join("third-party.txt"), third_party::notices(&crates)).unwrap();
    fs::write(directory.join("vxtap.cdx.json"), third_party::bill(&crates, time)).unwrap();
    let changelog = changelog::debian(&read("CHANGELOG.md"), &maintainer(&read("Cargo.toml")), time);
    fs::write(directory.join("changelog.Debian"), changelog).unwrap();
}

/// Returns who maintains the Debian package, as its manifest says.
fn maintainer(manifest: &str) -> String {
    let manifest: toml::Table = manifest.parse().unwrap();
    manifest["package"]["metadata"]["deb"]["maintainer"].as_str().unwrap().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_page_and_each_shell_its_words() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for directory in [&one, &two] {
            write(directory.path(), Timestamp::from_second(1_700_000_000).unwrap());
        }
        let read = |name: &str| fs::read_to_string(one.path().join(name)).unwrap();
        for command in commands::shown(&cli::command()) {
            let page = read(&format!("man/vxtap-{}.1", command.get_name()));
            assert!(page.contains(".SH SYNOPSIS") && page.contains("2023"), "{page}");
            assert!(read("completions/vxtap.bash").contains(command.get_name()));
        }
        let page = read("man/vxtap-run.1");
        assert!(page.contains(".SH SIGNALS") && page.contains("\\fB\\-\\-listen\\fR"), "{page}");
        let page = read("man/vxtap.toml.5");
        for words in
            [".SH KEYS", "\\fBreceive.listen\\fR", "flag: \\fB\\-\\-listen\\fR", "Keys of \\fBkind = \"tap\"\\fR"]
        {
            assert!(page.contains(words), "{words} in {page}");
        }
        assert!(read("changelog.Debian").ends_with("  Tue, 14 Nov 2023 22:13:20 +0000\n"));
        let bill: serde_json::Value = serde_json::from_str(&read("vxtap.cdx.json")).unwrap();
        let has = |name: &str| bill["components"].as_array().unwrap().iter().any(|part| part["name"] == name);
        assert!(has("zstd-sys") && !has("clap_derive") && !has("criterion"), "{bill}");
        assert!(read("third-party.txt").contains("Facebook"), "the notice of zstd's C code");
        // The same source gives the same bytes.
        for name in ["man/vxtap.1", "man/vxtap.toml.5", "completions/_vxtap", "third-party.txt", "changelog.Debian"] {
            assert_eq!(read(name), fs::read_to_string(two.path().join(name)).unwrap(), "{name}");
        }
    }
}
