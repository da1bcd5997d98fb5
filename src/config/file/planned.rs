//! Settings that are each well formed, but make no sense together or on this host, are shown with
//! the places where they were said.

use super::super::error::PlanError;
use super::fault::Fault;
use crate::setting::Wording;

/// Turns an error of planning into a fault of the file.
pub(super) fn fault(error: &PlanError) -> Fault {
    let about = error.about();
    let mut text = error.to_string();
    for (said, _) in &about {
        text = text.replace(&said.to_string(), &said.name());
    }
    let (title, advice) = match text.split_once("; ") {
        Some((title, advice)) => (title, Some(Wording::Keys.put(advice).into_owned())),
        None => (text.as_str(), None),
    };
    let labels = about.iter().filter_map(|(said, label)| Some((said.place()?.clone(), (*label).to_owned()))).collect();
    Fault { title: Wording::Keys.put(title).into_owned(), labels, advice, denied: None }
}
