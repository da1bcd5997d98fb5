//! The client asks a running sensor over its control socket, or over HTTP.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::head::{self, Head};
use crate::host;

/// The socket where the service has it.
const USUAL: &str = "/run/vxtap/control";
/// The time for which an answer to a question is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most bytes of the reason for which a sensor refuses.
const MOST_REASON: u64 = 64 << 10;
/// The most bytes of an answer that is taken as a whole.
const MOST: u64 = 256 << 20;

/// The place where a sensor answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A control socket.
    Socket(PathBuf),
    /// A host and a port, as `127.0.0.1:9479`.
    Port(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => path.display().fmt(f),
            Self::Port(port) => write!(f, "http://{port}"),
        }
    }
}

/// The reasons why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no socket.
    #[error("no sensor runs here: there is no {0}; --control PATH names another socket")]
    None(PathBuf),
    /// Nobody listens.
    #[error("no sensor answers at {0}: it has ended")]
    Gone(Place),
    /// The socket is somebody else's.
    #[error("{0} is for the sensor's user and root; try it with sudo")]
    NotOurs(PathBuf),
    /// Something is there that is no socket.
    #[error("{0} is no socket of a sensor")]
    NoSocket(PathBuf),
    /// The sensor says nothing.
    #[error("the sensor at {0} does not answer")]
    Silent(Place),
    /// The connection failed.
    #[error("cannot ask the sensor at {place}: {error}")]
    Failed {
        /// The place.
        place: Place,
        /// The error that the kernel returned.
        error: io::Error,
    },
    /// What came is no answer.
    #[error("what answers at {0} is no sensor")]
    Strange(Place),
    /// The sensor refuses.
    #[error("{text}")]
    Refused {
        /// The status of HTTP.
        status: u16,
        /// What the sensor says.
        text: String,
    },
}

/// A client of one sensor.
#[derive(Debug, Clone)]
pub struct Client {
    place: Place,
}

/// The content of an answer, as it comes.
pub type Content = Box<dyn Read + Send>;

impl Client {
    /// Makes a client of the sensor whose control socket is `path`, or is where it usually is.
    #[must_use]
    pub fn local(path: Option<&Path>) -> Self {
        Self::of(Place::Socket(path.map_or_else(|| usual(host::runtime_directory()), Path::to_owned)))
    }

    /// Makes a client of the sensor that answers at `place`.
    #[must_use]
    pub fn of(place: Place) -> Self {
        Self { place }
    }

    /// Returns the place where the sensor answers.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Asks for what is at `path`, and returns all of it.
    ///
    /// # Errors
    /// There is no answer, or the sensor refuses.
    pub fn get(&self, path: &str) -> Result<String, ClientError> {
        self.whole("GET", path, Some(PATIENCE))
    }

    /// Gives an order, waits until it is carried out, and returns what the sensor says.
    ///
    /// # Errors
    /// There is no answer, or the sensor refuses.
    pub fn order(&self, path: &str) -> Result<String, ClientError> {
        self.whole("POST", path, None)
    }

    /// Connects to the control socket: what comes over it is not all there at once.
    ///
    /// # Errors
    /// Nobody answers there, or the sensor is known by its port alone.
    pub fn connect_local(&self) -> Result<UnixStream, ClientError> {
        match &self.place {
            Place::Socket(path) => self.connect_socket(path),
            Place::Port(_) => Err(ClientError::Strange(self.place.clone())),
        }
    }

    fn whole(&self, method: &str, path: &str, patience: Option<Duration>) -> Result<String, ClientError> {
        let (content, length) = self.ask(method, path, patience)?;
        let mut text = Vec::new();
        content.take(MOST).read_to_end(&mut text).map_err(|error| self.failed(error))?;
        // A sensor that ends meanwhile says half of it.
        if length.is_some_and(|length| length != text.len() as u64) {
            return Err(ClientError::Gone(self.place.clone()));
        }
        String::from_utf8(text).map_err(|_| ClientError::Strange(self.place.clone()))
    }

    /// Sends a request, and returns the content of the answer with its length, where that was said.
    fn ask(&self, method: &str, path: &str, patience: Option<Duration>) -> Result<(Content, Option<u64>), ClientError> {
        let mut stream = self.connect(patience)?;
        let host = match &self.place {
            Place::Socket(_) => "localhost",
            Place::Port(port) => port,
        };
        // By HTTP/1.0 the answer ends with the connection, and comes without chunks.
        let request = format!("{method} {path} HTTP/1.0\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n");
        // One that refuses before it has read may have closed already, and what it said is there.
        let sent = stream.write_all(request.as_bytes());
        let mut reader = BufReader::new(stream);
        let head = self.head(&mut reader);
        let head = match (head, sent) {
            (Err(ClientError::Strange(_)), Err(error)) => return Err(self.failed(error)),
            (head, _) => head?,
        };
        let (status, length) = (head.status, head.get("content-length").and_then(|length| length.parse().ok()));
        if status != 200 {
            let mut text = String::new();
            let _ = reader.take(MOST_REASON).read_to_string(&mut text);
            return Err(ClientError::Refused { status, text: text.trim_end().to_owned() });
        }
        Ok((Box::new(reader), length))
    }

    fn head(&self, reader: &mut impl BufRead) -> Result<Head, ClientError> {
        let mut bytes = Vec::new();
        let mut reader = reader.take(head::MOST as u64);
        while !bytes.ends_with(b"\r\n\r\n") {
            if reader.read_until(b'\n', &mut bytes).map_err(|error| self.failed(error))? == 0 {
                return Err(ClientError::Strange(self.place.clone()));
            }
        }
        let head = Head::read(&bytes).ok().flatten().map(|(head, _)| head);
        head.ok_or_else(|| ClientError::Strange(self.place.clone()))
    }

    fn connect(&self, patience: Option<Duration>) -> Result<Box<dyn Stream>, ClientError> {
        match &self.place {
            Place::Socket(path) => {
                let stream = self.connect_socket(path)?;
                stream
                    .set_read_timeout(patience)
                    .and(stream.set_write_timeout(patience))
                    .map_err(|e| self.failed(e))?;
                Ok(Box::new(stream))
            }
            Place::Port(port) => {
                let connect = || {
                    let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
                    for address in port.to_socket_addrs()? {
                        match TcpStream::connect_timeout(&address, PATIENCE) {
                            Ok(stream) => return Ok(stream),
                            Err(error) => failed = error,
                        }
                    }
                    Err(failed)
                };
                let stream = connect().map_err(|error| match error.kind() {
                    io::ErrorKind::ConnectionRefused => ClientError::Gone(self.place.clone()),
                    _ => self.failed(error),
                })?;
                stream
                    .set_read_timeout(patience)
                    .and(stream.set_write_timeout(patience))
                    .map_err(|e| self.failed(e))?;
                Ok(Box::new(stream))
            }
        }
    }

    fn connect_socket(&self, path: &Path) -> Result<UnixStream, ClientError> {
        UnixStream::connect(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => ClientError::None(path.to_owned()),
            io::ErrorKind::PermissionDenied => ClientError::NotOurs(path.to_owned()),
            io::ErrorKind::ConnectionRefused if is_socket(path) => ClientError::Gone(self.place.clone()),
            io::ErrorKind::ConnectionRefused => ClientError::NoSocket(path.to_owned()),
            _ => self.failed(error),
        })
    }

    fn failed(&self, error: io::Error) -> ClientError {
        let place = self.place.clone();
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ClientError::Silent(place),
            _ => ClientError::Failed { place, error },
        }
    }
}

/// Returns the socket in this runtime directory, if there is one, and else where the service has
/// it: whoever asks may be another service, which has a directory of its own.
fn usual(runtime_directory: Option<PathBuf>) -> PathBuf {
    let own = runtime_directory.map(|directory| directory.join("control"));
    own.filter(|path| path.exists()).unwrap_or_else(|| USUAL.into())
}

/// Something to read from and write to.
trait Stream: Read + Write + Send {}

impl<S: Read + Write + Send> Stream for S {}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    path.metadata().is_ok_and(|found| found.file_type().is_socket())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    /// Returns what a client makes of an answer.
    fn said(answer: &'static [u8]) -> Result<String, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control");
        let listener = UnixListener::bind(&path).unwrap();
        let answering = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let n = stream.read(&mut request).unwrap();
            stream.write_all(answer).unwrap();
            String::from_utf8_lossy(&request[..n]).into_owned()
        });
        let got = Client::local(Some(&path)).get("/ledger?top=5").map_err(|error| error.to_string());
        let request = answering.join().unwrap();
        assert!(request.starts_with("GET /ledger?top=5 HTTP/1.0\r\n") && request.ends_with("\r\n\r\n"), "{request}");
        got
    }

    #[test]
    fn answers_are_taken_whole_or_not_at_all() {
        assert_eq!(said(b"HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\n{}\n"), Ok("{}\n".into()));
        assert_eq!(said(b"HTTP/1.1 200 OK\r\n\r\nall that comes"), Ok("all that comes".into()));
        assert_eq!(said(b"HTTP/1.1 409 Conflict\r\n\r\nnothing has changed\n"), Err("nothing has changed".into()));
        let half = said(b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n{").unwrap_err();
        assert!(half.contains("it has ended"), "{half}");
        for strange in [&b"SSH-2.0-OpenSSH\r\n\r\n"[..], b"", b"HTTP/1.1 200 OK\r\n"] {
            let error = said(strange).unwrap_err();
            assert!(error.contains("is no sensor"), "{error}");
        }
    }

    #[test]
    fn the_socket_of_another_service_is_where_the_sensor_has_it() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(usual(Some(directory.path().to_owned())), Path::new(USUAL));
        let own = directory.path().join("control");
        drop(UnixListener::bind(&own).unwrap());
        assert_eq!(usual(Some(directory.path().to_owned())), own);
        assert_eq!(usual(None), Path::new(USUAL));
    }

    #[test]
    fn whoever_is_not_there_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let error = |name: &str| Client::local(Some(&at(name))).get("/").unwrap_err().to_string();
        assert!(error("missing").contains("no sensor runs here: there is no"));
        drop(UnixListener::bind(at("dead")).unwrap());
        assert!(error("dead").contains("it has ended"));
        std::fs::write(at("file"), "").unwrap();
        assert!(error("file").contains("is no socket of a sensor"));
        let nobody = Client::of(Place::Port("127.0.0.1:1".into())).get("/").unwrap_err().to_string();
        assert_eq!(nobody, "no sensor answers at http://127.0.0.1:1: it has ended");
    }
}
