//! Each file of `tests/configurations` is wrong, and what is said of it is in the file beside it.
//! `VXTAP_REWRITE=1` writes these.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::TestRunner;
use vxtap::config::file::{Config, ConfigError, write};
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

/// What is said where the fault itself says what to write instead.
const ADVICE: [&str; 4] = ["must be ", " is to be", "is given twice", "error: include: "];

#[test]
fn every_fault_has_its_place_and_an_advice_and_no_word_of_the_command_line() {
    for path in files() {
        let said = said(&path);
        for fault in said.trim_end().split("\n\n") {
            // The last ones of many are counted alone.
            if fault.starts_with("and ") {
                continue;
            }
            let place = fault.lines().find_map(|line| line.trim_start().strip_prefix("--> tests/configurations/"));
            let line = place.and_then(|place| place.split(':').nth(1)).unwrap_or_else(|| panic!("no place: {fault}"));
            let mut shown = fault.lines().skip_while(|shown| !shown.trim_start().starts_with(&format!("{line} | ")));
            let marked = shown.next().is_some() && shown.next().is_some_and(|marks| marks.contains('^'));
            assert!(marked, "{}: {fault}", path.display());
            let advised = fault.contains("= help: ") || ADVICE.iter().any(|words| fault.contains(words));
            assert!(advised, "{}: {fault}", path.display());
        }
        let flags = |word: &str| {
            word.trim_start_matches(['`', '(', '\'', '"'])
                .strip_prefix("--")
                .is_some_and(|word| word.starts_with(char::is_alphabetic))
        };
        assert!(!said.split_whitespace().any(flags), "{said}");
    }
}

#[test]
fn the_example_is_a_configuration() {
    let config = Config::read(Path::new("examples/vxtap.toml")).unwrap();
    let (settings, plan) = config.plan(&HostFacts::unknown()).unwrap_or_else(|error| panic!("{error}"));
    let names: Vec<&str> = plan.pipeline.outputs.iter().map(|output| output.name.as_str()).collect();
    assert_eq!(names, ["evidence", "ids"]);
    let sessions: Vec<Option<&str>> =
        plan.pipeline.policy.entries().iter().map(|e| e.plan.label.name.as_deref()).collect();
    assert_eq!(sessions.first(), Some(&Some("web-eth0")), "what is included comes first");
    assert_eq!(sessions.last(), Some(&Some("unknown")));
    assert_eq!(settings.session.len(), sessions.len());
    // What is printed says the same in one file.
    let printed = write(&settings).unwrap();
    let again = Config::parse(Path::new("printed.toml"), printed).and_then(|config| config.plan(&HostFacts::unknown()));
    assert_eq!(again.unwrap_or_else(|error| panic!("{error}")).1, plan);
}

#[test]
fn the_example_of_sessions_is_what_aws_becomes() {
    let fixture = |name: &str| PathBuf::from(format!("fixtures/aws/{name}.json"));
    let filters = fixture("filters");
    let made = vxtap::config::aws::convert(&fixture("sessions"), &fixture("interfaces"), Some(&filters)).unwrap();
    let path = "examples/sessions.d/aws.toml";
    if std::env::var_os("VXTAP_REWRITE").is_some() {
        fs::write(path, &made.text).unwrap();
    }
    assert_eq!(fs::read_to_string(path).unwrap(), made.text);
}

/// What a file is changed by.
#[derive(Debug, Clone)]
enum Slip {
    /// Bytes are missing.
    Cut(Index, usize),
    /// A word stands where it does not belong.
    Word(Index, &'static str),
    /// A piece stands there a second time, elsewhere.
    Copy(Index, usize, Index),
}

/// Words that mean something to the reader, or to TOML.
const WORDS: [&str; 34] = [
    "[",
    "]",
    "[[session]]\n",
    "[receive]\n",
    "[output.x]\nkind = \"tap\"\n",
    "\"",
    "'",
    "\"\"\"",
    "=",
    ",",
    "\n",
    "#",
    ".",
    "{ }",
    "include = \"included/*.toml\"\n",
    "vni = 7\n",
    "source = \"10.0.0.0/8\"\n",
    "drop = true\n",
    "name = \"n\"\n",
    "outputs = [\"pcap\"]\n",
    "kind = \"pcap\"\n",
    "mode = \"redirect\"\n",
    "count = 64\n",
    "workers = 60000\n",
    "65536",
    "18446744073709551616",
    "-1",
    "0x10",
    "1e9",
    "1979-05-27",
    "true",
    "\u{0}",
    "\u{feff}",
    "é",
];

fn slip() -> impl Strategy<Value = Slip> {
    prop_oneof![
        (any::<Index>(), 1usize..40).prop_map(|(at, length)| Slip::Cut(at, length)),
        (any::<Index>(), 0..WORDS.len()).prop_map(|(at, word)| Slip::Word(at, WORDS[word])),
        (any::<Index>(), 1usize..80, any::<Index>()).prop_map(|(from, length, to)| Slip::Copy(from, length, to)),
    ]
}

/// Returns a piece of a text, of whole characters.
fn piece(text: &str, at: &Index, length: usize) -> std::ops::Range<usize> {
    let start = text.floor_char_boundary(at.index(text.len() + 1));
    start..text.ceil_char_boundary((start + length).min(text.len()))
}

fn make(text: &mut String, slip: &Slip) {
    match slip {
        Slip::Cut(at, length) => text.replace_range(piece(text, at, *length), ""),
        Slip::Word(at, word) => text.insert_str(piece(text, at, 0).start, word),
        Slip::Copy(from, length, to) => {
            let copy = text[piece(text, from, *length)].to_owned();
            text.insert_str(piece(text, to, 0).start, &copy);
        }
    }
}

/// Whatever stands in a file, it is answered: by a plan or by faults that can be shown. What has a
/// plan is printed, and the same when it is read again.
#[test]
fn whatever_is_in_a_file_is_answered() {
    let mut files = files();
    // Most of what is changed is right.
    let examples = ["examples/vxtap.toml", "examples/sessions.d/aws.toml"];
    files.extend(examples.iter().cycle().take(files.len()).map(PathBuf::from));
    let (plans, faulty) = (Cell::new(0), Cell::new(0));
    let mut runner =
        TestRunner::new(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() });
    let slips = |most| proptest::collection::vec(slip(), 0..most);
    let cases = (any::<Index>(), prop_oneof![slips(3), slips(12)]);
    let answered = runner.run(&cases, |(of, slips)| {
        let file = of.get(&files);
        let mut text = String::from_utf8_lossy(&fs::read(file).unwrap()).into_owned();
        slips.iter().for_each(|slip| make(&mut text, slip));
        // Beside the file, so that what this includes is found.
        let path = file.with_file_name("slips.toml");
        let begun = Instant::now();
        let read =
            |text: &str| Config::parse(&path, text.to_owned()).and_then(|config| config.plan(&HostFacts::unknown()));
        match read(&text) {
            Ok((settings, plan)) => {
                let printed = write(&settings).unwrap();
                let (again, same) = read(&printed).unwrap_or_else(|error| panic!("{error}\n{printed}"));
                prop_assert_eq!(&plan, &same, "{}", printed);
                prop_assert_eq!(write(&again).unwrap(), printed);
                plans.set(plans.get() + 1);
            }
            Err(ConfigError::Faults { faults, .. }) => {
                let (shown, lines) = (faults.render(true), faults.lines().count());
                prop_assert!(!shown.is_empty() && (1..=21).contains(&lines), "{} lines:\n{}", lines, shown);
                faulty.set(faulty.get() + 1);
            }
            Err(error) => panic!("{error}"),
        }
        prop_assert!(begun.elapsed() < Duration::from_secs(5), "{text}");
        Ok(())
    });
    answered.unwrap_or_else(|error| panic!("{error}"));
    let (plans, faulty) = (plans.get(), faulty.get());
    assert!(plans >= 50 && faulty >= 300, "{plans} plans and {faulty} with faults show little");
}
