//! A connection is served: one request, one answer, within its times.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::answer::{Answer, Content};
use super::face::Face;
use super::times::{Doing, HEAD, Times};

/// The most bytes of a request's head.
const MOST: usize = 8 << 10;

/// The most bytes of answers of a face that clients have not taken yet.
const MOST_HELD: usize = 64 << 20;
/// The most bytes, and the time, for what a client still sends when it has its answer.
const LEFT: usize = 2 << 20;
const LINGER: Duration = Duration::from_secs(1);

/// Serves a connection to its end, or until its time is over.
pub(super) async fn serve(stream: impl AsyncRead + AsyncWrite + AsFd + Unpin, face: Arc<Face>, times: Arc<Times>) {
    let Ok(socket) = stream.as_fd().try_clone_to_owned() else { return };
    let mut stream = TokioIo::new(stream);
    if converse(&mut stream, &socket, &face, &times).await {
        times.does(Doing::Asking, Instant::now());
        let _ = tokio::time::timeout(LINGER, linger(stream.into_inner())).await;
    }
}

/// Reads a request and answers it. Returns false where the time was over or the client has gone.
async fn converse(
    stream: &mut TokioIo<impl AsyncRead + AsyncWrite + Unpin>,
    socket: &OwnedFd,
    face: &Face,
    times: &Times,
) -> bool {
    let held = Held { bytes: AtomicUsize::new(0), all: &face.held };
    let service = service_fn(|request| answer(request, face, times, &held));
    let watched = Watched { stream, times };
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(MOST)
        .keep_alive(false)
        // A client may say that it has asked all by closing its side, as socat does.
        .half_close(true)
        .serve_connection(watched, service);
    let (mut served, mut over) = (pin!(served), pin!(over(times, socket)));
    // What went wrong with a connection concerns the client, who knows.
    poll_fn(|cx| match served.as_mut().poll(cx) {
        Poll::Ready(_) => Poll::Ready(true),
        Poll::Pending => over.as_mut().poll(cx).map(|()| false),
    })
    .await
}

/// Reads what the client still sends. Where something is left unread, the kernel takes back what
/// the client has not read of its answer.
async fn linger(mut stream: impl AsyncRead + Unpin) {
    let mut left = LEFT;
    while left > 0 {
        let mut waste = [0; 4096];
        let mut waste = ReadBuf::new(&mut waste);
        let read = poll_fn(|cx| Pin::new(&mut stream).poll_read(cx, &mut waste)).await;
        let bytes = waste.filled().len();
        if read.is_err() || bytes == 0 {
            return;
        }
        left = left.saturating_sub(bytes);
    }
}

/// The bytes of a connection's answer, for as long as they are held.
struct Held<'a> {
    bytes: AtomicUsize,
    /// Those of all connections.
    all: &'a AtomicUsize,
}

impl Held<'_> {
    /// Holds so many bytes. Returns false where all connections together hold too many.
    fn hold(&self, bytes: usize) -> bool {
        if self.all.load(Ordering::Relaxed).saturating_add(bytes) > MOST_HELD {
            return false;
        }
        self.all.fetch_add(bytes, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        true
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// Ends when the time of a connection is over, or its client has gone.
async fn over(times: &Times, socket: &OwnedFd) {
    while let Some(left) = times.left(Instant::now()).filter(|_| !is_closed(socket)) {
        tokio::time::sleep(left).await;
    }
}

/// Says whether a socket is closed in both directions. Of TCP, writing tells.
fn is_closed(socket: &OwnedFd) -> bool {
    // These are told of without being asked for.
    let mut sockets = [PollFd::new(socket, PollFlags::empty())];
    let polled = poll(&mut sockets, Some(&Timespec::default()));
    polled.is_ok() && sockets[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
}

async fn answer(
    request: Request<Incoming>,
    face: &Face,
    times: &Times,
    held: &Held<'_>,
) -> Result<Response<Content>, Infallible> {
    times.does(Doing::Answering, Instant::now());
    let (parts, _) = request.into_parts();
    let mut answer = face.answer(&parts).await;
    if !held.hold(answer.bytes()) {
        answer = Answer::refused(503, "too many large answers wait to be taken");
    }
    times.does(answer.doing(), Instant::now());
    Ok(answer.response())
}

/// A stream that notes whether the client takes what is written.
struct Watched<'a, S> {
    stream: &'a mut TokioIo<S>,
    times: &'a Times,
}

impl<S: Unpin> Watched<'_, S> {
    fn noted<T>(&self, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.times.took(written.is_ready(), Instant::now());
        written
    }
}

impl<S: AsyncRead + Unpin> Read for Watched<'_, S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> Write for Watched<'_, S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut *self.stream).poll_write(cx, buf);
        self.noted(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut *self.stream).poll_write_vectored(cx, bufs);
        self.noted(written)
    }
}
