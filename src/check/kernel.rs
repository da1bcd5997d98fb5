//! The kernel has what the source needs, and lets this process have it.

use super::finding::Finding;
use crate::config::RunPlan;
use crate::host::process::{Capabilities, Capability};
use crate::pipeline::Destination;
use crate::source::Way;
use crate::source::bpf::interface::OLDEST_KERNEL;
use crate::wire::Carrier;

/// The names of the findings.
pub(super) const KERNEL: &str = "kernel";
pub(super) const CAPABILITIES: &str = "capabilities";

/// What the kernel says of itself and of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kernel {
    /// Its release, as `6.1.0-13-amd64`; `None` where nobody tells.
    pub release: Option<String>,
    /// What this process may do; `None` where nobody tells.
    pub capabilities: Option<Capabilities>,
    /// The lowest port that needs no capability.
    pub unprivileged_port: u16,
    /// Interfaces that there are already.
    pub interfaces: Vec<String>,
}

/// Compares the kernel with what the source needs.
pub(super) fn kernel(way: &Way, kernel: &Kernel) -> Finding {
    let Some(release) = &kernel.release else {
        return Finding::ok(KERNEL, "nobody tells its release");
    };
    let needs_nothing = |what| Finding::ok(KERNEL, format!("Linux {release}; {what} nothing special of it"));
    match way {
        Way::Udp => return needs_nothing("sockets need"),
        Way::File(_) => return needs_nothing("reading a capture needs"),
        Way::Bpf | Way::Auto => {}
    }
    let (major, minor) = OLDEST_KERNEL;
    if version(release).is_none_or(|version| version >= OLDEST_KERNEL) {
        return Finding::ok(KERNEL, format!("Linux {release} has all that --source bpf needs ({major}.{minor})"));
    }
    let reason = format!("Linux {release}; --source bpf needs {major}.{minor} or later");
    match way {
        Way::Bpf => Finding::error(KERNEL, reason, "use a newer kernel, or --source udp"),
        _ => Finding::warning(
            KERNEL,
            format!("{reason}, so sockets receive, for more CPU"),
            "use a newer kernel, or say --source udp",
        ),
    }
}

/// Reads the first two numbers of a release.
fn version(release: &str) -> Option<(u8, u8)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// A capability that a plan needs, and for what.
struct Need {
    capability: Capability,
    what: String,
    is_essential: bool,
}

/// Lists the capabilities that a plan needs.
fn needs(plan: &RunPlan, kernel: &Kernel) -> Vec<Need> {
    let mut needs = Vec::new();
    if plan.source.way.wants_program() {
        let is_essential = plan.source.way == Way::Bpf;
        let what = if is_essential { "--source bpf" } else { "--source auto" };
        needs.extend(Capability::PROGRAMS.map(|capability| Need { capability, what: what.into(), is_essential }));
    }
    for output in &plan.pipeline.outputs {
        if let Destination::Interface(plan) | Destination::Redirect(plan) = &output.to
            && !kernel.interfaces.contains(&plan.name)
        {
            let what = format!("making the interface {}", plan.name);
            needs.push(Need { capability: Capability::NetAdmin, what, is_essential: true });
        }
    }
    for listener in &plan.source.udp.listen {
        if listener.carrier == Carrier::Ip {
            needs.push(Need { capability: Capability::NetRaw, what: listener.to_string(), is_essential: true });
        }
        let port = listener.address.port();
        if port != 0 && port < kernel.unprivileged_port {
            let what = format!("port {port}");
            needs.push(Need { capability: Capability::NetBindService, what, is_essential: true });
        }
    }
    needs
}

/// Returns the names of the capabilities that a plan cannot do without, or does worse without.
pub(super) fn needed(plan: &RunPlan, kernel: &Kernel) -> Vec<Capability> {
    let mut all: Vec<Capability> = needs(plan, kernel).into_iter().map(|need| need.capability).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Compares what this process may do with what a plan needs.
pub(super) fn capabilities(plan: &RunPlan, kernel: &Kernel, program: &str) -> Finding {
    let needs = needs(plan, kernel);
    if needs.is_empty() {
        return Finding::ok(CAPABILITIES, "none is needed");
    }
    let Some(has) = kernel.capabilities else { return Finding::ok(CAPABILITIES, "nobody tells which there are") };
    let missing: Vec<&Need> = needs.iter().filter(|need| !has.has(need.capability)).collect();
    let describe = |needs: &[&Need]| {
        let mut names: Vec<String> = Vec::new();
        for need in needs {
            let text = format!("{} for {}", need.capability.name(), need.what);
            if !names.contains(&text) {
                names.push(text);
            }
        }
        names.join(", ")
    };
    if missing.is_empty() {
        return Finding::ok(CAPABILITIES, format!("all are there: {}", describe(&needs.iter().collect::<Vec<_>>())));
    }
    let mut names: Vec<String> = missing.iter().map(|need| need.capability.name().to_lowercase()).collect();
    names.sort_unstable();
    names.dedup();
    let remedy = format!("setcap {}+ep {program}, or run it as root", names.join(","));
    if missing.iter().any(|need| need.is_essential) {
        return Finding::error(CAPABILITIES, format!("missing: {}", describe(&missing)), remedy);
    }
    let reason = format!("missing: {}; without them sockets receive, for more CPU", describe(&missing));
    Finding::warning(CAPABILITIES, reason, remedy)
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::super::tests::plan;
    use super::*;

    fn host(release: &str, capabilities: &[Capability]) -> Kernel {
        Kernel {
            release: Some(release.into()),
            capabilities: Some(Capabilities::of(capabilities)),
            unprivileged_port: 1024,
            interfaces: vec!["eth0".into(), "old0".into()],
        }
    }

    #[test]
    fn the_program_needs_a_kernel_that_has_it() {
        let level = |way, release: &str| kernel(way, &host(release, &[])).level;
        assert_eq!(level(&Way::Udp, "4.19.0"), Level::Ok);
        assert_eq!(level(&Way::Auto, "5.15.0-91-generic"), Level::Warning);
        assert_eq!(level(&Way::Bpf, "5.15.0-91-generic"), Level::Error);
        assert_eq!([level(&Way::Bpf, "5.18.0"), level(&Way::Bpf, "6.1.0-13"), level(&Way::Bpf, "own")], [Level::Ok; 3]);
    }

    #[test]
    fn what_is_needed_is_told_from_what_is_there() {
        use Capability::{Bpf, NetAdmin, NetBindService, NetRaw, Perfmon};
        let found = |words: &str, has: &[Capability]| capabilities(&plan(words), &host("6.1", has), "/bin/vxtap");
        assert_eq!(found("", &[]).reason, "none is needed");
        let missing = found("--source bpf", &[NetAdmin]);
        assert_eq!(missing.level, Level::Error);
        assert_eq!(missing.reason, "missing: CAP_BPF for --source bpf, CAP_PERFMON for --source bpf");
        let remedy = missing.remedy.unwrap();
        assert_eq!(remedy, "setcap cap_bpf,cap_perfmon+ep /bin/vxtap, or run it as root");
        assert_eq!(found("--source auto", &[NetAdmin]).level, Level::Warning);
        assert_eq!(found("--source bpf", &[Bpf, NetAdmin, Perfmon]).level, Level::Ok);
        assert_eq!(found("--tap new0", &[]).reason, "missing: CAP_NET_ADMIN for making the interface new0");
        assert_eq!(found("--tap old0", &[]).level, Level::Ok);
        assert_eq!(found("--listen 472", &[]).reason, "missing: CAP_NET_BIND_SERVICE for port 472");
        assert_eq!(found("--listen 472", &[NetBindService]).level, Level::Ok);
        assert_eq!(found("--listen gre:10.0.0.7", &[]).reason, "missing: CAP_NET_RAW for gre:10.0.0.7");
        assert_eq!(found("--listen erspan --listen 4789", &[NetRaw]).level, Level::Ok);
    }
}
