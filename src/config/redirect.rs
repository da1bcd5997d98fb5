//! `--tap-mode redirect`: what goes together with it, and what it means for the program.

use super::plan::{PlanError, kept};
use crate::cli::{RunArgs, TapMode};
use crate::pipeline::PipelinePlan;
use crate::source::Way;
use crate::source::bpf::{Attach, RedirectPlan};

/// Whether all that is asked for together with redirection can be done by a program in the kernel.
pub(super) fn check(args: &RunArgs) -> Result<(), PlanError> {
    if args.tap_mode != TapMode::Redirect {
        return Ok(());
    }
    let way = match args.source {
        Way::Udp => "--source udp",
        _ => "--source auto",
    };
    let all = [
        (args.source != Way::Bpf, way, "the program on the interface redirects; use --source bpf"),
        (
            args.attach == Some(Attach::Xdp),
            "--attach xdp",
            "there is no packet yet that could enter another interface; use --attach tc",
        ),
        (
            !args.tun.is_empty(),
            "--tun",
            "a packet enters one interface, and that with its Ethernet header; use --tap alone",
        ),
        (args.tap.len() > 1, "more than one --tap", "a packet enters one interface; use --tap-mode inject"),
        (args.tap_count.is_some(), "--tap-count", "conversations are spread by the sensor; use --tap-mode inject"),
        (
            args.tap.iter().any(|tap| tap.vnis.is_some()),
            "--tap NAME:vni=N",
            "the program selects for all outputs alike; use --vni N",
        ),
        (args.verify_checksum, "--verify-checksum", "checksums are verified by the sensor; use --tap-mode inject"),
        (args.count.is_some(), "--count", "the program does not stop at a number; use --duration"),
    ];
    match all.into_iter().find(|(is_asked, ..)| *is_asked) {
        Some((_, with, why)) => Err(PlanError::Redirect { with, why }),
        None => Ok(()),
    }
}

/// How the program redirects, if it does.
pub(super) fn plan(args: &RunArgs, pipeline: &PipelinePlan) -> Option<RedirectPlan> {
    (args.tap_mode == TapMode::Redirect).then(|| {
        let files = pipeline.outputs.iter().filter(|output| output.to.files().is_some());
        let snaplen = files.map(|output| output.lane.snaplen).max().unwrap_or(0);
        RedirectPlan { sessions: args.max_sessions, copy: !args.no_write, keep: kept(snaplen) }
    })
}

#[cfg(test)]
mod tests {
    use super::super::plan::tests::plan as resolve;
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
        let outputs = all(&[]).unwrap().pipeline.outputs;
        assert_eq!(outputs.iter().map(|o| matches!(o.to, Destination::Redirect(_))).collect::<Vec<_>>(), [false, true]);
        for (more, named) in [
            (&["--attach", "xdp"][..], "--attach xdp"),
            (&["--tun", "t"], "--tun"),
            (&["--tap", "n"], "more than one --tap"),
            (&["--tap-count", "2"], "--tap-count"),
            (&["--tap-count", "1"], "--tap-count"),
            (&["--verify-checksum"], "--verify-checksum"),
            (&["--count", "5"], "--count"),
        ] {
            let refused = all(more).unwrap_err();
            assert!(matches!(refused, PlanError::Redirect { with, .. } if with == named), "{more:?}: {refused}");
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
