//! A sensor that is restarted, killed or hangs loses nothing that the kernel can hold meanwhile.
#![allow(clippy::print_stdout, reason = "figures, for docs/service.md")]

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use rustix::process::{Signal, kill_process};

use crate::captures::{self, Record};
use crate::check::Checked;
use crate::ledger::Ledger;
use crate::need;
use crate::netns::{Ip, UdpCounters};
use crate::process::{eventually, is_stopped};
use crate::sensor::{VXTAP, WAYS};
use crate::service::{Service, UNIT};
use crate::site::HTTP;
use crate::stream::{self, Stream};
use crate::tcpdump::Tcpdump;

/// Sessions that are sent.
const SESSIONS: u32 = 8;
/// Frames a second, unless `VXTAP_RESTART_RATE` says others: few enough for a machine with much
/// else to do.
const RATE: u32 = 2000;
/// What the unit has for it.
const KEEPS: &str = "Environment=VXTAP_KEEP_SOCKETS=1";
/// The unit that has systemd open the port, as packages have it.
const SOCKET: &str = include_str!("../../systemd/vxtap.socket");
/// Returns the frames that are sent in a second, and also before and after something happens.
fn rate() -> u32 {
    static GIVEN: LazyLock<u32> =
        LazyLock::new(|| env::var("VXTAP_RESTART_RATE").map_or(RATE, |rate| rate.parse().unwrap()));
    *GIVEN
}

impl Service {
    fn stream(&self) -> Stream {
        let stream = Stream::start(&self.pair.sender, self.pair.target(Ip::V4), SESSIONS, rate());
        self.waits_for(&stream, rate());
        let files = || captures::files(&self.captures());
        let has_some = || files().iter().map(|file| captures::readable(file)).sum::<usize>() >= rate() as usize / 2;
        eventually("the sensor writes", has_some);
        stream
    }

    /// Has the unit begin no process after another until the test lets it.
    fn pauses(&self, arguments: &str) {
        let gap = self.systemd.path("gap");
        let waits = format!("ExecStopPost=/bin/sh -c 'until [ -e {} ]; do sleep 0.05; done'", gap.display());
        self.install(arguments, &format!("{KEEPS}\n{waits}"));
    }

    /// Restarts the sensor, and has some frames sent while there is no process.
    #[track_caller]
    fn restarts_with_a_gap(&self, stream: &Stream) {
        let before = self.process();
        self.systemd.does(&format!("restart --no-block {UNIT}"));
        self.systemd.comes_to(UNIT, "SubState", "stop-post");
        self.waits_for(stream, rate() / 5);
        fs::write(self.systemd.path("gap"), "").unwrap();
        self.is_replaced(before);
    }

    /// Waits until so many frames more were sent.
    #[track_caller]
    fn waits_for(&self, stream: &Stream, more: u32) {
        let before = stream.sent();
        eventually("frames are sent", || stream.sent() >= before + more);
    }

    /// Ends the stream, and the sensor when it has read all: what is left when nobody starts again
    /// is gone. Returns how many frames were sent.
    #[track_caller]
    fn ends(&self, stream: Stream) -> (u64, UdpCounters) {
        self.waits_for(&stream, rate());
        let pace = stream.pace();
        let sent = u64::from(stream.end());
        println!("{sent} frames were sent, {pace:.0} a second");
        eventually("all is read", || self.pair.sensor.udp_queued(4789) == 0);
        self.systemd.does(&format!("stop {UNIT}"));
        (sent, self.pair.sensor.udp_counters())
    }

    /// Returns all frames that were written, in the order of their numbers.
    fn written(&self) -> Vec<(u32, Record)> {
        let files = captures::files(&self.captures());
        let records = files.iter().flat_map(|file| captures::read(file));
        let mut all: Vec<_> = records.map(|record| (stream::number(&record.frame), record)).collect();
        all.sort_by_key(|(number, _)| *number);
        all
    }
}

fn nanoseconds(ledger: &Ledger, field: &str) -> u64 {
    let time: Timestamp = ledger.0[field].as_str().unwrap().parse().unwrap();
    time.as_nanosecond() as u64
}

#[test]
fn a_restart_loses_nothing_and_no_frame_its_time() {
    for way in WAYS {
        let arguments = format!("--workers 2 {way}");
        let Some(service) = Service::new(&arguments, KEEPS) else { return };
        service.pauses(&arguments);
        service.systemd.does(&format!("start {UNIT}"));
        let stream = service.stream();
        service.restarts_with_a_gap(&stream);
        let (sent, _) = service.ends(stream);
        let ledgers = service.ledgers();
        let [old, new] = ledgers.as_slice() else { panic!("{way}: {ledgers:?}") };
        let total = |what: &str| old.counted(what) + new.counted(what);
        assert_eq!(new.counted("/left_queued"), 0, "{way}");
        service.pair.assert_arrived(total("/received") + total("/kernel_dropped"), sent);
        assert_eq!(total("/refused_at_stop"), 0, "{way}");
        println!(
            "restart, {way}: {sent} sent = {} + {} received + {} kernel_dropped",
            old.received(),
            new.received(),
            total("/kernel_dropped")
        );
        assert!(old.received() >= u64::from(rate()) / 2 && new.received() > 0, "{way}: {ledgers:?}");
        let written = service.written();
        let numbers: BTreeSet<u32> = written.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers.len(), written.len(), "{way}: no frame is there twice");
        assert_eq!(numbers.len() as u64, total("/received"), "{way}: what was received is written");
        // While there was no process, the kernel noted the times.
        let (from, to) = (nanoseconds(old, "ended"), nanoseconds(new, "started"));
        let between = written.iter().filter(|(_, record)| (from..to).contains(&record.time)).count();
        assert!(between > 0, "{way}: frames came between {from} and {to}");
        for session in 0..SESSIONS {
            let times: Vec<u64> =
                written.iter().filter(|(n, _)| n % SESSIONS == session).map(|(_, record)| record.time).collect();
            assert!(times.is_sorted(), "{way}: session {session} is in order");
        }
        assert_eq!(service.said("receiving goes on with the sockets").len(), 1, "{way}");
    }
}

#[test]
fn a_socket_unit_has_what_comes_before_the_sensor_runs() {
    let Some(service) = Service::new("--workers 1", KEEPS) else { return };
    let systemd = &service.systemd;
    // Nothing of this systemd is as units expect it by default.
    systemd.install("vxtap.socket", &SOCKET.replacen("[Unit]\n", "[Unit]\nDefaultDependencies=no\n", 1));
    systemd.does("start vxtap.socket");
    assert_eq!(systemd.property(UNIT, "ActiveState"), "inactive");
    // The first frame starts the sensor.
    let stream = service.stream();
    systemd.comes_to(UNIT, "SubState", "running");
    service.waits_for(&stream, rate());
    let check = Checked::by(systemd.command(VXTAP).args(["check", "--json", "--workers", "1"]));
    // systemd has it, too.
    check.has("ok", "port", &["is the running sensor's own"]);
    systemd.does(&format!("restart {UNIT}"));
    let (sent, _) = service.ends(stream);
    systemd.does("stop vxtap.socket");
    let ledgers = service.ledgers();
    let [old, new] = ledgers.as_slice() else { panic!("{ledgers:?}") };
    let total = |what: &str| old.counted(what) + new.counted(what);
    service.pair.assert_arrived(total("/received") + total("/kernel_dropped"), sent);
    assert_eq!((total("/refused_at_stop"), new.counted("/left_queued")), (0, 0));
    let written = service.written();
    let numbers: BTreeSet<u32> = written.iter().map(|(number, _)| *number).collect();
    assert_eq!((numbers.len(), numbers.len() as u64), (written.len(), total("/received")), "once each");
    let (number, first) = &written[0];
    assert!(*number == 0 && first.time < nanoseconds(old, "started"), "{number} came at {}", first.time);
    assert_eq!(service.said("vxtap.socket has the socket of [::]:4789").len(), 2);
    assert_eq!(service.said("receiving goes on with the sockets").len(), 1);
    assert!(service.said("nobody asked for").is_empty());
}

#[test]
fn who_is_killed_or_hangs_loses_no_more_than_it_had_in_memory() {
    for (signal, way) in [(Signal::KILL, WAYS[0]), (Signal::STOP, WAYS[0]), (Signal::KILL, WAYS[2])] {
        // What comes while one hangs that the watchdog has to end.
        let mib = (64 * rate() / RATE).min(512);
        let arguments = format!("--workers 2 --receive-buffer {mib}MiB {way}");
        let Some(service) = Service::new(&arguments, &format!("{KEEPS}\nWatchdogSec=5")) else { return };
        service.systemd.does(&format!("start {UNIT}"));
        let stream = service.stream();
        // A worker notes five times a second what it has received.
        service.waits_for(&stream, rate() / 2);
        let first = service.process();
        kill_process(first, signal).unwrap();
        // Until then its threads may read on, and a program in the kernel takes frames.
        let process = format!("/proc/{}", first.as_raw_nonzero());
        eventually("no thread of it runs any more", || match signal {
            Signal::STOP => is_stopped(first),
            _ => !Path::new(&process).exists(),
        });
        // One frame more may have left than is counted.
        let safe = stream.sent() + 1;
        service.is_replaced(first);
        let (sent, counters) = service.ends(stream);
        let ledgers = service.ledgers();
        let [new] = ledgers.as_slice() else { panic!("{signal:?} {way}: {ledgers:?}") };
        let said = service.said("which did not end by itself");
        let [said] = said.as_slice() else { panic!("{signal:?} {way}: {said:?}") };
        let noted = said["fields"]["received"].as_u64().unwrap();
        assert_eq!(new.counted("/left_queued"), 0, "{signal:?} {way}");
        if way == WAYS[0] {
            // All came to the sockets: what the dead one had received is what the new one has not.
            let old = sent - new.received() - new.get("/kernel_dropped");
            assert_eq!(counters.delivered + counters.refused_or_no_room, sent, "{signal:?} {way}");
            assert!(noted <= old && noted > 0, "{signal:?} {way}: {noted} {old}");
            assert_eq!(new.get("/kernel_dropped"), counters.refused_or_no_room, "{signal:?} {way}");
            let (new, dropped) = (new.received(), new.get("/kernel_dropped"));
            println!("{signal:?}, {way}: {sent} sent = {old} + {new} received + {dropped} kernel_dropped");
        }
        let written: BTreeSet<u32> = service.written().into_iter().map(|(number, _)| number).collect();
        let lost: Vec<u32> = (0..sent as u32).filter(|number| !written.contains(number)).collect();
        // The kernel may detach it later.
        let safe = if way == WAYS[0] { safe } else { safe + rate() };
        assert!(lost.iter().all(|number| *number < safe), "{signal:?} {way}: {lost:?} of {sent} from {safe}");
        println!("{signal:?}, {way}: {} of {sent} were in memory, or found no room", lost.len());
    }
}

#[test]
fn another_number_of_workers_begins_anew_and_says_what_that_costs() {
    let Some(service) = Service::new("--workers 2", KEEPS) else { return };
    service.pauses("--workers 2");
    service.systemd.does(&format!("start {UNIT}"));
    let stream = service.stream();
    service.pauses("--workers 3");
    service.restarts_with_a_gap(&stream);
    service.waits_for(&stream, rate());
    service.systemd.does(&format!("restart {UNIT}"));
    let (sent, counters) = service.ends(stream);
    let said = service.said("or the number of workers, are others");
    let [said] = said.as_slice() else { panic!("{said:?}") };
    let lost = |what: &str| said["fields"][what].as_u64().unwrap();
    let ledgers = service.ledgers();
    let [_, second, third] = ledgers.as_slice() else { panic!("{ledgers:?}") };
    assert!(lost("queued") > 0, "{said}");
    assert_eq!(second.get("/kernel_dropped"), lost("queued") + lost("overflowed"), "{said}");
    assert_eq!(third.get("/kernel_dropped"), 0);
    // What came while there was no socket, or one that did not accept yet.
    let total: u64 = ledgers.iter().map(|ledger| ledger.received() + ledger.get("/kernel_dropped")).sum();
    let uncounted = sent - total;
    assert!(uncounted <= counters.no_port + counters.refused_or_no_room, "{uncounted} {counters:?}");
    assert_eq!(service.said("receiving goes on with the sockets").len(), 1, "the third has those of the second");
}

#[test]
fn under_another_mask_what_the_old_one_had_not_counted_is_counted() {
    // What comes in 20 ms.
    let arguments = "--workers 2 --receive-buffer 16KiB";
    let Some(service) = Service::new(arguments, KEEPS) else { return };
    service.pauses(arguments);
    service.systemd.does(&format!("start {UNIT}"));
    let stream = service.stream();
    // Nothing is dropped any more when that one ends.
    service.pauses("--workers 2 --receive-buffer 8MiB --vni-mask 0x00ffff");
    let first = service.process();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        // It is held up again and again, up to its end, so that its buffers run over all the time.
        scope.spawn(|| {
            for _ in 0..1000 {
                if is_over.load(Ordering::Relaxed) || kill_process(first, Signal::STOP).is_err() {
                    break;
                }
                thread::sleep(Duration::from_millis(60));
                let _ = kill_process(first, Signal::CONT);
                thread::sleep(Duration::from_millis(3));
            }
        });
        service.waits_for(&stream, rate());
        service.restarts_with_a_gap(&stream);
        is_over.store(true, Ordering::Relaxed);
    });
    let (sent, counters) = service.ends(stream);
    let ledgers = service.ledgers();
    let [old, new] = ledgers.as_slice() else { panic!("{ledgers:?}") };
    let total = |what: &str| old.counted(what) + new.counted(what);
    assert!(old.counted("/kernel_dropped") > 0 && new.counted("/kernel_dropped") > 0, "{ledgers:?}");
    assert_eq!((total("/refused_at_stop"), new.counted("/left_queued")), (0, 0));
    assert_eq!(total("/kernel_dropped"), counters.refused_or_no_room, "of {sent}");
    service.pair.assert_arrived(total("/received") + total("/kernel_dropped"), sent);
    assert_eq!(service.said("receiving goes on with the sockets").len(), 1);
}

#[test]
fn whoever_keeps_nothing_any_more_takes_over_all_and_leaves_nothing() {
    let Some(service) = Service::new("--workers 2 --http 127.0.0.1:9479", KEEPS) else { return };
    let stored = || service.systemd.property(UNIT, "NFileDescriptorStore");
    service.systemd.does(&format!("start {UNIT}"));
    // A socket of each worker, one behind these, the port, and what was counted.
    assert_eq!(stored(), "5");
    let stream = service.stream();
    service.install("--workers 2 --http 127.0.0.1:9479", "");
    service.systemd.does(&format!("restart {UNIT}"));
    eventually("the manager has nothing", || stored() == "0");
    let (sent, _) = service.ends(stream);
    let ledgers = service.ledgers();
    let [old, new] = ledgers.as_slice() else { panic!("{ledgers:?}") };
    let total = |what: &str| old.counted(what) + new.counted(what);
    service.pair.assert_arrived(total("/received") + total("/kernel_dropped"), sent);
    assert_eq!(service.said("receiving goes on with the sockets").len(), 1);
}

#[test]
fn an_interface_a_port_and_commands_are_there_for_the_next() {
    if !need::programs(&["tcpdump"]) {
        return;
    }
    let arguments = "--tap mirror0 --http 127.0.0.1:9479 --receive-buffer 16MiB";
    // Whoever waits for this command waits for longer than any buffer holds.
    let command = "--on-publish sleep\\x20600;:";
    let Some(service) = Service::new(&format!("{arguments} {command}"), KEEPS) else { return };
    let (systemd, sensor) = (&service.systemd, &service.pair.sensor);
    systemd.does(&format!("start {UNIT}"));
    let index = || sensor.link_index("mirror0");
    let before = index();
    let tcpdump = Tcpdump::cutting(sensor, "mirror0", "", 1024);
    let stream = service.stream();
    let restarted = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            sensor.enter(|| {
                while !restarted.load(Ordering::Relaxed) {
                    TcpStream::connect(HTTP).expect("the port is there all the time");
                    thread::sleep(Duration::from_millis(5));
                }
            });
        });
        systemd.does(&format!("restart {UNIT}"));
        restarted.store(true, Ordering::Relaxed);
    });
    service.waits_for(&stream, rate());
    assert_eq!(index(), before, "after a restart");
    let killed = service.process();
    kill_process(killed, Signal::KILL).unwrap();
    service.is_replaced(killed);
    service.waits_for(&stream, rate());
    drop(stream);
    assert_eq!(index(), before, "after a crash");
    println!("mirror0 is interface {before} all the time");
    eventually("all is read", || sensor.udp_queued(4789) == 0);
    let seen = tcpdump.frames().len() as u64;
    systemd.does(&format!("stop {UNIT}"));
    assert!(!sensor.has_link("mirror0"), "nobody keeps it for a sensor that was stopped");
    assert_eq!(systemd.property(UNIT, "Result"), "success", "{:?}", service.said(""));
    let ledgers = service.ledgers();
    let [first, last] = ledgers.as_slice() else { panic!("{ledgers:?}") };
    let [of_first, of_last] = [first, last].map(|ledger| ledger.get("/outputs/mirror0/written"));
    assert!(of_first > 0 && of_last > 0, "{ledgers:?}");
    // Between these is the one that was killed.
    assert!(seen > of_first + of_last, "tcpdump saw {seen}, {of_first} of the first and {of_last} of the last");
    assert_eq!(first.get("/outputs/mirror0/offered"), of_first);
    let left = first.counted("/outputs/pcap/hooks_left");
    assert!(left > 0 && first.get("/outputs/pcap/hooks_unfinished") == 0, "{:#}", first.0);
    assert!(!service.said("going on with captures of earlier runs").is_empty());
}
