//! A plan says which captures are stripped, and where the frames go.

use crate::pipeline::decap::Timestamps;
use crate::sink::file::FilePlan;
use crate::sink::interface::InterfacePlan;
use crate::sink::stream::StreamPlan;
use crate::source::capture::Input;
use crate::wire::VniMask;
use crate::wire::captured::Ports;

/// The plan of what is to be stripped.
#[derive(Debug, Clone)]
pub struct DecapPlan {
    /// The captures, in this order.
    pub inputs: Vec<Input>,
    /// The place where the frames go.
    pub to: To,
    /// What becomes of frames that are not of a mirror.
    pub others: Others,
    /// The wraps that are taken off a frame at most.
    pub depth: u32,
    /// The ports that mirrors send to.
    pub ports: Ports,
    /// The bits of VNIs that name networks.
    pub vni_mask: VniMask,
    /// The clock that frames have their times of.
    pub timestamps: Timestamps,
}

impl DecapPlan {
    /// Makes the plan of a summary alone: what `vxtap decap IN` does.
    #[must_use]
    pub fn summary(inputs: Vec<Input>) -> Self {
        Self {
            inputs,
            to: To::Nowhere,
            others: Others::Drop,
            depth: 1,
            ports: Ports::default(),
            vni_mask: VniMask::ALL,
            timestamps: Timestamps::default(),
        }
    }
}

/// The place where the frames go.
#[derive(Debug, Clone)]
pub enum To {
    /// One file, or standard output.
    Stream(StreamPlan),
    /// A directory with one for each session, as the sensor writes it.
    Directory(Box<FilePlan>),
    /// An interface that is there, where sniffers are.
    Interface(InterfacePlan),
    /// Nowhere: the summary is all that is wanted.
    Nowhere,
}

/// What becomes of frames that are not of a mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Others {
    /// They are left out, and counted.
    Drop,
    /// They are kept as they are.
    Pass,
    /// The first of them is the end.
    Stop,
}
