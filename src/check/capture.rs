//! A capture that is to be read is there.

use std::path::Path;

use super::finding::Finding;
use crate::source::capture::CaptureSource;
use crate::wire::captured::Ports;

/// The name of the finding about the capture.
pub(super) const CAPTURE: &str = "capture";

/// Says whether the capture can be opened.
pub(super) fn capture(path: &Path) -> Finding {
    match CaptureSource::open(path, Ports::default()) {
        Ok(_) => Finding::ok(CAPTURE, format!("{} can be read, in place of sockets", path.display())),
        Err(error) => Finding::error(CAPTURE, error.to_string(), "name another: --source file:mirror.pcap"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn a_capture_is_a_file_that_can_be_opened() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(capture(file.path()).level, Level::Ok);
        for (path, why) in [("/nowhere/x.pcap", "No such file"), ("/dev/null", "a stream"), ("/", "a directory")] {
            let found = capture(Path::new(path));
            assert_eq!(found.level, Level::Error);
            assert!(found.reason.contains(why), "{found}");
        }
    }
}
