//! A running sensor is watched in a terminal, which is as it was before when that ends.

use std::fs;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};

use crate::frames;
use crate::netns::Ip;
use crate::process::{PATIENCE, eventually};
use crate::replay::replay_all;
use crate::sensor::VXTAP;
use crate::site::{HTTP, Site};
use crate::terminal::terminal;

#[test]
fn one_table_says_what_a_sensor_does() {
    let site = Site::new();
    let control = site.socket();
    let frames = frames::assorted(101);
    let file = frames::write(site.directory.path(), "frames.pcap", &frames);
    let sensor = site.start(&format!("--http {HTTP}"));
    replay_all(&site.pair.sender, site.pair.target(Ip::V4), &[&file], "--vni 7-9", frames.len());
    eventually("all have come", || site.json("ledger")["received"] == 101);
    sensor.is_writing();
    let top = |place: &[&str], sort: &str| {
        let mut command = Command::new(VXTAP);
        command.args(["top", "--once", "--interval", "200ms", "--sort", sort]).args(place);
        let output = site.pair.sensor.enter(|| command.output().unwrap());
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let socket = ["--control", control.to_str().unwrap()];
    for place in [&socket[..], &["--url", &format!("http://{HTTP}")]] {
        let table = top(place, "name");
        assert!(
            table.starts_with("ready\n") && table.contains("101 received  3 of 1024 sessions\nnothing lost\n"),
            "{table}"
        );
        let vnis: Vec<&str> = table.lines().skip(8).map(|line| line.split_whitespace().nth(2).unwrap()).collect();
        assert_eq!(vnis, ["7", "8", "9"], "{table}");
    }
    assert_eq!(top(&socket, "frames").lines().count(), 11);
    let ended = sensor.stop();
    ended.ledger.assert_closes(&ended.captures);
    let output = Command::new(VXTAP).args(["top", "--once"]).args(socket).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no sensor"), "{output:?}");
}

#[test]
fn the_terminal_is_as_it_was_before() {
    let site = Site::new();
    let control = site.socket();
    let sensor = site.start("");
    let without = Command::new(VXTAP).args(["top", "--control"]).arg(&control).stdin(Stdio::null()).output().unwrap();
    assert_eq!(without.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&without.stderr).contains("--once prints one table"), "{without:?}");
    for ends in ["q", "\x03", "signal"] {
        let (main, side) = terminal();
        tcsetwinsize(&side, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let before = format!("{:?}", tcgetattr(&side).unwrap());
        let end = || Stdio::from(side.try_clone().unwrap());
        let mut top = Command::new(VXTAP)
            .args(["top", "--interval", "100ms", "--control"])
            .arg(&control)
            .env("TERM", "xterm")
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        let mut screen = fs::File::from(main);
        let mut keys = screen.try_clone().unwrap();
        let (sender, pieces) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(n @ 1..) = screen.read(&mut piece) {
                let _ = sender.send(piece[..n].to_vec());
            }
        });
        let (mut drawn, until) = (Vec::new(), Instant::now() + PATIENCE);
        let shows = |drawn: &[u8], text: &str| String::from_utf8_lossy(drawn).contains(text);
        while !shows(&drawn, "nothing has come yet") {
            assert!(Instant::now() < until, "{}", String::from_utf8_lossy(&drawn));
            drawn.extend(pieces.recv_timeout(Duration::from_millis(100)).unwrap_or_default());
        }
        assert_ne!(format!("{:?}", tcgetattr(&side).unwrap()), before, "keys are heard one by one");
        match ends {
            "signal" => {
                let pid = rustix::process::Pid::from_child(&top);
                rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
            }
            key => keys.write_all(key.as_bytes()).unwrap(),
        }
        assert!(top.wait().unwrap().success(), "{ends:?}");
        assert_eq!(format!("{:?}", tcgetattr(&side).unwrap()), before, "{ends:?}");
        eventually("the screen and the cursor come back", || {
            drawn.extend(pieces.try_iter().flatten());
            shows(&drawn, "\x1b[?1049l") && shows(&drawn, "\x1b[?25h")
        });
    }
    sensor.stop();
}
