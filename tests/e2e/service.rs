//! The sensor runs as a service of a real systemd.

use std::fs;

use rustix::process::{Signal, kill_process};

use crate::netns::Pair;
use crate::process::eventually;
use crate::sensor::VXTAP;
use crate::systemd::{self, Systemd};

/// The name of the service.
const UNIT: &str = "vxtap.service";

/// Returns the unit of a sensor with these arguments, which has these lines too.
fn unit(arguments: &str, more: &str) -> String {
    format!(
        "[Unit]\nDefaultDependencies=no\nStartLimitIntervalSec=0\n\n[Service]\nType=notify\nNotifyAccess=main\n\
         ExecStart={VXTAP} run --log-format json --ledger json {arguments}\nRuntimeDirectory=vxtap\n\
         Restart=on-failure\nRestartSec=100ms\nKillMode=mixed\n{more}\n"
    )
}

#[test]
fn a_manager_hears_how_the_sensor_does_and_ends_one_that_hangs() {
    if !systemd::is_here() {
        return;
    }
    let pair = Pair::new(1600);
    let unit = unit("--no-write --no-control --tap mirror0", "WatchdogSec=5");
    let systemd = Systemd::start(&pair.sensor, None, &[(UNIT, &unit)]);
    let log = systemd.path("log");
    systemd.install("vxtap.service.d/log.conf", &format!("[Service]\nStandardError=append:{}\n", log.display()));
    // It begins when the sensor receives, not before.
    systemd.does(&format!("start {UNIT}"));
    systemd.comes_to(UNIT, "SubState", "running");
    eventually("it says how it does", || systemd.property(UNIT, "StatusText").contains("receiving: 0 sessions"));
    let first = systemd.main_process(UNIT).unwrap();
    // Two times what the watchdog allows: a sensor that receives nothing is alive.
    let since = systemd.property(UNIT, "WatchdogTimestampMonotonic");
    eventually("it says that it is alive", || systemd.property(UNIT, "WatchdogTimestampMonotonic") != since);
    assert_eq!(systemd.property(UNIT, "NRestarts"), "0");
    kill_process(first, Signal::STOP).unwrap();
    systemd.comes_to(UNIT, "NRestarts", "1");
    systemd.comes_to(UNIT, "SubState", "running");
    assert_ne!(systemd.main_process(UNIT), Some(first));
    systemd.does(&format!("stop {UNIT}"));
    assert_eq!(systemd.property(UNIT, "Result"), "success");
    assert_eq!(fs::read_to_string(log).unwrap().matches("receiving").count(), 2);
}
