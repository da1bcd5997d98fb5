//! The sensor runs as a service of a real systemd.

use std::fs;
use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::ledger::Ledger;
use crate::need;
use crate::netns::{Namespace, Pair};
use crate::process::{Process, eventually, run};
use crate::sensor::{VXTAP, message};
use crate::systemd::{self, Root, Systemd};

/// The name of the service.
pub(crate) const UNIT: &str = "vxtap.service";

/// A sensor that is a service. It writes captures, a log and its ledgers beside the units.
pub(crate) struct Service {
    pub(crate) systemd: Systemd,
    pub(crate) pair: Pair,
}

impl Service {
    /// Makes a service of a sensor with these arguments, whose unit has these lines too; none where
    /// that cannot be done here.
    pub(crate) fn new(arguments: &str, more: &str) -> Option<Service> {
        if !systemd::is_here() {
            return None;
        }
        let pair = Pair::new(1600);
        let systemd = Systemd::start(&pair.sensor, Root::Machine, &[]);
        let service = Service { systemd, pair };
        service.install(arguments, more);
        Some(service)
    }

    /// Installs the unit.
    pub(crate) fn install(&self, arguments: &str, more: &str) {
        let [captures, log, ledgers] = ["captures", "log", "ledgers"].map(|name| self.systemd.path(name));
        let unit = format!(
            "[Unit]\nDefaultDependencies=no\nStartLimitIntervalSec=0\n\n\
             [Service]\nType=notify\nNotifyAccess=main\nFileDescriptorStoreMax=512\n\
             ExecStart={VXTAP} run --log-format json --ledger json --no-control --write {} {arguments}\n\
             StandardError=append:{}\nStandardOutput=append:{}\n\
             Restart=on-failure\nRestartSec=100ms\nKillMode=mixed\n{more}\n",
            captures.display(),
            log.display(),
            ledgers.display()
        );
        self.systemd.install(UNIT, &unit);
    }

    pub(crate) fn captures(&self) -> PathBuf {
        self.systemd.path("captures")
    }

    /// Returns the process of the sensor.
    #[track_caller]
    pub(crate) fn process(&self) -> Pid {
        self.systemd.main_process(UNIT).expect("the sensor runs")
    }

    /// Returns the lines of the log that have these words in their message.
    pub(crate) fn said(&self, words: &str) -> Vec<Value> {
        let log = fs::read_to_string(self.systemd.path("log")).unwrap_or_default();
        let lines = log.lines().filter(|line| message(line).is_some_and(|message| message.contains(words)));
        lines.map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Returns the ledgers of all sensors that have ended by themselves.
    pub(crate) fn ledgers(&self) -> Vec<Ledger> {
        let text = fs::read_to_string(self.systemd.path("ledgers")).unwrap();
        text.lines().map(|line| Ledger(serde_json::from_str(line).unwrap())).collect()
    }

    /// Waits until another process than this one receives.
    #[track_caller]
    pub(crate) fn is_replaced(&self, before: Pid) {
        eventually("another sensor receives", || {
            self.systemd.property(UNIT, "SubState") == "running"
                && self.systemd.main_process(UNIT).is_some_and(|now| now != before)
        });
    }
}

/// Brings to a copy of this machine what the package has for the unit, with this configuration.
#[track_caller]
pub(crate) fn bring(systemd: &Systemd, configuration: &str) {
    systemd.write("/etc/vxtap/vxtap.toml", configuration);
    systemd.write("/etc/vxtap/sessions.d/README", include_str!("../../systemd/sessions.d/README"));
    systemd.write("/etc/sysusers.d/vxtap.conf", include_str!("../../systemd/vxtap.sysusers"));
    fs::copy(VXTAP, systemd.inside("/usr/bin/vxtap")).unwrap();
    run(systemd.command("systemd-sysusers").arg("vxtap.conf"));
}

/// What a shell does as a manager that hands over what it should not, once the test has let go of
/// its own descriptors.
fn handing(what: &str) -> String {
    format!("until [ -e \"$1\" ]; do sleep 0.02; done; shift; export LISTEN_PID=$$; {what}; exec \"$@\"")
}

#[test]
fn what_should_not_have_been_handed_over_is_told_and_the_sensor_starts() {
    if !need::programs(&[]) {
        return;
    }
    let namespace = Namespace::new();
    let directory = tempfile::tempdir().unwrap();
    let of_no_use = "what the service manager has handed over is of no use";
    let closed = "the sockets of the process before this one are closed";
    for (number, (what, said)) in [
        ("exec 3<&-; export LISTEN_FDS=1", of_no_use),
        ("export LISTEN_FDS=many", of_no_use),
        ("export LISTEN_FDS=4294967295", of_no_use),
        // The port that is among them is free again.
        ("exec 3<&0 4</dev/null; export LISTEN_FDS=2 LISTEN_FDNAMES=udp/[__]_4789/0", of_no_use),
        ("exec 3</dev/null; export LISTEN_FDS=1 LISTEN_FDNAMES=udp/[__]_4789/0", closed),
        ("exec 3<&0 4</dev/null; export LISTEN_FDS=2 LISTEN_FDNAMES=udp/[__]_4789/0:udp/[__]_4789/1", closed),
        ("exec 3</dev/null; export LISTEN_FDS=1 LISTEN_FDNAMES=connection", "which nobody asked for"),
        ("exec 3</dev/null; export LISTEN_FDS=1", "handed over unknown, which nobody asked for"),
    ]
    .into_iter()
    .enumerate()
    {
        let [free, captures] = ["free", "captures"].map(|name| directory.path().join(format!("{name}{number}")));
        let socket = namespace.enter(|| OwnedFd::from(UdpSocket::bind("[::]:4789").unwrap()));
        let mut command = namespace.command("sh");
        command.args(["-c", &handing(&format!("{what}; exec </dev/null")), "sh"]).arg(&free);
        command.args([VXTAP, "run", "--no-control", "--workers", "1", "--log-format", "json", "--write"]);
        let process = Process::start_reading(command.arg(&captures), Some(socket.into()), None);
        drop(command);
        fs::write(free, "").unwrap();
        let finds = |words: &str| process.stderr.find(words, 0, |line| message(line)?.contains(words).then_some(()));
        finds(said);
        finds("receiving");
    }
}

#[test]
fn a_manager_hears_how_the_sensor_does_and_ends_one_that_hangs() {
    let Some(service) = Service::new("", "WatchdogSec=10") else { return };
    let systemd = &service.systemd;
    // It begins when the sensor receives, not before.
    systemd.does(&format!("start {UNIT}"));
    // A thread writes the log.
    eventually("it says that it receives", || service.said("receiving").len() == 1);
    eventually("it says how it does", || systemd.property(UNIT, "StatusText").contains("receiving: 0 sessions"));
    let first = service.process();
    // The sensor can connect to nobody by now, and a manager that starts itself again hears it.
    systemd.does("daemon-reexec");
    // A sensor that receives nothing is alive.
    let since = systemd.property(UNIT, "WatchdogTimestampMonotonic");
    eventually("it says that it is alive", || systemd.property(UNIT, "WatchdogTimestampMonotonic") != since);
    assert_eq!(systemd.property(UNIT, "NRestarts"), "0");
    kill_process(first, Signal::STOP).unwrap();
    service.is_replaced(first);
    systemd.comes_to(UNIT, "NRestarts", "1");
    systemd.does(&format!("stop {UNIT}"));
    assert_eq!(systemd.property(UNIT, "Result"), "success");
    assert_eq!((service.said("receiving").len(), service.ledgers().len()), (2, 1));
}
