//! A sensor that runs already has what a check would else complain of.

use std::path::Path;

use super::finding::Finding;
use crate::control::Client;
use crate::host::port_owner::Owner;
use crate::sandbox::State;
use crate::view::{LastHour, Status};

/// The name of the finding.
pub(super) const SENSOR: &str = "sensor";

/// A sensor that runs on this host.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sensor {
    /// Its process.
    pub pid: u32,
    /// The reasons for which it is not ready, in words; none where it is.
    pub unready: Vec<String>,
    /// What it has given up.
    pub sandbox: State,
    /// What came to it in the last hour.
    pub last_hour: LastHour,
}

impl Sensor {
    /// Asks for the sensor at this control socket; `None` where nobody answers.
    pub(super) fn at(socket: Option<&Path>) -> Option<Self> {
        let status: Status = serde_json::from_str(&Client::local(socket).get("/status").ok()?).ok()?;
        let unready = if status.ready { Vec::new() } else { status.reasons };
        Some(Self { pid: status.pid, unready, sandbox: status.sandbox, last_hour: status.last_hour })
    }

    /// Says whether a port's owner is a sensor: this one, or a process of its name. A port whose
    /// owner nobody sees is not known to be one's.
    pub(super) fn is(sensor: Option<&Self>, owner: &Owner) -> bool {
        match owner {
            Owner::Process { pid, name } => name == "vxtap" || sensor.is_some_and(|sensor| sensor.pid == *pid),
            Owner::Unseen => false,
        }
    }
}

/// Says whether a sensor runs, and how it does.
pub(super) fn sensor(sensor: Option<&Sensor>) -> Finding {
    match sensor {
        None => Finding::ok(SENSOR, "no sensor answers at the control socket"),
        Some(Sensor { pid, unready, sandbox, .. }) if unready.is_empty() => {
            Finding::ok(SENSOR, format!("a sensor runs (process {pid}; {})", sandbox.describe()))
        }
        Some(Sensor { pid, unready, .. }) => Finding::warning(
            SENSOR,
            format!("a sensor runs (process {pid}) and is not ready: {}", unready.join("; ")),
            "vxtap status",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn a_sensor_is_known_by_its_socket_or_its_name() {
        let (process, name) = (|pid, name: &str| Owner::Process { pid, name: name.into() }, "vxtap");
        let ours = Sensor { pid: 7, unready: Vec::new(), sandbox: State::default(), last_hour: LastHour::default() };
        assert!(Sensor::is(Some(&ours), &process(7, "packaged")) && Sensor::is(None, &process(8, name)));
        assert!(!Sensor::is(Some(&ours), &process(8, "dnsmasq")) && !Sensor::is(Some(&ours), &Owner::Unseen));
    }

    #[test]
    fn one_that_is_not_ready_is_a_warning() {
        let found = |unready: &[&str]| {
            let unready = unready.iter().map(|reason| (*reason).to_owned()).collect();
            sensor(Some(&Sensor { pid: 7, unready, sandbox: State::default(), last_hour: LastHour::default() }))
        };
        assert_eq!((found(&[]).level, sensor(None).level), (Level::Ok, Level::Ok));
        let warning = found(&["output pcap does not write"]);
        assert_eq!(warning.level, Level::Warning);
        assert!(warning.reason.contains("process 7") && warning.reason.ends_with("output pcap does not write"));
    }
}
