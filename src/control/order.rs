//! An order goes to the thread that conducts the sensor, and its reply becomes the answer.

use crossbeam_channel::Sender;
use serde::Serialize;

use super::request::{Replied, Reply, Request};
use crate::http::{Answer, Later, Query, Route};
use crate::view::SCHEMA;

/// The orders that the control socket takes.
pub(super) fn routes(conductor: &Sender<Request>) -> [Route; 3] {
    let output = |query: &Query| query.get("output").unwrap_or_default().to_owned();
    [
        order("/reload", conductor, |_, reply| Request::Reload(reply)),
        order("/cut", conductor, |_, reply| Request::Cut(reply)),
        order("/watch/end", conductor, move |query, reply| Request::EndWatch(output(query), reply)),
    ]
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
    request: impl Fn(&Query, Reply<T>) -> Request + Send + Sync + 'static,
) -> Route {
    let conductor = conductor.clone();
    Route::order(path, move |query| {
        let (reply, replied) = Reply::new();
        let is_sent = conductor.try_send(request(query, reply)).is_ok();
        let answer: Later = Box::pin(async move {
            match reply_to(replied, is_sent).await {
                Ok(outcome) => Answer::json(&Done { schema: SCHEMA, outcome }),
                Err(refused) => refused,
            }
        });
        answer
    })
}

/// Waits for the reply to an order, which `is_sent` or could not be.
///
/// # Errors
/// The answer says why it is not carried out.
pub(super) async fn reply_to<T>(replied: Replied<T>, is_sent: bool) -> Result<T, Answer> {
    match replied.await {
        Ok(Ok(outcome)) => Ok(outcome),
        Ok(Err(refused)) => Err(Answer::refused(409, refused)),
        Err(_) if is_sent => Err(Answer::refused(503, "the sensor is about to end")),
        Err(_) => Err(Answer::refused(503, "the sensor takes no order: it is about to end, or too many wait")),
    }
}
