//! Log lines as JSON have the fields that `docs/logs.md` names, and the words that metrics have.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use rustix::process::Signal;
use serde_json::{Map, Value};

use crate::captures;
use crate::datagrams::{self, vxlan};
use crate::frames;
use crate::need;
use crate::netns::Ip;
use crate::site::{HTTP, Site};

/// The values that labels have in a scrape, by label.
fn labels(scrape: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut labels: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in scrape.lines().filter(|line| !line.starts_with('#')) {
        let Some((_, rest)) = line.split_once('{') else { continue };
        let (all, _) = rest.rsplit_once('}').unwrap();
        for (label, value) in all.split("\",").filter_map(|one| one.split_once("=\"")) {
            labels.entry(label.to_owned()).or_default().insert(value.trim_end_matches('"').to_owned());
        }
    }
    labels
}

/// The fields in the table of the document, with whether metrics have them as labels.
fn documented() -> BTreeMap<String, bool> {
    let document = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/logs.md")).unwrap();
    let rows = document.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>());
    let fields = cells.flat_map(|cells| {
        let is_label = cells[2] == "yes";
        cells[1].split(", ").map(move |name| (name.trim_matches('`').to_owned(), is_label)).collect::<Vec<_>>()
    });
    fields.collect()
}

#[test]
fn log_lines_have_the_fields_of_the_document_and_the_words_of_metrics() {
    if !need::programs(&[]) {
        return;
    }
    let site = Site::new();
    let text = format!(
        "[http]\nlisten = [\"{HTTP}\"]\n[control]\nenabled = false\n[[session]]\nname = \"web-1\"\nvni = 7\n\
         [output.mirror0]\nkind = \"tap\"\ninterface = \"mirror0\"\n{}[delivery]\nflush = \"100ms\"\n",
        site.pcap()
    );
    let sensor = site.configured(&text);
    let send = |vni: u32| {
        let frame = &frames::assorted(1)[0];
        datagrams::send(&site.pair.sender, site.pair.target(Ip::V4), &vec![vxlan(8, [0; 3], vni, 0, frame); 20]);
    };
    send(9);
    send(7);
    sensor.is_writing();
    site.pair.sensor.ip("link set mirror0 down");
    send(7);
    sensor.says(0, "the interface is down");
    let written = captures::files(&site.captures());
    written.iter().for_each(|path| fs::remove_file(path).unwrap());
    sensor.says(0, "somebody removed a capture file");
    fs::write(site.file(), "wrong").unwrap();
    sensor.process.signal(Signal::USR2);
    sensor.says(0, "nothing has changed");
    fs::write(site.file(), text).unwrap();
    sensor.reload("nothing has changed");
    let scrape = site.get("/metrics", "").body;
    let (ended, labels, documented) = (sensor.stop(), labels(&scrape), documented());

    let lines: Vec<Value> = ended.log.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let fields: Vec<&Map<String, Value>> = lines.iter().filter_map(|line| line["fields"].as_object()).collect();
    let mut seen: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for line in &fields {
        for (name, value) in line.iter() {
            let is_label = documented.get(name).unwrap_or_else(|| panic!("docs/logs.md lacks {name}: {line:?}"));
            assert_eq!(*is_label, labels.contains_key(name), "{name} is a label or none: {line:?}");
            let value = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
            // Sources and VNIs are those that came. Metrics have those that the file names.
            if *is_label && !["source", "vni"].contains(&name.as_str()) {
                assert!(labels[name].contains(&value), "{name}: no metric has {value}: {line:?}");
            }
            seen.entry(name).or_default().insert(value);
        }
    }
    let of = |name: &str| seen.get(name).map(|values| values.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(of("output").unwrap(), ["mirror0", "pcap"]);
    assert_eq!(of("session").unwrap(), ["web-1"]);
    assert_eq!(of("vni").unwrap(), ["7", "9"]);
    assert_eq!(of("result").unwrap(), ["applied", "refused"]);
    let reasons = of("reason").unwrap();
    assert!(reasons.contains(&"interface_down") && reasons.contains(&"write_error"), "{reasons:?}");
    // The line of an output is told as its own, whichever thread says it.
    for (words, output, reason) in [
        ("the interface is down", "mirror0", "interface_down"),
        ("somebody removed a capture file", "pcap", "write_error"),
    ] {
        let is_it = |line: &&&Map<String, Value>| line["message"].as_str().unwrap().contains(words);
        let line = fields.iter().find(is_it).unwrap();
        assert_eq!((&line["output"], &line["reason"]), (&output.into(), &reason.into()), "{line:?}");
    }
}
