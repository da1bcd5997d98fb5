//! One thread serves all faces.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::oneshot;

use super::connection::serve;
use super::door::{Door, TcpDoor, UnixDoor};
use super::face::Face;
use super::slots::Slots;
use super::times::Times;
use crate::episode::Episode;

/// The time for which the end waits for the thread.
const PATIENCE: Duration = Duration::from_millis(500);
/// The time after which a listener that fails is asked again.
const AGAIN: Duration = Duration::from_millis(100);
/// The time between two log lines about clients that may not come.
const SELDOM: Duration = Duration::from_secs(60);

/// The answer to those who may not come. Nothing of their requests is read.
const NOT_YOU: &[u8] = b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nContent-Length: 18\r\nConnection: close\r\n\r\nnot for this user\n";
/// The answer where every slot is in use.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: 21\r\nConnection: close\r\n\r\ntoo many connections\n";

/// The thread that serves. It ends when this is dropped.
#[derive(Debug)]
pub struct Server {
    stop: Option<oneshot::Sender<()>>,
    ended: Receiver<()>,
}

impl Server {
    /// Serves these faces.
    ///
    /// # Errors
    /// There is no thread, or the kernel has no more of something.
    pub fn start(faces: Vec<(Door, Face)>) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let doors = {
            let _entered = runtime.enter();
            let open = faces.into_iter().map(|(door, face)| Ok((Open::of(door)?, Arc::new(face))));
            open.collect::<io::Result<Vec<_>>>()?
        };
        let (stop, stopped) = oneshot::channel();
        let (sender, ended) = bounded(0);
        thread::Builder::new().name("vxtap-http".into()).spawn(move || {
            runtime.block_on(async {
                for (door, face) in doors {
                    tokio::spawn(admit(door, face));
                }
                let _ = stopped.await;
            });
            // Connections end here, and doors are closed.
            drop(runtime);
            drop(sender);
        })?;
        Ok(Self { stop: Some(stop), ended })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.ended.recv_timeout(PATIENCE);
    }
}

/// A door that the runtime listens at.
enum Open {
    Unix(UnixListener, UnixDoor),
    Tcp(TcpListener, TcpDoor),
}

/// A connection that came in.
enum Come {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Open {
    fn of(door: Door) -> io::Result<Self> {
        Ok(match door {
            Door::Unix(listener, door) => Self::Unix(UnixListener::from_std(listener)?, door),
            Door::Tcp(listener, door) => Self::Tcp(TcpListener::from_std(listener)?, door),
        })
    }

    /// Takes the next connection; none where the client may not come.
    async fn accept(&self, refused: &mut Episode) -> io::Result<Option<Come>> {
        match self {
            Self::Unix(listener, door) => {
                let (stream, _) = listener.accept().await?;
                let user = stream.peer_cred()?.uid();
                if door.admits(user) {
                    return Ok(Some(Come::Unix(stream)));
                }
                say(&stream, NOT_YOU);
                if refused.every(SELDOM) {
                    tracing::warn!("the control socket is not for user {user}");
                }
            }
            Self::Tcp(listener, door) => {
                let (stream, address) = listener.accept().await?;
                if door.admits(address.ip()) {
                    return Ok(Some(Come::Tcp(stream)));
                }
                if refused.every(SELDOM) {
                    let client = address.ip().to_canonical();
                    tracing::warn!(%client, "{client} is not in the list of those who may ask, and is refused");
                }
            }
        }
        Ok(None)
    }
}

/// Takes connections for as long as the runtime runs.
async fn admit(door: Open, face: Arc<Face>) {
    let mut slots = Slots::default();
    let (mut refused, mut failing) = (Episode::default(), Episode::default());
    loop {
        match door.accept(&mut refused).await {
            Ok(Some(come)) => {
                failing.ends();
                let is_room = slots.make_room();
                match come {
                    Come::Unix(stream) if is_room => start(stream, &face, &mut slots),
                    Come::Tcp(stream) if is_room => start(stream, &face, &mut slots),
                    Come::Unix(stream) => say(&stream, FULL),
                    Come::Tcp(stream) => drop(stream.try_write(FULL)),
                }
            }
            Ok(None) => {}
            Err(error) => {
                if failing.begins() {
                    tracing::warn!("{} takes no connection: {error}", face.name);
                }
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

/// Says something to a client before it has asked. What does not go at once does not go.
fn say(stream: &UnixStream, text: &[u8]) {
    let _ = stream.try_write(text);
}

fn start(stream: impl AsyncRead + AsyncWrite + AsFd + Unpin + Send + 'static, face: &Arc<Face>, slots: &mut Slots) {
    let times = Arc::new(Times::new(Instant::now()));
    let task = tokio::spawn(serve(stream, Arc::clone(face), Arc::clone(&times)));
    slots.take(times, task.abort_handle());
}
