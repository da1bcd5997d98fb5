//! Metrics become text, in the format that a scraper asks for.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, prometheus_text, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::family::{Family, Kind, Value};

/// The kind of an answer in the format of OpenMetrics 1.0.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A format of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Prometheus' text format, version 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// Returns the format that is wanted more, by the header `Accept`. Who does not say gets
    /// Prometheus' own, which every scraper reads.
    pub(super) fn wanted(accept: Option<&str>) -> Self {
        let (mut openmetrics, mut plain) = (0.0, 0.0);
        for kind in accept.unwrap_or_default().split(',') {
            let mut words = kind.split(';').map(str::trim);
            let name = words.next().unwrap_or_default().to_ascii_lowercase();
            let (mut weight, mut version) = (1.0, None);
            for (key, value) in words.filter_map(|word| word.split_once('=')) {
                match key.trim() {
                    "q" => weight = value.trim().parse().unwrap_or(0.0),
                    "version" => version = Some(value.trim().trim_matches('"')),
                    _ => {}
                }
            }
            let of = match (&*name, version) {
                ("application/openmetrics-text", None | Some("1.0.0")) => &mut openmetrics,
                ("text/plain", None | Some("0.0.4")) | ("text/*" | "*/*", _) => &mut plain,
                _ => continue,
            };
            *of = f64::max(*of, weight);
        }
        if openmetrics > plain { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// The kind of an answer.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => prometheus_text::CONTENT_TYPE,
            Self::OpenMetrics => OPENMETRICS,
        }
    }

    /// Writes what a registry has.
    pub(super) fn encode(self, registry: &Registry) -> Result<String, fmt::Error> {
        let mut text = String::new();
        match self {
            Self::Prometheus => prometheus_text::encode(&mut text, registry),
            Self::OpenMetrics => text::encode(&mut text, registry),
        }?;
        Ok(text)
    }
}

/// Writes a family.
pub(super) fn encode(family: &Family, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let kind = match family.kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
        Kind::Info => MetricType::Info,
        Kind::Histogram => MetricType::Histogram,
    };
    let mut encoder = encoder.encode_descriptor(&family.stem, &family.help, None, kind)?;
    for (labels, value) in &family.series {
        if family.kind == Kind::Info {
            encoder.encode_info(labels)?;
            continue;
        }
        let mut encoder = encoder.encode_family(labels)?;
        match (family.kind, value) {
            (Kind::Counter, Value::Count(count)) => encoder.encode_counter::<NoLabelSet, u64, f64>(count, None),
            (Kind::Counter, Value::Number(number)) => encoder.encode_counter::<NoLabelSet, f64, f64>(number, None),
            (_, Value::Count(count)) => encoder.encode_gauge(count),
            (_, Value::Number(number)) => encoder.encode_gauge(number),
            (_, Value::Durations(durations)) => {
                let (sum, count) = (durations.sum.as_secs_f64(), durations.count());
                let buckets: Vec<(f64, u64)> = durations.buckets().collect();
                encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
            }
        }?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_the_one_that_is_wanted_more() {
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                          text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let cases = [
            (None, Format::Prometheus),
            (Some(""), Format::Prometheus),
            (Some("*/*"), Format::Prometheus),
            (Some("text/html, application/xhtml+xml, */*;q=0.8"), Format::Prometheus),
            (Some("text/plain"), Format::Prometheus),
            (Some("application/openmetrics-text"), Format::OpenMetrics),
            (Some("Application/OpenMetrics-Text; version=\"1.0.0\"; q=0.9, text/plain; q=0.5"), Format::OpenMetrics),
            (Some("application/openmetrics-text; q=0.2, text/plain; version=0.0.4; q=0.5"), Format::Prometheus),
            (Some("application/openmetrics-text; version=0.0.1"), Format::Prometheus),
            (Some("application/openmetrics-text; q=0"), Format::Prometheus),
            (Some("application/openmetrics-text; q=x;;,;="), Format::Prometheus),
            (Some(prometheus), Format::OpenMetrics),
        ];
        for (accept, format) in cases {
            assert_eq!(Format::wanted(accept), format, "{accept:?}");
        }
    }
}
