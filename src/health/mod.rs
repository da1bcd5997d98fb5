//! The health of a sensor: may it be sent traffic, do its workers turn, and what came lately?
//!
//! Load is never a reason. A sensor that is sent more than it can take would otherwise hand its
//! load to the next, and so on until none is left. So lanes that are full and datagrams that the
//! kernel drops do not count, but outputs that take nothing do, and workers that do not turn. That
//! nothing comes is no reason either.

mod arrivals;
mod judge;
mod routes;
mod watch;

pub(crate) use self::arrivals::Arrivals;
pub(crate) use self::routes::routes;
pub(crate) use self::watch::Watch;
