//! The arguments of `vxtap watch` and of `vxtap extcap`.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::asking::SocketArgs;
use crate::config::units::{duration, number};
use crate::record::pcap;
use crate::watch::{Asked, To, extcap};

/// The most bytes of a frame.
const WHOLE: u64 = pcap::WHOLE as u64;

/// `vxtap watch`.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// The session to watch: its name, or VNI and source. [default: all sessions]
    #[arg(long, value_name = "NAME|VNI@SOURCE")]
    pub session: Option<String>,
    /// The frames to watch, as in tcpdump: 'tcp port 443'. [default: all frames]
    #[arg(short, long, value_name = "EXPRESSION")]
    pub filter: Option<String>,
    /// Cut frames to this many bytes.
    #[arg(short, long, value_name = "BYTES", value_parser = number::<u32, 1, WHOLE>)]
    pub snaplen: Option<u32>,
    /// End after this many frames.
    #[arg(short, long, value_name = "N", value_parser = number::<u64, 1, { u64::MAX }>)]
    pub count: Option<u64>,
    /// End after this time.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub duration: Option<Duration>,
    /// Write frames to a file, or a pipe that was made for it; - is standard output. [default: -]
    #[arg(short, long, value_name = "FILE")]
    pub write: Option<PathBuf>,
    /// Whom to ask.
    #[command(flatten)]
    pub socket: SocketArgs,
}

impl WatchArgs {
    /// Returns what is to be watched.
    #[must_use]
    pub fn asked(&self) -> Asked {
        Asked {
            session: self.session.clone(),
            filter: self.filter.clone(),
            snaplen: self.snaplen,
            count: self.count,
            duration: self.duration,
        }
    }

    /// Returns where the frames go.
    #[must_use]
    pub fn to(&self) -> To {
        match &self.write {
            Some(path) if path != Path::new("-") => To::File(path.clone()),
            _ => To::Standard,
        }
    }
}

/// `vxtap extcap`.
#[derive(Debug, Args)]
pub struct ExtcapArgs {
    /// Say which interfaces there are.
    #[arg(long, group = "what")]
    pub extcap_interfaces: bool,
    /// Say of which kind the frames of the interface are.
    #[arg(long, group = "what", requires = "extcap_interface")]
    pub extcap_dlts: bool,
    /// Say what can be set for the interface.
    #[arg(long, group = "what", requires = "extcap_interface")]
    pub extcap_config: bool,
    /// Write the frames of the interface to --fifo.
    #[arg(long, group = "what", requires_all = ["extcap_interface", "fifo"])]
    pub capture: bool,
    /// The interface: vxtap, or vxtap- and the name of a session.
    #[arg(long, value_name = "NAME")]
    pub extcap_interface: Option<String>,
    /// The frames to capture, as in tcpdump; without --capture, say what is wrong with it.
    #[arg(long, value_name = "EXPRESSION")]
    pub extcap_capture_filter: Option<String>,
    /// The pipe for the frames.
    #[arg(long, value_name = "PATH")]
    pub fifo: Option<PathBuf>,
    /// The version of Wireshark that asks.
    #[arg(long, value_name = "VERSION", num_args = 0..=1, require_equals = true)]
    pub extcap_version: Option<Option<String>>,
    /// The session of the interface vxtap: a name, or VNI@SOURCE.
    #[arg(long, value_name = "NAME|VNI@SOURCE")]
    pub session: Option<String>,
    /// Cut frames to this many bytes.
    #[arg(long, value_name = "BYTES", value_parser = number::<u32, 1, WHOLE>)]
    pub snaplen: Option<u32>,
    /// The control socket of the sensor. [default: that in VXTAP_CONTROL, else /run/vxtap/control]
    #[arg(long, value_name = "PATH")]
    pub control: Option<String>,
}

impl ExtcapArgs {
    /// Returns the interface that is asked about.
    #[must_use]
    pub fn interface(&self) -> &str {
        self.extcap_interface.as_deref().unwrap_or_default()
    }

    /// Returns what is to be captured.
    #[must_use]
    pub fn asked(&self) -> Asked {
        let filter = self.extcap_capture_filter.as_deref();
        extcap::asked(self.interface(), self.session.as_deref(), filter, self.snaplen)
    }

    /// Returns the socket of the sensor, where one is named.
    #[must_use]
    pub fn socket(&self) -> Option<PathBuf> {
        let typed = self.control.as_ref().map(OsString::from);
        let named = typed.filter(|path| !path.is_empty()).or_else(|| std::env::var_os("VXTAP_CONTROL"));
        named.filter(|path| !path.is_empty()).map(PathBuf::from)
    }
}

/// Says whether Wireshark typed these words: it calls a program of any name without a command.
pub(super) fn is_extcap(words: &[OsString]) -> bool {
    let is_asked = |word: &OsString| word.to_str().is_some_and(|word| word.starts_with("--extcap-"));
    words.get(1).is_some_and(|first| OsStr::to_str(first).is_some_and(|first| first.starts_with("--")))
        && words.iter().skip(1).any(is_asked)
}

#[cfg(test)]
mod tests {
    use super::super::{Command, parse};
    use super::*;

    fn extcap(words: &str) -> ExtcapArgs {
        match parse(words.split(' ').map(OsString::from)).unwrap().command {
            Command::Extcap(args) => *args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn wireshark_needs_no_command() {
        for words in ["vxtap --extcap-interfaces --extcap-version=4.0", "vxtap extcap --extcap-interfaces"] {
            assert!(extcap(words).extcap_interfaces, "{words}");
        }
        let capture = "x --extcap-interface vxtap-web --extcap-capture-filter tcp --capture --fifo /tmp/f --snaplen 96";
        let capture = extcap(capture);
        assert!(capture.capture);
        let web =
            Asked { session: Some("web".into()), filter: Some("tcp".into()), snaplen: Some(96), ..Asked::default() };
        assert_eq!(capture.asked(), web);
        let capture = extcap("x --capture --extcap-interface vxtap --fifo /tmp/f --session 7@192.0.2.1 --control /c");
        assert_eq!((capture.asked().session.as_deref(), capture.socket()), (Some("7@192.0.2.1"), Some("/c".into())));
        for wrong in ["x --extcap-dlts", "x --extcap-interface vxtap --capture", "x run --extcap-interfaces"] {
            assert!(parse(wrong.split(' ').map(OsString::from)).is_err(), "{wrong}");
        }
    }
}
