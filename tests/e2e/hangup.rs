//! SIGHUP ends a sensor whose terminal has hung up, and does not end a service.

use std::fs;

use rustix::process::Signal;

use crate::need;
use crate::netns::Namespace;
use crate::sensor::Setup;
use crate::terminal::terminal;

#[test]
fn a_service_reads_its_list_again_and_goes_on() {
    if !need::programs(&["setsid"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let list = directory.path().join("allowed");
    let namespace = Namespace::new();
    fs::write(&list, "vni 7\n").unwrap();
    let sensor = Setup::new(&namespace).through("setsid").with(&format!("--allow {}", list.display())).start();
    for _ in 0..2 {
        let from = sensor.lines();
        sensor.process.signal(Signal::HUP);
        sensor.says(from, "SIGHUP: ");
        sensor.says(from, "is read again");
    }
    let ended = sensor.stop();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    // Without a list there is nothing to do but to say so.
    let sensor = Setup::new(&namespace).through("setsid").start();
    for _ in 0..2 {
        let from = sensor.lines();
        sensor.process.signal(Signal::HUP);
        sensor.says(from, "SIGHUP: there is no file to read again");
    }
    assert_eq!(sensor.stop().code, Some(0));
}

#[test]
fn it_ends_with_its_terminal() {
    if !need::programs(&["setsid"]) {
        return;
    }
    let namespace = Namespace::new();
    let on = |programs| Setup::new(&namespace).through("setsid --ctty").reading(programs).start();
    let (_person, programs) = terminal();
    let ended = on(programs).stop_by(Signal::HUP);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_eq!(ended.messages("SIGHUP: draining").len(), 1, "{:#?}", ended.log);
    let (person, programs) = terminal();
    let sensor = on(programs);
    drop(person);
    let ended = sensor.ended();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_eq!(ended.messages("SIGHUP: draining").len(), 1, "{:#?}", ended.log);
}
