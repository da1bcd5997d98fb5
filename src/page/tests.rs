use super::*;
use crate::ledger::{Filtered, Ledger, Losses, Output, OutputDrop, Snapshot};
use crate::record::Timestamp;
use crate::wire::DropReason;

#[test]
fn base64_is_that_of_rfc_4648() {
    for (text, wanted) in [
        ("", ""),
        ("f", "Zg=="),
        ("fo", "Zm8="),
        ("foo", "Zm9v"),
        ("foob", "Zm9vYg=="),
        ("fooba", "Zm9vYmE="),
        ("foobar", "Zm9vYmFy"),
    ] {
        assert_eq!(base64(text.as_bytes()), wanted);
    }
    assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
}

/// Returns what the document has between the only pair of these tags.
fn inside<'a>(open: &str, close: &str) -> &'a str {
    assert_eq!((DOCUMENT.matches(open).count(), DOCUMENT.matches(close).count()), (1, 1), "{open}");
    DOCUMENT.split_once(open).unwrap().1.split_once(close).unwrap().0
}

#[test]
fn the_policy_has_the_hashes_of_the_document() {
    let script = source(inside("<script type=\"module\">", "</script>"));
    let style = source(inside("<style>", "</style>"));
    assert!(POLICY.contains(&format!("script-src '{script}'; style-src '{style}';")), "{}", *POLICY);
}

#[test]
fn nothing_is_loaded_from_elsewhere_and_no_text_is_read_as_markup() {
    for word in ["http://", "https://", "//cdn", "@import", "url(", "<link rel=\"style", " style=", " onclick="] {
        let found =
            DOCUMENT.match_indices(word).filter(|(at, _)| !DOCUMENT[*at..].starts_with("http://www.w3.org/2000/svg"));
        assert_eq!(found.count(), 0, "{word}");
    }
    for word in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("] {
        assert!(!DOCUMENT.contains(word), "{word}");
    }
}

#[test]
fn every_reason_of_the_ledger_is_explained() {
    let reasons = DropReason::ALL.iter().map(|reason| reason.label());
    let reasons = reasons.chain(OutputDrop::ALL.iter().map(|reason| reason.label()));
    for reason in reasons.chain(Filtered::ALL.iter().map(|reason| reason.label())) {
        assert!(script!().contains(&format!("\n    {reason}: \"")), "{reason}");
    }
}

#[test]
fn what_counts_as_lost_is_as_in_the_ledger() {
    let (_, asked_for) = script!().split_once("const ASKED_FOR = new Set([").unwrap();
    let (asked_for, _) = asked_for.split_once(']').unwrap();
    let is_lost = |reason: &str| !asked_for.contains(&format!("\"{reason}\""));
    let lost = |ledger: &Ledger| Losses::of(&Snapshot::of(ledger, Timestamp::from_ns(0), Vec::new())).total() > 0;
    for reason in DropReason::ALL {
        let mut ledger = Ledger::default();
        ledger.worker().dropped(reason).add(1);
        assert_eq!(is_lost(reason.label()), lost(&ledger), "{reason:?}");
    }
    for reason in OutputDrop::ALL {
        let ledger = Ledger::default();
        let mut output = Output { name: "pcap".into(), ends: Vec::new() };
        output.end().dropped(reason).add(1);
        ledger.outputs.push(output);
        assert_eq!(is_lost(reason.label()), lost(&ledger), "{reason:?}");
    }
}
