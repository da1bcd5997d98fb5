//! Many datagrams leave in one system call: `sendmmsg(2)` on a connected UDP socket.

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

/// One batch can hold so many messages.
pub(crate) const BATCH: usize = 64;

/// A batch can hold so many bytes of frames, unless it is a single frame that is longer.
const STAGING: usize = 256 * 1024;

/// Datagrams waiting to be sent: each is a header and a frame.
///
/// Both are copied once, into memory that the batch owns and reuses. Messages leave in the order in
/// which they were added. A message that was not sent stays at the front until it is sent or
/// dropped, so the caller decides what an error means.
#[derive(Debug)]
pub(crate) struct SendBatch {
    /// The datagrams, back to back.
    staging: Vec<u8>,
    /// The end of each in `staging`; one starts where the one before it ends.
    ends: [usize; BATCH],
    /// Bytes of headers up to the end of each.
    headers: [usize; BATCH],
    /// Messages added.
    count: usize,
    /// Messages at the front that are done with.
    done: usize,
}

/// The outcome of one call of [`SendBatch::send`].
#[derive(Debug)]
pub(crate) struct Sent {
    /// Messages that the kernel took.
    pub messages: usize,
    /// Bytes of their frames, without the headers.
    pub frame_bytes: usize,
    /// Bytes of all.
    pub bytes: usize,
    /// The error that stopped it, which belongs to the message now at the front; `None` when all
    /// are sent.
    pub error: Option<io::Error>,
}

impl Default for SendBatch {
    fn default() -> SendBatch {
        SendBatch { staging: Vec::with_capacity(STAGING), ends: [0; BATCH], headers: [0; BATCH], count: 0, done: 0 }
    }
}

impl SendBatch {
    /// Says whether nothing waits to be sent.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.done == self.count
    }

    /// Says whether a datagram of this length can be added.
    #[must_use]
    pub(crate) fn has_room(&self, length: usize) -> bool {
        self.is_empty() || (self.count < BATCH && self.staging.len() + length <= STAGING)
    }

    /// Adds a message. Returns `false`, and adds nothing, where [`SendBatch::has_room`] says no.
    #[must_use]
    pub(crate) fn push(&mut self, header: impl AsRef<[u8]>, frame: &[u8]) -> bool {
        let header = header.as_ref();
        if !self.has_room(header.len() + frame.len()) {
            return false;
        }
        if self.is_empty() {
            self.staging.clear();
            self.count = 0;
            self.done = 0;
        }
        let before = self.before(self.count).1;
        let (Some(headers), Some(end)) = (self.headers.get_mut(self.count), self.ends.get_mut(self.count)) else {
            return false;
        };
        self.staging.extend_from_slice(header);
        self.staging.extend_from_slice(frame);
        *headers = before + header.len();
        *end = self.staging.len();
        self.count += 1;
        true
    }

    /// Gives up the message at the front, if there is one.
    pub(crate) fn drop_front(&mut self) {
        self.done = self.count.min(self.done + 1);
    }

    /// Returns how many bytes there are in front of message `n`, and how many of these are headers.
    fn before(&self, n: usize) -> (usize, usize) {
        let found = n.checked_sub(1).and_then(|last| Some((*self.ends.get(last)?, *self.headers.get(last)?)));
        found.unwrap_or((0, 0))
    }

    /// Sends what waits, until all of it is sent or the kernel reports an error.
    ///
    /// `socket` must be connected: the messages carry no address.
    ///
    /// sendmmsg(2): "On success, sendmmsg() returns the number of messages sent from msgvec; if
    /// this is less than vlen, the caller can retry with a further sendmmsg() call to send the
    /// remaining messages. On error, -1 is returned, and errno is set." And: "If an error occurs
    /// after at least one message has been sent, the call succeeds, and returns the number of
    /// messages sent. The error code is lost. The caller can retry the transmission, starting at
    /// the first failed message, but there is no guarantee that, if an error is returned, it will
    /// be the same as the one that was lost." So a short count is followed by another call, and the
    /// error is that of a call that sent nothing. An error that the network reported for an earlier
    /// datagram is lost for good if it stops a call that had sent something: the kernel forgets it,
    /// and the next call succeeds. Such errors are reported at least once a batch, not once a
    /// datagram.
    #[must_use = "messages that were not sent are still in the batch"]
    pub(crate) fn send(&mut self, socket: &impl AsFd) -> Sent {
        let mut sent = Sent { messages: 0, frame_bytes: 0, bytes: 0, error: None };
        while !self.is_empty() {
            match self.send_once(socket) {
                Ok(messages) => {
                    let (start, before) = self.before(self.done);
                    self.done = self.count.min(self.done + messages);
                    let (end, headers) = self.before(self.done);
                    sent.messages += messages;
                    sent.bytes += end - start;
                    sent.frame_bytes += (end - start) - (headers - before);
                }
                Err(error) => {
                    sent.error = Some(error);
                    break;
                }
            }
        }
        sent
    }

    /// Makes one system call. At least one message waits.
    fn send_once(&mut self, socket: &impl AsFd) -> io::Result<usize> {
        let mut vectors = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; BATCH];
        // SAFETY: `mmsghdr` is a C struct of integers and raw pointers, for which all bytes zero
        // are a valid value: no address, no vectors, no control data, no flags.
        let mut messages: [libc::mmsghdr; BATCH] = unsafe { mem::zeroed() };
        let mut length: libc::c_uint = 0;
        for (n, (vector, message)) in (self.done..self.count).zip(vectors.iter_mut().zip(&mut messages)) {
            let Some(bytes) = self.staging.get(self.before(n).0..self.before(n + 1).0) else { break };
            // sendmmsg only reads what a vector points to, though the type has room for receiving
            // too.
            *vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
            message.msg_hdr.msg_iov = vector;
            message.msg_hdr.msg_iovlen = 1;
            length += 1;
        }
        let fd = socket.as_fd().as_raw_fd();
        // SAFETY: the descriptor is open for the life of `socket`. The first `length` elements of
        // `messages` are filled in above, `length` being at most BATCH; each points to an element
        // of `vectors`, and that to bytes inside `self`. Messages, vectors and `self` stay borrowed
        // and in place until the call returns; the kernel keeps no pointer. It writes only
        // `msg_len` of the messages, which are ours alone.
        let result = unsafe { libc::sendmmsg(fd, messages.as_mut_ptr(), length, 0) };
        match usize::try_from(result) {
            // Zero messages sent without an error would be asked for again without end.
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            Ok(sent) => Ok(sent),
            Err(_) => Err(io::Error::last_os_error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::time::Duration;

    const HEADER: usize = 8;

    fn pair() -> (UdpSocket, UdpSocket) {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        receiver.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.connect(receiver.local_addr().unwrap()).unwrap();
        (sender, receiver)
    }

    fn receive(receiver: &UdpSocket) -> Vec<u8> {
        let mut buffer = vec![0; 65_536];
        let length = receiver.recv(&mut buffer).unwrap();
        buffer.truncate(length);
        buffer
    }

    #[test]
    fn messages_arrive_whole_and_in_order() {
        let (sender, receiver) = pair();
        let mut batch = SendBatch::default();
        for round in 0..3u8 {
            for n in 0..BATCH {
                assert!(batch.push([round; HEADER], &vec![n as u8; n]));
            }
            assert!(!batch.push([0; HEADER], &[]));
            let sent = batch.send(&sender);
            assert_eq!((sent.messages, sent.frame_bytes), (BATCH, (0..BATCH).sum()));
            assert!(sent.error.is_none() && batch.is_empty());
            for n in 0..BATCH {
                assert_eq!(receive(&receiver), [&[round; HEADER][..], &vec![n as u8; n]].concat());
            }
        }
        assert_eq!(batch.send(&sender).messages, 0);
    }

    #[test]
    fn large_frames_fill_a_batch_early() {
        let mut batch = SendBatch::default();
        assert!(batch.push([0; HEADER], &vec![0; STAGING + 1]), "one frame always fits");
        assert!(!batch.push([0; HEADER], &[]));
        batch.drop_front();
        let pushed = (0..BATCH).take_while(|_| batch.push([0; HEADER], &[0; 65_000])).count();
        assert_eq!(pushed, STAGING / 65_000);
    }

    #[test]
    fn an_error_belongs_to_the_message_at_the_front() {
        let (sender, receiver) = pair();
        let mut batch = SendBatch::default();
        // The second is larger than any UDP datagram.
        for length in [10, 70_000, 20] {
            assert!(batch.push([1; HEADER], &vec![2; length]));
        }
        let sent = batch.send(&sender);
        assert_eq!((sent.messages, sent.frame_bytes), (1, 10));
        assert_eq!(sent.error.and_then(|e| e.raw_os_error()), Some(libc::EMSGSIZE));
        batch.drop_front();
        let sent = batch.send(&sender);
        assert_eq!((sent.messages, sent.frame_bytes), (1, 20));
        assert!(sent.error.is_none() && batch.is_empty());
        assert_eq!(receive(&receiver).len(), HEADER + 10);
        assert_eq!(receive(&receiver).len(), HEADER + 20);
    }

    #[test]
    fn a_refusal_is_reported() {
        let (sender, receiver) = pair();
        drop(receiver);
        let mut batch = SendBatch::default();
        assert!(batch.push([0; HEADER], &[0; 60]));
        assert!(batch.send(&sender).error.is_none(), "nobody has answered yet");
        assert!(batch.push([0; HEADER], &[0; 60]));
        let sent = batch.send(&sender);
        assert_eq!(sent.messages, 0);
        assert_eq!(sent.error.and_then(|e| e.raw_os_error()), Some(libc::ECONNREFUSED));
    }
}
