//! Somebody watches frames as they come.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::Sender;
use hyper::body::{Body, Frame};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::oneshot;

use super::order::reply_to;
use super::request::{Reply, Request, WatchBegun, WatchOrder};
use crate::http::{Answer, Query, Route};
use crate::record::pcap::WHOLE;
use crate::route::{Expression, Wanted};
use crate::sink::watch::Watching;

/// The time for which whoever watches may take nothing: a pager waits for its reader.
const PAUSE: Duration = Duration::from_mins(10);
/// The output by which the ledger has the watch.
const OUTPUT: HeaderName = HeaderName::from_static("vxtap-output");
/// What whoever watches should know.
const NOTE: HeaderName = HeaderName::from_static("vxtap-note");
/// Frames that were sent; stands behind the last.
const FRAMES: HeaderName = HeaderName::from_static("vxtap-frames");
/// Frames that were dropped because they were not taken as fast as they came.
const DROPPED: HeaderName = HeaderName::from_static("vxtap-dropped");
/// Frames of all sessions that were redirected in front of the sensor, which has no copy of them.
const REDIRECTED: HeaderName = HeaderName::from_static("vxtap-redirected");
/// Why it is over.
const END: HeaderName = HeaderName::from_static("vxtap-end");

/// Makes the route of those who watch.
pub(super) fn route(conductor: &Sender<Request>) -> Route {
    let conductor = conductor.clone();
    Route::get_later("/watch", move |query| {
        let (order, conductor) = (order(query), conductor.clone());
        let text = query.get("filter").map(str::to_owned);
        Box::pin(async move {
            match begin(order, text, &conductor).await {
                Ok(begun) => stream(begun),
                Err(refused) => refused,
            }
        })
    })
}

async fn begin(
    order: Result<WatchOrder, String>,
    text: Option<String>,
    conductor: &Sender<Request>,
) -> Result<WatchBegun, Answer> {
    let wrong = |why: String| Answer::refused(400, why);
    let mut order = order.map_err(wrong)?;
    if let Some(text) = text {
        order.expression = Some(compile(text).await.map_err(wrong)?);
    }
    let (reply, replied) = Reply::new();
    let is_sent = conductor.try_send(Request::Watch(order, reply)).is_ok();
    reply_to(replied, is_sent).await
}

/// Reads what is to be watched, but for the expression.
fn order(query: &Query) -> Result<WatchOrder, String> {
    let wanted = match query.get("session") {
        Some(session) => session.parse().map_err(|error| format!("session={session}: {error}"))?,
        None => Wanted::All,
    };
    let snaplen = query.number("snaplen")?.unwrap_or(WHOLE);
    if !(1..=WHOLE).contains(&snaplen) {
        return Err(format!("snaplen={snaplen}: it is from 1 to {WHOLE}"));
    }
    let limit = query.number("limit")?;
    if limit == Some(0) {
        return Err("limit=0: nothing would come".into());
    }
    let read = |text: &str| humantime::parse_duration(text).map_err(|error| format!("duration={text}: {error}"));
    let duration = query.get("duration").map(read).transpose()?;
    Ok(WatchOrder { wanted, expression: None, snaplen, limit, duration })
}

/// Has a thread compile an expression: libpcap is on a disk, which may not answer.
async fn compile(text: String) -> Result<Arc<Expression>, String> {
    let (sender, compiled) = oneshot::channel();
    let compile = move || {
        let named = |error| format!("filter={text}: {error}");
        // Whoever asked may have gone.
        let _ = sender.send(Expression::new(&text).map(Arc::new).map_err(named));
    };
    let thread = thread::Builder::new().name("vxtap-compile".into());
    thread.spawn(compile).map_err(|error| format!("cannot start a thread: {error}"))?;
    compiled.await.unwrap_or_else(|_| Err("the expression cannot be compiled: please report this".into()))
}

fn stream(WatchBegun { output, watching, note }: WatchBegun) -> Answer {
    let frames = Frames { watching, is_over: false };
    let mut answer = Answer::stream("application/vnd.tcpdump.pcap", frames)
        .pausing(PAUSE)
        .with(hyper::header::TRAILER, "vxtap-frames, vxtap-dropped, vxtap-redirected, vxtap-end")
        .said(OUTPUT, &output);
    if let Some(note) = note {
        answer = answer.said(NOTE, &note);
    }
    answer
}

/// The frames of a watch, and behind them what has become of it.
struct Frames {
    watching: Watching,
    is_over: bool,
}

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let Watching(feed) = &self.watching;
        match feed.poll_take(cx) {
            Poll::Ready(Some(bytes)) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            Poll::Ready(None) => {
                let outcome = feed.outcome();
                let mut trailers = HeaderMap::new();
                trailers.insert(FRAMES, outcome.frames.into());
                trailers.insert(DROPPED, outcome.dropped.into());
                trailers.insert(REDIRECTED, outcome.redirected.into());
                let why = outcome.over.map(|over| over.to_string()).unwrap_or_default();
                trailers.extend(HeaderValue::from_str(&why).ok().map(|why| (END, why)));
                self.is_over = true;
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_read_or_refused_with_the_reason() {
        let of = |words: &str| order(&Query::from_words(words));
        let all = of("").unwrap();
        assert_eq!((all.wanted, all.snaplen, all.limit, all.duration), (Wanted::All, WHOLE, None, None));
        let some = of("session=web&snaplen=96&limit=5&duration=1500ms").unwrap();
        assert_eq!(some.wanted, Wanted::Named("web".into()));
        assert_eq!((some.snaplen, some.limit), (96, Some(5)));
        assert_eq!(some.duration, Some(Duration::from_millis(1500)));
        for (wrong, why) in [
            ("session=7@x", "session=7@x: \"x\" is no address"),
            ("snaplen=0", "snaplen=0: it is from 1 to 262144"),
            ("snaplen=x", "snaplen=x"),
            ("limit=0", "nothing would come"),
            ("duration=5", "duration=5: "),
        ] {
            let refused = of(wrong).unwrap_err();
            assert!(refused.contains(why), "{wrong}: {refused}");
        }
    }
}
