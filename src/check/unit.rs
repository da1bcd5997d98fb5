//! The unit that systemd runs the sensor by lets it do what this configuration asks for.

use std::path::Path;

use super::finding::Finding;
use super::memory;
use crate::config::RunPlan;
use crate::host::process::Capability;
use crate::host::unit::{Service, Unit};
use crate::pipeline::Destination;

/// The names of the findings.
pub(super) const UNIT: &str = "unit";
pub(super) const UNIT_CAPABILITIES: &str = "unit-capabilities";
pub(super) const UNIT_FILES: &str = "unit-files";
pub(super) const UNIT_PATHS: &str = "unit-paths";
pub(super) const UNIT_RELOAD: &str = "unit-reload";

/// Compares the unit with what a plan needs, these capabilities included.
pub(super) fn unit(service: &Service, plan: &RunPlan, needed: &[Capability]) -> Vec<Finding> {
    let unit = match service {
        Service::NoSystemd => return vec![Finding::ok(UNIT, "systemd does not run this host")],
        Service::None => {
            let reason =
                "there is no vxtap.service: the sensor is not started with the host, and not again where it fails";
            let remedy = "install systemd/vxtap.service, which says how at its top";
            return vec![Finding::warning(UNIT, reason, remedy)];
        }
        Service::Unit(unit) => unit,
    };
    let user = unit.last("User").unwrap_or("root");
    let mut findings = vec![Finding::ok(UNIT, format!("{} runs it as {user}", unit.path.display()))];
    findings.push(capabilities(unit, user, needed));
    findings.extend(files(unit, plan));
    findings.push(paths(unit, plan));
    findings.push(reload(unit));
    findings
}

/// Returns how to have the unit say more.
fn edit(line: &str) -> String {
    format!("systemctl edit vxtap, add below [Service]: {line}")
}

fn capabilities(unit: &Unit, user: &str, needed: &[Capability]) -> Finding {
    let has = |directive: &str, capability: &Capability| {
        // A tilde in front stands for all but those that follow.
        let is_but = unit.last(directive).is_some_and(|value| value.starts_with('~'));
        let is_listed = |one: &Capability| unit.words(directive).any(|word| word.trim_start_matches('~') == one.name());
        capability.givers().iter().any(|giver| is_listed(giver) != is_but)
    };
    let is_bounded = unit.says("CapabilityBoundingSet");
    let is_alone = is_on(unit, "PrivateUsers") && user != "root";
    let lacks = |capability: &&Capability| {
        !(user == "root" || has("AmbientCapabilities", capability))
            || is_bounded && !has("CapabilityBoundingSet", capability)
            || is_alone
    };
    let missing: Vec<Capability> = needed.iter().filter(lacks).copied().collect();
    let named = |these: &[Capability]| these.iter().map(|one| one.name()).collect::<Vec<_>>();
    if missing.is_empty() {
        let names = if needed.is_empty() { "none, and none is needed".to_owned() } else { named(needed).join(", ") };
        return Finding::ok(UNIT_CAPABILITIES, format!("the unit gives what is needed: {names}"));
    }
    let names = named(&missing).join(" ");
    let drop_ins = [
        ("tap.conf", [Capability::NetAdmin].as_slice()),
        ("bpf.conf", &Capability::PROGRAMS),
        ("gre.conf", &[Capability::NetRaw]),
    ];
    let drop_in = drop_ins.iter().find(|(_, gives)| missing.iter().all(|one| gives.contains(one)));
    let drop_in = drop_in.map_or(String::new(), |(name, _)| format!("; drop-ins/{name} has it (docs/install.md)"));
    let private = if is_alone { " and PrivateUsers=no" } else { "" };
    let lines = format!("AmbientCapabilities={names} and CapabilityBoundingSet={names}{private}");
    Finding::error(
        UNIT_CAPABILITIES,
        format!("the unit does not give {names}, which this configuration needs"),
        format!("{}{drop_in}", edit(&lines)),
    )
}

/// Says whether the unit has a directive on.
fn is_on(unit: &Unit, directive: &str) -> bool {
    unit.last(directive).is_some_and(|value| matches!(value, "yes" | "true" | "1" | "on"))
}

fn files(unit: &Unit, plan: &RunPlan) -> Option<Finding> {
    let needs = memory::needed(plan);
    let said = unit.last("LimitNOFILE")?;
    // `soft:hard`; a word, as infinity, is more than enough.
    let limit = said.rsplit(':').next().and_then(|hard| hard.parse::<u64>().ok()).filter(|limit| *limit < needs);
    Some(match limit {
        None => Finding::ok(UNIT_FILES, format!("LimitNOFILE={said} is enough for all sessions")),
        Some(limit) => Finding::warning(
            UNIT_FILES,
            format!(
                "LimitNOFILE={limit}, and the files of all sessions need {needs}: some are closed and opened in turn"
            ),
            edit(&format!("LimitNOFILE={needs}")),
        ),
    })
}

fn paths(unit: &Unit, plan: &RunPlan) -> Finding {
    let mut missing = Vec::new();
    let mut lines = Vec::new();
    let is_strict = unit.last("ProtectSystem") == Some("strict");
    let state = unit.words("StateDirectory").map(|name| Path::new("/var/lib").join(name));
    let writable: Vec<_> = unit
        .words("ReadWritePaths")
        .map(|path| Path::new(path.trim_start_matches(['-', '+'])).to_owned())
        .chain(state)
        .collect();
    for output in &plan.pipeline.outputs {
        match &output.to {
            Destination::Files(files) => {
                // Of a path that is not absolute nobody knows where it is for the unit.
                let directory = &files.directory;
                if is_strict && directory.is_absolute() && !writable.iter().any(|path| directory.starts_with(path)) {
                    missing.push(format!("write to {}", directory.display()));
                    lines.push(format!("ReadWritePaths={}", directory.display()));
                }
            }
            // No file asks for one.
            Destination::Watch(_) | Destination::Stream(_) => {}
            Destination::Interface(_) | Destination::Redirect(_) => {
                if is_on(unit, "PrivateDevices") && missing.iter().all(|what| what != "open /dev/net/tun") {
                    missing.push("open /dev/net/tun".to_owned());
                    lines.push("PrivateDevices=no and DeviceAllow=/dev/net/tun rw".to_owned());
                }
            }
        }
    }
    if missing.is_empty() {
        return Finding::ok(UNIT_PATHS, "the unit lets the sensor reach its outputs");
    }
    let reason = format!("the unit does not let the sensor {}", missing.join(", nor "));
    Finding::error(UNIT_PATHS, reason, edit(&lines.join(" and ")))
}

fn reload(unit: &Unit) -> Finding {
    match unit.last("ExecReload") {
        Some(command) => Finding::ok(UNIT_RELOAD, format!("systemctl reload vxtap is there: {command}")),
        None => Finding::warning(
            UNIT_RELOAD,
            "the unit has no ExecReload=: a changed configuration needs a restart",
            edit(&format!("ExecReload={} reload", program(unit))),
        ),
    }
}

/// Returns the program that the unit starts, where it is vxtap by itself.
fn program(unit: &Unit) -> &str {
    let first = unit.last("ExecStart").and_then(|command| command.split_whitespace().next());
    first.filter(|program| program.ends_with("/vxtap")).unwrap_or("/usr/local/bin/vxtap")
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::super::tests::plan;
    use super::*;

    /// What a unit says of its service.
    fn of_service(unit: &'static str) -> &'static str {
        unit.split_once("\n[Service]\n").unwrap().1
    }

    /// The unit that ships.
    fn ours() -> Unit {
        Unit::of(of_service(include_str!("../../systemd/vxtap.service")))
    }

    /// The unit that ships with drop-ins that ship.
    fn ours_with(drop_ins: &[&'static str]) -> Unit {
        let ours = of_service(include_str!("../../systemd/vxtap.service"));
        let more = drop_ins.iter().map(|drop_in| of_service(drop_in));
        Unit::of(&std::iter::once(ours).chain(more).collect::<Vec<_>>().join("\n[Service]\n"))
    }

    fn found(unit: Unit, words: &str, needed: &[Capability]) -> Vec<(&'static str, Level)> {
        let findings = super::unit(&Service::Unit(unit), &plan(words), needed);
        findings
            .iter()
            .filter(|finding| finding.level != Level::Ok)
            .map(|finding| (finding.name, finding.level))
            .collect()
    }

    #[test]
    fn the_unit_that_ships_is_fine_for_what_it_says() {
        assert_eq!(found(ours(), "--write /data/captures", &[]), []);
        assert_eq!(found(ours(), "--write /var/lib/vxtap/x", &[]), []);
    }

    #[test]
    fn each_drop_in_lets_the_sensor_do_what_it_is_for() {
        let (tap, bpf) =
            (include_str!("../../systemd/drop-ins/tap.conf"), include_str!("../../systemd/drop-ins/bpf.conf"));
        let gre = include_str!("../../systemd/drop-ins/gre.conf");
        assert_eq!(found(ours_with(&[gre]), "--write /data/captures --listen gre", &[Capability::NetRaw]), []);
        let all = [&Capability::PROGRAMS[..], &[Capability::NetRaw]].concat();
        assert_eq!(found(ours_with(&[tap, gre, bpf]), "--write /data/captures --tap m --listen gre", &all), []);
        assert_eq!(found(ours_with(&[tap]), "--write /data/captures --tap m", &[Capability::NetAdmin]), []);
        assert_eq!(found(ours_with(&[bpf]), "--write /data/captures", &Capability::PROGRAMS), []);
        for both in [[tap, bpf], [bpf, tap]] {
            assert_eq!(found(ours_with(&both), "--write /data/captures --tap m", &Capability::PROGRAMS), []);
        }
        assert_eq!(found(ours_with(&[tap]), "", &Capability::PROGRAMS)[0], (UNIT_CAPABILITIES, Level::Error));
    }

    #[test]
    fn the_drop_in_that_is_named_gives_what_is_missing() {
        let named = |needed: &[Capability]| {
            let remedy = capabilities(&ours(), "vxtap", needed).remedy.unwrap();
            ["tap.conf", "bpf.conf", "gre.conf"].into_iter().filter(|name| remedy.contains(name)).collect::<Vec<_>>()
        };
        assert_eq!(named(&[Capability::NetAdmin]), ["tap.conf"]);
        assert_eq!(named(&Capability::PROGRAMS), ["bpf.conf"]);
        assert_eq!(named(&[Capability::NetRaw]), ["gre.conf"]);
        assert_eq!(named(&[Capability::Perfmon]), ["bpf.conf"]);
        assert_eq!(named(&[Capability::NetBindService, Capability::NetAdmin]), [""; 0]);
    }

    #[test]
    fn a_reload_is_by_the_program_that_the_unit_starts() {
        let advice = |unit| reload(&Unit::of(unit)).remedy.unwrap();
        assert!(advice("ExecStart=/usr/bin/vxtap run").ends_with("ExecReload=/usr/bin/vxtap reload"));
        for other in ["", "ExecStart=/bin/sh -c 'exec vxtap run'"] {
            assert!(advice(other).ends_with("ExecReload=/usr/local/bin/vxtap reload"), "{other}");
        }
    }

    #[test]
    fn a_capability_in_a_user_namespace_is_none() {
        let error = [(UNIT_CAPABILITIES, Level::Error)];
        let gives = "User=x\nAmbientCapabilities=CAP_NET_ADMIN\nExecReload=x\n";
        assert_eq!(found(Unit::of(gives), "", &[Capability::NetAdmin]), []);
        let private = Unit::of(&format!("{gives}PrivateUsers=yes"));
        assert_eq!(found(private.clone(), "", &[Capability::NetAdmin]), error);
        assert_eq!(found(private, "", &[]), []);
        // What is bounded to nothing is bounded.
        assert_eq!(found(Unit::of(&format!("{gives}CapabilityBoundingSet=")), "", &[Capability::NetAdmin]), error);
    }

    #[test]
    fn what_a_unit_does_not_let_the_sensor_do_is_found() {
        let error = |name| (name, Level::Error);
        assert_eq!(found(ours(), "--write /srv", &[]), [error(UNIT_PATHS)]);
        assert_eq!(found(ours(), "--no-write --tap m", &[]), [error(UNIT_PATHS)]);
        let both = [error(UNIT_CAPABILITIES), error(UNIT_PATHS)];
        assert_eq!(found(ours(), "--no-write --tap m", &[Capability::NetAdmin]), both);
        assert_eq!(found(ours(), "--write /data/captures", &Capability::PROGRAMS), [error(UNIT_CAPABILITIES)]);
        let few = Unit::of("LimitNOFILE=512:1024\nExecReload=x");
        assert_eq!(found(few.clone(), "", &[]), [(UNIT_FILES, Level::Warning)]);
        assert_eq!(found(few, "--max-sessions 900", &[]), []);
        assert_eq!(
            found(Unit::of("LimitNOFILE=infinity"), "", &[Capability::NetAdmin]),
            [(UNIT_RELOAD, Level::Warning)]
        );
        let bounded = Unit::of("CapabilityBoundingSet=CAP_SYS_ADMIN\nExecReload=x");
        assert_eq!(found(bounded, "", &[Capability::Bpf, Capability::NetAdmin]), [error(UNIT_CAPABILITIES)]);
        let all_but = Unit::of("CapabilityBoundingSet=~CAP_SYS_ADMIN CAP_NET_ADMIN\nExecReload=x");
        assert_eq!(found(all_but.clone(), "", &[Capability::Bpf]), []);
        assert_eq!(found(all_but, "", &[Capability::NetAdmin]), [error(UNIT_CAPABILITIES)]);
    }

    #[test]
    fn a_host_without_a_unit_is_told() {
        let level = |service| unit(&service, &plan(""), &[])[0].level;
        assert_eq!((level(Service::NoSystemd), level(Service::None)), (Level::Ok, Level::Warning));
    }
}
