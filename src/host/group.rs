//! A container or a service may have less memory than its host: control groups say how much.

use std::fs;
use std::path::{Component, Path, PathBuf};

use procfs::process::Process;

/// Where groups are, and the file of each that has its limit, by cgroups(7): those of version 2,
/// and of version 1.
const TWO: (&str, &str) = ("/sys/fs/cgroup", "memory.max");
const ONE: (&str, &str) = ("/sys/fs/cgroup/memory", "memory.limit_in_bytes");

/// Returns the bytes of memory that the control groups of this process let it have: its group, and
/// all above. `None` is returned where they set no limit, or nobody tells.
pub(crate) fn memory() -> Option<u64> {
    let groups = Process::myself().and_then(|process| process.cgroups()).ok()?;
    let limits = groups.into_iter().filter_map(|group| {
        let (root, file) = match group.hierarchy {
            0 => TWO,
            _ if group.controllers.iter().any(|controller| controller == "memory") => ONE,
            _ => return None,
        };
        least(Path::new(root), Path::new(&group.pathname), file)
    });
    limits.min()
}

/// Returns the least limit that a group and all above have in this file, below this root.
fn least(root: &Path, group: &Path, file: &str) -> Option<u64> {
    // Names that lead up are of groups that a container does not see.
    let names = group.components().filter(|part| matches!(part, Component::Normal(_)));
    let group: PathBuf = root.iter().chain(names.map(|name| name.as_os_str())).collect();
    let up = group.ancestors().take_while(|group| group.starts_with(root));
    // A group without a limit says "max", or a number beyond all memory. The uppermost of version 2
    // says nothing.
    up.filter_map(|group| fs::read_to_string(group.join(file)).ok()?.trim().parse().ok()).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_limit_of_all_groups_above_counts() {
        let root = tempfile::tempdir().unwrap();
        let limit = |group: &str, text: &str| {
            fs::create_dir_all(root.path().join(group)).unwrap();
            fs::write(root.path().join(group).join("memory.max"), text).unwrap();
        };
        let least = |group: &str| least(root.path(), Path::new(group), "memory.max");
        limit("a", "1073741824\n");
        limit("a/b", "max\n");
        limit("a/b/c", "536870912\n");
        limit("d", "max\n");
        assert_eq!(least("/a/b/c"), Some(512 << 20));
        assert_eq!((least("/a/b"), least("/a")), (Some(1 << 30), Some(1 << 30)));
        assert_eq!((least("/d"), least("/"), least("/unknown")), (None, None, None));
        assert_eq!(least("/../../a/b"), Some(1 << 30), "above what a container sees");
    }
}
