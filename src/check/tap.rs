//! The interfaces to feed can be made, or are there.

use super::finding::Finding;
use crate::sink::interface::{InterfacePlan, fits};
use crate::sys::rtnetlink::Link;
use crate::sys::tun::DEVICE;

/// The name of the finding.
pub(super) const TAP: &str = "tap";

/// The device by which interfaces are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Device {
    /// It is not there.
    Missing,
    /// This user must not open it.
    Denied,
    /// It can be opened.
    There,
}

/// Says whether an interface can be fed.
pub(super) fn tap(plan: &InterfacePlan, link: Option<&Link>, device: Device) -> Finding {
    let name = &plan.name;
    let kind = plan.kind.label();
    match (link, device) {
        (Some(link), _) if !fits(plan, link) => {
            let what = match link.tun {
                Some(tun) => if tun.tap { "a tap interface" } else { "a tun interface" }.to_owned(),
                None => link.kind.as_ref().map_or("a network card".into(), |kind| format!("of kind {kind}")),
            };
            Finding::error(
                TAP,
                format!("{name} exists and is {what}, not a {kind} interface"),
                format!("choose another name, or: ip link delete {name}"),
            )
        }
        (_, Device::Missing) => Finding::error(
            TAP,
            format!("{DEVICE} is missing, so {name} cannot be fed"),
            format!("modprobe tun; a container is started with --device {DEVICE}"),
        ),
        (_, Device::Denied) => Finding::error(
            TAP,
            format!("this user must not open {DEVICE}, so {name} cannot be fed"),
            format!("chmod 0666 {DEVICE}"),
        ),
        (Some(link), Device::There) => Finding::ok(TAP, format!("{name} is there (MTU {}) and is used", link.mtu)),
        (None, Device::There) => Finding::ok(TAP, format!("{name} is made at the start, with MTU {}", plan.mtu)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;
    use crate::sink::interface::Kind;
    use crate::sys::rtnetlink::TunLink;

    #[test]
    fn a_name_is_free_or_a_tap_or_something_else() {
        let plan = InterfacePlan { name: "m0".into(), kind: Kind::Tap, mtu: 9001, tags: None };
        let link = |tap: Option<bool>| Link {
            name: "m0".into(),
            tun: tap.map(|tap| TunLink { tap, multi_queue: false }),
            ..Link::default()
        };
        let level = |link: Option<Link>, device| tap(&plan, link.as_ref(), device).level;
        assert_eq!((level(None, Device::There), level(Some(link(Some(true))), Device::There)), (Level::Ok, Level::Ok));
        assert_eq!((level(None, Device::Missing), level(None, Device::Denied)), (Level::Error, Level::Error));
        let untold = Link { kind: Some("tun".into()), ..link(None) };
        assert_eq!(level(Some(untold), Device::There), Level::Ok, "a kernel that does not tell which");
        for other in [link(None), link(Some(false))] {
            let error = tap(&plan, Some(&other), Device::There);
            assert!(error.level == Level::Error && error.remedy.unwrap().ends_with("ip link delete m0"));
        }
    }
}
