//! A directory of captures can be written to, by nobody else, and has room.

use std::path::PathBuf;

use super::finding::Finding;
use super::words::{Bytes, count};
use crate::archive::BudgetPlan;

/// The names of the findings.
pub(super) const DIRECTORY: &str = "directory";
pub(super) const PARTS: &str = "parts";
pub(super) const ROOM: &str = "room";

/// What is so about a directory of captures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Directory {
    /// Its path.
    pub path: PathBuf,
    /// What has the path.
    pub state: State,
    /// The process that writes there.
    pub holder: Option<i32>,
    /// The size of the file system and the room that is left, in bytes.
    pub space: Option<(u64, u64)>,
    /// Files that were not completed, and their bytes.
    pub parts: (u64, u64),
}

/// What has the path of a directory of captures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing yet. The nearest directory above it is this one.
    Missing {
        /// The directory above.
        above: PathBuf,
        /// True where this user may make a directory there.
        writable: bool,
    },
    /// Something that is no directory.
    Other,
    /// A directory.
    There {
        /// The number of its owner.
        owner: u32,
        /// Its mode, as `0o750`.
        mode: u32,
        /// True where this user may make files in it.
        writable: bool,
    },
}

/// Says whether captures can be written there, and who can read them.
pub(super) fn directory(directory: &Directory, user: u32) -> Finding {
    let path = directory.path.display();
    match &directory.state {
        State::Missing { above, writable: true } => {
            Finding::ok(DIRECTORY, format!("{path} is made at the start, in {}", above.display()))
        }
        State::Missing { above, writable: false } => Finding::error(
            DIRECTORY,
            format!("{path} is not there, and user {user} may not make it in {}", above.display()),
            format!("sudo install -d -o {user} -m 750 {path}"),
        ),
        State::Other => Finding::error(
            DIRECTORY,
            format!("{path} is no directory"),
            format!("name another, or: mv {path} {path}.old"),
        ),
        State::There { owner, mode, writable: false } => Finding::error(
            DIRECTORY,
            format!("{path} is user {owner}'s (mode {mode:o}), and user {user} may not write there"),
            format!("sudo chown {user} {path}, or run it as user {owner}"),
        ),
        State::There { mode, .. } if mode & 0o002 != 0 => Finding::warning(
            DIRECTORY,
            format!("{path} has mode {mode:o}: anybody on this host can put files there and remove captures"),
            format!("chmod o-rwx {path}"),
        ),
        State::There { mode, .. } if mode & 0o005 == 0o005 => Finding::warning(
            DIRECTORY,
            format!("{path} has mode {mode:o}: anybody on this host can list it"),
            format!("chmod o-rwx {path}"),
        ),
        State::There { owner, mode, .. } => {
            Finding::ok(DIRECTORY, format!("{path} can be written to (owner {owner}, mode {mode:o})"))
        }
    }
}

/// Says whether a sensor left files that it did not complete.
pub(super) fn parts(directory: &Directory) -> Finding {
    let path = directory.path.display();
    let (files, bytes) = directory.parts;
    let are = if files == 1 { "is" } else { "are" };
    match (files, directory.holder) {
        (0, _) => Finding::ok(PARTS, format!("{path} has no file that was not completed")),
        (_, Some(pid)) => {
            Finding::ok(PARTS, format!("{path}: {} {are} being written, by process {pid}", count(files, "file")))
        }
        (_, None) => Finding::warning(
            PARTS,
            format!(
                "{path}: {} ({}) {are} not complete, for a sensor ended before it could; the next start salvages what is whole",
                count(files, "file"),
                Bytes(bytes)
            ),
            "start the sensor, or look first: find DIR -name '*.part'".replace("DIR", &path.to_string()),
        ),
    }
}

/// Compares the room on the file system with what is to be kept and what is to be left free.
pub(super) fn room(directory: &Directory, budget: &BudgetPlan) -> Finding {
    let path = directory.path.display();
    let Some((total, free)) = directory.space else {
        return Finding::ok(ROOM, format!("{path}: nobody tells how much room there is"));
    };
    let of = format!("{} of {} are free", Bytes(free), Bytes(total));
    if let Some(min) = budget.min_free.map(|min| min.of(total)).filter(|min| free < *min) {
        return Finding::warning(
            ROOM,
            format!(
                "{path}: {of}, and --min-free asks for {}: the oldest captures go at once, and then frames",
                Bytes(min)
            ),
            "remove other files from the file system, or ask for less: --min-free 5%",
        );
    }
    let reserve = budget.reserve_of(total).map(|reserve| reserve.of(total));
    if let Some(reserve) = reserve.filter(|reserve| free < *reserve) {
        return Finding::error(
            ROOM,
            format!("{path}: {of}, and {} stay free: frames are dropped (disk_full)", Bytes(reserve)),
            "remove files, or have the oldest captures go: --min-free 10%",
        );
    }
    if let Some(keep) = budget.keep_bytes.filter(|keep| *keep > total) {
        return Finding::warning(
            ROOM,
            format!(
                "{path}: --keep-bytes lets captures grow to {}, and the file system has {}",
                Bytes(keep),
                Bytes(total)
            ),
            format!("--keep-bytes {}GiB, or --min-free 10%", (total / 10 * 8) >> 30),
        );
    }
    if let Some(reserve) = reserve.filter(|_| budget.keep_bytes.is_none()) {
        return Finding::warning(
            ROOM,
            format!(
                "{path}: {of}; nothing removes captures for want of room, and frames are dropped once {} are left",
                Bytes(reserve)
            ),
            "have the oldest captures go: --min-free 10%, or --keep-bytes",
        );
    }
    Finding::ok(ROOM, format!("{path}: {of}"))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;
    use crate::archive::MinFree;

    fn there(mode: u32, writable: bool) -> Directory {
        Directory {
            path: "/data".into(),
            state: State::There { owner: 7, mode, writable },
            holder: None,
            space: Some((100 << 30, 50 << 30)),
            parts: (0, 0),
        }
    }

    #[test]
    fn a_directory_is_ours_alone_or_not() {
        let level = |found: &Directory| directory(found, 7).level;
        assert_eq!(level(&there(0o750, true)), Level::Ok);
        assert_eq!([level(&there(0o755, true)), level(&there(0o777, true))], [Level::Warning; 2]);
        assert_eq!(level(&there(0o750, false)), Level::Error);
        let state = |state| Directory { state, ..there(0, true) };
        assert_eq!(level(&state(State::Other)), Level::Error);
        let missing = |writable| state(State::Missing { above: "/".into(), writable });
        assert_eq!((level(&missing(true)), level(&missing(false))), (Level::Ok, Level::Error));
        assert_eq!(directory(&missing(false), 7).remedy.as_deref(), Some("sudo install -d -o 7 -m 750 /data"));
    }

    #[test]
    fn parts_are_a_running_sensors_or_left_over() {
        let with = |parts, holder| self::parts(&Directory { parts, holder, ..there(0o750, true) });
        assert_eq!((with((0, 0), None).level, with((3, 9), Some(5)).level), (Level::Ok, Level::Ok));
        let left = with((3, 3 << 20), None);
        assert_eq!(left.level, Level::Warning);
        assert!(left.reason.starts_with("/data: 3 files (3 MiB) are not complete"), "{left}");
        assert_eq!(left.remedy.as_deref(), Some("start the sensor, or look first: find /data -name '*.part'"));
    }

    #[test]
    fn room_is_enough_for_what_is_kept() {
        let usual = BudgetPlan { reserve: Some(MinFree::Usual), ..BudgetPlan::default() };
        let found = |budget: BudgetPlan, free: u64| {
            room(&Directory { space: Some((100 << 30, free << 30)), ..there(0o750, true) }, &budget).level
        };
        let min = BudgetPlan { min_free: Some(MinFree::Permille(100)), ..usual };
        assert_eq!((found(min, 50), found(min, 9)), (Level::Ok, Level::Warning));
        assert_eq!((found(usual, 4), found(usual, 50)), (Level::Error, Level::Warning));
        let keep = |gib: u64| BudgetPlan { keep_bytes: Some(gib << 30), ..usual };
        assert_eq!((found(keep(50), 50), found(keep(500), 50)), (Level::Ok, Level::Warning));
        assert_eq!(room(&Directory { space: None, ..there(0o750, true) }, &usual).level, Level::Ok);
    }
}
