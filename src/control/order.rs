//! An order goes to the thread that conducts the sensor, and its reply becomes the answer.

use std::sync::Arc;

use crossbeam_channel::Sender;
use serde::Serialize;

use super::request::{Reply, Request};
use crate::http::{Answer, Later, Route};
use crate::view::SCHEMA;

/// The orders that the control socket takes.
pub(super) fn routes(conductor: &Sender<Request>) -> [Route; 2] {
    [order("/reload", conductor, Request::Reload), order("/cut", conductor, Request::Cut)]
}

/// The answer to an order that was carried out.
#[derive(Serialize)]
struct Done<T> {
    schema: u32,
    #[serde(flatten)]
    outcome: T,
}

/// The most orders that wait for their replies. A disk that does not answer keeps those waiting who
/// want something read from it, and questions need connections too.
const MOST: usize = 8;

/// The number of orders that wait for their replies.
#[derive(Debug, Clone, Default)]
struct Waiting(Arc<()>);

impl Waiting {
    /// Takes a place, which is free again when it is dropped; none where there is none.
    fn take(&self) -> Option<Arc<()>> {
        let place = Arc::clone(&self.0);
        // One is its own.
        (Arc::strong_count(&place) <= MOST + 1).then_some(place)
    }
}

/// Makes the route of an order.
fn order<T: Serialize + Send + 'static>(
    path: &'static str,
    conductor: &Sender<Request>,
    request: fn(Reply<T>) -> Request,
) -> Route {
    let (conductor, waiting) = (conductor.clone(), Waiting::default());
    Route::order(path, move |_| {
        let Some(place) = waiting.take() else {
            let refused = format!("{MOST} wait already for what comes of it");
            return Box::pin(async move { Answer::refused(503, refused) });
        };
        let (reply, replied) = Reply::new();
        let is_sent = conductor.try_send(request(reply)).is_ok();
        let answer: Later = Box::pin(async move {
            let _place = place;
            match replied.await {
                Ok(Ok(outcome)) => Answer::json(&Done { schema: SCHEMA, outcome }),
                Ok(Err(refused)) => Answer::refused(409, refused),
                Err(_) if is_sent => Answer::refused(503, "the sensor is about to end"),
                Err(_) => Answer::refused(503, "the sensor takes no order: it is about to end, or too many wait"),
            }
        });
        answer
    })
}
