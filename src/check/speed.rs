//! A file system takes so many bytes a second.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::process;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, fdatasync, open, unlinkat};
use rustix::process::{Resource, getrlimit};

use super::finding::Finding;
use super::words::Bytes;

/// The name of the finding.
pub(super) const SPEED: &str = "speed";

/// The most bytes that are written.
const MOST: u64 = 64 << 20;
/// The bytes of a write.
const PIECE: usize = 1 << 20;
/// The time after which no more is written.
const LONGEST: Duration = Duration::from_secs(2);

/// What a measurement has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Speed {
    /// So many bytes were on the disk after so long.
    Written(u64, Duration),
    /// It was not measured, for this reason.
    Not(String),
}

/// Writes to `directory` for a moment, into a file that never has a name, or loses it at once. At
/// most half of the `free` bytes are taken.
pub(super) fn measure(directory: &Path, free: u64) -> Speed {
    let most = MOST.min(free / 2).min(getrlimit(Resource::Fsize).current.unwrap_or(MOST));
    if most < PIECE as u64 {
        return Speed::Not("there is no room for it".into());
    }
    match temporary(directory).and_then(|file| write(file, most)) {
        Ok((bytes, time)) => Speed::Written(bytes, time),
        Err(error) => Speed::Not(error.to_string()),
    }
}

/// Makes a file without a name.
fn temporary(directory: &Path) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    if let Ok(file) = open(directory, flags | OFlags::TMPFILE, mode) {
        return Ok(file.into());
    }
    // Some file systems have no such files.
    let path = directory.join(format!(".vxtap-check-{}", process::id()));
    let file = open(&path, flags | OFlags::CREATE | OFlags::EXCL, mode)?;
    unlinkat(CWD, &path, AtFlags::empty())?;
    Ok(file.into())
}

/// Writes up to `most` bytes, and waits until they are on the disk.
fn write(mut file: File, most: u64) -> io::Result<(u64, Duration)> {
    let piece = noise();
    let begin = Instant::now();
    let mut bytes = 0;
    while bytes + PIECE as u64 <= most && begin.elapsed() < LONGEST {
        file.write_all(&piece)?;
        bytes += PIECE as u64;
    }
    fdatasync(&file)?;
    Ok((bytes, begin.elapsed()))
}

/// Makes bytes that no file system compresses.
fn noise() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_ne_bytes()
    };
    std::iter::repeat_with(next).take(PIECE / 8).flatten().collect()
}

/// Says how fast captures can be written.
pub(super) fn speed(directory: &Path, speed: &Speed) -> Finding {
    let path = directory.display();
    match speed {
        Speed::Written(bytes, time) => {
            let rate = u128::from(*bytes) * 1000 / time.as_micros().max(1);
            let reason = format!(
                "{path}: {} written and synced in {time:.1?}: {}.{} MB/s",
                Bytes(*bytes),
                rate / 1000,
                rate % 1000 / 100
            );
            Finding::ok(SPEED, reason)
        }
        Speed::Not(why) => Finding::ok(SPEED, format!("{path}: not measured: {why}")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_measurement_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let Speed::Written(bytes, time) = measure(dir.path(), 8 << 20) else { panic!("it can be written") };
        assert!(bytes == 4 << 20 && !time.is_zero(), "half of what is free");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert_eq!(measure(dir.path(), 1 << 20), Speed::Not("there is no room for it".into()));
        assert!(matches!(measure(&dir.path().join("none"), u64::MAX), Speed::Not(why) if why.contains("No such file")));
    }

    #[test]
    fn a_speed_has_its_unit() {
        let found = speed(Path::new("/data"), &Speed::Written(64 << 20, Duration::from_millis(250)));
        assert_eq!(found.reason, "/data: 64 MiB written and synced in 250.0ms: 268.4 MB/s");
    }
}
