//! Numbers have ranges, and commands are not empty, wherever the settings come from. The command
//! line refuses the same values, and says so before there are settings.

use super::super::error::PlanError;
use super::super::files::{command, directory};
use super::super::origin::Said;
use super::super::sessions::{self, Item, Vnis};
use super::super::settings::{Files, Interface, Output, Settings};
use super::super::units::Size;
use super::outputs::MOST_INTERFACES;
use super::receive::MOST_WORKERS;
use crate::setting::key::{self, Key};
use crate::wire::VniRange;

/// Returns what is wrong with values that the command line does not take: numbers out of their
/// range, commands that are empty, directories that are none.
pub(super) fn check(settings: &Settings) -> Vec<PlanError> {
    let said = |key: &Key| settings.origins.said(key);
    let (receive, listed, run) = (&settings.receive, &settings.sessions, &settings.run);
    let mut wrong = Vec::new();
    wrong.extend(number(said(&key::WORKERS), receive.workers, 1, MOST_WORKERS as u64));
    wrong.extend(number(said(&key::MAX_SESSIONS), Some(listed.max), 1, 65_536));
    wrong.extend(number(said(&key::COUNT), run.count, 1, u64::MAX));
    for (name, output) in &settings.output.0 {
        let said = |key: &Key| settings.origins.said_of(key, name);
        match output {
            Output::Pcap(files) => of_files(&mut wrong, files, said),
            Output::Tap(interface) | Output::Tun(interface) => {
                wrong.extend(masked(settings, &interface.vni, || said(&key::INTERFACE_VNI)));
                of_interface(&mut wrong, interface, said);
            }
        }
    }
    for (index, entry) in settings.session.iter().enumerate() {
        let said = |name| settings.origins.said_in_session(index, name);
        wrong.extend(number(said("snaplen"), entry.snaplen, 1, 262_144));
        wrong.extend(number(said("flow_limit"), entry.flow_limit.map(|Size(limit)| limit), 1, u64::MAX));
        wrong.extend(number(said("port"), entry.port, 1, u16::MAX.into()));
        wrong.extend(masked(settings, &entry.vni, || said("vni")));
    }
    wrong.extend(masked(settings, &listed.vni, || said(&key::VNI)));
    wrong
}

/// Says which VNIs that are listed never come because of their bits. Of a range some can come.
fn masked(settings: &Settings, vnis: &Vnis, said: impl Fn() -> Said) -> Option<PlanError> {
    let mask = settings.receive.vni_mask;
    let never = |item: &Item<VniRange>| match item {
        Item::One(range) => Some((*range, sessions::masked(*range, mask)?)),
        Item::All => None,
    };
    let (vnis, left) = vnis.iter().find_map(never)?;
    let mask_said = settings.origins.said(&key::VNI_MASK);
    Some(PlanError::Masked { said: said(), mask_said, vnis, left })
}

fn of_files(wrong: &mut Vec<PlanError>, files: &Files, said: impl Fn(&Key) -> Said) {
    wrong.extend(number(said(&key::ROTATE_FRAMES), files.rotate_frames, 1, u64::MAX));
    wrong.extend(number(said(&key::KEEP_FILES), files.keep_files, 1, u64::MAX));
    wrong.extend(number(said(&key::SNAPLEN), Some(files.snaplen), 1, 262_144));
    let no_command = files.on_publish.as_ref().and_then(|text| command(text).err());
    wrong.extend(no_command.map(|fault| PlanError::Command { said: said(&key::ON_PUBLISH), fault }));
    let no_directory = directory(files.directory.clone()).err();
    wrong.extend(no_directory.map(|fault| PlanError::Directory { said: said(&key::WRITE), fault }));
}

fn of_interface(wrong: &mut Vec<PlanError>, interface: &Interface, said: impl Fn(&Key) -> Said) {
    wrong.extend(number(said(&key::TAP_MTU), Some(interface.mtu), 68, 65_521));
    wrong.extend(number(said(&key::TAP_COUNT), interface.count, 1, MOST_INTERFACES.into()));
}

/// Says whether a number that is given is not from `least` to `most`.
fn number(said: Said, value: Option<impl Into<u64>>, least: u64, most: u64) -> Option<PlanError> {
    let value = value.map(Into::into).filter(|value| !(least..=most).contains(value))?;
    Some(PlanError::Number { said, value, least, most })
}
