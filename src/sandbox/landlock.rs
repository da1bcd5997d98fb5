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

use super::needs::{Needs, is_own, real, real_soon, roof};

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
    for path in SYSTEM {
        rules.add(Path::new(path), READ)?;
    }
    for path in NAMES {
        rules.add(Path::new(path), READ)?;
    }
    for directory in &needs.captures {
        let directory = real(directory);
        let root = roof(&directory).unwrap_or(&directory);
        // What cannot be made is said by who needs it.
        let _ = fs::create_dir_all(root);
        rules.keep(root)?;
        if directory.exists() {
            rules.keep(&directory)?;
        }
    }
    for directory in &needs.directories {
        rules.keep(&real(directory))?;
    }
    for file in &needs.rewritten {
        rules.in_directory_of(file, REWRITE)?;
    }
    for file in &needs.read {
        let file = real_soon(file);
        let directory = file.parent().filter(|directory| is_own(directory));
        rules.read(directory.unwrap_or(&file))?;
    }
    for directory in &needs.listed {
        rules.read(&real(directory))?;
    }
    for socket in &needs.sockets {
        rules.in_directory_of(socket, SOCKET)?;
    }
    if needs.interfaces {
        rules.add(Path::new(TUN), make_bitflags!(AccessFs::{ReadFile | WriteFile | IoctlDev}))?;
        rules.add(Path::new(SETTINGS_OF_INTERFACES), make_bitflags!(AccessFs::{ReadFile | ReadDir | WriteFile}))?;
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

/// Rules that are not in force yet.
struct Making {
    ruleset: RulesetCreated,
    rules: Rules,
}

impl Making {
    fn add(&mut self, path: &Path, access: BitFlags<AccessFs>) -> Result<(), RulesetError> {
        // What is not there is not needed, or said by who needs it.
        let Ok(metadata) = fs::metadata(path) else { return Ok(()) };
        let Ok(opened) = PathFd::new(path) else { return Ok(()) };
        let access = if metadata.is_dir() { access } else { access & AccessFs::from_file(ABI::V5) };
        (&mut self.ruleset).add_rule(PathBeneath::new(opened, access))?;
        Ok(())
    }

    fn keep(&mut self, directory: &Path) -> Result<(), RulesetError> {
        self.add(directory, KEEP)?;
        self.rules.captures.push(directory.to_owned());
        self.rules.read.push(directory.to_owned());
        Ok(())
    }

    fn read(&mut self, path: &Path) -> Result<(), RulesetError> {
        self.add(path, READ)?;
        self.rules.read.push(path.to_owned());
        Ok(())
    }

    fn in_directory_of(&mut self, file: &Path, access: BitFlags<AccessFs>) -> Result<(), RulesetError> {
        real(file).parent().map_or(Ok(()), |directory| self.add(directory, access))
    }
}
