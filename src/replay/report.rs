//! A replay ends with a report.

use std::fmt;
use std::time::Duration;

use indicatif::HumanCount;
use serde::{Serialize, Serializer};

use crate::record::read::ReadError;

/// Counts what was sent, and by reason what was not.
///
/// Every frame read from the captures is in exactly one of `frames`, `too_large`, `not_ip` and
/// `unsent`, unless the replay was interrupted.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Frames that the kernel took.
    pub frames: u64,
    /// Their bytes.
    pub frame_bytes: u64,
    /// Bytes of the UDP payloads: the frames with their headers.
    pub datagram_bytes: u64,
    /// Time from the first capture's opening to the last frame, without the wait for late errors.
    #[serde(rename = "elapsed_seconds", serialize_with = "seconds")]
    pub elapsed: Duration,
    /// Frames that the capture had cut, sent as captured.
    pub cut: u64,
    /// Frames not sent because they do not fit in a UDP datagram.
    pub too_large: u64,
    /// Frames not sent because they are no IP packets, where these alone can be wrapped.
    #[serde(skip_serializing_if = "is_zero")]
    pub not_ip: u64,
    /// Frames given up after repeated errors, or for want of a socket.
    pub unsent: u64,
    /// Reports from the target's host that nothing listens on the port. Several datagrams may share
    /// one report.
    pub refused: u64,
    /// Times that a full queue or buffer of this host made a frame wait.
    pub no_buffer_space: u64,
    /// Other errors. The frame in hand was tried again, but a report of the network, as "no route
    /// to host", is of frames that the kernel had taken before.
    pub other_errors: u64,
    /// True where this host still held datagrams when the end had waited long enough for them to
    /// leave.
    pub held: bool,
    /// The last of the other errors.
    pub last_error: Option<String>,
    /// The reasons why captures could not be read, or not to their end; what is whole in them was
    /// sent. A cause that several turns met is here once.
    #[serde(serialize_with = "texts")]
    pub damaged: Vec<ReadError>,
    /// True where the replay was stopped before its end.
    pub interrupted: bool,
}

impl Report {
    /// Computes frames sent per second.
    #[must_use]
    pub(crate) fn frames_per_second(&self) -> f64 {
        per_second(self.frames, self.elapsed)
    }

    /// Computes bits of frames sent per second, in millions.
    #[must_use]
    pub(crate) fn mbit_per_second(&self) -> f64 {
        per_second(self.frame_bytes, self.elapsed) * 8.0 / 1e6
    }

    /// Says whether every frame that could be read went out, and no error says that one did not get
    /// far.
    #[must_use]
    pub fn all_sent(&self) -> bool {
        !self.has_errors() && !self.held && !self.interrupted
    }

    /// Says whether some frames did not go out, or an error says that one did not get far.
    pub(super) fn has_errors(&self) -> bool {
        self.too_large > 0 || self.unsent > 0 || self.refused > 0 || self.other_errors > 0
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate is shown to three digits")]
fn per_second(count: u64, elapsed: Duration) -> f64 {
    if elapsed.is_zero() { 0.0 } else { count as f64 / elapsed.as_secs_f64() }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

fn texts<S: Serializer>(errors: &[ReadError], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(errors.iter().map(ToString::to_string))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "sent {} frames, {} bytes, in {:.3} s: {} frames/s, {} Mbit/s",
            HumanCount(self.frames),
            HumanCount(self.frame_bytes),
            self.elapsed.as_secs_f64(),
            Rate(self.frames_per_second()),
            Rate(self.mbit_per_second()),
        )?;
        if self.interrupted {
            write!(f, "\ninterrupted before the end")?;
        }
        for (count, what) in [
            (
                self.damaged.len() as u64,
                if self.damaged.len() == 1 {
                    "error in a capture: not played to its end"
                } else {
                    "errors in captures: not played to their end"
                },
            ),
            (self.too_large, "frames not sent: too large for a UDP datagram"),
            (self.not_ip, "frames not sent: no IP packets"),
            (self.unsent, "frames not sent: given up after errors"),
            (self.cut, "frames were cut by the capture; sent as captured"),
            (self.refused, "times refused: nothing listens on the target's port"),
            (self.no_buffer_space, "waits for a full queue or buffer of this host"),
        ] {
            if count > 0 {
                write!(f, "\n{:>9} {what}", HumanCount(count).to_string())?;
            }
        }
        if self.held {
            write!(
                f,
                "\nsome datagrams have not left this host: nobody answers for the target's link address, or a queue is slow"
            )?;
        }
        if self.other_errors > 0 {
            let last = self.last_error.as_deref().unwrap_or_default();
            write!(f, "\n{:>9} other errors, the last: {last}", HumanCount(self.other_errors).to_string())?;
        }
        Ok(())
    }
}

/// A rate: one decimal below 1000, none above.
struct Rate(f64);

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 1000.0 {
            return write!(f, "{:.1}", self.0);
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, and saturates")]
        let whole = self.0.round() as u64;
        HumanCount(whole).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            frames: 1_234_567,
            frame_bytes: 987_654_321,
            datagram_bytes: 987_654_321 + 8 * 1_234_567,
            elapsed: Duration::from_millis(1230),
            ..Report::default()
        }
    }

    #[test]
    fn one_line_when_all_went_well() {
        assert_eq!(
            report().to_string(),
            "sent 1,234,567 frames, 987,654,321 bytes, in 1.230 s: 1,003,713 frames/s, 6,424 Mbit/s"
        );
        assert!(report().all_sent());
        assert_eq!(Report::default().to_string(), "sent 0 frames, 0 bytes, in 0.000 s: 0.0 frames/s, 0.0 Mbit/s");
    }

    #[test]
    fn a_line_for_each_trouble() {
        let report = Report {
            cut: 1000,
            too_large: 2,
            other_errors: 3,
            last_error: Some("Operation not permitted (os error 1)".into()),
            damaged: vec![ReadError::Empty { name: "x.pcap".into() }],
            interrupted: true,
            ..report()
        };
        let text = report.to_string();
        assert_eq!(
            text.lines().skip(1).collect::<Vec<_>>(),
            [
                "interrupted before the end",
                "        1 error in a capture: not played to its end",
                "        2 frames not sent: too large for a UDP datagram",
                "    1,000 frames were cut by the capture; sent as captured",
                "        3 other errors, the last: Operation not permitted (os error 1)",
            ]
        );
        assert!(!report.all_sent());
        assert!(!Report { other_errors: 1, ..Report::default() }.all_sent());
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["elapsed_seconds"], 1.23);
        assert_eq!(json["damaged"][0], "x.pcap: the file is empty");
    }
}
