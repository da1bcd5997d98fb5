//! The keys of a configuration file are listed here and nowhere else: reading, writing and the
//! advice on unknown keys follow.

use super::super::entry::SessionEntry;
use super::super::rules::RuleEntry;
use super::super::settings::{
    Control, Delivery, Files, Health, Http, Interface, Output, Receive, Run, Sandbox, Sessions, Settings,
};
use super::value::{Keys, Table, Value};

/// Returns the tables that are there once, with their names.
pub(super) fn tables(settings: &mut Settings) -> [(&'static str, &mut dyn Table); 8] {
    [
        ("receive", &mut settings.receive),
        ("sessions", &mut settings.sessions),
        ("delivery", &mut settings.delivery),
        ("control", &mut settings.control),
        ("http", &mut settings.http),
        ("health", &mut settings.health),
        ("sandbox", &mut settings.sandbox),
        ("run", &mut settings.run),
    ]
}

/// The table of an entry for sessions, as it is written in a file.
pub(super) const SESSION: &str = "[[session]]";

/// The table of a rule of an entry for sessions, as it could be written in a file.
const RULE: &str = "[[session.rules]]";

/// The kinds that an output can have, as `kind` names them.
pub(super) const KINDS: [&str; 3] = ["pcap", "tap", "tun"];

/// Returns the output of this kind that says nothing more.
pub(super) fn of_kind(kind: &str) -> Option<Output> {
    match kind {
        "pcap" => Some(Output::Pcap(Box::default())),
        "tap" => Some(Output::Tap(Interface::default())),
        "tun" => Some(Output::Tun(Interface::default())),
        _ => None,
    }
}

/// Returns the kind of an output, as the file has it.
pub(super) fn kind(output: &Output) -> &'static str {
    match output {
        Output::Pcap(_) => "pcap",
        Output::Tap(_) => "tap",
        Output::Tun(_) => "tun",
    }
}

impl Table for Receive {
    fn keys(&mut self, keys: &mut dyn Keys) {
        keys.key("listen", &mut self.listen);
        keys.key("source", &mut self.source);
        keys.key("interface", &mut self.interface);
        keys.key("attach", &mut self.attach);
        keys.key("ring", &mut self.ring);
        keys.key("any_address", &mut self.any_address);
        keys.key("verify_checksum", &mut self.verify_checksum);
        keys.key("workers", &mut self.workers);
        keys.key("steer", &mut self.steer);
        keys.key("buffer", &mut self.buffer);
        keys.key("reserved_bits", &mut self.reserved_bits);
        keys.key("vni_mask", &mut self.vni_mask);
        keys.key("timestamps", &mut self.timestamps);
    }
}

impl Table for Sessions {
    fn keys(&mut self, keys: &mut dyn Keys) {
        keys.key("max", &mut self.max);
        keys.key("idle", &mut self.idle);
        keys.key("vni", &mut self.vni);
        keys.key("from", &mut self.from);
        keys.key("allow", &mut self.allow);
        keys.key("tag_map", &mut self.tag_map);
    }
}

impl Table for SessionEntry {
    fn keys(&mut self, keys: &mut dyn Keys) {
        keys.key("name", &mut self.name);
        keys.key("description", &mut self.description);
        keys.key("source", &mut self.source);
        keys.key("vni", &mut self.vni);
        keys.key("scope", &mut self.scope);
        keys.key("port", &mut self.port);
        keys.key("outputs", &mut self.outputs);
        keys.key("drop", &mut self.drop);
        keys.key("snaplen", &mut self.snaplen);
        keys.key("slice", &mut self.slice);
        keys.key("filter", &mut self.filter);
        keys.key("dedup", &mut self.dedup);
        keys.key("dedup_group", &mut self.dedup_group);
        keys.key("flow_limit", &mut self.flow_limit);
        keys.key("tls", &mut self.tls);
        keys.key("rules", &mut self.rules);
    }
}

impl Table for RuleEntry {
    fn keys(&mut self, keys: &mut dyn Keys) {
        keys.key("number", &mut self.number);
        keys.key("action", &mut self.action);
        keys.key("direction", &mut self.direction);
        keys.key("protocol", &mut self.protocol);
        keys.key("source", &mut self.source);
        keys.key("destination", &mut self.destination);
        keys.key("source_ports", &mut self.source_ports);
        keys.key("ports", &mut self.ports);
    }
}

impl Table for Delivery {
    fn keys(&mut self, keys: &mut dyn Keys) {
        keys.key("queue", &mut self.queue);
        keys.key("flush", &mut self.flush);
    }
}

impl Table for Control {
    fn keys(&mut self, keys: &mut dyn Keys) {
        keys.key("enabled", &mut self.enabled);
        keys.key("socket", &mut self.socket);
    }
}

impl Table for Http {
    fn keys(&mut self, keys: &mut dyn Keys) {
        keys.key("listen", &mut self.listen);
        keys.key("allow", &mut self.allow);
        keys.key("names", &mut self.names);
    }
}

impl Table for Health {
    fn keys(&mut self, keys: &mut dyn Keys) {
        keys.key("listen", &mut self.listen);
        keys.key("allow", &mut self.allow);
        keys.key("drain", &mut self.drain);
    }
}

impl Table for Sandbox {
    fn keys(&mut self, keys: &mut dyn Keys) {
        keys.key("mode", &mut self.mode);
        keys.key("directories", &mut self.directories);
    }
}

impl Table for Run {
    fn keys(&mut self, keys: &mut dyn Keys) {
        keys.key("duration", &mut self.duration);
        keys.key("count", &mut self.count);
        keys.key("ledger", &mut self.ledger);
    }
}

impl Table for Files {
    fn keys(&mut self, keys: &mut dyn Keys) {
        keys.key("directory", &mut self.directory);
        keys.key("format", &mut self.format);
        keys.key("bare_ip", &mut self.bare_ip);
        keys.key("compress", &mut self.compress);
        keys.key("rotate_size", &mut self.rotate_size);
        keys.key("rotate_frames", &mut self.rotate_frames);
        keys.key("rotate_time", &mut self.rotate_time);
        keys.key("direct", &mut self.direct);
        keys.key("sync", &mut self.sync);
        keys.key("hash", &mut self.hash);
        keys.key("keep_bytes", &mut self.keep_bytes);
        keys.key("keep_files", &mut self.keep_files);
        keys.key("keep_age", &mut self.keep_age);
        keys.key("min_free", &mut self.min_free);
        keys.key("on_publish", &mut self.on_publish);
        keys.key("snaplen", &mut self.snaplen);
        keys.key("filter", &mut self.filter);
        keys.key("essential", &mut self.essential);
    }
}

impl Table for Interface {
    fn keys(&mut self, keys: &mut dyn Keys) {
        keys.key("interface", &mut self.interface);
        keys.key("vni", &mut self.vni);
        keys.key("mode", &mut self.mode);
        keys.key("mtu", &mut self.mtu);
        keys.key("count", &mut self.count);
        keys.key("filter", &mut self.filter);
        keys.key("tag", &mut self.tag);
        keys.key("essential", &mut self.essential);
    }
}

impl Table for Output {
    fn keys(&mut self, keys: &mut dyn Keys) {
        match self {
            Output::Pcap(files) => files.keys(keys),
            Output::Tap(interface) | Output::Tun(interface) => interface.keys(keys),
        }
    }
}

/// Returns the names of all keys of a table.
pub(super) fn names(table: &mut dyn Table) -> Vec<&'static str> {
    struct Names(Vec<&'static str>);

    impl Keys for Names {
        fn key(&mut self, name: &'static str, _: &mut dyn Value) {
            self.0.push(name);
        }
    }

    let mut names = Names(Vec::new());
    table.keys(&mut names);
    names.0
}

/// Returns all tables as they are written in a file, each with the names of its keys.
pub(super) fn all() -> Vec<(String, Vec<&'static str>)> {
    let mut settings = Settings::default();
    let once = tables(&mut settings).into_iter().map(|(name, table)| (format!("[{name}]"), names(table)));
    let mut all: Vec<_> = once.collect();
    all.push((SESSION.to_owned(), names(&mut SessionEntry::default())));
    all.push((RULE.to_owned(), names(&mut RuleEntry::default())));
    for kind in KINDS {
        if let Some(mut output) = of_kind(kind) {
            all.push((format!("[output.NAME] with kind = \"{kind}\""), names(&mut output)));
        }
    }
    all
}
