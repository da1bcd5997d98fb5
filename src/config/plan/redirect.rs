//! Redirection is done by the program in the kernel, and does not go together with what only user
//! space can do.

use super::super::error::PlanError;
use super::super::listener::Listener;
use super::super::settings::{Interface, Settings, TapMode};
use crate::pipeline::{OutputPlan, PipelinePlan};
use crate::route::policy::Policy;
use crate::setting::key;
use crate::source::Way;
use crate::source::bpf::{Attach, RedirectPlan};
use crate::wire::{Encapsulation, vxlan};

/// Bytes of a payload that are kept whatever the snap length.
const KEPT_HEADERS: usize = 128;

/// Returns the interface that frames are to be redirected into, and the name of its output.
fn asked(settings: &Settings) -> Option<(&str, &Interface)> {
    let mut interfaces = settings.output.interfaces();
    interfaces.find_map(|(name, interface, _)| (interface.mode == TapMode::Redirect).then_some((name, interface)))
}

/// Says whether all that is asked for together with redirection can be done by a program in the
/// kernel.
///
/// # Errors
/// A setting asks for something that the program cannot do.
pub(super) fn check(settings: &Settings, policy: &Policy) -> Result<(), PlanError> {
    let Some((name, interface)) = asked(settings) else { return Ok(()) };
    let (receive, origins) = (&settings.receive, &settings.origins);
    let others = || settings.output.interfaces().filter(|(other, ..)| *other != name);
    let tun = settings.output.interfaces().find(|(_, _, is_tap)| !is_tap).map_or(name, |(tun, ..)| tun);
    let way = match receive.source {
        Way::Udp => "--source udp",
        Way::Bpf | Way::Auto => "--source auto",
        Way::File(_) => "--source file",
    };
    let taps = settings.output.interfaces().filter(|(_, _, is_tap)| *is_tap).count();
    let to = policy.number_of_output(name);
    let entry = policy.entries().iter().position(|entry| entry.plan.goes_to(to) && !entry.plan.leaves_frames_alone());
    let other = receive.listen.iter().enumerate().find(|(_, listener)| !is_taken_off(listener));
    let all = [
        (
            receive.source != Way::Bpf,
            origins.said(&key::SOURCE).typed(way),
            "the program on the interface redirects; use --source bpf",
        ),
        (
            receive.attach == Some(Attach::Xdp),
            origins.said(&key::ATTACH).typed("--attach xdp"),
            "there is no packet yet that could enter another interface; use --attach tc",
        ),
        (
            settings.output.interfaces().any(|(_, _, is_tap)| !is_tap),
            origins.said_of(&key::TUN, tun),
            "a packet enters one interface, and that with its Ethernet header; use --tap alone",
        ),
        (
            taps > 1,
            origins.said_of(&key::TAP, others().next().map_or(name, |(other, ..)| other)).typed("more than one --tap"),
            "a packet enters one interface; use --tap-mode inject",
        ),
        (
            other.is_some(),
            match other {
                Some((at, listener)) => origins.said_item(&key::LISTEN, at).typed(format!("--listen {listener}")),
                None => origins.said(&key::LISTEN),
            },
            "the program takes the headers of VXLAN and GENEVE off and no others; use --tap-mode inject",
        ),
        (
            interface.count.is_some(),
            origins.said_of(&key::TAP_COUNT, name),
            "conversations are spread by the sensor; use --tap-mode inject",
        ),
        (
            !interface.vni.is_empty(),
            origins.said_of(&key::INTERFACE_VNI, name),
            "the program selects for all outputs alike; use --vni N",
        ),
        (
            interface.filter.is_some(),
            origins.said_of(&key::FILTER, name),
            "expressions are decided by the sensor; use --tap-mode inject",
        ),
        (
            entry.is_some(),
            origins.said_session(entry.unwrap_or_default()),
            "what it makes of frames that go into the interface is done by the sensor; use --tap-mode inject, or outputs \
             without the interface",
        ),
        (
            receive.verify_checksum,
            origins.said(&key::VERIFY_CHECKSUM),
            "checksums are verified by the sensor; use --tap-mode inject",
        ),
        (
            settings.run.count.is_some(),
            origins.said(&key::COUNT),
            "the program does not stop at a number; use --duration",
        ),
    ];
    match all.into_iter().find(|(is_asked, ..)| *is_asked) {
        Some((_, with, why)) => Err(PlanError::Redirect { said: origins.said_of(&key::TAP_MODE, name), with, why }),
        None => Ok(()),
    }
}

/// Says whether the program takes the headers off of what comes to a listener.
fn is_taken_off(listener: &Listener) -> bool {
    matches!(listener.encapsulation(), Some(Encapsulation::Vxlan | Encapsulation::Geneve))
}

/// Plans the program's part in redirection, if frames are redirected.
pub(super) fn plan(settings: &Settings, pipeline: &PipelinePlan) -> Option<RedirectPlan> {
    asked(settings)?;
    let files = pipeline.outputs.iter().filter(|output| output.to.files().is_some());
    let snaplen = files.map(OutputPlan::reads).max().unwrap_or(0);
    let copy = settings.output.files().next().is_some();
    Some(RedirectPlan { sessions: settings.sessions.max, copy, keep: kept(snaplen) })
}

/// Returns the bytes of a UDP payload that an output needs which keeps `snaplen` bytes of a frame.
/// That is one more, by which the output sees that it has cut something, and in any case enough for
/// the headers that tell of the frame's original length.
pub(super) fn kept(snaplen: usize) -> u32 {
    u32::try_from(snaplen.saturating_add(vxlan::HEADER_LEN + 1).max(KEPT_HEADERS)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::tests::plan as resolve;
    use super::*;
    use crate::pipeline::Destination;

    #[test]
    fn redirection() {
        let all =
            |more: &[&str]| resolve(&[&["--source", "bpf", "--tap", "m", "--tap-mode", "redirect"], more].concat());
        let bpf = |more: &[&str]| all(more).unwrap().source.bpf;
        let of = |copy, keep| Some(RedirectPlan { sessions: 1024, copy, keep });
        assert_eq!(bpf(&["--snaplen", "200"]).redirect, of(true, 209));
        assert_eq!(bpf(&["--snaplen", "200"]).keep, u32::MAX, "what is injected must be whole");
        assert_eq!(bpf(&["--no-write"]).redirect, of(false, 128));
        assert_eq!((bpf(&[]).attach, bpf(&["--attach", "tc"]).attach), (Attach::Tc, Attach::Tc));
        assert_eq!(resolve(&["--source", "bpf", "--tap", "m"]).unwrap().source.bpf.redirect, None);
        assert!(bpf(&[]).early, "a list can come while the sensor runs");
        let outputs = all(&[]).unwrap().pipeline.outputs;
        assert_eq!(outputs.iter().map(|o| matches!(o.to, Destination::Redirect(_))).collect::<Vec<_>>(), [false, true]);
        for (more, named) in [
            (&["--attach", "xdp"][..], "--attach xdp"),
            (&["--tun", "t"], "--tun"),
            (&["--tap", "n"], "more than one --tap"),
            (&["--tap-count", "2"], "--tap-count"),
            (&["--tap-count", "1"], "--tap-count"),
            (&["--filter", "tcp"], "--filter"),
            (&["--verify-checksum"], "--verify-checksum"),
            (&["--count", "5"], "--count"),
            (&["--listen", "gpe:4790"], "--listen gpe:4790"),
            (&["--listen", "geneve:6081", "--listen", "auto:37008"], "--listen auto:37008"),
            (&["--listen", "gre:10.0.0.7"], "--listen gre:10.0.0.7"),
        ] {
            let refused = all(more).unwrap_err();
            assert!(
                matches!(&refused, PlanError::Redirect { with, .. } if with.to_string() == named),
                "{more:?}: {refused}"
            );
        }
        for listen in ["geneve:6081", "auto:6081", "auto:10.0.0.7:6081", "auto:8472", "vxlan:9000"] {
            assert_eq!(bpf(&["--listen", listen, "--no-write"]).redirect, of(false, 128), "{listen}");
        }
        for source in [&["--source", "udp"][..], &["--source", "auto"], &[]] {
            let refused =
                resolve(&[source, &["--tap", "m", "--tap-mode", "redirect"]].concat()).unwrap_err().to_string();
            assert!(refused.contains("use --source bpf"), "{refused}");
        }
        let refused = resolve(&["--source", "bpf", "--tap", "m:vni=3", "--tap-mode", "redirect"]).unwrap_err();
        assert!(refused.to_string().contains("use --vni"), "{refused}");
    }
}
