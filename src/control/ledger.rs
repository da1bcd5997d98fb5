//! The ledger and the sessions are shown as they are now.

use std::cmp::Reverse;

use serde::Serialize;

use crate::http::{Answer, Query};
use crate::ledger::{SessionTotals, Snapshot, SoFar};
use crate::record::Timestamp;
use crate::view::{SCHEMA, View};

/// The ledger with the version of its shape.
#[derive(Serialize)]
struct Versioned {
    schema: u32,
    #[serde(flatten)]
    ledger: Snapshot,
}

/// Answers with the ledger: all of it, or with so many sessions as `top` says, as JSON or as the
/// table that `vxtap run` prints at its end, but for the last line (`format=text`).
pub(super) fn ledger(view: &View, query: &Query) -> Answer {
    let top = match query.number("top") {
        Ok(top) => top,
        Err(refused) => return Answer::refused(400, refused),
    };
    let mut ledger = view.snapshot();
    if let Some(top) = top {
        keep_most(&mut ledger.sessions, top);
    }
    match query.get("format") {
        None | Some("json") => Answer::json(&Versioned { schema: SCHEMA, ledger }),
        Some("text") => Answer::text(SoFar(&ledger).to_string()),
        Some(other) => Answer::refused(400, format!("format={other}: there are json and text")),
    }
}

/// Leaves the `top` sessions that have most of the frames, in the order in which they were.
fn keep_most(sessions: &mut Vec<SessionTotals>, top: usize) {
    if sessions.len() <= top {
        return;
    }
    let mut by_frames: Vec<usize> = (0..sessions.len()).collect();
    by_frames.sort_by_key(|&at| Reverse(sessions[at].frames));
    by_frames.truncate(top);
    by_frames.sort_unstable();
    let kept = by_frames.into_iter().map(|at| sessions[at].clone()).collect();
    *sessions = kept;
}

/// The sessions as they are now.
#[derive(Serialize)]
struct Sessions {
    schema: u32,
    now: Timestamp,
    count: u32,
    limit: u32,
    sessions: Vec<SessionTotals>,
}

/// Answers with all sessions and what they count.
pub(super) fn sessions(view: &View, _: &Query) -> Answer {
    let (count, limit) = (view.registry.count(), view.facts().max_sessions);
    Answer::json(&Sessions { schema: SCHEMA, now: Timestamp::now(), count, limit, sessions: view.sessions() })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::session::{Label, Session};
    use crate::wire::Vni;

    #[test]
    fn the_sessions_with_most_frames_are_kept_in_their_order() {
        let totals = |vni: u32, frames| SessionTotals {
            session: Session::vxlan(Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped(), Vni::new(vni).unwrap()),
            label: Label::default(),
            frames,
            bytes: 0,
            first: Timestamp::from_ns(0),
            last: Timestamp::from_ns(0),
            lost: 0,
            duplicates: 0,
            upstream: Default::default(),
        };
        let all = [totals(1, 5), totals(2, 9), totals(3, 1), totals(4, 9), totals(5, 7)];
        for (top, kept) in
            [(0, vec![]), (1, vec![2]), (3, vec![2, 4, 5]), (5, vec![1, 2, 3, 4, 5]), (9, vec![1, 2, 3, 4, 5])]
        {
            let mut sessions = all.to_vec();
            keep_most(&mut sessions, top);
            let vnis: Vec<u32> = sessions.iter().map(|totals| totals.session.vni.get()).collect();
            assert_eq!(vnis, kept, "{top}");
        }
    }
}
