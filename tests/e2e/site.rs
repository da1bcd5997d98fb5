//! A sensor that is asked while it runs has a place to itself: two hosts, and a directory.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::netns::Pair;
use crate::sensor::{Sensor, Setup, VXTAP};

/// Where the sensor of a test answers over HTTP.
pub(crate) const HTTP: &str = "127.0.0.1:9479";

/// A pair of hosts, and a directory with the socket, the file and the captures.
pub(crate) struct Site {
    pub(crate) pair: Pair,
    pub(crate) directory: TempDir,
}

impl Site {
    pub(crate) fn new() -> Site {
        Site { pair: Pair::new(1600), directory: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("control")
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.path("vxtap.toml")
    }

    pub(crate) fn captures(&self) -> PathBuf {
        self.path("captures")
    }

    /// Returns the table of an output for captures.
    pub(crate) fn pcap(&self) -> String {
        format!("[output.pcap]\nkind = \"pcap\"\ndirectory = {:?}\n", self.captures())
    }

    /// Starts a sensor that answers at the socket.
    #[track_caller]
    pub(crate) fn start(&self, arguments: &str) -> Sensor {
        let control = self.socket();
        Setup::new(&self.pair.sensor).with(&format!("--control {} {arguments}", control.display())).start()
    }

    /// Starts a sensor by a configuration file of this text.
    #[track_caller]
    pub(crate) fn configured(&self, text: &str) -> Sensor {
        fs::write(self.file(), text).unwrap();
        Setup::new(&self.pair.sensor).configured(&self.file()).writing(&self.captures()).start()
    }

    /// Starts a sensor by a configuration file to which these lines belong, and which has it write
    /// captures and answer at the socket.
    #[track_caller]
    pub(crate) fn answering(&self, more: &str) -> Sensor {
        self.configured(&format!("{more}\n[control]\nsocket = {:?}\n{}", self.socket(), self.pcap()))
    }

    /// Runs a command that asks the sensor.
    pub(crate) fn vxtap(&self, words: &str) -> Output {
        Command::new(VXTAP).args(words.split_whitespace()).arg("--control").arg(self.socket()).output().unwrap()
    }

    /// Returns what a command prints that asks the sensor.
    #[track_caller]
    pub(crate) fn says(&self, words: &str) -> String {
        let output = self.vxtap(words);
        assert!(output.status.success(), "{words}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Returns what a command prints that asks the sensor and is to print JSON.
    #[track_caller]
    pub(crate) fn json(&self, words: &str) -> Value {
        serde_json::from_str(&self.says(&format!("{words} --json"))).unwrap()
    }

    /// Connects to the HTTP port.
    #[track_caller]
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = self.pair.sensor.enter(|| TcpStream::connect(HTTP).unwrap());
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    /// Asks the HTTP port for this path; `more` are lines of the head.
    #[track_caller]
    pub(crate) fn get(&self, path: &str, more: &str) -> Answer {
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{more}\r\n");
        Answer::to(self.connect(), &head)
    }
}

/// An answer: its status, its head and what follows.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// Sends a request, and waits for the whole answer.
    #[track_caller]
    pub(crate) fn to(mut stream: TcpStream, request: &str) -> Answer {
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_owned(), body: body.to_owned() }
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}
