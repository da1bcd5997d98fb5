//! The ledger says what became of every datagram.
//!
//! Counters are kept where the work is done, one set per worker and one per end of each output, so
//! that no two threads write the same cache line. Whoever reads them adds them up. Two equations
//! hold once the sensor has stopped, exactly:
//!
//! ```text
//! received = decapsulated + Σ dropped[reason]
//! offered  = written + filtered + Σ dropped[reason]       for each output
//! ```
//!
//! Beside the first equation stands what the kernel dropped before the sensor saw it
//! (`kernel_dropped`, `refused_at_stop`).

mod busiest;
mod catalogue;
mod counted;
mod counter;
mod counters;
mod durations;
mod equation;
mod live;
mod losses;
mod lost;
mod outputs;
mod pairs;
mod presence;
mod rare;
mod reasons;
mod seat;
mod sessions;
mod snapshot;
mod table;
#[cfg(test)]
mod tests;

pub use catalogue::{Equation, Kind, Reading, Unit};
pub(crate) use counter::{Counter, Gauge};
#[cfg(test)]
pub(crate) use counters::OutputTotals;
pub(crate) use counters::WorkerCounters;
pub use counters::{OutputCounters, Totals};
pub use durations::Histogram;
pub use equation::words;
pub use live::Ledger;
pub use losses::Losses;
pub use outputs::{Output, Outputs};
pub use pairs::{Pair, PairFrames};
pub use reasons::OutputDrop;
pub(crate) use reasons::{Filtered, NotRedirected};
pub(crate) use seat::Seat;
#[cfg(test)]
pub(crate) use sessions::Upstream;
pub(crate) use sessions::{Forgotten, SessionCounts, SessionTotals};
pub use snapshot::Snapshot;
pub use table::Table;
pub(crate) use table::{SoFar, row};
