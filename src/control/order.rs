//! An order goes to the thread that conducts the sensor, and its reply becomes the answer.

use std::sync::Arc;

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
    request: impl Fn(&Query, Reply<T>) -> Request + Send + Sync + 'static,
) -> Route {
    let (conductor, waiting) = (conductor.clone(), Waiting::default());
    Route::order(path, move |query| {
        let Some(place) = waiting.take() else {
            let refused = format!("{MOST} wait already for what comes of it");
            return Box::pin(async move { Answer::refused(503, refused) });
        };
        let (reply, replied) = Reply::new();
        let is_sent = conductor.try_send(request(query, reply)).is_ok();
        let answer: Later = Box::pin(async move {
            let _place = place;
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
