//! The page is looked at in a browser: it says what the ledger says.

use std::collections::BTreeMap;

use serde_json::Value;
use tempfile::TempDir;

use crate::datagrams;
use crate::frames;
use crate::need;
use crate::netns::{Ip, Namespace};
use crate::process::{eventually, run};
use crate::replay::replay_all;
use crate::site::{HTTP, Site};

/// Has a browser open a page, waits as a person would for a few seconds, and returns the document
/// as it is then, and all that the browser complains of.
fn browse(namespace: &Namespace, url: &str) -> (String, Vec<String>) {
    let profile = TempDir::new().unwrap();
    let mut command = namespace.command("timeout");
    command.args([
        "90",
        "chromium",
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--window-size=1280,900",
    ]);
    command.arg(format!("--user-data-dir={}", profile.path().display())).env("HOME", profile.path());
    command.args(["--enable-logging=stderr", "--virtual-time-budget=8000", "--dump-dom", url]);
    let output = run(&mut command);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let complaints = said.lines().filter(|line| line.contains("CONSOLE")).map(str::to_owned).collect();
    (String::from_utf8(output.stdout).unwrap(), complaints)
}

/// Returns what is between the first `open` and the `close` that follows it.
#[track_caller]
fn between<'a>(text: &'a str, open: &str, close: &str) -> &'a str {
    let (_, after) = text.split_once(open).unwrap_or_else(|| panic!("{open} is not in {text}"));
    after.split_once(close).unwrap_or_else(|| panic!("{close} does not follow {open}")).0
}

/// Returns the text of a piece of a document.
fn text(markup: &str) -> String {
    let pieces = markup.split('<').map(|piece| piece.split_once('>').map_or(piece, |(_, text)| text));
    pieces.collect::<String>().replace("&amp;", "&").replace("&nbsp;", " ")
}

/// Returns the cells of a table's rows, as texts.
#[track_caller]
fn rows(document: &str, table: &str) -> Vec<Vec<String>> {
    let table = between(document, &format!("<table id=\"{table}\""), "</table>");
    let body = between(table, "<tbody>", "</tbody>");
    let cells = |row: &str| row.split("</td>").filter(|cell| cell.contains("<td")).map(text).collect();
    body.split("</tr>").filter(|row| row.contains("<td")).map(cells).collect()
}

fn number(text: &str) -> u64 {
    text.replace(',', "").parse().unwrap_or_else(|_| panic!("{text} is no number"))
}

/// Returns the account that the page has as a table: place and name, and the count.
#[track_caller]
fn account(document: &str) -> BTreeMap<(String, String), u64> {
    let rows = rows(document, "account");
    rows.into_iter().map(|row| ((row[0].clone(), row[1].clone()), number(&row[2]))).collect()
}

/// Returns what the page has to say of this ledger.
fn expected(ledger: &Value) -> BTreeMap<(String, String), u64> {
    let mut expected = BTreeMap::new();
    let mut add = |place: &str, name: &str, count: &Value, always: bool| {
        let count = count.as_u64().unwrap();
        if count > 0 || always {
            expected.insert((place.to_owned(), name.to_owned()), count);
        }
    };
    add("sensor", "received", &ledger["received"], true);
    add("sensor", "decapsulated", &ledger["decapsulated"], true);
    add("sensor", "kernel_dropped", &ledger["kernel_dropped"], false);
    for (reason, count) in ledger["dropped"].as_object().unwrap() {
        add("sensor", reason, count, false);
    }
    for (name, output) in ledger["outputs"].as_object().unwrap() {
        add(name, "offered", &output["offered"], true);
        add(name, "written", &output["written"], true);
        let reasons = |key: &str| output[key].as_object().cloned().unwrap_or_default();
        for (reason, count) in reasons("dropped").iter().chain(&reasons("filtered_by")) {
            add(name, reason, count, false);
        }
    }
    expected
}

#[test]
fn the_page_says_what_the_ledger_says() {
    if !need::programs(&["chromium", "timeout"]) {
        return;
    }
    let site = Site::new();
    let pair = &site.pair;
    let get = |path: &str| site.get(path, "").json();
    let sensor = site.start(&format!("--http {HTTP} --flush 100ms --tap mirror0:vni=7"));
    let url = format!("http://{HTTP}/");

    // Before anything comes, the page says what to do.
    let (document, complaints) = browse(&pair.sensor, &url);
    assert_eq!(complaints, [""; 0]);
    assert_eq!(
        text(between(&document, "id=\"verdict\"", "</h2>")).split('>').next_back(),
        Some("Nothing has arrived yet")
    );
    for hint in ["vxtap check --watch 10s", "tcpdump -ni any udp port 4789"] {
        assert!(text(&document).contains(hint), "{hint}: {document}");
    }

    let file = frames::write(site.directory.path(), "frames.pcap", &frames::assorted(1234));
    let target = pair.target(Ip::V4);
    replay_all(&pair.sender, target, &[&file], "--vni 7 --rate 5000", 1234);
    let few = frames::write(site.directory.path(), "few.pcap", &frames::assorted(50));
    replay_all(&pair.sender, target, &[&few], "--vni 9 --rate 5000", 50);
    datagrams::send(&pair.sender, target, &[vec![0; 60], b"short".to_vec(), b"short".to_vec()]);
    eventually("all have come and are written", || {
        let ledger = get("/ledger");
        ledger["received"] == 1287 && ledger["outputs"]["pcap"]["written"] == 1284
    });
    let (document, complaints) = browse(&pair.sensor, &url);
    assert_eq!(complaints, [""; 0]);
    let ledger = get("/ledger");
    assert_eq!(account(&document), expected(&ledger), "{document}");
    assert_eq!(ledger["dropped"]["short_vxlan_header"], 2, "{ledger:#}");
    let picture = text(between(&document, "<g id=\"drawing\">", "</g>"));
    for shown in ["1,287", "1,284", "1,234", "lost: short_vxlan_header", "written to pcap", "left out: session"] {
        assert!(picture.contains(shown), "{shown}: {picture}");
    }
    let words = text(between(&document, "<desc", "</desc>"));
    assert!(words.contains("1,287 datagrams received, 1,284 decapsulated."), "{words}");
    let sessions = rows(&document, "sessions");
    let shown: Vec<(&str, u64)> = sessions.iter().map(|row| (row[2].as_str(), number(&row[6]))).collect();
    assert_eq!(shown, [("7", 1234), ("9", 50)], "{sessions:#?}");
    assert!(sessions.iter().all(|row| row[1] == pair.source(Ip::V4).to_string()));
    let losses = rows(&document, "losses");
    let lost: Vec<(&str, &str, &str)> = losses.iter().map(|row| (&*row[0], &*row[2], &*row[3])).collect();
    assert_eq!(lost, [("decapsulation", "2", "0"), ("decapsulation", "1", "0")], "{losses:#?}");
    assert!(between(&document, "id=\"banner\"", ">").contains("hidden"), "no banner where nothing is wrong");

    // An output that takes no frames is a reason to say so in red.
    pair.sensor.ip("link set mirror0 down");
    eventually("it may not be sent traffic", || {
        replay_all(&pair.sender, target, &[&few], "--vni 7 --rate 500", 50);
        get("/status")["ready"] == false
    });
    let (document, complaints) = browse(&pair.sensor, &url);
    assert_eq!(complaints, [""; 0]);
    let reasons = get("/status")["reasons"]
        .as_array()
        .unwrap()
        .iter()
        .map(|why| why.as_str().unwrap().to_owned())
        .collect::<Vec<_>>();
    let banner = text(between(&document, "id=\"banner-what\"", "</div>"));
    assert!(banner.contains("Not ready:") && banner.contains(&reasons.join("; ")), "{reasons:?}: {banner}");
    assert!(!between(&document, "id=\"banner\"", ">").contains("hidden"));
    assert!(account(&document).contains_key(&("mirror0".into(), "interface_down".into())), "{document}");
    let lost: BTreeMap<String, u64> =
        rows(&document, "sessions").iter().map(|row| (row[2].clone(), number(&row[7]))).collect();
    assert!(lost["7"] > 0 && lost["9"] == 0, "only one session goes there: {lost:?}");
    sensor.stop();

    // The browser would have complained: of an address where nobody is, it does.
    let (_, complaints) = browse(&pair.sensor, "data:text/html,<script>console.error('wrong')</script>");
    assert!(complaints.iter().any(|line| line.contains("wrong")), "{complaints:#?}");
}
