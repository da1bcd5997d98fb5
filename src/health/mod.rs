//! The health of a sensor: may it be sent traffic, and do its workers turn?
//!
//! Load is never a reason. A sensor that is sent more than it can take would otherwise hand its
//! load to the next, and so on until none is left. So lanes that are full and datagrams that the
//! kernel drops do not count, but outputs that take nothing do, and workers that do not turn.

mod judge;
mod watch;

pub(crate) use self::watch::Watch;
