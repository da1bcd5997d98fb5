//! Capabilities are given up by all threads but for those that a running sensor needs.

use std::io;

use rustix::process::geteuid;
use rustix::thread::{CapabilitySet, capabilities};

use super::needs::Needs;
use super::threads::threads;
use crate::sys::everywhere;

/// Gives up all capabilities but those that are needed while the sensor runs.
///
/// # Errors
/// Some thread still has more.
pub(super) fn drop_unneeded(needs: &Needs) -> io::Result<()> {
    let kept = kept(needs, geteuid().is_root()).intersection(capabilities(None)?.permitted).bits();
    everywhere::keep_capabilities(kept)?;
    match threads()?.iter().find(|thread| thread.capprm & !kept != 0) {
        None => Ok(()),
        Some(thread) => Err(io::Error::other(format!("the thread {} has more", thread.name))),
    }
}

/// Returns the capabilities that a running sensor needs.
fn kept(needs: &Needs, is_root: bool) -> CapabilitySet {
    let mut kept = CapabilitySet::empty();
    // Interfaces that went are made anew, and a program is attached to one that came back.
    if needs.interfaces || needs.program {
        kept |= CapabilitySet::NET_ADMIN;
    }
    if needs.program {
        kept |= CapabilitySet::BPF;
    }
    // Root writes to directories of others. Which ones is up to the rules for paths.
    if is_root {
        kept |= CapabilitySet::DAC_OVERRIDE | CapabilitySet::CHOWN | CapabilitySet::FOWNER;
    }
    kept
}

/// Returns the names of these capabilities.
pub(super) fn names(set: u64) -> Vec<String> {
    let named = CapabilitySet::from_bits_truncate(set);
    let names = named.iter_names().map(|(name, _)| format!("cap_{}", name.to_lowercase()));
    let others = (0..64).filter(|bit| set & !named.bits() & (1 << bit) != 0).map(|bit| format!("cap_{bit}"));
    names.chain(others).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_sensor_keeps_follows_from_what_it_does() {
        let needs = |interfaces, program| Needs { interfaces, program, ..Needs::default() };
        assert_eq!(kept(&needs(false, false), false), CapabilitySet::empty());
        assert_eq!(kept(&needs(true, false), false), CapabilitySet::NET_ADMIN);
        assert_eq!(kept(&needs(false, true), false), CapabilitySet::NET_ADMIN | CapabilitySet::BPF);
        assert!(!kept(&needs(true, true), true).contains(CapabilitySet::SYS_ADMIN));
    }

    #[test]
    fn capabilities_have_names() {
        assert_eq!(names(0), [""; 0]);
        assert_eq!(names(1 << 12 | 1 << 39), ["cap_net_admin", "cap_bpf"]);
    }
}
