//! The tags of sessions are in a file, so that they are the same after a restart.
//!
//! The file is one sensor's: two would give the same tag to different sessions. A thread of its own
//! writes it, so that no frame waits for the disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::episode::Episode;
use crate::evidence::lock;
use crate::route::{Registry, Tags, TagsError};
use crate::session::{Session, Tag};
use crate::storage::read_small;

/// The most bytes of the file: twice what all tags need.
const MOST: usize = 32 << 20;
/// The file is written at most once in this time.
const EVERY: Duration = Duration::from_secs(1);

/// The file as JSON has it.
#[derive(Serialize, Deserialize)]
struct Listed {
    tags: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    #[serde(flatten)]
    session: Session,
    /// The VLANs of the tag, the outer first.
    tag: Tag,
}

/// The reasons why a file of tags cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TagMapError {
    /// It cannot be read or written.
    #[error("the tags of sessions cannot be kept in {path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// The error.
        error: io::Error,
    },
    /// It is another sensor's.
    #[error(
        "{path} is in use by another vxtap{holder}: stop that one, or name another file with --tag-map \
         (sessions.tag_map)",
        holder = pid.map(|pid| format!(", process {pid}")).unwrap_or_default()
    )]
    InUse {
        /// The file.
        path: PathBuf,
        /// The other process, where the system tells.
        pid: Option<i32>,
    },
    /// It is no list of tags.
    #[error("{path} is no list of tags: {error}: {}", way_out(path))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The fault.
        error: String,
    },
    /// It contradicts itself.
    #[error("{path} contradicts itself: {error}: {}", way_out(path))]
    Tags {
        /// The file.
        path: PathBuf,
        /// The fault.
        error: TagsError,
    },
}

/// Says what to do about a file that cannot be used.
fn way_out(path: &Path) -> String {
    let path = path.display();
    format!("mend it, put back a copy, or have sessions get new tags: mv {path} {path}.damaged")
}

/// A file of tags that belongs to this process.
#[derive(Debug)]
pub(crate) struct TagMap {
    path: PathBuf,
    /// The number of tags that the file has.
    kept: usize,
    /// Holds the lock; none where the file system has no locks. The system lets go of it with the
    /// process, however that ends.
    _lock: Option<File>,
}

impl TagMap {
    /// Takes a file for this process and reads the tags that it has; none where there is no file
    /// yet. The file is written once, which shows that it can be.
    ///
    /// # Errors
    /// It cannot be read or written, is no list of tags, or is another sensor's.
    pub(crate) fn open(path: &Path) -> Result<(Self, Tags), TagMapError> {
        let path = path.to_owned();
        let lock = take(&path)?;
        let damaged = |error: String| TagMapError::Damaged { path: path.clone(), error };
        let listed: Listed = match read_small(&path, MOST) {
            Ok(text) => serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Listed { tags: Vec::new() },
            // It is too large, no file, or no text.
            Err(error) if error.raw_os_error().is_none() => return Err(damaged(error.to_string())),
            Err(error) => return Err(TagMapError::File { path, error }),
        };
        let tags = Tags::new(listed.tags.iter().map(|entry| (entry.session, entry.tag)));
        let tags = tags.map_err(|error| TagMapError::Tags { path: path.clone(), error })?;
        match write(&path, &listed) {
            Ok(()) => Ok((Self { path, kept: listed.tags.len(), _lock: lock }, tags)),
            Err(error) => Err(TagMapError::File { path, error }),
        }
    }

    /// Keeps the file up to date with the tags that `registry` gives, until the keeper is dropped.
    ///
    /// # Errors
    /// There is no thread for it.
    pub(crate) fn keep(self, registry: Arc<Registry>) -> io::Result<TagKeeper> {
        let (end, ended) = bounded(0);
        let writer = Writer { map: self, registry, failing: Episode::default(), out: Episode::default() };
        let thread = thread::Builder::new().name("vxtap-tags".into()).spawn(move || writer.run(&ended))?;
        Ok(TagKeeper { end: Some(end), thread: Some(thread) })
    }
}

/// Takes the lock that goes with a file. It is on a file beside, for the file itself is replaced
/// whenever it is written.
fn take(path: &Path) -> Result<Option<File>, TagMapError> {
    let failed = |error| TagMapError::File { path: path.to_owned(), error };
    let beside = beside(path, ".lock");
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(false).mode(0o644);
    let file = options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&beside).map_err(failed)?;
    match lock::try_lock(&file) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::WOULDBLOCK) => Err(TagMapError::InUse { path: path.to_owned(), pid: lock::holder(&file) }),
        Err(error) => {
            let path = beside.display();
            tracing::warn!("{path} cannot be locked ({error}): make sure that no other vxtap has this tag map");
            Ok(None)
        }
    }
}

/// Returns a path that has `ending` behind it.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(ending);
    beside.into()
}

/// Writes the file anew beside itself, so that whoever reads it finds a whole one, also after a
/// loss of power.
fn write(path: &Path, listed: &Listed) -> io::Result<()> {
    let beside = beside(path, ".new");
    let mut text = String::from("{\"tags\": [");
    for (number, entry) in listed.tags.iter().enumerate() {
        let separator = if number == 0 { "\n" } else { ",\n" };
        text.push_str(separator);
        text.push_str(&serde_json::to_string(entry)?);
    }
    text.push_str("\n]}\n");
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o644).custom_flags(libc::O_NOFOLLOW);
    let mut file = options.open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match File::open(directory)?.sync_all() {
        // Some file systems cannot sync a directory.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        result => result,
    }
}

/// Keeps the file up to date. When dropped it waits until the last tags are written.
#[derive(Debug)]
pub(crate) struct TagKeeper {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for TagKeeper {
    fn drop(&mut self) {
        self.end = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that keeps the tags of sessions panicked: please report this");
        }
    }
}

/// What the thread has that writes the file.
struct Writer {
    map: TagMap,
    registry: Arc<Registry>,
    /// Lasts while the file cannot be written.
    failing: Episode,
    /// Lasts from the first session on for which there was no tag.
    out: Episode,
}

impl Writer {
    fn run(mut self, ended: &Receiver<()>) {
        while ended.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
            self.keep();
        }
        self.keep();
    }

    /// Writes the file where there are new tags.
    fn keep(&mut self) {
        let TagMap { path, kept, .. } = &mut self.map;
        let result = self.registry.tags_beyond(*kept).map_or(Ok(()), |tags| {
            let tags: Vec<_> = tags.into_iter().map(|(session, tag)| Entry { session, tag }).collect();
            let number = tags.len();
            write(path, &Listed { tags }).inspect(|()| *kept = number)
        });
        match result {
            Ok(()) if self.failing.ends() => {
                tracing::info!(path = %path.display(), "the tags of sessions are kept again");
            }
            Err(error) if self.failing.begins() => {
                tracing::warn!(path = %path.display(), %error, "the tags of new sessions cannot be kept; after a restart they may be others");
            }
            Ok(()) | Err(_) => {}
        }
        if self.registry.is_out_of_tags() && self.out.begins() {
            tracing::warn!(
                path = %path.display(),
                tags = Tag::MOST,
                "all tags are given: new sessions share VLAN 4094 and cannot be told apart; to begin anew, stop the sensor and move the file away"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::time::Instant;

    use super::*;
    use crate::record::Timestamp;
    use crate::route::SessionTable;
    use crate::wire::Vni;

    fn see(registry: &Arc<Registry>, vni: u32) {
        let source = std::net::Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped();
        let session = Session::vxlan(source, Vni::new(vni).unwrap());
        SessionTable::new(Arc::clone(registry)).see(&session, 4789, 60, Timestamp::from_ns(1));
    }

    #[test]
    fn a_file_is_made_and_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tags.json");
        assert!(TagMap::open(&path).is_ok(), "there is none");
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"tags\": [\n]}\n");
        let text = "{\"tags\": [\n{\"source\":\"192.0.2.1\",\"vni\":7,\"tag\":[1]},\n\
                    {\"source\":\"2001:db8::1\",\"vni\":8,\"tag\":[4078,5]}\n]}\n";
        fs::write(&path, text).unwrap();
        assert!(TagMap::open(&path).is_ok());
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }

    #[test]
    fn what_is_no_list_of_tags_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tags.json");
        let says = |text: &[u8]| {
            fs::write(&path, text).unwrap();
            let error = TagMap::open(&path).unwrap_err().to_string();
            assert_eq!(fs::read(&path).unwrap(), text);
            let command = format!("mv {path} {path}.damaged", path = path.display());
            assert!(error.ends_with(&command), "{error}");
            error
        };
        let entry = |vni: u32, tag: &str| format!("{{\"source\":\"192.0.2.1\",\"vni\":{vni},\"tag\":{tag}}}");
        assert!(says(b"").contains("is no list of tags"));
        assert!(says(b"\xff\xfe").contains("is no list of tags: it is not text in UTF-8"));
        assert!(says(format!("{{\"tags\": [\n{}\n]}}", entry(7, "[0]")).as_bytes()).contains("[0] is no tag"));
        let twice = says(format!("{{\"tags\": [\n{},\n{}\n]}}", entry(7, "[3]"), entry(8, "[3]")).as_bytes());
        assert!(twice.contains("VLAN 3 is that of two sessions"), "{twice}");
        // What it says can be done.
        fs::rename(&path, beside(&path, ".damaged")).unwrap();
        assert!(TagMap::open(&path).is_ok());
        let missing = TagMap::open(&directory.path().join("none/tags.json")).unwrap_err().to_string();
        assert!(missing.contains("cannot be kept in"), "{missing}");
    }

    #[test]
    fn a_file_belongs_to_one_sensor_by_whatever_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tags.json");
        let (map, _) = TagMap::open(&path).unwrap();
        symlink(".", directory.path().join("here")).unwrap();
        for name in [path.clone(), directory.path().join("here/tags.json")] {
            let error = TagMap::open(&name).unwrap_err().to_string();
            let me = format!("is in use by another vxtap, process {}: stop that one", std::process::id());
            assert!(error.contains(&me) && error.contains("--tag-map"), "{error}");
        }
        assert!(TagMap::open(&directory.path().join("other.json")).is_ok());
        let registry = Arc::new(Registry::new(9).tagged(Tags::default()));
        let keeper = map.keep(registry).unwrap();
        assert!(TagMap::open(&path).is_err(), "the keeper has it still");
        drop(keeper);
        assert!(TagMap::open(&path).is_ok());
    }

    #[test]
    fn new_tags_are_kept_meanwhile_and_at_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tags.json");
        let (map, tags) = TagMap::open(&path).unwrap();
        let registry = Arc::new(Registry::new(9).tagged(tags));
        let keeper = map.keep(Arc::clone(&registry)).unwrap();
        see(&registry, 7);
        let until = Instant::now() + Duration::from_secs(30);
        while !fs::read_to_string(&path).unwrap().contains("\"vni\":7,\"tag\":[1]") {
            assert!(Instant::now() < until, "it is not written");
            thread::sleep(Duration::from_millis(20));
        }
        see(&registry, 8);
        drop(keeper);
        assert!(fs::read_to_string(&path).unwrap().contains("\"vni\":8,\"tag\":[2]"));
    }

    #[test]
    fn that_no_tags_are_left_is_known_and_said_once() {
        let directory = tempfile::tempdir().unwrap();
        let (map, _) = TagMap::open(&directory.path().join("tags.json")).unwrap();
        let source = std::net::Ipv4Addr::new(192, 0, 2, 9).to_ipv6_mapped();
        let before = Session::vxlan(source, Vni::new(1).unwrap());
        let tags = Tags::new([(before, Tag::new(Tag::MOST - 1).unwrap())]).unwrap();
        let registry = Arc::new(Registry::new(9).tagged(tags));
        let failing = Episode::default();
        let mut writer = Writer { map, registry: Arc::clone(&registry), failing, out: Episode::default() };
        see(&registry, 7);
        writer.keep();
        assert!(!writer.out.lasts(), "that is the last, and its own");
        see(&registry, 8);
        writer.keep();
        assert!(writer.out.lasts() && !writer.failing.lasts());
    }
}
