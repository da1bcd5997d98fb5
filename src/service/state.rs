//! A process leaves what it has counted to the next one, in memory that the service manager keeps.
//!
//! The memory has a page for each worker, and one for what the workers share. A worker writes its
//! page five times a second, by one call that nothing can interrupt half way. So a process that is
//! killed leaves pages that are whole.
//!
//! ```text
//! page = length of the text (4 bytes), hash of the text (16 bytes), text (JSON)
//! ```

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{FileType, MemfdFlags, fstat, memfd_create};
use serde::{Deserialize, Serialize};

/// Bytes of a page.
const PAGE: usize = 4096;
/// Bytes before the text of a page.
const HEAD: usize = 20;
/// The version of the format.
const FORMAT: u32 = 1;
/// The most workers that are believed.
const WORKERS: u32 = 1024;
/// The largest number that is believed: sums of such numbers are none that overflow.
const LARGEST: u64 = 1 << 49;

/// What is in a page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    format: u32,
    /// The number of workers.
    pub(crate) workers: u32,
    /// Datagrams that the worker has received.
    pub(crate) received: u64,
    /// Copies that it has read of what other workers have received, also before this process.
    pub(crate) copies: u64,
    /// Datagrams that it has counted as dropped, also before this process.
    pub(crate) counted: u64,
    /// The datagrams that had been given to all workers when it began.
    pub(crate) begun: Option<u64>,
    /// True where the process has come to its end by itself.
    pub(crate) ended: bool,
    /// The drops of its sockets.
    pub(crate) drops: Vec<Drops>,
}

/// What of a datagram decides which worker of a group receives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Steered {
    /// Its outer source address, and the VNI under this mask.
    Session { mask: u32 },
    /// Its outer source address.
    Source,
    /// Its outer source address and port.
    Flow,
}

/// The drops of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Drops {
    /// The address that the socket is bound to.
    pub(crate) address: SocketAddr,
    /// The kernel's counter when it was read last.
    pub(crate) last: u32,
    /// The drops that had been counted by then.
    pub(crate) total: u64,
    /// What has steered all that is queued, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) steered: Option<Steered>,
}

impl Record {
    /// Makes the record of one of so many workers that has counted nothing.
    pub(crate) fn new(workers: u32) -> Self {
        Self {
            format: FORMAT,
            workers,
            received: 0,
            copies: 0,
            counted: 0,
            begun: None,
            ended: false,
            drops: Vec::new(),
        }
    }

    /// Returns the drops of the socket with this address.
    pub(crate) fn drops_of(&self, address: SocketAddr) -> Option<Drops> {
        self.drops.iter().find(|drops| drops.address == address).copied()
    }

    fn is_believed(&self) -> bool {
        let numbers = [self.received, self.copies, self.counted, self.begun.unwrap_or(0)];
        self.format == FORMAT
            && (1..=WORKERS).contains(&self.workers)
            && numbers.into_iter().chain(self.drops.iter().map(|drops| drops.total)).all(|number| number <= LARGEST)
    }
}

/// The records that a process has left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Records {
    /// The record of what the workers share.
    pub(crate) shared: Record,
    /// The records of the workers.
    pub(crate) workers: Vec<Record>,
}

/// The reason for which a state is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Read(#[from] io::Error),
    /// It is no memory of this kind.
    #[error("it is no file")]
    Kind,
    /// A page is not what was written.
    #[error("page {0} is damaged, or of another version")]
    Damaged(usize),
}

/// Reads what the process before this one has left.
///
/// # Errors
/// It is of no use, for the reason that is returned.
pub(crate) fn read(descriptor: OwnedFd) -> Result<Records, StateError> {
    let stat = fstat(&descriptor).map_err(io::Error::from)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(StateError::Kind);
    }
    let file = File::from(descriptor);
    let shared = read_page(&file, 0)?;
    let workers: Vec<Record> =
        (1..=shared.workers as usize).map(|number| read_page(&file, number)).collect::<Result<_, _>>()?;
    match workers.iter().position(|record| record.workers != shared.workers) {
        Some(number) => Err(StateError::Damaged(number + 1)),
        None => Ok(Records { shared, workers }),
    }
}

fn read_page(file: &File, number: usize) -> Result<Record, StateError> {
    let mut page = [0; PAGE];
    file.read_exact_at(&mut page, (number * PAGE) as u64)?;
    let damaged = StateError::Damaged(number);
    let (head, rest) = page.split_at(HEAD);
    let (length, hash) = head.split_at(4);
    let length = length.try_into().map_or(0, u32::from_le_bytes) as usize;
    match rest.get(..length) {
        Some(text) if hash == hash_of(number, text) => match serde_json::from_slice::<Record>(text) {
            Ok(record) if record.is_believed() => Ok(record),
            _ => Err(damaged),
        },
        _ => Err(damaged),
    }
}

/// Returns the hash of what page `number` has.
fn hash_of(number: usize, text: &[u8]) -> [u8; HEAD - 4] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(number as u64).to_le_bytes()).update(text);
    let mut hash = [0; HEAD - 4];
    hasher.finalize_xof().fill(&mut hash);
    hash
}

/// The memory that this process leaves.
#[derive(Debug, Clone)]
pub(crate) struct State {
    file: Arc<File>,
}

impl State {
    /// Makes the memory, of which every page is still to be written.
    ///
    /// # Errors
    /// The kernel has no memory of this kind.
    pub(crate) fn new() -> io::Result<Self> {
        let file = memfd_create("vxtap-state", MemfdFlags::CLOEXEC)?;
        Ok(Self { file: Arc::new(File::from(file)) })
    }

    /// Returns the page of what the workers share.
    pub(crate) fn shared(&self) -> Page {
        Page { file: Arc::clone(&self.file), number: 0 }
    }

    /// Returns the page of a worker.
    pub(crate) fn of_worker(&self, worker: usize) -> Page {
        Page { file: Arc::clone(&self.file), number: worker + 1 }
    }
}

impl AsFd for State {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// A page, which one thread at a time writes.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    file: Arc<File>,
    number: usize,
}

impl Page {
    /// Writes the page. What cannot be written the next process counts once more.
    pub(crate) fn write(&self, record: &Record) {
        let mut page = [0; PAGE];
        let (head, rest) = page.split_at_mut(HEAD);
        let mut text = io::Cursor::new(rest);
        let written = serde_json::to_writer(&mut text, record).map_err(io::Error::other);
        let length = usize::try_from(text.position()).unwrap_or(0);
        let text = text.into_inner().get(..length).unwrap_or_default();
        let (size, hash) = head.split_at_mut(4);
        size.copy_from_slice(&u32::try_from(length).unwrap_or(0).to_le_bytes());
        hash.copy_from_slice(&hash_of(self.number, text));
        let written = written.and_then(|()| self.file.write_all_at(&page, (self.number * PAGE) as u64));
        if let Err(error) = written {
            tracing::debug!(%error, "cannot write down what was counted");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::{Seek, Write};

    fn written(workers: u32) -> (State, Records) {
        let state = State::new().unwrap();
        let address = "[::1]:4789".parse().unwrap();
        let record = |n: u32| {
            let drops = vec![Drops { address, last: u32::MAX - n, total: 1 << 40, steered: Some(Steered::Flow) }];
            Record { received: n.into(), begun: Some(7), drops, ..Record::new(workers) }
        };
        let records = Records { shared: record(99), workers: (0..workers).map(record).collect() };
        state.shared().write(&records.shared);
        records.workers.iter().enumerate().for_each(|(n, record)| state.of_worker(n).write(record));
        (state, records)
    }

    fn handed(state: &State) -> OwnedFd {
        state.as_fd().try_clone_to_owned().unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        let (state, records) = written(3);
        assert_eq!(read(handed(&state)).unwrap(), records);
        assert_eq!(records.workers[2].drops_of("[::1]:4789".parse().unwrap()).unwrap().last, u32::MAX - 2);
        assert_eq!(records.workers[2].drops_of("127.0.0.1:4789".parse().unwrap()), None);
    }

    #[test]
    fn sixteen_addresses_fit() {
        let address = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff%4294967295]:65535".parse().unwrap();
        let steered = Some(Steered::Session { mask: u32::MAX });
        let drops = vec![Drops { address, last: u32::MAX, total: LARGEST, steered }; 16];
        let record = Record { received: LARGEST, copies: LARGEST, counted: LARGEST, drops, ..Record::new(1) };
        let state = State::new().unwrap();
        state.shared().write(&record);
        state.of_worker(0).write(&record);
        assert_eq!(read(handed(&state)).unwrap().shared, record);
    }

    #[test]
    fn what_is_missing_forged_or_no_state_is_refused() {
        let (state, _) = written(2);
        state.of_worker(1).write(&Record::new(3));
        assert!(matches!(read(handed(&state)), Err(StateError::Damaged(2))), "of another number of workers");
        for record in [
            Record { workers: 0, ..Record::new(1) },
            Record { workers: u32::MAX, ..Record::new(1) },
            Record { format: 2, ..Record::new(1) },
            Record { counted: u64::MAX, ..Record::new(1) },
        ] {
            state.shared().write(&record);
            assert!(matches!(read(handed(&state)), Err(StateError::Damaged(0))), "{record:?}");
        }
        assert!(matches!(read(handed(&State::new().unwrap())), Err(StateError::Read(_))), "empty");
        let (pipe, _writer) = io::pipe().unwrap();
        assert!(matches!(read(pipe.into()), Err(StateError::Kind)));
        let mut page = written(1).0;
        let file = Arc::get_mut(&mut page.file).unwrap();
        file.seek(io::SeekFrom::Start(0)).unwrap();
        file.write_all(&[0xff; 4]).unwrap();
        assert!(matches!(read(handed(&page)), Err(StateError::Damaged(0))), "a length beyond the page");
    }

    proptest! {
        #[test]
        fn a_changed_byte_is_noticed(at in 0..3 * PAGE as u64, bit in 0..8u32) {
            let (state, records) = written(2);
            let mut byte = [0];
            state.file.read_exact_at(&mut byte, at).unwrap();
            state.file.write_all_at(&[byte[0] ^ (1 << bit)], at).unwrap();
            // What is behind the text means nothing.
            prop_assert!(read(handed(&state)).map_or(true, |read| read == records));
        }
    }
}
