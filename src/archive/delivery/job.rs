//! A job knows whether its capture is still there, so that no consumer reads what somebody put in
//! its place.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::consumer::Job;
use crate::archive::books::hash_file;
use crate::evidence::Capture;
use crate::storage::{Changed, Identity, Storage, changed};

/// Makes the job for a capture that this process published.
pub(super) fn new_job(path: PathBuf, capture: Capture, file: Option<Identity>, storage: &Arc<dyn Storage>) -> Job {
    let storage = Arc::clone(storage);
    Job { path, capture, replaced: Box::new(move |path, bytes| replaced(&*storage, path, file?, bytes)) }
}

/// Makes the job for a capture that was published a while ago. It is known by its line, so its
/// content has to be what the line says.
pub(super) fn old_job(path: PathBuf, capture: Capture, file: Identity, storage: &Arc<dyn Storage>) -> Job {
    let (disk, hash) = (Arc::clone(storage), capture.hash);
    let Job { path, capture, replaced } = new_job(path, capture, Some(file), storage);
    let is_another = move |path: &Path| {
        let hash = hash?;
        let found = hash_file(&*disk, path, hash.algorithm()).ok()?;
        (found != hash).then_some(Changed::Other)
    };
    Job { path, capture, replaced: Box::new(move |path, bytes| replaced(path, bytes).or_else(|| is_another(path))) }
}

/// Says what has a published file's name in its place, if anything. Other names of the file itself,
/// as a snapshot gives it, are no harm.
fn replaced(storage: &dyn Storage, path: &Path, file: Identity, bytes: u64) -> Option<Changed> {
    changed(storage, path, &file, bytes..=bytes).filter(|changed| !matches!(changed, Changed::Links(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Disk;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_link_in_a_captures_place_is_seen_and_a_snapshot_is_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        let (path, secret) = (dir.path().join("a.pcap"), dir.path().join("secret"));
        fs::write(&path, "abcd").unwrap();
        fs::write(&secret, "abcd").unwrap();
        let storage = Disk::default();
        let file = storage.status(&path).unwrap().unwrap().identity;
        let replaced = || replaced(&storage, &path, file, 4);
        assert_eq!(replaced(), None);
        fs::hard_link(&path, dir.path().join("snapshot")).unwrap();
        assert_eq!(replaced(), None);
        fs::rename(&path, dir.path().join("away")).unwrap();
        assert_eq!(replaced(), Some(Changed::Missing));
        symlink(&secret, &path).unwrap();
        assert!(matches!(replaced(), Some(Changed::Kind(_))));
        fs::remove_file(&path).unwrap();
        fs::copy(&secret, &path).unwrap();
        assert_eq!(replaced(), Some(Changed::Other));
    }
}
