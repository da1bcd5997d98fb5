//! The entries for sessions become a policy.
//!
//! A key of an entry gets its meaning in [`plan`]. What does not go together is refused there, with
//! the places of both.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::super::entry::SessionEntry;
use super::super::error::PlanError;
use super::super::kept::{Duplicates, Tls};
use super::super::origin::Said;
use super::super::rules::RuleEntry;
use super::super::sessions::{AllAndOthers, only};
use super::super::settings::Settings;
use super::super::units::Size;
use super::expressions::Expressions;
use super::outputs::Outputs;
use crate::route::cutoff::Cutoff;
use crate::route::dedup::{Dedup, Group, Mode};
use crate::route::policy::{Entry, Match, OutputNumber, Policy, SessionPlan, TooManyEntries};
use crate::route::{MOST_RULES, Rule, Rules, RulesError};
use crate::session::Label;

/// Plans what becomes of sessions. Adds to `wrong` what cannot be as it is asked for.
pub(super) fn plan<'s>(
    settings: &'s Settings,
    outputs: &Outputs,
    expressions: &mut Expressions<'s>,
    wrong: &mut Vec<PlanError>,
) -> Arc<Policy> {
    if settings.session.is_empty() {
        return Arc::default();
    }
    // Who gives far too many waits for no plan of each.
    if settings.session.len() > Policy::MOST {
        let error = TooManyEntries(settings.session.len());
        wrong.push(PlanError::Entries { said: settings.origins.said_session(Policy::MOST), error });
        return Arc::default();
    }
    check_names(settings, wrong);
    let mut groups = Groups::new();
    let entries = settings.session.iter().enumerate().map(|(index, asked)| {
        let said = |name| settings.origins.said_in_session(index, name);
        let sessions = matched(asked, |name, error| wrong.push(PlanError::AllAndOthers { said: said(name), error }));
        let dedup = dedup(settings, index, asked, &mut groups, wrong);
        let plan = session(settings, index, asked, outputs, expressions, wrong);
        Entry { sessions, plan: SessionPlan { dedup, ..plan } }
    });
    let entries: Vec<Entry> = entries.collect();
    let names = outputs.outputs.iter().map(|output| output.name.clone()).collect();
    let policy = Policy::new(entries, names).unwrap_or_default();
    check_order(settings, &policy, wrong);
    Arc::new(policy)
}

/// Plans which sessions an entry is for. A list that cannot be is named to `wrong`, and is as one
/// that is left out.
fn matched(asked: &SessionEntry, mut wrong: impl FnMut(&'static str, AllAndOthers)) -> Match {
    let vnis = only(asked.vni.iter().copied()).unwrap_or_else(|error| {
        wrong("vni", error);
        None
    });
    let sources = only(asked.source.iter().copied()).unwrap_or_else(|error| {
        wrong("source", error);
        None
    });
    Match {
        sources: sources.map(FromIterator::from_iter),
        vnis: vnis.map(FromIterator::from_iter),
        scope: asked.scope,
        port: asked.port,
    }
}

/// Plans what becomes of the frames of the sessions that an entry is for.
fn session<'s>(
    settings: &Settings,
    index: usize,
    asked: &'s SessionEntry,
    outputs: &Outputs,
    expressions: &mut Expressions<'s>,
    wrong: &mut Vec<PlanError>,
) -> SessionPlan {
    let said = |name| settings.origins.said_in_session(index, name);
    if asked.drop {
        // These would say something of frames that go nowhere.
        let given = [
            ("outputs", asked.outputs.is_some()),
            ("snaplen", asked.snaplen.is_some()),
            ("slice", asked.slice.is_some()),
            ("filter", asked.filter.is_some()),
            ("dedup", asked.dedup.is_some()),
            ("flow_limit", asked.flow_limit.is_some()),
            ("tls", asked.tls.is_some()),
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
            packet_ids: asked.dedup == Some(Duplicates::Tag),
            tag: None,
        },
        drop: asked.drop,
        outputs: asked.outputs.as_ref().map(|names| set(settings, index, names, outputs, wrong)).unwrap_or_default(),
        rules: rules(settings, index, asked, wrong),
        expression: expressions.compile(asked.filter.as_deref(), || said("filter"), wrong),
        dedup: None,
        cutoff: cutoff(asked),
        snaplen: asked.snaplen.map(|snaplen| snaplen as usize),
        slice: asked.slice,
    }
}

/// Says whether what becomes of a frame can depend on any of its bytes.
#[must_use]
pub(super) fn reads_all(plan: &SessionPlan) -> bool {
    let SessionPlan { label: _, drop: _, outputs: _, rules, expression, dedup, cutoff, snaplen: _, slice: _ } = plan;
    let looks_for_tls = cutoff.is_some_and(|cutoff| cutoff.tls.is_some());
    expression.is_some() || rules.is_some() || dedup.is_some() || looks_for_tls
}

/// Plans how much of each flow is kept.
fn cutoff(asked: &SessionEntry) -> Option<Cutoff> {
    let cutoff =
        Cutoff { flow_limit: asked.flow_limit.map(|Size(limit)| limit), tls: asked.tls.map(|Tls(limit)| limit) };
    Some(cutoff).filter(|cutoff| *cutoff != Cutoff::default())
}

/// The groups of sessions that entries name, among which duplicates are looked for.
type Groups = HashMap<String, Arc<Group>>;

/// Plans what becomes of packets that another session of the group delivered before.
fn dedup(
    settings: &Settings,
    index: usize,
    asked: &SessionEntry,
    groups: &mut Groups,
    wrong: &mut Vec<PlanError>,
) -> Option<Dedup> {
    if asked.dedup_group.is_some() && asked.dedup.is_none() {
        wrong.push(PlanError::GroupAlone(settings.origins.said_in_session(index, "dedup_group")));
    }
    let mode = match asked.dedup? {
        Duplicates::Off => return None,
        Duplicates::Drop => Mode::Drop,
        Duplicates::Tag => Mode::Tag,
    };
    // The group of one entry has a name with spaces, which no group has that people named.
    let name = match (&asked.dedup_group, &asked.name) {
        (Some(group), _) => group.to_string(),
        (None, Some(name)) => format!("entry named {name}"),
        (None, None) => format!("entry {}", index + 1),
    };
    let group = groups.entry(name).or_insert_with_key(|name| Arc::new(Group::new(name.as_str())));
    Some(Dedup { mode, group: Arc::clone(group) })
}

/// Plans the rules of an entry, if it has some.
fn rules(settings: &Settings, index: usize, asked: &SessionEntry, wrong: &mut Vec<PlanError>) -> Option<Arc<Rules>> {
    // What lacks something was refused where it was read.
    let rules: Vec<Rule> = asked.rules.iter().filter_map(RuleEntry::rule).collect();
    if rules.is_empty() {
        return None;
    }
    let said = || settings.origins.said_in_session(index, "rules");
    let at = |place| settings.origins.item_of(said(), place);
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
        let at = || settings.origins.item_of(said(), place);
        let of_name = numbered().filter(|(_, asked)| *asked == name).map(|(at, _)| OutputNumber::new(at));
        let Some(of_name) = of_name.collect::<Option<Vec<_>>>() else {
            wrong.push(PlanError::OutputBeyond { said: at(), name: name.clone() });
            continue;
        };
        // One that is there and cannot be planned is another fault.
        if of_name.is_empty() && !settings.output.0.iter().any(|(other, _)| other == name) {
            let mut ours: Vec<&str> = settings.output.0.iter().map(|(name, _)| name.as_str()).collect();
            ours.dedup();
            if ours.is_empty() {
                ours.push("none");
            }
            wrong.push(PlanError::NoOutput { said: at(), name: name.clone(), ours: ours.join(", ") });
        }
        found.extend(of_name);
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

/// Says whether sessions come as far as each entry: not past one of the same file that takes all of
/// them. One of another file may stand in its way, as where people overrule what a program wrote.
fn check_order(settings: &Settings, policy: &Policy, wrong: &mut Vec<PlanError>) {
    let said = |index| -> Said { settings.origins.said_session(index) };
    let file = |said: &Said| said.place().map(|place| Arc::clone(&place.path));
    let pairs = policy.unreachable().map(|(index, other)| (said(index), said(other)));
    let of_one_file = pairs.filter(|(said, other)| file(said) == file(other));
    wrong.extend(of_one_file.map(|(said, other)| PlanError::Unreachable { said, other }));
}

/// Returns the places of the entries that no session comes to, for one before takes all of theirs.
pub(crate) fn unreachable(entries: &[SessionEntry]) -> HashSet<usize> {
    let entries = entries.iter().map(|asked| Entry { sessions: matched(asked, |_, _| ()), ..Entry::default() });
    let policy = Policy::new(entries.collect(), Vec::new()).unwrap_or_default();
    policy.unreachable().map(|(place, _)| place).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::RunPlan;
    use super::*;
    use crate::config::file::Config;
    use crate::host::HostFacts;
    use crate::route::Expression;
    use crate::session::{Scope, Session};
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
             outputs = \"ids\"\nsnaplen = 200\nslice = \"l4+64\"\nfilter = \"tcp\"\n\
             flow_limit = \"5MB\"\ntls = \"handshake+64KiB\"\n[[session]]\nscope = 5\nport = 8472\n[[session]]\nname = \"rest\"\n\
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
        assert_eq!(web.expression.as_deref(), Expression::new("tcp").ok().as_ref());
        assert_eq!(web.slice, "l4+64".parse().ok());
        assert_eq!(web.cutoff, Some(Cutoff { flow_limit: Some(5_000_000), tls: Some(65_536) }));
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
    fn sessions_of_one_group_share_it() {
        let dedup = |more: &str| format!("dedup = \"drop\"\n{more}");
        let keys = [
            dedup("dedup_group = \"a\""),
            dedup("name = \"a\"\ndedup_group = \"a\""),
            dedup("name = \"b\""),
            dedup("dedup_group = \"b\""),
            dedup("name = \"6\""),
            dedup(""),
            dedup(""),
            "dedup = \"off\"\ndedup_group = \"a\"".into(),
            String::new(),
        ];
        let entries = (1..).zip(&keys).map(|(vni, keys)| format!("[[session]]\nvni = {vni}\n{keys}\n"));
        let policy = policy(&entries.collect::<String>());
        let groups = policy.entries().iter().map(|entry| Some(entry.plan.dedup.as_ref()?.group.clone()));
        let groups: Vec<Option<Arc<Group>>> = groups.collect();
        let names: Vec<_> = groups.iter().map(|group| group.as_ref().map(|group| group.name().to_string())).collect();
        let names: Vec<_> = names.iter().map(Option::as_deref).collect();
        let own = ["entry named b", "b", "entry named 6", "entry 6", "entry 7"].map(Some);
        assert_eq!(names, [&[Some("a"), Some("a")], &own[..], &[None, None]].concat());
        assert!(Arc::ptr_eq(groups[0].as_ref().unwrap(), groups[1].as_ref().unwrap()));
        assert!(policy.entries()[7].plan.is_plain());
    }

    #[test]
    fn far_too_many_entries_are_refused_before_anything_is_said_of_each() {
        let text = "[[session]]\nfilter = \"no such word\"\n".repeat(Policy::MOST + 1);
        let config = Config::parse(Path::new("vxtap.toml"), text).unwrap();
        let refused = config.plan(&HostFacts::unknown()).unwrap_err().to_string();
        assert!(refused.contains("8193 entries for sessions are too many") && !refused.contains("filter"), "{refused}");
    }

    #[test]
    fn an_entry_for_a_scope_behind_one_for_all_scopes_is_out_of_reach() {
        let entry = |more: &str| format!("[[session]]\nsource = \"10.0.0.7\"\nvni = 7\n{more}");
        let refused = |text: String| {
            let config = Config::parse(Path::new("vxtap.toml"), text).unwrap();
            config.plan(&HostFacts::unknown()).err().map(|error| error.to_string())
        };
        assert_eq!(refused(entry("scope = 5\n") + &entry("")), None);
        assert!(refused(entry("") + &entry("scope = 5\n")).is_some_and(|said| said.contains("no session comes to")));
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
        assert_eq!((keep("dedup = \"drop\""), keep("dedup = \"off\"")), (u32::MAX, 209));
        assert_eq!((keep("tls = \"handshake\""), keep("flow_limit = \"1MB\"")), (u32::MAX, 209));
    }
}
