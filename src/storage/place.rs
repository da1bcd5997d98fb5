//! Names in a directory that others may write to are found here without ever going through a link.
//!
//! The directory that the user names is the root: links that lead to the root are the user's. Below
//! the root every step is taken from an open directory to a name in it, which must not be a link,
//! as `openat2(2)` does it with `RESOLVE_BENEATH` and `RESOLVE_NO_SYMLINKS`. The steps are ours,
//! since older kernels and containers refuse that call, and captures lie one directory deep.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, open, openat, statat};
use rustix::io::Errno;

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Something in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Its name.
    pub name: OsString,
    /// Its kind; a link is not followed.
    pub kind: FileType,
}

/// Opens the directory of a file, and returns it with the file's name in it. Without a root only
/// the file's own directory must not be a link.
pub(super) fn place<'a>(root: Option<&Path>, path: &'a Path) -> io::Result<(OwnedFd, &'a OsStr)> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    if root.is_some_and(|root| path.starts_with(root)) {
        return Ok((directory(root, parent)?, name));
    }
    step(open(parent, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()), || parent.is_symlink()).map(|open| (open, name))
}

/// Opens a directory to find names in it. A directory that is not below the root is found as the
/// system does.
pub(super) fn directory(root: Option<&Path>, path: &Path) -> io::Result<OwnedFd> {
    let below = root.and_then(|root| Some((root, path.strip_prefix(root).ok()?)));
    let Some((root, below)) = below else { return Ok(open(path, DIRECTORY, Mode::empty())?) };
    let mut names = below.components();
    // The first step goes by the root's path, which saves opening the root.
    let Some(first) = names.next() else { return Ok(open(root, DIRECTORY, Mode::empty())?) };
    let first = root.join(normal(first)?);
    let mut at = step(open(&first, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()), || first.is_symlink())?;
    for name in names {
        let name = normal(name)?;
        let next = openat(&at, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty());
        at = step(next, || kind(&at, name).is_ok_and(|kind| kind == FileType::Symlink))?;
    }
    Ok(at)
}

fn normal(component: Component<'_>) -> io::Result<&OsStr> {
    match component {
        Component::Normal(name) => Ok(name),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Returns a directory that was opened, or why it was not. The system does not say that the name is
/// a link.
fn step(opened: Result<OwnedFd, Errno>, is_link: impl FnOnce() -> bool) -> io::Result<OwnedFd> {
    if matches!(opened, Err(Errno::NOTDIR | Errno::LOOP)) && is_link() {
        let what = "its directory is a symbolic link, which is not followed";
        return Err(io::Error::new(io::ErrorKind::NotADirectory, what));
    }
    Ok(opened?)
}

fn kind(directory: impl AsFd, name: &OsStr) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode))
}

/// Lists what is in `directory`.
pub(super) fn list(directory: impl AsFd) -> io::Result<Vec<Named>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = openat(&directory, c".", flags, Mode::empty())?;
    let mut found = Vec::new();
    for entry in Dir::read_from(&open)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if matches!(name.as_bytes(), b"." | b"..") {
            continue;
        }
        let kind = match entry.file_type() {
            // The file system does not say the kind, or somebody removed the name.
            FileType::Unknown => match kind(&open, name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                kind => kind?,
            },
            kind => kind,
        };
        found.push(Named { name: name.to_owned(), kind });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn no_step_below_the_root_goes_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (real, outside) = (dir.path().join("real"), dir.path().join("outside"));
        fs::create_dir_all(real.join("a/b")).unwrap();
        fs::create_dir_all(outside.join("b")).unwrap();
        let root = dir.path().join("root");
        symlink(&real, &root).unwrap();
        symlink(&outside, real.join("link")).unwrap();
        symlink(&outside, real.join("a/link")).unwrap();
        for fine in ["f", "a/f", "a/b/f"] {
            place(Some(&root), &root.join(fine)).unwrap();
        }
        for link in ["link/f", "link/b/f", "a/link/f", "a/link/b/f"] {
            let error = place(Some(&root), &root.join(link)).unwrap_err();
            assert_eq!(error.to_string(), "its directory is a symbolic link, which is not followed", "{link}");
        }
        assert_eq!(place(Some(&root), &root.join("a/../../f")).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        let mut found: Vec<_> = list(directory(Some(&root), &root.join("a")).unwrap()).unwrap();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        let found: Vec<_> = found.iter().map(|named| (named.name.to_str().unwrap(), named.kind)).collect();
        assert_eq!(found, [("b", FileType::Directory), ("link", FileType::Symlink)]);
    }
}
