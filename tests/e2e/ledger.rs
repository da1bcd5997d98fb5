//! The ledger that the sensor prints is checked with arithmetic of our own.

use std::net::IpAddr;
use std::path::Path;

use serde_json::Value;

use crate::captures;

/// The ledger as JSON.
#[derive(Debug)]
pub(crate) struct Ledger(pub(crate) Value);

impl Ledger {
    /// Returns the number at this JSON pointer.
    #[track_caller]
    pub(crate) fn get(&self, pointer: &str) -> u64 {
        let value = self.0.pointer(pointer).and_then(Value::as_u64);
        value.unwrap_or_else(|| panic!("no number {pointer} in the ledger: {:#}", self.0))
    }

    /// Returns the number at this JSON pointer. The ledger leaves out some of what never happened.
    pub(crate) fn counted(&self, pointer: &str) -> u64 {
        self.0.pointer(pointer).map_or(0, |number| number.as_u64().unwrap())
    }

    #[track_caller]
    fn sum(&self, pointer: &str) -> u64 {
        let reasons = self.0.pointer(pointer).unwrap_or_else(|| panic!("no {pointer} in the ledger: {:#}", self.0));
        reasons.as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum()
    }

    pub(crate) fn received(&self) -> u64 {
        self.get("/received")
    }

    pub(crate) fn written(&self) -> u64 {
        self.get("/outputs/pcap/written")
    }

    /// Sessions with their frames.
    pub(crate) fn sessions(&self) -> Vec<(IpAddr, u32, u64)> {
        let sessions = self.0["sessions"].as_array().unwrap().iter();
        sessions
            .map(|session| {
                let source = session["source"].as_str().unwrap().parse().unwrap();
                (source, session["vni"].as_u64().unwrap() as u32, session["frames"].as_u64().unwrap())
            })
            .collect()
    }

    /// Fails unless every datagram received is accounted for, and every frame in one.
    #[track_caller]
    pub(crate) fn assert_received_closes(&self) {
        let (received, decapsulated) = (self.received(), self.get("/decapsulated"));
        assert_eq!(received, decapsulated + self.sum("/dropped"), "received: {:#}", self.0);
        let in_sessions: u64 = self.sessions().iter().map(|(_, _, frames)| frames).sum();
        let others = self.get("/overflow/frames") + self.counted("/expired/frames") + self.get("/unselected");
        assert_eq!(decapsulated, in_sessions + others, "decapsulated: {:#}", self.0);
        self.assert_sessions_close();
    }

    /// Fails unless what was lost, and what came twice, is counted once by session.
    #[track_caller]
    fn assert_sessions_close(&self) {
        let by_session = |what: &str| {
            let of = |session: &Value| session.get(what).map_or(0, |n| n.as_u64().unwrap());
            let sessions: u64 = self.0["sessions"].as_array().unwrap().iter().map(of).sum();
            sessions + self.counted(&format!("/overflow/{what}")) + self.counted(&format!("/expired/{what}"))
        };
        assert_eq!(by_session("duplicates"), self.counted("/duplicate_frames"), "duplicates: {:#}", self.0);
        let outputs = self.0["outputs"].as_object().unwrap().values();
        let drops = outputs.flat_map(|output| output["dropped"].as_object().unwrap());
        let losses = drops.filter(|(reason, _)| !["not_ip", "redirect_lost"].contains(&reason.as_str()));
        let lost: u64 = losses.map(|(_, frames)| frames.as_u64().unwrap()).sum();
        assert_eq!(by_session("lost"), lost, "lost by outputs: {:#}", self.0);
    }

    /// Fails unless this output was offered so many frames, and each of them is accounted for.
    #[track_caller]
    fn assert_offers_close(&self, name: &str, offered: u64) {
        let get = |what: &str| self.get(&format!("/outputs/{name}/{what}"));
        assert_eq!(get("offered"), offered, "offered to {name}: {:#}", self.0);
        let dropped = self.sum(&format!("/outputs/{name}/dropped"));
        // Of a watch alone.
        let unwatched = self.counted(&format!("/outputs/{name}/unwatched"));
        assert_eq!(offered, get("written") + get("filtered") + dropped + unwatched, "{name}: {:#}", self.0);
        let reasons = format!("/outputs/{name}/filtered_by");
        // Reasons for which nothing was filtered are left out, all of them as well.
        let filtered = if self.0.pointer(&reasons).is_some() { self.sum(&reasons) } else { 0 };
        assert_eq!(get("filtered"), filtered, "filtered, for {name}: {:#}", self.0);
    }

    /// Fails unless every datagram received is accounted for, and unless the files hold what the
    /// ledger says was written: in total and, where no output lost anything, session by session.
    #[track_caller]
    pub(crate) fn assert_closes(&self, captures: &Path) {
        self.assert_output_closes("pcap");
        let files = captures::files(captures);
        let records: Vec<captures::Record> = files.iter().flat_map(|path| captures::read(path)).collect();
        assert_eq!(records.len() as u64, self.written(), "frames in the files");
        let bytes: u64 = records.iter().map(|record| record.frame.len() as u64).sum();
        assert_eq!(bytes, self.get("/outputs/pcap/written_bytes"), "bytes in the files");
        let files_at = |what: &str| self.get(&format!("/outputs/pcap/{what}"));
        assert_eq!(files.len() as u64, files_at("files") + files_at("recovered") - files_at("pruned"), "files");
        // A session that expired and came back has files of both times.
        if self.sum("/outputs/pcap/dropped") == 0 && self.counted("/expired/frames") == 0 {
            for (source, vni, frames) in self.sessions() {
                let held = captures::session(captures, source, vni).len() as u64;
                assert_eq!(held, frames, "frames in the files of VNI {vni} from {source}");
            }
        }
    }

    /// Fails unless every datagram received is accounted for, and what was offered to this output,
    /// as all that was decapsulated was.
    #[track_caller]
    pub(crate) fn assert_output_closes(&self, name: &str) {
        self.assert_received_closes();
        self.assert_offers_close(name, self.get("/decapsulated"));
    }

    /// Fails unless every datagram received is accounted for, and this output was offered what was
    /// decapsulated while it was there, and that is accounted for.
    #[track_caller]
    pub(crate) fn assert_part_closes(&self, name: &str) {
        self.assert_received_closes();
        self.assert_offers_close(name, self.get(&format!("/partly/{name}/decapsulated")));
    }

    /// Fails unless nothing was lost: all that was received is written, and the kernel dropped
    /// nothing.
    #[track_caller]
    pub(crate) fn assert_lossless(&self) {
        let losses = [
            self.get("/kernel_dropped"),
            self.get("/refused_at_stop"),
            self.sum("/dropped"),
            self.sum("/outputs/pcap/dropped"),
        ];
        assert_eq!(losses, [0; 4], "kernel, at stop, datagrams, output: {:#}", self.0);
        assert_eq!(self.received(), self.written());
    }
}
