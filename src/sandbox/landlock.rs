//! Landlock lets the sensor reach the paths and ports that it needs, and no others.
//!
//! A rule is of a directory that is there, not of its name, and goes for all that is below it. So
//! what can be removed and made again has the rule of its parent.

use std::fs;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, NetPort, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, Scope, make_bitflags,
};

use super::needs::{Needs, is_own, real, roof, soon};

/// To list a directory and read what is in it.
const READ: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir});
/// To write files in a directory anew.
const REWRITE: BitFlags<AccessFs> =
    make_bitflags!(AccessFs::{ReadFile | ReadDir | WriteFile | Truncate | MakeReg | RemoveFile});
/// To keep captures in a directory. Files move between directories.
const KEEP: BitFlags<AccessFs> = make_bitflags!(AccessFs::{
    ReadFile | ReadDir | WriteFile | Truncate | MakeReg | RemoveFile | MakeDir | RemoveDir | Refer
});
/// To have a socket in a directory, in place of one that somebody left.
const SOCKET: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadDir | MakeSock | RemoveFile});

/// What the kernel says of itself, of the sensor, and of the interfaces.
const SYSTEM: [&str; 2] = ["/proc", "/sys"];
/// What names stand for in expressions, and how they are looked up.
const NAMES: [&str; 7] = [
    "/etc/services",
    "/etc/protocols",
    "/etc/ethers",
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/resolv.conf",
];
/// What is written to where an interface is made.
const SETTINGS_OF_INTERFACES: &str = "/proc/sys/net/ipv6/conf";
/// The device that interfaces are made by.
const TUN: &str = "/dev/net/tun";

/// The rules that are in force.
#[derive(Debug, Clone, Default)]
pub(super) struct Rules {
    /// The version that the kernel has.
    pub(super) version: u32,
    /// Directories that captures can be in, without links.
    pub(super) captures: Vec<PathBuf>,
    /// Files and directories that can be read, without links.
    pub(super) read: Vec<PathBuf>,
}

impl Rules {
    /// Says whether captures can be written to a directory.
    pub(super) fn reach(&self, directory: &Path) -> bool {
        let real = real(directory);
        self.captures.iter().any(|root| real.starts_with(root))
    }
}

/// Puts rules in force for this thread and all that it starts.
///
/// # Errors
/// The kernel has no Landlock, or one in which a file cannot move to another directory.
pub(super) fn restrict(needs: &Needs) -> Result<Rules, RulesetError> {
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V2))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI::V5))?
        .handle_access(AccessNet::from_all(ABI::V4))?
        .scope(scope())?
        .create()?;
    let mut rules = Making { ruleset, rules: Rules::default() };
    for path in SYSTEM.into_iter().chain(NAMES) {
        rules.add(Found::at(path.into()), READ)?;
    }
    // Captures are written before the end of the start, which waits for their file systems.
    for directory in needs.captures.iter().map(|directory| real(directory)) {
        if let Some(roof) = roof(&directory) {
            rules.keep(Found::at(roof.to_owned()))?;
        }
        rules.keep(Found::at(directory))?;
    }
    for directory in &needs.directories {
        rules.keep(Found::soon(directory, Found::at))?;
    }
    for file in &needs.rewritten {
        rules.add(Found::soon(file, Found::directory_of), REWRITE)?;
    }
    let in_own_directory = |file: PathBuf| {
        let directory = file.parent().filter(|directory| is_own(directory)).map(Path::to_owned);
        Found::at(directory.unwrap_or(file))
    };
    for file in &needs.read {
        rules.read(Found::soon(file, in_own_directory))?;
    }
    for directory in &needs.listed {
        rules.read(Found::soon(directory, Found::at))?;
    }
    for socket in &needs.sockets {
        rules.add(Found::soon(socket, Found::directory_of), SOCKET)?;
    }
    if needs.interfaces {
        let (tun, settings) = (Found::at(TUN.into()), Found::at(SETTINGS_OF_INTERFACES.into()));
        rules.add(tun, make_bitflags!(AccessFs::{ReadFile | WriteFile | IoctlDev}))?;
        rules.add(settings, make_bitflags!(AccessFs::{ReadFile | ReadDir | WriteFile}))?;
    }
    let Making { mut ruleset, mut rules } = rules;
    for port in &needs.ports {
        ruleset = ruleset.add_rule(NetPort::new(*port, AccessNet::BindTcp))?;
    }
    let status = ruleset.restrict_self()?;
    if let LandlockStatus::Available { effective_abi, .. } = status.landlock {
        rules.version = effective_abi as u32;
    }
    Ok(rules)
}

/// Returns what the sensor can reach in itself alone. A service manager may listen at an abstract
/// socket.
fn scope() -> BitFlags<Scope> {
    let is_abstract = std::env::var_os("NOTIFY_SOCKET").is_some_and(|path| path.as_encoded_bytes().starts_with(b"@"));
    if is_abstract { Scope::Signal.into() } else { Scope::from_all(ABI::V6) }
}

/// A file or directory that a rule can be of.
struct Found {
    path: PathBuf,
    opened: PathFd,
    is_directory: bool,
}

impl Found {
    /// Finds what is at a path without links. What is not there is not needed, or said by who needs
    /// it.
    fn at(path: PathBuf) -> Option<Self> {
        let is_directory = fs::metadata(&path).ok()?.is_dir();
        Some(Self { opened: PathFd::new(&path).ok()?, path, is_directory })
    }

    /// Finds the directory that this file is in.
    fn directory_of(file: PathBuf) -> Option<Self> {
        Self::at(file.parent()?.to_owned())
    }

    /// Finds by the path without links, where the file system answers soon.
    fn soon(path: &Path, find: impl FnOnce(PathBuf) -> Option<Self> + Send + 'static) -> Option<Self> {
        let path = path.to_owned();
        soon(move || find(real(&path)))?
    }
}

/// Rules that are not in force yet.
struct Making {
    ruleset: RulesetCreated,
    rules: Rules,
}

impl Making {
    /// Adds a rule of what was found. Returns its path.
    fn add(&mut self, found: Option<Found>, access: BitFlags<AccessFs>) -> Result<Option<PathBuf>, RulesetError> {
        let Some(Found { path, opened, is_directory }) = found else { return Ok(None) };
        let access = if is_directory { access } else { access & AccessFs::from_file(ABI::V5) };
        (&mut self.ruleset).add_rule(PathBeneath::new(opened, access))?;
        Ok(Some(path))
    }

    fn keep(&mut self, directory: Option<Found>) -> Result<(), RulesetError> {
        let kept = self.add(directory, KEEP)?;
        self.rules.captures.extend(kept.clone());
        self.rules.read.extend(kept);
        Ok(())
    }

    fn read(&mut self, found: Option<Found>) -> Result<(), RulesetError> {
        let read = self.add(found, READ)?;
        self.rules.read.extend(read);
        Ok(())
    }
}
