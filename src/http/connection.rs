//! A connection is served: one request, one answer, within its times.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::answer::Content;
use super::face::Face;
use super::times::{Doing, HEAD, Times};

/// The most bytes of a request's head.
const MOST: usize = 8 << 10;

/// Serves a connection to its end, or until its time is over.
pub(super) async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, face: Arc<Face>, times: Arc<Times>) {
    let service = service_fn(|request| answer(request, &face, &times));
    let watched = Watched { stream: TokioIo::new(stream), times: &times };
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(MOST)
        .keep_alive(false)
        .serve_connection(watched, service);
    let (mut served, mut over) = (pin!(served), pin!(over(&times)));
    // What went wrong with a connection concerns the client, who knows.
    poll_fn(|cx| match served.as_mut().poll(cx) {
        Poll::Ready(_) => Poll::Ready(()),
        Poll::Pending => over.as_mut().poll(cx),
    })
    .await;
}

/// Ends when the time of a connection is over.
async fn over(times: &Times) {
    while let Some(left) = times.left(Instant::now()) {
        tokio::time::sleep(left).await;
    }
}

async fn answer(request: Request<Incoming>, face: &Face, times: &Times) -> Result<Response<Content>, Infallible> {
    times.does(Doing::Answering, Instant::now());
    let (parts, _) = request.into_parts();
    let answer = face.answer(&parts).await;
    times.does(if answer.is_stream() { Doing::Streaming } else { Doing::Writing }, Instant::now());
    Ok(answer.response())
}

/// A stream that notes whether the client takes what is written.
struct Watched<'a, S> {
    stream: TokioIo<S>,
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
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> Write for Watched<'_, S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.noted(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.noted(written)
    }
}
