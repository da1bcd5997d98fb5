//! The sensor is tested end to end, as a program, in network namespaces that the tests create
//! themselves.
//!
//! A test builds a small network, runs `vxtap run` in one of its namespaces, lets something send in
//! another (a kernel `vxlan` device, `vxtap replay`, or raw datagrams), and then compares frame by
//! frame what was sent, or what tcpdump saw, with what the published files hold. The ledger is
//! checked in the test again, from the numbers that it prints.
//!
//! | module | what it offers or shows |
//! |---|---|
//! | `need`, `host` | say whether a test can run here: `skipped: ...`, a failure with `CI` set |
//! | `terminal` | a terminal, with a person's end |
//! | `process` | children that end with their guard, lines they print, waiting with a limit |
//! | `netns` | namespaces and cables that vanish with their guard |
//! | `configuration` | files that say what the sensor is to do |
//! | `sensor`, `replay`, `tcpdump` | the programs under test, and the witness |
//! | `captures`, `manifest`, `ledger` | what came out, and whether it adds up |
//! | `site` | a place for a sensor that is asked while it runs, and the ways to ask it |
//! | `systemd`, `service` | a service manager of the test's own, and the sensor as its service |
//! | `frames`, `datagrams`, `stream` | traffic of our own making |
//! | the others | the tests, by topic |
//!
//! All tests need root. Nothing waits for a fixed time where something can be awaited, and all
//! waits have a limit.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::cast_possible_truncation)]

#[path = "../shared/host.rs"]
mod host;
#[path = "../shared/memory.rs"]
mod memory;
#[path = "../shared/terminal.rs"]
mod terminal;

mod captures;
mod configuration;
mod datagrams;
mod frames;
mod ledger;
mod manifest;
mod need;
mod netns;
mod process;
mod replay;
mod sensor;
mod service;
mod site;
mod stream;
mod systemd;
mod tcpdump;

mod allow;
mod bare;
mod bpf;
mod broadcast;
mod budget;
mod check;
mod control;
mod crash;
mod damaged;
mod deaf;
mod disk;
mod drain;
mod encapsulations;
mod evidence;
mod faults;
mod filter;
mod forged;
mod formats;
mod hangup;
mod headers;
mod health;
mod hook;
mod hostile;
mod kept;
mod kernel_device;
mod limits;
mod logs;
mod metrics;
mod mirror;
mod offline;
mod outsiders;
mod over_ip;
mod overload;
mod package;
mod page;
mod policy;
mod redirect;
mod redirect_geneve;
mod reload;
mod restart;
mod rotation;
mod round_trip;
mod sandbox;
mod sessions;
mod side_by_side;
mod snaplen;
mod startup;
mod status;
mod stopping;
mod suricata;
mod suricata_service;
mod tags;
mod tampered;
mod top;
mod waiting;
mod watch;
