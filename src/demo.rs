//! `vxtap demo` runs the sensor and three mirrored instances on one machine, over loopback.
//!
//! Nothing here is special to the demonstration: it runs what `vxtap run` and three times `vxtap
//! replay` would.

use std::fs;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use indicatif::HumanCount;

use crate::config::address::Listen;
use crate::config::settings::{FILES, Files, Output, Outputs};
use crate::config::units::Size;
use crate::config::{PlanError, RunPlan, Settings};
use crate::console::Console;
use crate::host::HostFacts;
use crate::pipeline::Outcome;
use crate::record::Timestamp;
use crate::record::read::{CaptureReader, ReadError};
use crate::replay::{self, Input, Pace, ReplayError, ReplayPlan, Report, Wrap};
use crate::run::{self, Signals, StartError};
use crate::sandbox::Sandbox;
use crate::wire::{Carrier, Vni};

/// A mirrored instance of the demonstration.
struct Instance {
    what: &'static str,
    address: Ipv4Addr,
    vni: Vni,
    capture: &'static [u8],
}

/// Makes a VNI of a number that is known to be one.
const fn vni(number: u32) -> Vni {
    match Vni::new(number) {
        Some(vni) => vni,
        None => Vni::MAX,
    }
}

const INSTANCES: [Instance; 3] = [
    Instance {
        what: "web server",
        address: Ipv4Addr::new(127, 0, 0, 11),
        vni: vni(100),
        capture: include_bytes!("../fixtures/demo/web.pcap"),
    },
    Instance {
        what: "DNS resolver",
        address: Ipv4Addr::new(127, 0, 0, 12),
        vni: vni(200),
        capture: include_bytes!("../fixtures/demo/dns.pcap"),
    },
    Instance {
        what: "office host",
        address: Ipv4Addr::new(127, 0, 0, 13),
        vni: vni(300),
        capture: include_bytes!("../fixtures/demo/office.pcap"),
    },
];

/// The reasons for which the demonstration fails.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The sensor's plan cannot be made.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The sensor cannot start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A sender failed.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// A capture that came out cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Standard output, or the directory, cannot be used.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Runs the demonstration with a new directory `within` another, by default the temporary one, and
/// tells about it on `out`. Returns true when everything that was sent came out.
///
/// # Errors
/// The sensor could not be started, a sender failed, or a capture could not be read back.
pub fn run(within: Option<&Path>, signals: &Signals, out: &mut impl Write) -> Result<bool, DemoError> {
    // The directory is a new one each time: the files in it are counted.
    let name = format!("vxtap-demo-{}-{}", Timestamp::now().compact(), std::process::id());
    let directory = within.map_or_else(std::env::temp_dir, Path::to_owned).join(name);
    let plan = RunPlan::new(&settings(&directory), &HostFacts::read())?;
    let sensor = run::start(&plan, signals, &Arc::default(), Sandbox::off())?;
    let Some(to) = sensor.addresses.first().copied() else { return Ok(false) };
    writeln!(out, "A sensor listens on {to} and writes to {}.", directory.display())?;
    writeln!(out, "Three instances mirror their traffic to it for a few seconds:")?;
    for i in &INSTANCES {
        writeln!(out, "  {:<13} {} vni {}", i.what, i.address, i.vni)?;
    }
    writeln!(out)?;
    out.flush()?;

    let reports: Vec<Result<Report, ReplayError>> = thread::scope(|scope| {
        let senders = INSTANCES.each_ref().map(|instance| {
            scope.spawn(move || {
                let plan = ReplayPlan {
                    inputs: vec![Input::Memory { name: instance.what, bytes: instance.capture }],
                    to,
                    wrap: Wrap::Vxlan,
                    carrier: Carrier::Udp,
                    vni: instance.vni.into(),
                    pace: Pace::Realtime,
                    loops: 1,
                    from: Some(IpAddr::V4(instance.address)),
                    checksum: false,
                    progress: false,
                };
                replay::run(&plan, &signals.stop, &Console::default())
            })
        });
        senders.into_iter().filter_map(|sender| sender.join().ok()).collect()
    });
    let mut sent = 0;
    for report in reports {
        sent += report?.frames;
    }
    let Outcome { snapshot, failures, .. } = sensor.end();
    write!(out, "{snapshot}")?;

    writeln!(out, "\nfiles")?;
    let files = captures(&directory)?;
    let mut kept = 0;
    for file in &files {
        let frames = frames_in(file)?;
        kept += frames;
        writeln!(out, "  {:>6} frames  {}", HumanCount(frames).to_string(), file.display())?;
    }
    let complete = failures.is_empty() && sent == kept;
    writeln!(out, "\n{} frames sent, {} frames in the files.", HumanCount(sent), HumanCount(kept))?;
    for failure in failures {
        writeln!(out, "{failure}")?;
    }
    if let Some(file) = files.first() {
        writeln!(out, "\nLook at them:\n  tshark -r {}", file.display())?;
    }
    writeln!(out, "Receive your own mirror on UDP port 4789:\n  vxtap run --write ./captures")?;
    Ok(complete)
}

/// Makes the settings of the sensor: a free port of the loopback interface, and a receive buffer
/// that every user may have.
fn settings(directory: &Path) -> Settings {
    let mut settings = Settings::default();
    settings.control.enabled = false;
    settings.receive.listen = vec![Listen::At((Ipv4Addr::LOCALHOST, 0).into()).into()];
    settings.receive.buffer = Size(200 << 10);
    let files = Files { directory: directory.to_owned(), ..Files::default() };
    settings.output = Outputs(vec![(FILES.to_owned(), Output::Pcap(Box::new(files)))]);
    settings
}

/// Returns all captures below `directory`, in the order of their names.
fn captures(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for session in fs::read_dir(directory)? {
        let session = session?;
        // The manifest is no session.
        if session.file_type()?.is_dir() {
            for file in fs::read_dir(session.path())? {
                found.push(file?.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Reads a capture to its end, and counts its frames.
fn frames_in(file: &Path) -> Result<u64, ReadError> {
    let mut reader = CaptureReader::open(file)?;
    let mut frames = 0;
    while reader.next_frame()?.is_some() {
        frames += 1;
    }
    Ok(frames)
}
