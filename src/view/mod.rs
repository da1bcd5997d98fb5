//! The view shows a running sensor to whoever asks: everything here is read without a lock of the
//! way of frames.
//!
//! The command makes one [`View`] at the start. Counters come from the ledger, names from the
//! registry, the state of workers and outputs from the gauges of the pipeline. What the plan says
//! is put here, and again at a reload. Neither a disk that does not answer nor a worker that stalls
//! holds up a reader: file systems are looked at by threads of their own (`space.rs`).

mod facts;
mod live;
mod pace;
mod reloads;
mod space;
mod status;

pub use self::facts::Facts;
pub use self::live::View;
pub use self::status::{
    Configuration, LastHour, Loss, OutputState, Ready, Reload, SCHEMA, SessionsState, State, Status, WorkerState,
};

#[cfg(test)]
mod tests;
