//! The faces of a running sensor: what answers at which path.
//!
//! A question is a line in a table: a path, and a function of the view and the query. What comes
//! later, as an order or a stream, is a [`Route`].

use std::sync::Arc;

use crossbeam_channel::Sender;

use super::ledger::{ledger, sessions};
use super::order;
use super::request::Request;
use super::watch;
use crate::health::{self, Arrivals};
use crate::http::{Answer, Face, Hosts, Query, Route};
use crate::metrics::Metrics;
use crate::page;
use crate::view::View;

/// Answers a question about the sensor, at once.
type Question = fn(&View, &Query) -> Answer;

/// The questions that everybody may ask who may connect.
const OPEN: &[(&str, Question)] = &[("/", page), ("/ledger", ledger), ("/sessions", sessions), ("/status", status)];

/// The questions for those who may give orders, too.
const OWNERS: &[(&str, Question)] = &[("/config", config)];

/// Makes the face of the control socket.
pub(super) fn control(
    view: &Arc<View>,
    arrivals: &Arc<Arrivals>,
    metrics: &Arc<Metrics>,
    conductor: &Sender<Request>,
) -> Face {
    let questions =
        asked(view, OPEN).chain([scraped(metrics)]).chain(asked(view, OWNERS)).chain(health::routes(view, arrivals));
    Face::new(
        "the control socket",
        Hosts::Any,
        questions.chain(order::routes(conductor)).chain([watch::route(conductor)]),
    )
}

/// Makes the face of the ports for questions, which are reached by `names`.
pub(super) fn http(view: &Arc<View>, metrics: &Arc<Metrics>, names: &[String]) -> Face {
    Face::new("the HTTP port", Hosts::Ours(names.to_vec()), asked(view, OPEN).chain([scraped(metrics)]))
}

/// Makes the route of scrapers, which ask for one of two formats.
fn scraped(metrics: &Arc<Metrics>) -> Route {
    let metrics = Arc::clone(metrics);
    Route::get("/metrics", move |query| match metrics.scrape(query.accept()) {
        Ok((kind, text)) => Answer::of(kind, text),
        Err(_) => Answer::refused(500, "the metrics cannot be written: please report this"),
    })
}

/// Makes the face of the ports for checks. A balancer sends the name or the address that it has for
/// this host, whatever that is.
pub(super) fn health(view: &Arc<View>, arrivals: &Arc<Arrivals>) -> Face {
    Face::new("the health port", Hosts::Any, health::routes(view, arrivals))
}

/// Makes routes of questions.
fn asked(view: &Arc<View>, questions: &[(&'static str, Question)]) -> impl Iterator<Item = Route> {
    let routes = questions.iter().map(|&(path, question)| {
        let view = Arc::clone(view);
        Route::get(path, move |query| question(&view, query))
    });
    routes.collect::<Vec<_>>().into_iter()
}

/// Answers with the page that shows all this to people.
fn page(_: &View, _: &Query) -> Answer {
    page::page()
}

fn status(view: &View, _: &Query) -> Answer {
    Answer::json(&view.status())
}

/// Answers with the configuration that is in force, as a file.
fn config(view: &View, _: &Query) -> Answer {
    Answer::text(&*view.facts().text)
}
