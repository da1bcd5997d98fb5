//! The entries for sessions become a policy.
//!
//! A key of an entry gets its meaning in [`plan`]. What does not go together is refused there, with
//! the places of both.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::entry::SessionEntry;
use super::super::error::PlanError;
use super::super::origin::{Said, item};
use super::super::rules::RuleEntry;
use super::super::sessions::only;
use super::super::settings::Settings;
use super::expressions::Expressions;
use super::outputs::Outputs;
use crate::route::policy::{Entry, Match, OutputNumber, Policy, SessionPlan};
use crate::route::{MOST_RULES, Rule, Rules, RulesError};
use crate::session::{Label, Scope};

/// Plans what becomes of sessions. Adds to `wrong` what cannot be as it is asked for.
pub(super) fn plan(
    settings: &Settings,
    outputs: &Outputs,
    expressions: &mut Expressions,
    wrong: &mut Vec<PlanError>,
) -> Arc<Policy> {
    if settings.session.is_empty() {
        return Arc::default();
    }
    check_names(settings, wrong);
    check_order(settings, wrong);
    let entries = settings.session.iter().enumerate().map(|(index, asked)| Entry {
        sessions: matched(settings, index, asked, wrong),
        plan: session(settings, index, asked, outputs, expressions, wrong),
    });
    let entries: Vec<Entry> = entries.collect();
    let names = outputs.outputs.iter().map(|output| output.name.clone()).collect();
    let policy = Policy::new(entries, names).unwrap_or_else(|error| {
        wrong.push(PlanError::Entries { said: settings.origins.said_session(Policy::MOST), error });
        Policy::default()
    });
    Arc::new(policy)
}

/// Plans which sessions an entry is for.
fn matched(settings: &Settings, index: usize, asked: &SessionEntry, wrong: &mut Vec<PlanError>) -> Match {
    let said = |name| settings.origins.said_in_session(index, name);
    let vnis = only(asked.vni.iter().copied()).unwrap_or_else(|error| {
        wrong.push(PlanError::AllAndOthers { said: said("vni"), error });
        None
    });
    let sources = only(asked.source.iter().copied()).unwrap_or_else(|error| {
        wrong.push(PlanError::AllAndOthers { said: said("source"), error });
        None
    });
    Match {
        sources: sources.map(FromIterator::from_iter),
        vnis: vnis.map(FromIterator::from_iter),
        scope: asked.scope.map(Scope),
        port: asked.port,
    }
}

/// Plans what becomes of the frames of the sessions that an entry is for.
fn session(
    settings: &Settings,
    index: usize,
    asked: &SessionEntry,
    outputs: &Outputs,
    expressions: &mut Expressions,
    wrong: &mut Vec<PlanError>,
) -> SessionPlan {
    let said = |name| settings.origins.said_in_session(index, name);
    if asked.drop {
        // These would say something of frames that go nowhere.
        let given = [
            ("outputs", asked.outputs.is_some()),
            ("snaplen", asked.snaplen.is_some()),
            ("filter", asked.filter.is_some()),
            ("rules", !asked.rules.is_empty()),
        ];
        let given = given.into_iter().filter(|(_, is_given)| *is_given);
        wrong.extend(given.map(|(name, _)| PlanError::Dropped { said: said(name), drop: said("drop") }));
    }
    let text = |text: &str| Arc::<str>::from(text);
    SessionPlan {
        label: Label {
            name: asked.name.as_ref().map(|name| text(name.as_str())),
            description: asked.description.as_deref().map(text),
            tag: None,
        },
        drop: asked.drop,
        outputs: asked.outputs.as_ref().map(|names| set(settings, index, names, outputs, wrong)).unwrap_or_default(),
        rules: rules(settings, index, asked, wrong),
        expression: expressions.compile(asked.filter.as_deref(), || said("filter"), wrong),
        snaplen: asked.snaplen.map(|snaplen| snaplen as usize),
    }
}

/// Plans the rules of an entry, if it has some.
fn rules(settings: &Settings, index: usize, asked: &SessionEntry, wrong: &mut Vec<PlanError>) -> Option<Arc<Rules>> {
    // What lacks something was refused where it was read.
    let rules: Vec<Rule> = asked.rules.iter().filter_map(RuleEntry::rule).collect();
    if rules.is_empty() {
        return None;
    }
    let said = || settings.origins.said_in_session(index, "rules");
    let at = |place| settings.origins.said_path(item(said().path(), place)).unwrap_or_else(said);
    match Rules::new(&rules) {
        Ok(rules) => Some(Arc::new(rules)),
        Err(RulesError::Twice { number, first, second }) => {
            wrong.push(PlanError::RuleNumber { said: at(second), other: at(first), number });
            None
        }
        Err(RulesError::TooMany(count)) => {
            wrong.push(PlanError::Rules { said: at(MOST_RULES), count });
            None
        }
    }
}

/// Finds the outputs of these names.
fn set(
    settings: &Settings,
    index: usize,
    names: &[String],
    outputs: &Outputs,
    wrong: &mut Vec<PlanError>,
) -> crate::route::policy::OutputSet {
    let said = || settings.origins.said_in_session(index, "outputs");
    if names.is_empty() {
        wrong.push(PlanError::NoOutputs(said()));
    }
    let numbered = || outputs.asked_as.iter().enumerate();
    let mut found: Vec<OutputNumber> = Vec::new();
    for (place, name) in names.iter().enumerate() {
        let of_name = numbered().filter(|(_, asked)| *asked == name).filter_map(|(at, _)| OutputNumber::new(at));
        let before = found.len();
        found.extend(of_name);
        // One that is there and cannot be planned is another fault.
        if found.len() == before && !settings.output.0.iter().any(|(other, _)| other == name) {
            let path = item(said().path(), place);
            let said = settings.origins.said_path(path).unwrap_or_else(said);
            let mut ours: Vec<&str> = settings.output.0.iter().map(|(name, _)| name.as_str()).collect();
            ours.dedup();
            wrong.push(PlanError::NoOutput { said, name: name.clone(), ours: ours.join(", ") });
        }
    }
    found.into_iter().collect()
}

/// Says whether each name is that of one entry.
fn check_names(settings: &Settings, wrong: &mut Vec<PlanError>) {
    let said = |index| settings.origins.said_in_session(index, "name");
    let mut names = HashMap::new();
    for (index, asked) in settings.session.iter().enumerate() {
        let Some(name) = &asked.name else { continue };
        if let Some(other) = names.insert(name, index) {
            wrong.push(PlanError::SessionName { said: said(index), other: said(other), name: name.to_string() });
        }
    }
}

/// Says whether sessions come as far as each entry: not past one that is for all, or for the same.
fn check_order(settings: &Settings, wrong: &mut Vec<PlanError>) {
    let said = |index| -> Said { settings.origins.said_session(index) };
    let mut before = HashMap::new();
    let mut for_all = None;
    for (index, asked) in settings.session.iter().enumerate() {
        let SessionEntry { source, vni, scope, port, .. } = asked;
        let words = |words: Vec<String>| words.join(",");
        let sources = words(source.iter().map(ToString::to_string).collect());
        let vnis = words(vni.iter().map(ToString::to_string).collect());
        let same = *before.entry((sources, vnis, *scope, *port)).or_insert(index);
        let other = for_all.or(Some(same).filter(|same| *same != index));
        if let Some(other) = other {
            wrong.push(PlanError::Unreachable { said: said(index), other: said(other) });
        } else if source.is_empty() && vni.is_empty() && scope.is_none() && port.is_none() {
            for_all = Some(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::RunPlan;
    use super::*;
    use crate::config::file::Config;
    use crate::host::HostFacts;
    use crate::session::Session;
    use crate::wire::Vni;

    fn policy(text: &str) -> Arc<Policy> {
        let config = Config::parse(Path::new("vxtap.toml"), text.to_owned()).unwrap();
        let (_, plan): (_, RunPlan) = config.plan(&HostFacts::unknown()).unwrap();
        plan.pipeline.policy
    }

    #[test]
    fn entries_become_plans_in_their_order() {
        let policy = policy(
            "[[session]]\nname = \"web\"\ndescription = \"the shop\"\nsource = [\"10.0.1.0/24\", \"fd00::1\"]\nvni = [7, \"9-11\"]\n\
             outputs = \"ids\"\nsnaplen = 200\nfilter = \"tcp\"\n[[session]]\nscope = 5\nport = 8472\n[[session]]\nname = \"rest\"\n\
             drop = true\n[output.evidence]\nkind = \"pcap\"\n[output.ids]\nkind = \"tap\"\ncount = 2\n",
        );
        let plan = |source: &str, vni: u32, scope: Option<u64>, port: u16| {
            let source = match source.parse().unwrap() {
                std::net::IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                std::net::IpAddr::V6(v6) => v6,
            };
            let session = Session::vxlan(source, Vni::new(vni).unwrap());
            policy.plan_of(&Session { scope: scope.map(Scope), ..session }, port).clone()
        };
        let web = plan("10.0.1.9", 10, None, 4789);
        assert_eq!((web.label.name.as_deref(), web.label.description.as_deref()), (Some("web"), Some("the shop")));
        assert_eq!((web.snaplen, web.drop), (Some(200), false));
        assert_eq!(web.expression.as_ref().map(|expression| expression.text()), Some("tcp"));
        let goes = |name: &str| web.outputs.contains(policy.number_of_output(name));
        assert_eq!(["evidence", "ids0", "ids1"].map(goes), [false, true, true]);
        assert_eq!(plan("fd00::1", 7, None, 4789), web);
        for (source, vni, scope, port, drops) in [
            ("10.0.1.9", 8, None, 4789, true),
            ("10.0.2.9", 7, None, 4789, true),
            ("10.0.2.9", 7, Some(5), 8472, false),
            ("10.0.2.9", 7, Some(5), 4789, true),
            ("10.0.2.9", 7, None, 8472, true),
        ] {
            assert_eq!(plan(source, vni, scope, port).drop, drops, "{source} {vni} {scope:?} {port}");
        }
        assert!(plan("10.0.2.9", 7, Some(5), 8472).is_plain());
    }

    #[test]
    fn a_host_is_asked_for_all_bytes_where_an_entry_looks_at_them() {
        let keep = |entry: &str| {
            let output = "[output.a]\nkind = \"pcap\"\nsnaplen = 200\n";
            let text = format!("[receive]\nsource = \"bpf\"\n[[session]]\nvni = 1\n{entry}\n{output}");
            let config = Config::parse(Path::new("vxtap.toml"), text).unwrap();
            config.plan(&HostFacts::unknown()).unwrap().1.source.bpf.keep
        };
        assert_eq!((keep("snaplen = 100"), keep("filter = \"tcp\"")), (209, u32::MAX));
    }
}
