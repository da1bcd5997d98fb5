//! An answer has a status, a kind, and content that is there as a whole or comes piece by piece.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::times::{Doing, WHOLE};

/// The policy for what a browser may do with an answer: nothing, unless the answer has its own.
const NOTHING: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");

/// The headers that every answer has.
const ALWAYS: [(HeaderName, HeaderValue); 4] = [
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
];

/// The answer to a request.
#[derive(Debug)]
pub struct Answer {
    status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    content: Content,
}

/// The content of an answer.
#[derive(Debug)]
pub(super) enum Content {
    /// All of it; none once it was taken.
    Whole(Option<Bytes>),
    /// What comes piece by piece.
    Stream(Pieces),
}

/// Content that comes piece by piece, with headers behind it.
pub(super) struct Pieces {
    body: Pin<Box<dyn Body<Data = Bytes, Error = Infallible> + Send>>,
    pause: Duration,
}

impl fmt::Debug for Pieces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pieces")
    }
}

impl Answer {
    /// Answers with content of a kind, as `text/html; charset=utf-8`.
    pub fn of(kind: &'static str, content: impl Into<Bytes>) -> Self {
        Self::new(kind, Content::Whole(Some(content.into())))
    }

    /// Answers with plain text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::of("text/plain; charset=utf-8", text.into())
    }

    /// Answers with an object, and a line's end behind it.
    pub fn json(object: &impl Serialize) -> Self {
        match serde_json::to_vec(object) {
            Ok(mut text) => {
                text.push(b'\n');
                Self::of("application/json", text)
            }
            Err(error) => Self::refused(500, format!("the answer cannot be written: {error}: please report this")),
        }
    }

    /// Refuses with a status and a line that says why.
    pub fn refused(status: u16, why: impl Into<String>) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, ..Self::text(format!("{}\n", why.into().trim_end())) }
    }

    /// Answers with what comes as `pieces`, for as long as they come.
    pub fn stream(kind: &'static str, pieces: impl Body<Data = Bytes, Error = Infallible> + Send + 'static) -> Self {
        Self::new(kind, Content::Stream(Pieces { body: Box::pin(pieces), pause: WHOLE }))
    }

    fn new(kind: &'static str, content: Content) -> Self {
        let headers = vec![(header::CONTENT_TYPE, HeaderValue::from_static(kind))];
        Self { status: StatusCode::OK, headers, content }
    }

    /// Gives the answer another status.
    pub fn status(mut self, status: u16) -> Self {
        self.status = StatusCode::from_u16(status).unwrap_or(self.status);
        self
    }

    /// Adds a header, in place of one that every answer has.
    pub fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        self.headers.push((name, HeaderValue::from_static(value)));
        self
    }

    /// Adds a header with a value of this moment. One that no header can have is left out.
    pub fn said(mut self, name: HeaderName, value: &str) -> Self {
        self.headers.extend(HeaderValue::from_str(value).ok().map(|value| (name, value)));
        self
    }

    /// Returns the bytes of the content that are there.
    pub(super) fn bytes(&self) -> usize {
        match &self.content {
            Content::Whole(Some(content)) => content.len(),
            Content::Whole(None) | Content::Stream(_) => 0,
        }
    }

    /// Lets the client of a stream take nothing for so long: it may have a reader that pauses.
    pub fn pausing(mut self, most: Duration) -> Self {
        if let Content::Stream(pieces) = &mut self.content {
            pieces.pause = most;
        }
        self
    }

    /// Returns what a connection does that gets this answer.
    pub(super) fn doing(&self) -> Doing {
        match &self.content {
            Content::Whole(_) => Doing::Writing,
            Content::Stream(pieces) => Doing::Streaming(pieces.pause),
        }
    }

    /// Makes the response with all its headers.
    pub(super) fn response(self) -> Response<Content> {
        let mut response = Response::new(self.content);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_SECURITY_POLICY, NOTHING);
        headers.extend(ALWAYS);
        for (name, value) in self.headers {
            headers.insert(name, value);
        }
        response
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(content) => Poll::Ready(content.take().map(|content| Ok(Frame::data(content)))),
            Self::Stream(pieces) => pieces.body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(content) => SizeHint::with_exact(content.as_ref().map_or(0, |content| content.len() as u64)),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}
