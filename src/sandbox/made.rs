//! Directories are made before the rules for them, and removed again where the start fails.
//!
//! By then the rules forbid that. So a thread that is there before them waits for how the start
//! ends.

use std::fs;
use std::path::PathBuf;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};

use super::needs::{real, roof};

/// The directories that were made for captures.
#[derive(Debug, Default)]
pub(super) struct Made {
    waiting: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Made {
    /// Makes the directories that those of captures are to be in, or these where a rule is to be of
    /// them alone. What cannot be made is said by who needs it.
    pub(super) fn for_captures(captures: &[PathBuf]) -> Self {
        let mut made = Vec::new();
        for directory in captures.iter().map(|directory| real(directory)) {
            let wanted = roof(&directory).unwrap_or(&directory);
            let mut missing: Vec<_> = wanted.ancestors().take_while(|path| !path.exists()).map(PathBuf::from).collect();
            let _ = fs::create_dir_all(wanted);
            missing.append(&mut made);
            made = missing;
        }
        if made.is_empty() {
            return Self::default();
        }
        let (keep, kept) = mpsc::channel();
        let wait = move || {
            if kept.recv().is_err() {
                // One that has something in it stays.
                made.iter().for_each(|directory| drop(fs::remove_dir(directory)));
            }
        };
        // Without a thread they stay.
        Self { waiting: thread::Builder::new().spawn(wait).ok().map(|thread| (keep, thread)) }
    }

    /// Has them stay. The thread has ended then.
    pub(super) fn keep(&mut self) {
        if let Some((keep, thread)) = self.waiting.take() {
            let _ = keep.send(());
            let _ = thread.join();
        }
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        if let Some((keep, thread)) = self.waiting.take() {
            drop(keep);
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_stays_where_it_is_kept_or_used() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("a");
        let captures = [top.join("b/captures"), top.join("c/d/captures"), top.join("c/captures")];
        drop(Made::for_captures(&captures));
        assert!(!top.exists());
        let made = Made::for_captures(&captures);
        assert!(top.join("b").exists() && top.join("c/d").exists() && !top.join("b/captures").exists());
        fs::create_dir(&captures[0]).unwrap();
        drop(made);
        assert!(captures[0].exists() && !top.join("c").exists());
        Made::for_captures(&captures).keep();
        assert!(top.join("c/d").exists());
    }
}
