//! The server is asked over sockets of its own.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Receiver, unbounded};
use hyper::body::{Body, Frame};
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::*;

/// What is sent to a stream.
struct Pieces(mpsc::Receiver<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|piece| Some(Ok(Frame::data(piece?))))
    }
}

/// A server at a socket, with routes for each kind of answer.
struct Site {
    _server: Server,
    /// Receives the way to a stream when somebody has asked for one.
    streams: Receiver<mpsc::Sender<Bytes>>,
    path: PathBuf,
    _directory: TempDir,
}

impl Site {
    fn start() -> Site {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let (sender, streams) = unbounded();
        let routes = [
            Route::get("/now", |query| Answer::text(query.get("say").unwrap_or("now"))),
            Route::get("/large", |_| Answer::of("application/octet-stream", vec![b'x'; 40 << 20])),
            Route::get("/panics", |_| panic!("as a fault would")),
            Route::get("/stream", move |_| {
                let (pieces, receiver) = mpsc::channel(4);
                sender.send(pieces).unwrap();
                Answer::stream("application/octet-stream", Pieces(receiver))
            }),
            Route::order("/later", |_| {
                Box::pin(async {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    Answer::text("done").status(202)
                })
            }),
        ];
        let face = Face::new("a test", Hosts::Any, routes);
        let server = Server::start(vec![(Door::unix(&path).unwrap(), face)]).unwrap();
        Site { _server: server, streams, path, _directory: directory }
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    fn send(&self, request: &str) -> UnixStream {
        let mut stream = self.connect();
        stream.write_all(format!("{request} HTTP/1.0\r\n\r\n").as_bytes()).unwrap();
        stream
    }

    fn ask(&self, request: &str) -> String {
        rest(self.send(request))
    }
}

fn rest(mut stream: UnixStream) -> String {
    let mut text = Vec::new();
    // One that is let go may be reset.
    let _ = stream.read_to_end(&mut text);
    String::from_utf8(text).unwrap()
}

#[test]
fn each_kind_of_answer_comes() {
    let site = Site::start();
    let now = site.ask("GET /now?say=a%20b");
    assert!(now.starts_with("HTTP/1.0 200 OK\r\n") && now.ends_with("\r\n\r\na b"), "{now}");
    let later = site.ask("POST /later");
    assert!(later.starts_with("HTTP/1.0 202 Accepted\r\n") && later.ends_with("\r\n\r\ndone"), "{later}");
    assert_eq!(site.ask("GET /panics"), "", "a fault ends its connection");
    let other = site.ask("GET /other");
    assert!(other.contains(" 404 ") && other.contains("there is GET /large, POST /later, GET /now"), "{other}");
    assert!(site.ask("GET /later").contains("allow: POST\r\n"));
    let head = site.ask("HEAD /now");
    assert!(head.contains("content-length: 3\r\n") && head.ends_with("\r\n\r\n"), "{head}");
}

#[test]
fn a_client_that_has_asked_all_may_close_its_side() {
    let site = Site::start();
    for request in ["GET /now", "POST /later"].repeat(20) {
        let stream = site.send(request);
        stream.shutdown(Shutdown::Write).unwrap();
        let answer = rest(stream);
        assert!(answer.ends_with("now") || answer.ends_with("done"), "{request}: {answer:?}");
    }
}

#[test]
fn what_is_too_long_is_answered_and_read_to_its_end() {
    let site = Site::start();
    let mut stream = site.connect();
    let head = format!("GET /now HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    stream.write_all(head.as_bytes()).unwrap();
    let answer = rest(stream);
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer:?}");
}

#[test]
fn a_stream_goes_on_for_as_long_as_both_sides_want() {
    let site = Site::start();
    let mut stream = site.send("GET /stream");
    let pieces = site.streams.recv().unwrap();
    let mut head = [0; 17];
    for n in 0..3 {
        pieces.blocking_send(Bytes::from(format!("piece {n};"))).unwrap();
    }
    stream.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.0 200 OK\r\n");
    drop(pieces);
    let text = rest(stream);
    assert!(text.ends_with("\r\n\r\npiece 0;piece 1;piece 2;"), "{text}");
    // The client goes, which whoever sends learns.
    let stream = site.send("GET /stream");
    let pieces = site.streams.recv().unwrap();
    drop(stream);
    let end = Instant::now() + Duration::from_secs(10);
    while !pieces.is_closed() {
        assert!(Instant::now() < end, "the stream goes on without a client");
        let _ = pieces.try_send(Bytes::from_static(b"x"));
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_client_that_takes_nothing_loses_its_stream() {
    let site = Site::start();
    let _stream = site.send("GET /stream");
    let pieces = site.streams.recv().unwrap();
    let begun = Instant::now();
    while pieces.blocking_send(Bytes::from(vec![0; 1 << 20])).is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
    assert!(begun.elapsed() > Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn who_dawdles_gives_way_and_who_has_a_stream_stays() {
    let site = Site::start();
    let streaming = site.send("GET /stream");
    let pieces = site.streams.recv().unwrap();
    let mut idle: Vec<UnixStream> = (0..100).map(|_| site.connect()).collect();
    let begun = Instant::now();
    assert!(site.ask("GET /now").ends_with("now"));
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    // The first of them has gone, the last has not, and is answered.
    assert_eq!(rest(idle.remove(0)), "");
    let mut last = idle.pop().unwrap();
    last.write_all(b"GET /now HTTP/1.0\r\n\r\n").unwrap();
    assert!(rest(last).ends_with("now"));
    pieces.blocking_send(Bytes::from_static(b"still")).unwrap();
    drop(pieces);
    assert!(rest(streaming).ends_with("still"));
}

#[test]
fn answers_that_nobody_takes_do_not_fill_the_memory() {
    let site = Site::start();
    let mut first = site.send("GET /large");
    let mut head = [0; 17];
    first.read_exact(&mut head).unwrap();
    let second = site.ask("GET /large");
    assert!(second.starts_with("HTTP/1.0 503 "), "{}", second.len());
    assert!(site.ask("GET /now").ends_with("now"), "small ones go on");
    assert!(rest(first).len() > 40 << 20);
    // The last byte is taken before the server knows.
    let end = Instant::now() + Duration::from_secs(10);
    while !site.ask("GET /large").starts_with("HTTP/1.0 200 ") {
        assert!(Instant::now() < end);
    }
}
