use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::kept::package;
use super::*;

/// Runs a target over inputs, and names the first that breaks a promise.
fn run(target: &Target, inputs: &[Vec<u8>]) {
    for input in inputs {
        let outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
        assert!(outcome.is_ok(), "{}: {}", target.name, input.escape_ascii());
    }
}

/// Declares a test for each target, so that they run beside each other.
macro_rules! replay {
    ($($name:ident)+) => {
        const NAMES: &[&str] = &[$(stringify!($name)),+];

        $(#[test]
        fn $name() {
            let target = target(stringify!($name)).unwrap();
            let seeds = (target.seeds)();
            assert!(!seeds.is_empty());
            run(&target, &seeds);
            run(&target, &kept(target.name));
        })+
    };
}

replay! {
    frames tunnels layers captures salvage decap manifest names values configuration documents programs expressions
}

#[test]
fn every_target_is_run_and_has_what_it_kept() {
    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(names, NAMES);
    let files = std::fs::read_dir(package().join("fuzz/kept")).unwrap();
    let files: BTreeSet<String> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(files, names.iter().map(ToString::to_string).collect());
}

#[test]
fn what_is_packed_is_kept() {
    let (path, bytes) = pack("names", &[b"a".to_vec(), Vec::new(), b"bc".to_vec()]);
    assert!(path.ends_with("fuzz/kept/names"));
    assert_eq!(bytes, [&[1, 0, 0, 0, b'a', 0, 0, 0, 0, 2, 0, 0, 0][..], b"bc"].concat());
}
