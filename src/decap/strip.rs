//! A captured frame is stripped of its wraps, and counted.

use super::plan::{DecapPlan, Others};
use super::report::Counts;
use crate::pipeline::step::Step;
use crate::record::Timestamp;
use crate::record::read::Frame;
use crate::source::Datagram;
use crate::source::capture::{Came, Packets};
use crate::wire::captured::{Framing, Other, Ports, Refused, Unwrapped, unwrap, unwrap_whole};

/// Takes the wraps off frames.
#[derive(Debug)]
pub(super) struct Strip {
    others: Others,
    /// The wraps that are taken off at most.
    depth: u32,
    ports: Ports,
    packets: Packets,
    counts: Counts,
}

impl Strip {
    pub(super) fn new(plan: &DecapPlan) -> Strip {
        let DecapPlan { others, depth, ref ports, .. } = *plan;
        let (packets, counts) = (Packets::default(), Counts::default());
        Strip { others, depth, ports: ports.clone(), packets, counts }
    }

    /// Takes a frame, which goes on by `step` without its wraps.
    ///
    /// # Errors
    /// The frame is not of a mirror, and that is to be the end.
    #[inline]
    pub(super) fn frame(&mut self, frame: &Frame<'_>, step: &mut Step) -> Result<(), Other> {
        self.packets.counts.read += 1;
        let Some(framing) = Framing::of(frame.link_type) else { return self.other(frame, Other::LinkType, step) };
        match unwrap(framing, frame.data, &self.ports) {
            Ok(ref wrap) => {
                self.unwrapped(frame, wrap, step);
                Ok(())
            }
            Err(refused) => self.refused(frame, framing, refused, step),
        }
    }

    /// Hands on what is in the first wrap, or in the last of those within it. Most captures have
    /// one wrap on each frame, and then nothing of it has to be in memory.
    #[inline(always)]
    fn unwrapped(&mut self, frame: &Frame<'_>, wrap: &Unwrapped<'_>, step: &mut Step) {
        if self.depth > 1 {
            self.unwrapped_further(frame, *wrap, step);
        } else {
            self.hand_on(frame, wrap, 1, step);
        }
    }

    /// Takes off the wraps within the first one, and hands on what is in them.
    #[inline(never)]
    fn unwrapped_further(&mut self, frame: &Frame<'_>, mut wrap: Unwrapped<'_>, step: &mut Step) {
        let mut wraps = 1;
        while wraps < self.depth {
            let framing = if wrap.inner.bare.is_some() { Framing::Ip } else { Framing::Ethernet };
            // What is no wrap, or none that can be taken off, is the frame.
            let Ok(mut within) = unwrap(framing, wrap.inner.frame, &self.ports) else { break };
            // What the outer wrap says goes for what is in it, too, but for its number: that is one
            // of its own tunnel, in which frames of other sessions come as well.
            if wrap.inner.sequence.is_some() {
                step.number(wrap.source, &wrap.inner);
            }
            within.inner.scope = within.inner.scope.or(wrap.inner.scope);
            within.inner.direction = within.inner.direction.or(wrap.inner.direction);
            within.inner.stamp = within.inner.stamp.or(wrap.inner.stamp);
            wrap = within;
            wraps += 1;
        }
        self.hand_on(frame, &wrap, wraps, step);
    }

    /// Hands on the frame that was in so many wraps, of which this is the innermost.
    #[inline(always)]
    fn hand_on(&mut self, frame: &Frame<'_>, wrap: &Unwrapped<'_>, wraps: u32, step: &mut Step) {
        self.counts.wrapped(wraps);
        let datagram = Datagram {
            length: wrap.length,
            source: wrap.source,
            port: wrap.port,
            encapsulation: wrap.inner.encapsulation,
            timestamp: Timestamp::from_ns(frame.timestamp),
            ..Datagram::empty()
        };
        step.take(&datagram, Ok(&wrap.inner));
        note(frame, step);
    }

    #[inline(never)]
    fn refused(&mut self, frame: &Frame<'_>, framing: Framing, refused: Refused, step: &mut Step) -> Result<(), Other> {
        match refused {
            Refused::Other(reason) => {
                self.packets.other(framing, frame, reason);
                self.other(frame, reason, step)
            }
            Refused::Outer(reason) => match self.packets.outer(framing, frame, reason) {
                Came::Nothing => Ok(()),
                Came::Other => self.other(frame, Other::NoTunnel, step),
                Came::Whole { of, bytes } => match unwrap_whole(of, &bytes, &self.ports) {
                    Ok(ref wrap) => {
                        self.unwrapped(frame, wrap, step);
                        Ok(())
                    }
                    Err(refused) => self.refused(frame, framing, refused, step),
                },
            },
            Refused::Drop(encapsulation, reason) => {
                self.counts.refused(encapsulation, reason);
                let timestamp = Timestamp::from_ns(frame.timestamp);
                let datagram = Datagram { encapsulation, timestamp, ..Datagram::empty() };
                step.take(&datagram, Err(reason));
                Ok(())
            }
        }
    }

    /// Counts a frame that is not of a mirror, and keeps it where that is wanted.
    fn other(&mut self, frame: &Frame<'_>, reason: Other, step: &mut Step) -> Result<(), Other> {
        match self.others {
            Others::Stop => {
                // Nothing has become of it.
                self.packets.counts.read -= 1;
                return Err(reason);
            }
            // Only an Ethernet frame can stand among the others as it is.
            Others::Pass if Framing::of(frame.link_type) == Some(Framing::Ethernet) => {
                self.counts.passed += 1;
                step.pass(Timestamp::from_ns(frame.timestamp), frame.data, frame.orig_len);
                note(frame, step);
            }
            Others::Pass | Others::Drop => {}
        }
        self.packets.counts.other(reason);
        Ok(())
    }

    /// Gives up the fragments that wait for others, and returns what all frames were.
    pub(super) fn end(mut self) -> Counts {
        self.packets.end();
        self.counts.packets = self.packets.counts;
        self.counts
    }
}

/// Has the comments on a frame go with it.
#[inline]
fn note(frame: &Frame<'_>, step: &mut Step) {
    if !frame.options.is_empty() {
        let comments = frame.options.encoded_comments();
        if !comments.is_empty() {
            step.note(&comments);
        }
    }
}
