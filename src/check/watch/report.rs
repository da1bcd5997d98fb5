//! What came is shown as a table, and as JSON.

use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

use super::judge::Evidence;
use super::seen::Session;

/// The most sessions that the table has.
const SHOWN: usize = 20;

/// A session that came.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SessionLine {
    /// The outer source.
    pub source: IpAddr,
    /// The VNI.
    pub vni: u32,
    /// The name, where the configuration has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The interface that it came over.
    pub interface: String,
    /// Says whether it is let in.
    pub let_in: bool,
    /// Frames that came.
    pub frames: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Frames a second.
    pub frames_per_second: f64,
    /// Bits of frames a second.
    pub bits_per_second: f64,
    /// Bytes of the largest frame.
    pub largest: u32,
    /// Frames that came shorter than their packet was.
    pub cut: u64,
    /// Frames that came in fragments.
    pub fragmented: u64,
    /// Frames that had come before.
    pub duplicates: u64,
    /// Segments of TCP that came behind later ones.
    pub late: u64,
}

/// Mirror traffic that came to this host.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Traffic {
    /// The time that it was watched.
    pub seconds: f64,
    /// Packets of UDP and ICMP that were looked at.
    pub packets: u64,
    /// Packets that came too fast to be looked at.
    pub missed: u64,
    /// Messages of this host that nobody listens on a port.
    pub port_unreachable: u64,
    /// Datagrams whose fragments all came.
    pub reassembled: u64,
    /// Datagrams that lacked a fragment.
    pub incomplete: u64,
    /// Reassemblies that failed meanwhile, as the kernel counts.
    pub reassembly_failed: u64,
    /// Frames of sessions beyond those that are told apart.
    pub beyond: u64,
    /// The sessions, those with the most frames first.
    pub sessions: Vec<SessionLine>,
}

impl Evidence<'_> {
    /// Returns what came.
    pub(super) fn traffic(&self) -> Traffic {
        // The time is never so short that a rate makes no sense.
        let seconds = self.seconds.max(0.001);
        let line = |session: &Session| SessionLine {
            source: session.source,
            vni: session.vni.get(),
            name: self.label(session).name.as_ref().map(|name| name.to_string()),
            interface: self.interface(session.interface),
            let_in: session.let_in,
            frames: session.frames,
            bytes: session.bytes,
            frames_per_second: rate(session.frames, seconds),
            bits_per_second: rate(session.bytes.saturating_mul(8), seconds),
            largest: session.largest,
            cut: session.cut,
            fragmented: session.fragmented,
            duplicates: session.again,
            late: session.late,
        };
        let (_, fragmented) = self.seen.fragments.most();
        Traffic {
            seconds: self.seconds,
            packets: self.seen.packets,
            missed: self.missed,
            port_unreachable: self.seen.unreachable,
            reassembled: fragmented.whole,
            incomplete: fragmented.lost,
            reassembly_failed: self.counted.reassembly_failed,
            beyond: self.seen.beyond,
            sessions: self.sessions.iter().map(line).collect(),
        }
    }
}

/// Returns how many there are in a second, with three digits behind the point.
fn rate(many: u64, seconds: f64) -> f64 {
    (many as f64 / seconds * 1000.0).round() / 1000.0
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.sessions.is_empty() {
            writeln!(
                f,
                "{:<39} {:>8} {:>10} {:>9} {:>7} {:>6}",
                "source", "VNI", "frames/s", "Mbit/s", "largest", "cut"
            )?;
        }
        for session in self.sessions.iter().take(SHOWN) {
            let source = match &session.name {
                Some(name) => format!("{name} ({})", session.source),
                None => session.source.to_string(),
            };
            write!(
                f,
                "{source:<39} {:>8} {:>10.1} {:>9.3} {:>7} {:>6}",
                session.vni,
                session.frames_per_second,
                session.bits_per_second / 1e6,
                session.largest,
                session.cut
            )?;
            writeln!(f, "{}", if session.let_in { "" } else { "  not let in" })?;
        }
        let more = self.sessions.iter().skip(SHOWN);
        let frames = more.clone().map(|session| session.frames).sum::<u64>() + self.beyond;
        if frames > 0 {
            writeln!(f, "and {frames} frames of more sessions")?;
        }
        if self.missed > 0 {
            writeln!(f, "{} packets came too fast to be looked at", self.missed)?;
        }
        Ok(())
    }
}
