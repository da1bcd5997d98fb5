//! Numbers have ranges, and commands are not empty, wherever the settings come from. The command
//! line refuses the same values, and says so before there are settings.

use super::super::error::PlanError;
use super::super::files::command;
use super::super::key::{self, Key};
use super::super::origin::Said;
use super::super::settings::{Files, Interface, Output, Settings};

/// Says whether all values are ones that the command line takes.
///
/// # Errors
/// A number is out of its range, or a command is empty.
pub(super) fn check(settings: &Settings) -> Result<(), PlanError> {
    let said = |key: &Key| settings.origins.said(key);
    let (receive, sessions, run) = (&settings.receive, &settings.sessions, &settings.run);
    number(said(&key::WORKERS), receive.workers, 1, 256)?;
    number(said(&key::MAX_SESSIONS), Some(sessions.max), 1, 65_536)?;
    number(said(&key::COUNT), run.count, 1, u64::MAX)?;
    settings.output.0.iter().try_for_each(|(name, output)| {
        let said = |key: &Key| settings.origins.said_of(key, name);
        match output {
            Output::Pcap(files) => of_files(files, said),
            Output::Tap(interface) | Output::Tun(interface) => of_interface(interface, said),
        }
    })
}

fn of_files(files: &Files, said: impl Fn(&Key) -> Said) -> Result<(), PlanError> {
    number(said(&key::ROTATE_FRAMES), files.rotate_frames, 1, u64::MAX)?;
    number(said(&key::KEEP_FILES), files.keep_files, 1, u64::MAX)?;
    number(said(&key::SNAPLEN), Some(files.snaplen), 1, 262_144)?;
    let Some(text) = &files.on_publish else { return Ok(()) };
    let checked = command(text);
    checked.map(drop).map_err(|fault| PlanError::Command { said: said(&key::ON_PUBLISH), fault })
}

fn of_interface(interface: &Interface, said: impl Fn(&Key) -> Said) -> Result<(), PlanError> {
    number(said(&key::TAP_MTU), Some(interface.mtu), 68, 65_521)?;
    number(said(&key::TAP_COUNT), interface.count, 1, 64)
}

/// Says whether a number that is given is from `least` to `most`.
fn number(said: Said, value: Option<impl Into<u64>>, least: u64, most: u64) -> Result<(), PlanError> {
    match value.map(Into::into) {
        Some(value) if !(least..=most).contains(&value) => Err(PlanError::Number { said, value, least, most }),
        _ => Ok(()),
    }
}
