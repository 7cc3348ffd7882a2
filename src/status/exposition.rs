use std::fmt::{self, Write};
use std::time::Duration;

use crate::stats::Observed;

/// Writes Prometheus' text format, version 0.0.4. Source: prometheus.io, "Exposition formats".
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
    /// The family whose samples are being written.
    family: &'static str,
}

/// What a family of samples is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only goes up.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Values in buckets.
    Histogram,
}

/// A sample's value.
#[derive(Clone, Copy, Debug)]
pub enum Number {
    /// A count.
    Count(u64),
    /// A measure; never infinite.
    Measure(f64),
}

/// What the values of a histogram are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Nanoseconds, which are written as seconds.
    Time,
    /// Things.
    Count,
}

/// A label's name and value.
pub type Label<'a> = (&'static str, &'a str);

impl From<u64> for Number {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

impl From<f64> for Number {
    fn from(measure: f64) -> Self {
        Self::Measure(measure)
    }
}

impl From<bool> for Number {
    fn from(yes: bool) -> Self {
        Self::Count(u64::from(yes))
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => count.fmt(f),
            Self::Measure(measure) => measure.fmt(f),
        }
    }
}

impl Unit {
    fn of(self, value: u64) -> Number {
        match self {
            Self::Time => Number::Measure(Duration::from_nanos(value).as_secs_f64()),
            Self::Count => Number::Count(value),
        }
    }
}

impl Exposition {
    /// Begins a family; its samples follow.
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        self.family = name;
        self.put(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    /// A sample of the family.
    pub fn sample(&mut self, labels: &[Label<'_>], value: impl Into<Number>) {
        self.line("", labels, None, value.into());
    }

    /// The samples of a histogram of the family.
    pub fn histogram(&mut self, labels: &[Label<'_>], unit: Unit, observed: &Observed) {
        for &(bound, count) in &observed.up_to {
            let bound = unit.of(bound).to_string();
            self.line("_bucket", labels, Some(&bound), count.into());
        }
        self.line("_bucket", labels, Some("+Inf"), observed.count.into());
        self.line("_sum", labels, None, unit.of(observed.sum));
        self.line("_count", labels, None, observed.count.into());
    }

    /// All that was written.
    pub fn into_text(self) -> String {
        self.text
    }

    fn line(&mut self, suffix: &str, labels: &[Label<'_>], bound: Option<&str>, value: Number) {
        let family = self.family;
        self.put(format_args!("{family}{suffix}"));
        let labels = labels
            .iter()
            .copied()
            .chain(bound.map(|bound| ("le", bound)));
        let mut before = '{';
        for (name, value) in labels {
            self.put(format_args!("{before}{name}=\"{}\"", Escaped(value)));
            before = ',';
        }
        let end = if before == '{' { "" } else { "}" };
        self.put(format_args!("{end} {value}\n"));
    }

    fn put(&mut self, arguments: fmt::Arguments<'_>) {
        // Writing to a String does not fail.
        let _ = self.text.write_fmt(arguments);
    }
}

/// A label's value as it stands between quotes.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_stand_below_what_they_are() {
        let mut exposition = Exposition::default();
        exposition.family("a_total", Kind::Counter, "All\nof \\ them.");
        exposition.sample(&[], 7_u64);
        exposition.sample(&[("b", "c"), ("d", "quote \" back \\ new\nline ü")], 0.25);
        assert_eq!(
            exposition.into_text(),
            "# HELP a_total All\\nof \\\\ them.\n# TYPE a_total counter\na_total 7\n\
             a_total{b=\"c\",d=\"quote \\\" back \\\\ new\\nline ü\"} 0.25\n"
        );
    }

    #[test]
    fn a_histogram_has_its_buckets_sum_and_count() {
        let observed = Observed {
            up_to: vec![(1_000, 1), (2_500_000_000, 3)],
            count: 4,
            sum: 12_000_000_000,
        };
        let mut exposition = Exposition::default();
        exposition.family("t_seconds", Kind::Histogram, "Time.");
        exposition.histogram(&[("x", "y")], Unit::Time, &observed);
        assert_eq!(
            exposition.into_text(),
            "# HELP t_seconds Time.\n# TYPE t_seconds histogram\n\
             t_seconds_bucket{x=\"y\",le=\"0.000001\"} 1\n\
             t_seconds_bucket{x=\"y\",le=\"2.5\"} 3\n\
             t_seconds_bucket{x=\"y\",le=\"+Inf\"} 4\n\
             t_seconds_sum{x=\"y\"} 12\nt_seconds_count{x=\"y\"} 4\n"
        );
    }
}
