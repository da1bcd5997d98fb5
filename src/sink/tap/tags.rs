//! The tags of sessions are in a file, so that they are the same after a restart.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::route::{Registry, SessionId, Tags, TagsError};
use crate::session::{Session, Tag, TagBytes};
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
    /// It is no list of tags.
    #[error("{path} is no list of tags: {error}: mend it, or move it away, and sessions get new tags")]
    Json {
        /// The file.
        path: PathBuf,
        /// The fault.
        error: serde_json::Error,
    },
    /// It contradicts itself.
    #[error("{path} contradicts itself: {error}: mend it, or move it away, and sessions get new tags")]
    Tags {
        /// The file.
        path: PathBuf,
        /// The fault.
        error: TagsError,
    },
}

/// Reads the tags that a file has; none where there is no file yet. The file is written once, which
/// shows that it can be.
///
/// # Errors
/// It cannot be read or written, or is no list of tags.
pub(crate) fn read(path: &Path) -> Result<Tags, TagMapError> {
    let file = |error| TagMapError::File { path: path.to_owned(), error };
    let listed: Listed = match read_small(path, MOST) {
        Ok(text) => serde_json::from_str(&text).map_err(|error| TagMapError::Json { path: path.to_owned(), error })?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Listed { tags: Vec::new() },
        Err(error) => return Err(file(error)),
    };
    write(path, &listed).map_err(file)?;
    let tags = Tags::new(listed.tags.into_iter().map(|entry| (entry.session, entry.tag)));
    tags.map_err(|error| TagMapError::Tags { path: path.to_owned(), error })
}

/// Writes the file anew beside itself, so that whoever reads it finds a whole one.
fn write(path: &Path, listed: &Listed) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let mut text = String::from("{\"tags\": [");
    for (number, entry) in listed.tags.iter().enumerate() {
        let separator = if number == 0 { "\n" } else { ",\n" };
        text.push_str(separator);
        text.push_str(&serde_json::to_string(entry)?);
    }
    text.push_str("\n]}\n");
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o644).custom_flags(libc::O_NOFOLLOW);
    options.open(&beside)?.write_all(text.as_bytes())?;
    fs::rename(&beside, path)
}

/// Knows the tags of the sessions whose frames come, and keeps the file up to date.
#[derive(Debug)]
pub(super) struct Tagger {
    registry: Arc<Registry>,
    path: PathBuf,
    /// The tags by the number of the session, as far as they were asked for.
    known: Vec<Option<TagBytes>>,
    next_write: Instant,
    /// True after a line was written that the file cannot be.
    said: bool,
}

impl Tagger {
    pub(super) fn new(registry: Arc<Registry>, path: PathBuf) -> Self {
        Self { registry, path, known: Vec::new(), next_write: Instant::now(), said: false }
    }

    /// Returns the tag of a session.
    #[inline]
    pub(super) fn of(&mut self, session: SessionId) -> TagBytes {
        match self.known.get(session.index()) {
            Some(Some(tag)) => *tag,
            _ => self.learn(session),
        }
    }

    /// Asks again for the tags of these sessions: their numbers may be given to others.
    pub(super) fn forget(&mut self, sessions: &[SessionId]) {
        for session in sessions {
            if let Some(tag) = self.known.get_mut(session.index()) {
                *tag = None;
            }
        }
    }

    #[cold]
    fn learn(&mut self, session: SessionId) -> TagBytes {
        let tag = self.registry.tag(session).bytes();
        if self.known.len() <= session.index() {
            self.known.resize(session.index() + 1, None);
        }
        if let Some(known) = self.known.get_mut(session.index()) {
            *known = Some(tag);
        }
        tag
    }

    /// Writes the file where there are new tags, once in a while.
    pub(super) fn tick(&mut self, now: Instant) {
        if now >= self.next_write {
            self.next_write = now + EVERY;
            self.keep();
        }
    }

    /// Writes the file where there are new tags.
    pub(super) fn keep(&mut self) {
        let path = &self.path;
        let result = self.registry.save_tags(|tags| {
            let tags = tags.iter().map(|(session, tag)| Entry { session: *session, tag: *tag }).collect();
            write(path, &Listed { tags })
        });
        match result {
            Ok(()) if self.said => {
                self.said = false;
                tracing::info!(path = %path.display(), "the tags of sessions are kept again");
            }
            Ok(()) => {}
            Err(error) if !self.said => {
                self.said = true;
                tracing::warn!(path = %path.display(), %error, "the tags of new sessions cannot be kept; after a restart they may be others");
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_made_and_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tags.json");
        assert!(read(&path).is_ok(), "there is none");
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"tags\": [\n]}\n");
        let text = "{\"tags\": [\n{\"source\":\"192.0.2.1\",\"vni\":7,\"tag\":[1]},\n\
                    {\"source\":\"2001:db8::1\",\"vni\":8,\"tag\":[4078,5]}\n]}\n";
        fs::write(&path, text).unwrap();
        assert!(read(&path).is_ok());
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }

    #[test]
    fn what_is_no_list_of_tags_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tags.json");
        let says = |text: &str| {
            fs::write(&path, text).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert_eq!(fs::read_to_string(&path).unwrap().trim(), text.trim());
            error
        };
        let entry = |vni: u32, tag: &str| format!("{{\"source\":\"192.0.2.1\",\"vni\":{vni},\"tag\":{tag}}}");
        assert!(says("").contains("is no list of tags"));
        assert!(says(&format!("{{\"tags\": [\n{}\n]}}", entry(7, "[0]"))).contains("[0] is no tag"));
        let twice = says(&format!("{{\"tags\": [\n{},\n{}\n]}}", entry(7, "[3]"), entry(8, "[3]")));
        assert!(twice.contains("VLAN 3 is that of two sessions"), "{twice}");
        let missing = read(&directory.path().join("none/tags.json")).unwrap_err().to_string();
        assert!(missing.contains("cannot be kept in"), "{missing}");
    }
}
