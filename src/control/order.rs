//! An order goes to the thread that conducts the sensor, and its reply becomes the answer.

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

/// Makes the route of an order.
fn order<T: Serialize + Send + 'static>(
    path: &'static str,
    conductor: &Sender<Request>,
    request: fn(Reply<T>) -> Request,
) -> Route {
    let conductor = conductor.clone();
    Route::order(path, move |_| {
        let (reply, replied) = Reply::new();
        let is_sent = conductor.try_send(request(reply)).is_ok();
        let answer: Later = Box::pin(async move {
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
