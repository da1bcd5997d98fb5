//! The health of a sensor is asked for at three paths.

use std::sync::Arc;

use serde::Serialize;

use super::arrivals::Arrivals;
use crate::http::{Answer, Query, Route};
use crate::view::{Ready, SCHEMA, View};

/// The status of an answer that says no: the service is not available.
const NOT: u16 = 503;

/// Says whether the sensor may be sent traffic.
#[derive(Serialize)]
struct Health {
    schema: u32,
    ready: bool,
    reasons: Vec<String>,
}

/// Says whether the workers turn.
#[derive(Serialize)]
struct Life {
    schema: u32,
    live: bool,
    reasons: Vec<String>,
}

/// Makes the routes.
pub(crate) fn routes(view: &Arc<View>, arrivals: &Arc<Arrivals>) -> [Route; 3] {
    let views = [Arc::clone(view), Arc::clone(view), Arc::clone(view)];
    let [ready, live, arriving] = views;
    let arrivals = Arc::clone(arrivals);
    [
        Route::get("/healthz", move |query| health(ready.ready(), query)),
        Route::get("/livez", move |query| life(live.stalls(), query)),
        Route::get("/arriving", move |query| {
            let lately = arrivals.lately(&arriving);
            shown(query, 200, &lately, |lately| lately.text())
        }),
    ]
}

fn health(Ready { ready, reasons }: Ready, query: &Query) -> Answer {
    let health = Health { schema: SCHEMA, ready, reasons };
    shown(query, if ready { 200 } else { NOT }, &health, |health| words("ready", health.ready, &health.reasons))
}

fn life(reasons: Vec<String>, query: &Query) -> Answer {
    let life = Life { schema: SCHEMA, live: reasons.is_empty(), reasons };
    shown(query, if life.live { 200 } else { NOT }, &life, |life| words("live", life.live, &life.reasons))
}

/// Writes a line that says whether something is so, or why it is not.
fn words(what: &str, is_so: bool, reasons: &[String]) -> String {
    if is_so { format!("{what}\n") } else { format!("not {what}: {}\n", reasons.join("; ")) }
}

/// Answers with this status, in the form that the query asks for: JSON, or text for people.
fn shown<T: Serialize>(query: &Query, status: u16, object: &T, text: impl FnOnce(&T) -> String) -> Answer {
    match query.get("format") {
        None | Some("json") => Answer::json(object).status(status),
        Some("text") => Answer::text(text(object)).status(status),
        Some(other) => Answer::refused(400, format!("format={other}: there are json and text")),
    }
}
