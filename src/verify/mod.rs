//! `vxtap verify` says whether a directory is as its manifest says.
//!
//! Each line of the manifest names the hash of the line before ([`crate::evidence`]), so a line
//! that was changed, removed or added shows in the one that follows. A chain cannot show that its
//! end was cut off or changed. For that, whoever wants proof notes the hash of the last line
//! elsewhere, and asks for it later.
//!
//! Of a file whose line has no hash only the size is compared, and the report says how many these
//! are. All others are hashed as their lines say. Taking the hash out of a line changes the line,
//! and shows as any change does.
//!
//! A sensor may be writing all the while. The directory is listed before the manifest is read, so
//! that each published file of the list has its line. The manifest is read on at the end, for what
//! was pruned meanwhile.

mod chain;
mod error;
mod files;
mod report;

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::OFlags;

use crate::console::Console;
use crate::evidence::{Digest, NAME};
use crate::storage::{Direct, Disk, Storage};

pub(crate) use error::VerifyError;
pub(crate) use report::{Mismatch, Report};

use chain::Chain;

/// Compares `directory` with its manifest, until that is done or `stop` becomes true. Where a
/// `head` is given, it has to be the hash of one of the lines.
///
/// # Errors
/// The directory or its manifest cannot be read. Files that cannot be read are mismatches.
pub fn run(
    directory: &Path,
    head: Option<Digest>,
    stop: &AtomicBool,
    console: &Console,
) -> Result<Report, VerifyError> {
    let manifest = directory.join(NAME);
    let fail = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound if directory.is_dir() => no_manifest(directory),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            VerifyError::Directory { path: directory.to_owned(), source }
        }
        _ => VerifyError::Manifest { path: manifest.clone(), source },
    };
    let storage = Disk::below(directory, Direct::Off);
    // The manifest is opened before the directory is listed, which may be the wrong one, and large.
    storage.open(&manifest, OFlags::RDONLY).map_err(fail)?;
    let found = files::find(&storage, directory)?;
    let mut chain = Chain::default();
    chain.read(&storage, &manifest).map_err(fail)?;
    let mut report = Report::default();

    report.mismatches.extend(found.links.into_iter().map(|path| Mismatch::Link { path }));
    let jobs = chain.expected(&found.captures);
    let bar = console.progress(jobs.iter().filter_map(|job| job.bytes).fold(0, u64::saturating_add));
    let looks = files::look_at(&storage, directory, &jobs, stop, &bar);
    bar.finish_and_clear();
    report.interrupted = stop.load(Ordering::Relaxed);

    chain.read(&storage, &manifest).map_err(fail)?;
    for (job, look) in jobs.iter().zip(looks) {
        match look {
            Some(look) => chain.judge(job, look, &mut report),
            None => report.unchecked += 1,
        }
    }
    chain.strangers(&found.captures, &mut report);
    chain.end(head, &mut report);
    Ok(report)
}

fn no_manifest(directory: &Path) -> VerifyError {
    // Someone may have named a session's directory.
    let above = fs::canonicalize(directory).ok().and_then(|path| Some(path.parent()?.to_owned()));
    let advice = match above.filter(|above| above.join(NAME).exists()) {
        Some(above) => format!("{} has one", above.display()),
        None => "name the directory that was given to `vxtap run --write`".into(),
    };
    VerifyError::NoManifest { directory: directory.to_owned(), advice }
}

#[cfg(test)]
mod tests;
