use std::collections::BTreeMap;

use proptest::collection::btree_map;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::settings::Settings;
use super::*;
use crate::host::{HostFacts, Interface};
use crate::pipeline::{Destination, OutputPlan};

fn plan(settings: Value) -> RunPlan {
    let host = HostFacts {
        memory: Some(1 << 30),
        cpus: 4,
        possible_cpus: Some(8),
        descriptors: 1024,
        ipv6: true,
        runtime_directory: None,
        keeps_sockets: false,
        interfaces: Some(vec![Interface { name: "lo".into(), index: 1 }]),
    };
    let settings: Settings = serde_json::from_value(settings).unwrap();
    RunPlan::new(&settings, &host).unwrap()
}

fn one(files: &Value) -> RunPlan {
    plan(json!({ "output": { "a": files } }))
}

#[track_caller]
fn said(now: &RunPlan, wanted: RunPlan) -> String {
    match diff(now, wanted) {
        Ok(diff) => diff.said.join("; "),
        Err(refused) => refused.to_string(),
    }
}

#[test]
fn what_changes_is_said_and_what_cannot_is_named() {
    let now = plan(json!({ "output": { "a": { "kind": "pcap" } } }));
    let same = |more: Value| {
        let mut all = json!({ "output": { "a": { "kind": "pcap" } } });
        more.as_object().unwrap().iter().for_each(|(key, value)| all[key] = value.clone());
        plan(all)
    };
    assert_eq!(said(&now, same(json!({}))), "");
    let files = |more: Value| {
        let mut files = json!({ "kind": "pcap" });
        more.as_object().unwrap().iter().for_each(|(key, value)| files[key] = value.clone());
        one(&files)
    };
    for (more, wanted) in [
        (json!({ "rotate_size": "1MiB" }), "output a changed: rotate_size"),
        (json!({ "compress": "lz4", "hash": "none" }), "output a changed: compress, hash"),
        (json!({ "bare_ip": "raw", "format": "pcapng" }), "output a changed: format, bare_ip"),
        (json!({ "keep_files": 5, "sync": "publish" }), "output a changed: sync, keep_files"),
        (json!({ "snaplen": 100, "on_publish": "true" }), "output a changed: snaplen, on_publish"),
        (json!({ "essential": false }), "output a changed: essential"),
        (json!({ "directory": "/b" }), "output a in another directory"),
        (json!({ "direct": "on" }), "output a changed: direct"),
        (json!({ "kind": "tap" }), "output.a.kind needs a restart"),
    ] {
        assert_eq!(said(&now, files(more.clone())), wanted, "{more}");
    }
    for (more, wanted) in [
        (json!({ "receive": { "listen": ["127.0.0.1:4790"] } }), "receive.listen needs a restart"),
        (json!({ "receive": { "workers": 1, "steer": "flow" } }), "receive.workers, receive.steer need a restart"),
        (json!({ "receive": { "buffer": "1MiB" } }), "receive.buffer needs a restart"),
        (json!({ "receive": { "reserved_bits": "reject" } }), "receive.reserved_bits"),
        (json!({ "receive": { "vni_mask": "0x0fffff" } }), "receive.vni_mask needs a restart"),
        (json!({ "receive": { "timestamps": "switch" } }), "receive.timestamps needs a restart"),
        (json!({ "sessions": { "max": 5 } }), "sessions.max needs a restart"),
        (json!({ "delivery": { "queue": "64MiB" } }), "delivery.queue needs a restart"),
        (json!({ "delivery": { "flush": "2s" } }), "output a changed: flush"),
        (json!({ "run": { "count": 5, "duration": "1h" } }), "run.duration, run.count need a restart"),
        (json!({ "output": { "b": { "kind": "tap" } } }), "output a removed; output b added"),
    ] {
        assert_eq!(said(&now, same(more.clone())), wanted, "{more}");
    }
}

#[test]
fn a_port_for_checks_needs_a_restart_and_the_time_to_leave_does_not() {
    let with = |health: Value| plan(json!({ "health": health, "output": { "a": { "kind": "pcap" } } }));
    let now = with(json!({ "listen": ["0.0.0.0:8080"] }));
    for (wanted, words) in [
        (json!({ "listen": ["0.0.0.0:8080"], "drain": "20s" }), ""),
        (json!({ "listen": ["0.0.0.0:8080"], "drain": "0s" }), "health.drain"),
        (json!({}), "health.listen needs a restart"),
        (json!({ "listen": ["0.0.0.0:8081"] }), "health.listen needs a restart"),
        (json!({ "listen": ["0.0.0.0:8080"], "allow": ["10.0.0.0/8"] }), "health.allow needs a restart"),
    ] {
        assert_eq!(said(&now, with(wanted.clone())), words, "{wanted}");
    }
}

#[test]
fn the_order_of_who_may_ask_and_where_is_no_change() {
    let with = |http: Value| plan(json!({ "http": http, "output": { "a": { "kind": "pcap" } } }));
    let http = |listen: [&str; 2], allow: [&str; 2], names: [&str; 2]| {
        with(json!({ "listen": listen, "allow": allow, "names": names }))
    };
    let (listen, allow, names) = (["127.0.0.1:80", "[::1]:80"], ["10.0.0.0/8", "::1"], ["a", "b"]);
    let turned = |[first, second]: [&'static str; 2]| [second, first];
    let now = http(listen, allow, names);
    assert_eq!(said(&now, http(turned(listen), turned(allow), turned(names))), "");
    assert_eq!(said(&now, http(listen, ["10.0.0.0/8", "::2"], names)), "http.allow needs a restart");
    assert_eq!(said(&now, http(listen, allow, ["a", "a"])), "http.names needs a restart");
}

#[test]
fn a_directory_is_not_given_on_at_once() {
    let files = |directory: &str| json!({ "kind": "pcap", "directory": directory });
    let now = plan(json!({ "output": { "a": files("/a"), "b": files("/b") } }));
    for outputs in [
        json!({ "c": files("/a"), "b": files("/b") }),
        json!({ "a": files("/b"), "b": files("/a") }),
        json!({ "b": files("/a") }),
    ] {
        let refused = diff(&now, plan(json!({ "output": outputs }))).unwrap_err();
        assert!(matches!(refused, Refused::Held { .. }), "{outputs}: {refused}");
    }
    assert_eq!(
        said(&now, plan(json!({ "output": { "a": files("/c"), "b": files("/b") } }))),
        "output a in another directory"
    );
}

#[test]
fn an_interface_is_not_given_on_at_once() {
    let tap = || json!({ "kind": "tap", "interface": "m0" });
    let now = plan(json!({ "output": { "a": { "kind": "pcap" }, "t": tap() } }));
    let said = said(&now, plan(json!({ "output": { "a": { "kind": "pcap" }, "u": tap() } })));
    assert!(said.starts_with("output u is to have the interface that output t has: reload without t first"), "{said}");
}

#[test]
fn the_entries_that_change_are_named() {
    let with = |outputs: &[&str], session: Value| {
        let outputs: BTreeMap<_, _> = outputs.iter().map(|name| (*name, json!({ "kind": "tap" }))).collect();
        plan(json!({ "output": outputs, "session": session }))
    };
    let web = || json!({ "name": "web", "vni": [1], "outputs": ["m"] });
    let other = || json!({ "vni": [2], "snaplen": 100 });
    let now = with(&["m"], json!([web(), other()]));
    for (wanted, words) in [
        (with(&["m"], json!([web(), { "vni": [2], "snaplen": 64 }])), "[[session]] number 2 changed"),
        (with(&["m"], json!([other(), web()])), "[[session]] number 1 added, [[session]] number 2 removed"),
        (with(&["m"], json!([{ "name": "db", "vni": [1] }, other()])), "[[session]] db added, [[session]] web removed"),
        (with(&["m"], json!([])), "[[session]] number 2 removed, [[session]] web removed"),
        // An output that comes before another has its number.
        (with(&["a", "m"], json!([web(), other()])), "output a added"),
    ] {
        assert_eq!(said(&now, wanted), words);
    }
    let many = |n: u32| Value::from_iter((1..=n).map(|vni| json!({ "name": format!("n{vni}"), "vni": [vni] })));
    assert_eq!(said(&with(&["m"], many(1)), with(&["m"], many(9))), "8 entries of [[session]]");
    let swapped = json!([{ "name": "n2", "vni": [2] }, { "name": "n1", "vni": [1] }]);
    assert_eq!(said(&with(&["m"], many(2)), with(&["m"], swapped)), "[[session]] in another order");
}

/// What the program is to keep from now on, of a payload and of a copy; none where that stays.
#[track_caller]
fn kept(now: &RunPlan, wanted: RunPlan) -> Option<(u32, u32)> {
    let diff = diff(now, wanted).unwrap();
    let kept = diff.changes.kept;
    assert_eq!(diff.plan.source.bpf.kept(), kept.unwrap_or_else(|| now.source.bpf.kept()));
    kept.map(|kept| (kept.payload, kept.copy))
}

#[test]
fn the_program_keeps_what_is_asked_for_from_then_on() {
    let with = |snaplen: u32, more: Value| {
        let mut outputs = json!({ "a": { "kind": "pcap", "snaplen": snaplen } });
        more.as_object().unwrap().iter().for_each(|(key, value)| outputs[key] = value.clone());
        plan(json!({ "receive": { "source": "bpf" }, "output": outputs }))
    };
    let now = with(200, json!({}));
    assert_eq!(said(&now, with(300, json!({}))), "output a changed: snaplen");
    assert_eq!(kept(&now, with(200, json!({}))), None);
    assert_eq!(kept(&now, with(150, json!({}))), Some((159, 0)));
    assert_eq!(kept(&now, with(300, json!({}))), Some((309, 0)));
    // An interface takes whole frames.
    let whole = with(200, json!({ "t": { "kind": "tap" } }));
    assert_eq!(said(&now, whole.clone()), "output t added");
    assert_eq!(kept(&now, whole.clone()), Some((u32::MAX, 0)));
    assert_eq!(kept(&whole, with(300, json!({ "t": { "kind": "tap" } }))), None);
    let redirect = with(200, json!({ "t": { "kind": "tap", "mode": "redirect" } }));
    assert_eq!(said(&whole, redirect.clone()), "output.t.mode needs a restart");
    assert_eq!(said(&redirect, whole), "output.t.mode needs a restart");
    let more = with(300, json!({ "t": { "kind": "tap", "mode": "redirect" } }));
    assert_eq!(said(&redirect, more.clone()), "output a changed: snaplen");
    assert_eq!(kept(&redirect, more), Some((u32::MAX, 309)));
    // Without files it was told to make no copies.
    let alone = |more: Value| {
        let mut outputs = json!({ "t": { "kind": "tap", "mode": "redirect" } });
        more.as_object().unwrap().iter().for_each(|(key, value)| outputs[key] = value.clone());
        plan(json!({ "receive": { "source": "bpf" }, "output": outputs }))
    };
    let files = alone(json!({ "b": { "kind": "pcap" } }));
    assert_eq!(said(&alone(json!({})), files.clone()), "output.b needs a restart");
    assert_eq!(said(&files, alone(json!({}))), "output b removed");
    assert_eq!(kept(&files, alone(json!({}))), Some((u32::MAX, 128)));
}

#[test]
fn an_entry_for_sessions_can_come_to_read_all_of_a_frame() {
    let with = |snaplen: u32, session: Value| {
        let outputs = json!({ "a": { "kind": "pcap", "snaplen": snaplen } });
        plan(json!({ "receive": { "source": "bpf" }, "output": outputs, "session": session }))
    };
    let now = with(200, json!([]));
    for entry in [
        json!({ "filter": "tcp" }),
        json!({ "dedup": "drop" }),
        json!({ "tls": "handshake+1KiB" }),
        json!({ "rules": [{ "number": 1, "action": "accept", "direction": "ingress", "protocol": "tcp" }] }),
    ] {
        assert_eq!(kept(&now, with(200, json!([entry]))), Some((u32::MAX, 0)), "{entry}");
        assert_eq!(kept(&with(200, json!([entry])), now.clone()), Some((209, 0)), "{entry}");
    }
    assert_eq!(kept(&now, with(200, json!([{ "name": "web", "snaplen": 300, "flow_limit": "1KiB" }]))), None);
    let udp = |session| plan(json!({ "output": { "a": { "kind": "pcap", "snaplen": 200 } }, "session": session }));
    assert_eq!(said(&udp(json!([])), udp(json!([{ "filter": "tcp" }]))), "[[session]] number 1 added");
}

/// Settings of files, or of an interface.
fn output() -> impl Strategy<Value = Value> {
    let files = (0..3u8, prop::option::of(1..3u64), any::<bool>(), prop::option::of(1..3u64), any::<bool>());
    prop_oneof![
        4 => files.prop_map(|(directory, mib, lz4, keep, snaps)| {
            let mut files = json!({ "kind": "pcap", "directory": format!("/{directory}") });
            mib.into_iter().for_each(|mib| files["rotate_size"] = format!("{mib}MiB").into());
            keep.into_iter().for_each(|keep| files["keep_files"] = keep.into());
            if lz4 { files["compress"] = "lz4".into() }
            if snaps { files["snaplen"] = 100.into() }
            files
        }),
        1 => (0..2u32).prop_map(|vni| json!({ "kind": "tap", "vni": [vni.to_string()] })),
    ]
}

/// Plans with up to three outputs of four names. Two outputs never have one directory.
fn plans() -> impl Strategy<Value = RunPlan> {
    (btree_map("[a-d]", output(), 1..4), any::<bool>(), any::<bool>()).prop_map(|(mut outputs, only, slow)| {
        for (name, output) in &mut outputs {
            if let Some(directory) = output.get_mut("directory") {
                *directory = format!("/{name}{}", directory.as_str().unwrap()).into();
            }
        }
        let vnis = if only { json!(["7"]) } else { json!([]) };
        let flush = if slow { "2s" } else { "1s" };
        plan(json!({ "output": outputs, "sessions": { "vni": vnis }, "delivery": { "flush": flush } }))
    })
}

/// Does to outputs what a pipeline does with changes.
fn apply(changes: &Changes, outputs: &[OutputPlan]) -> BTreeMap<String, OutputPlan> {
    let mut by_name: BTreeMap<_, _> = outputs.iter().map(|plan| (plan.name.clone(), plan.clone())).collect();
    for name in &changes.remove {
        assert!(by_name.remove(name).is_some(), "{name}");
    }
    for plan in &changes.add {
        assert!(by_name.insert(plan.name.clone(), plan.clone()).is_none(), "{}", plan.name);
    }
    for plan in &changes.change {
        assert!(by_name.insert(plan.name.clone(), plan.clone()).is_some(), "{}", plan.name);
    }
    by_name
}

/// The same plan with all memory as it would be for an output alone.
fn without_memory(mut plan: OutputPlan) -> OutputPlan {
    plan.lane.chunks = 0;
    if let Destination::Files(files) = &mut plan.to {
        files.buffer_memory = 0;
    }
    plan
}

proptest! {
    #[test]
    fn the_difference_leads_from_one_plan_to_the_other(now in plans(), wanted in plans()) {
        let kinds = |plan: &RunPlan| -> BTreeMap<String, bool> {
            plan.pipeline.outputs.iter().map(|output| (output.name.clone(), output.to.files().is_some())).collect()
        };
        let (before, after) = (kinds(&now), kinds(&wanted));
        let can = before.iter().all(|(name, is_file)| after.get(name).is_none_or(|other| other == is_file));
        match diff(&now, wanted.clone()) {
            Err(refused) => prop_assert!(!can, "{}", refused),
            Ok(Diff { changes, plan, said }) => {
                prop_assert!(can);
                let made = apply(&changes, &now.pipeline.outputs);
                let by_name = |plan: &RunPlan| -> BTreeMap<_, _> {
                    plan.pipeline.outputs.iter().map(|output| (output.name.clone(), output.clone())).collect()
                };
                prop_assert_eq!(&made, &by_name(&plan), "the plan in force is what was made");
                let bare = |outputs: BTreeMap<String, OutputPlan>| -> Vec<_> {
                    outputs.into_values().map(without_memory).collect()
                };
                prop_assert_eq!(bare(made), bare(by_name(&wanted)), "and what was asked for");
                prop_assert_eq!(&plan.allow, &wanted.allow);
                let is_same = by_name(&now) == by_name(&plan);
                prop_assert_eq!(said.is_empty(), is_same, "{:?}", said);
                // Asked for once more, nothing is left to do.
                prop_assert!(super::diff(&plan, wanted).unwrap().said.is_empty());
            }
        }
    }
}
