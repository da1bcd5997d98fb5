//! The metrics of a running sensor, for Prometheus and for log lines.
//!
//! There is no second set of counters. At each scrape the [`View`] is read, and the ledger's
//! catalogue says what a counter is called (`names.rs`), what it means and how it moves:
//!
//! ```text
//! View ─▶ Moment ─▶ families ─▶ text of Prometheus 0.0.4 or OpenMetrics 1.0, or JSON
//!                      ▲
//!        Accounts: what is counted under the names of the configuration
//! ```
//!
//! No counter falls as long as the sensor runs. How many series there are follows from the
//! configuration, whatever is received: sessions without a name are one series (`sessions.rs`).

mod family;
mod format;
mod names;
mod process;
mod sensor;
mod sessions;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Registry;
use serde_json::{Map, Value};

use self::family::{Family, Kind};
use self::format::Format;
use self::process::Usage;
use self::sensor::Moment;
use self::sessions::Accounts;
use crate::view::View;

/// The metrics of a sensor.
#[derive(Debug)]
pub struct Metrics {
    view: Arc<View>,
    registry: Registry,
}

impl Metrics {
    /// Makes the metrics of the sensor of `view`.
    #[must_use]
    pub fn new(view: Arc<View>) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Sensor { view: Arc::clone(&view), accounts: Mutex::default() }));
        Self { view, registry }
    }

    /// Answers a scraper, in the format that the header `Accept` asks for: the kind of the answer,
    /// and its text.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn scrape(&self, accept: Option<&str>) -> Result<(&'static str, String), fmt::Error> {
        let format = Format::wanted(accept);
        Ok((format.content_type(), format.encode(&self.registry)?))
    }

    /// Returns those that are not zero as an object, by the names that are scraped. A metric that
    /// has labels is an object by their values. What there is for each session is left out, as log
    /// lines are to be short.
    #[must_use]
    pub fn object(&self) -> Map<String, Value> {
        object(&Moment::of(&self.view).families().into_list())
    }
}

/// A sensor that is scraped.
#[derive(Debug)]
struct Sensor {
    view: Arc<View>,
    accounts: Mutex<Accounts>,
}

impl Collector for Sensor {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        // The lock is held for the look too: of two, the later one is credited later.
        let mut accounts = self.accounts.lock();
        let families = scraped(&Moment::of(&self.view), &mut accounts);
        families.iter().try_for_each(|family| format::encode(family, &mut encoder))
    }
}

/// Returns all that is scraped.
fn scraped(moment: &Moment, accounts: &mut Accounts) -> Vec<Family> {
    let mut families = moment.families();
    moment.add_sessions(accounts, &mut families);
    if let Some(usage) = Usage::read() {
        usage.add_to(&mut families);
    }
    families.into_list()
}

/// Makes an object of the numbers that are not zero.
fn object(families: &[Family]) -> Map<String, Value> {
    let mut object = Map::new();
    for family in families.iter().filter(|family| matches!(family.kind, Kind::Counter | Kind::Gauge)) {
        for (labels, value) in &family.series {
            let value = match value {
                family::Value::Count(count) if *count > 0 => Value::from(*count),
                family::Value::Number(number) if *number != 0.0 => Value::from(*number),
                _ => continue,
            };
            let path: Vec<&str> = labels.iter().map(|(_, value)| value.as_str()).collect();
            insert(&mut object, &family.name(), &path, value);
        }
    }
    object
}

/// Puts a value into an object, below so many keys.
fn insert(object: &mut Map<String, Value>, key: &str, path: &[&str], value: Value) {
    match path {
        [] => drop(object.insert(key.into(), value)),
        [next, path @ ..] => {
            let below = object.entry(key).or_insert_with(|| Map::new().into());
            if let Value::Object(below) = below {
                insert(below, next, path, value);
            }
        }
    }
}
