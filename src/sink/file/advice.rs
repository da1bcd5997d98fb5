//! The advice says at the start what the limits of a directory mean: what they remove cannot be had
//! back.

use std::time::Duration;

use indicatif::HumanCount;

use super::plan::FilePlan;
use crate::setting::Wording;
use crate::storage::Space;

/// A sentence, and whether it is a warning.
type Advice = (bool, String);

/// Gives the advice about `plan` to the log.
pub(super) fn give(plan: &FilePlan, space: Option<Space>) {
    let wording = plan.archive.wording;
    for (is_warning, text) in advice(plan, space) {
        if is_warning {
            tracing::warn!("{}", wording.put(&text));
        } else {
            tracing::info!("{}", wording.put(&text));
        }
    }
}

/// Returns what is worth a word about `plan`, on a file system with this room, where the room is
/// known.
fn advice(plan: &FilePlan, space: Option<Space>) -> Vec<Advice> {
    let budget = &plan.archive.budget;
    let mut advice = Vec::new();
    // Stripping a capture has an end, and removes nothing of what it wrote.
    if !budget.removes() && plan.archive.wording != Wording::Decap {
        let until = match (budget.reserve, space) {
            (Some(reserve), Some(space)) => {
                let least = HumanCount(reserve.of(space.total));
                format!(
                    "until {least} bytes of the file system are left, 5 % and 10 GiB at most; then frames are dropped (disk_full)"
                )
            }
            (Some(_), None) => {
                "until 5 % of the file system are left, 10 GiB at most; then frames are dropped (disk_full)".into()
            }
            (None, _) => "until the disk is full".into(),
        };
        let text = format!(
            "nothing is removed: captures are kept {until}; --min-free 10%, --keep-bytes or --keep-age remove the oldest"
        );
        advice.push((false, text));
    }
    if let Some(age) = budget.keep_age.filter(|age| *age < plan.rotate_time) {
        let (age, rotate) = (in_words(age), in_words(plan.rotate_time));
        let text = format!(
            "--keep-age {age} is shorter than --rotate-time {rotate}: a capture is removed {age} after its last frame, so hardly any is \
             there when it is complete (m is a minute, M a month)"
        );
        advice.push((true, text));
    }
    let Some(Space { total, .. }) = space.filter(|space| space.total > 0) else { return advice };
    if let Some(keep) = budget.keep_bytes.filter(|keep| *keep > total) {
        let (keep, total) = (HumanCount(keep), HumanCount(total));
        let text = format!(
            "--keep-bytes {keep} is more than the file system has, {total} bytes: it is full before anything is removed; --min-free 10% \
             makes room in time"
        );
        advice.push((true, text));
    }
    if let Some(min) = budget.min_free.filter(|min| min.of(total) >= total) {
        let (min, total) = (HumanCount(min.of(total)), HumanCount(total));
        let text = format!("--min-free {min} is all that the file system has, {total} bytes: no frame can be written");
        advice.push((true, text));
    }
    advice
}

/// Returns a duration as it is typed.
fn in_words(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::{BudgetPlan, MinFree};
    use crate::sink::file::tests::plan;
    use std::path::Path;

    fn of(budget: BudgetPlan, rotate: u64, total: u64) -> Vec<Advice> {
        let mut plan = plan(Path::new("captures"));
        plan.archive.budget = budget;
        plan.rotate_time = Duration::from_secs(rotate);
        advice(&plan, Some(Space { free: total / 2, total }))
    }

    #[test]
    fn what_limits_mean_is_said() {
        let none = BudgetPlan { reserve: Some(MinFree::Usual), ..BudgetPlan::default() };
        let said = |budget, rotate, total, is_warning, words: &[&str]| {
            let [(warning, text)] = &of(budget, rotate, total)[..] else { panic!("{budget:?}: one sentence") };
            assert_eq!(*warning, is_warning, "{text}");
            words.iter().for_each(|word| assert!(text.contains(word), "{word:?} is to be in: {text}"));
        };
        said(none, 3600, 200_000, false, &["until 10,000 bytes", "disk_full", "--min-free 10%"]);
        said(BudgetPlan::default(), 3600, 200_000, false, &["until the disk is full"]);
        let age = |seconds| BudgetPlan { keep_age: Some(Duration::from_secs(seconds)), ..none };
        said(age(60), 3600, 200_000, true, &["--keep-age 1m", "--rotate-time 1h", "M a month"]);
        let bytes = |keep| BudgetPlan { keep_bytes: Some(keep), ..none };
        said(bytes(200_001), 3600, 200_000, true, &["--keep-bytes 200,001", "200,000 bytes", "--min-free 10%"]);
        let free = |min| BudgetPlan { min_free: Some(min), ..none };
        said(free(MinFree::Bytes(200_000)), 3600, 200_000, true, &["--min-free 200,000", "no frame"]);
        for fine in [age(3600), bytes(200_000), free(MinFree::Bytes(199_999)), free(MinFree::Permille(999))] {
            assert_eq!(of(fine, 3600, 200_000), [], "{fine:?}");
        }
        assert_eq!(of(bytes(u64::MAX), 3600, 0), [], "a file system that does not say how large it is");
    }
}
