use std::collections::BTreeSet;

use super::*;
use crate::record::Timestamp;

/// A document as clients may get it.
fn status() -> Status {
    let output = |name: &str, reason: Option<&str>| OutputState {
        name: name.into(),
        kind: "pcap".into(),
        essential: true,
        up: reason.is_none(),
        reason: reason.map(Into::into),
        directory: Some("/var/lib/vxtap".into()),
        interface: None,
        queue_bytes: 0,
        queue_limit_bytes: 1 << 20,
        free_bytes: None,
    };
    Status {
        schema: SCHEMA,
        version: "0.1.0".into(),
        pid: 7,
        started: Timestamp::from_ns(1_000_000_007),
        now: Timestamp::from_ns(3_000_000_007),
        uptime_seconds: 2.0,
        last_hour: LastHour { seconds: 2.0, received: 6, received_bytes: 600 },
        state: State::Draining,
        ready: false,
        reasons: vec!["output b: the disk is full".into()],
        live: true,
        listen: vec!["0.0.0.0:4789".into()],
        source: "sockets".into(),
        workers: vec![WorkerState { worker: 0, turns: 9, idle_seconds: 0.25, busy_seconds: 1.5 }],
        sessions: SessionsState { count: 3, limit: 1024 },
        outputs: vec![output("a", None), output("b", Some("the disk is full"))],
        losses: vec![Loss { output: Some("b".into()), reason: "disk_full".into(), count: 3 }],
        config: Configuration {
            path: Some("/etc/vxtap/vxtap.toml".into()),
            applied: 1,
            refused: 1,
            last: Some(Reload { at: Timestamp::from_ns(2_000_000_000), ok: false, error: Some("no".into()) }),
        },
        sandbox: Default::default(),
    }
}

#[test]
fn a_client_reads_the_document_that_is_written() {
    let text = serde_json::to_string(&status()).unwrap();
    assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status());
    assert!(text.starts_with(r#"{"schema":1,"version":"#), "{text}");
    assert!(text.contains(r#""state":"draining""#) && !text.contains("interface"), "{text}");
    let more = text.replacen('{', r#"{"new":1,"#, 1);
    assert_eq!(serde_json::from_str::<Status>(&more).unwrap(), status(), "a later sensor tells more");
    let earlier = text.replacen(r#""last_hour":{"seconds":2.0,"received":6,"received_bytes":600},"#, "", 1);
    let read = serde_json::from_str::<Status>(&earlier).unwrap();
    assert_eq!(read, Status { last_hour: LastHour::default(), ..status() }, "an earlier one tells less");
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let keys: BTreeSet<&str> = value["outputs"][0].as_object().unwrap().keys().map(String::as_str).collect();
    let wanted =
        ["directory", "essential", "free_bytes", "kind", "name", "queue_bytes", "queue_limit_bytes", "reason", "up"];
    assert_eq!(keys, BTreeSet::from(wanted));
}

#[test]
fn the_history_of_reloads_has_the_last_and_counts_all() {
    let mut reloads = super::reloads::Reloads::default();
    reloads.note(None);
    let succeeded = reloads.succeeded;
    reloads.note(Some("the file is wrong".into()));
    assert_eq!((reloads.applied, reloads.refused, reloads.succeeded), (1, 1, succeeded));
    let last = reloads.last.unwrap();
    assert_eq!((last.ok, last.error.as_deref()), (false, Some("the file is wrong")));
}
