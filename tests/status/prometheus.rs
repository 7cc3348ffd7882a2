//! A strict reader of Prometheus' text format: what it does not know is wrong.
//! It also holds names to Prometheus' conventions, as `promtool check metrics` does.

use std::collections::{BTreeMap, HashMap, HashSet};

/// The samples by their name and labels as written.
#[derive(Debug, Default)]
pub struct Samples {
    values: HashMap<String, f64>,
    families: HashSet<String>,
}

struct Family<'t> {
    name: &'t str,
    kind: &'t str,
    /// Of a histogram, by its labels without `le`.
    histograms: BTreeMap<String, Histogram>,
}

#[derive(Default)]
struct Histogram {
    buckets: Vec<(f64, f64)>,
    sum: Option<f64>,
    count: Option<f64>,
}

impl Samples {
    /// The value of a sample, `name{label="value"}`.
    ///
    /// # Panics
    ///
    /// Where there is none.
    pub fn get(&self, sample: &str) -> f64 {
        let value = self.values.get(sample);
        *value.unwrap_or_else(|| panic!("no sample {sample} in {:#?}", self.values))
    }

    pub fn has_family(&self, name: &str) -> bool {
        self.families.contains(name)
    }

    /// Reads all of `text`; an error names the line.
    pub fn read(text: &str) -> Result<Self, String> {
        let mut samples = Self::default();
        let mut family: Option<Family<'_>> = None;
        let mut helped = None;
        if !text.ends_with('\n') {
            return Err("the last line is not ended".into());
        }
        for line in text.lines() {
            let at = |problem: &str| format!("{problem}: {line}");
            if let Some(rest) = line.strip_prefix("# HELP ") {
                finish(family.take())?;
                let (name, help) = rest.split_once(' ').ok_or_else(|| at("no help"))?;
                if help.trim() != help || help.is_empty() {
                    return Err(at("help that is none"));
                }
                helped = Some(name);
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').ok_or_else(|| at("no type"))?;
                check_name(name, kind).map_err(|problem| at(&problem))?;
                if helped.take() != Some(name) {
                    return Err(at("no help above"));
                }
                if !samples.families.insert(name.to_owned()) {
                    return Err(at("a family twice"));
                }
                family = Some(Family {
                    name,
                    kind,
                    histograms: BTreeMap::new(),
                });
            } else {
                let family = family.as_mut().ok_or_else(|| at("no type above"))?;
                let (key, value) = family.sample(line).map_err(|problem| at(&problem))?;
                if samples.values.insert(key, value).is_some() {
                    return Err(at("a sample twice"));
                }
            }
        }
        finish(family)?;
        Ok(samples)
    }
}

impl Family<'_> {
    fn sample(&mut self, line: &str) -> Result<(String, f64), String> {
        let (key, value) = line.rsplit_once(' ').ok_or("no value")?;
        let value: f64 = value.parse().map_err(|_| "not a number")?;
        if !value.is_finite() || (self.kind != "gauge" && value < 0.0) {
            return Err("a value that cannot be".into());
        }
        let (name, labels) = match key.split_once('{') {
            Some((name, rest)) => (name, labels(rest)?),
            None => (key, Vec::new()),
        };
        let suffix = name.strip_prefix(self.name).ok_or("of another family")?;
        if self.kind != "histogram" {
            return match suffix {
                "" => Ok((key.to_owned(), value)),
                _ => Err("of another family".into()),
            };
        }
        let (le, others): (Vec<_>, Vec<_>) = labels.into_iter().partition(|(name, _)| name == "le");
        let histogram = self.histograms.entry(format!("{others:?}")).or_default();
        match (suffix, le.as_slice()) {
            ("_bucket", [(_, le)]) => {
                let bound = match le.as_str() {
                    "+Inf" => f64::INFINITY,
                    le => le.parse().map_err(|_| "a bound that is no number")?,
                };
                histogram.buckets.push((bound, value));
            }
            ("_sum", []) => histogram.sum = Some(value),
            ("_count", []) => histogram.count = Some(value),
            _ => return Err("no part of a histogram".into()),
        }
        Ok((key.to_owned(), value))
    }
}

fn finish(family: Option<Family<'_>>) -> Result<(), String> {
    let Some(family) = family else {
        return Ok(());
    };
    for (labels, histogram) in &family.histograms {
        let rises = histogram
            .buckets
            .is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1);
        let (last, count) = histogram
            .buckets
            .last()
            .copied()
            .ok_or_else(|| format!("{} {labels}: no buckets", family.name))?;
        if !rises || last != f64::INFINITY || Some(count) != histogram.count {
            return Err(format!("{} {labels}: the buckets are wrong", family.name));
        }
        if histogram.sum.is_none() {
            return Err(format!("{} {labels}: no sum", family.name));
        }
    }
    Ok(())
}

fn check_name(name: &str, kind: &str) -> Result<(), String> {
    if !is_identifier(name) {
        return Err("not a name".into());
    }
    if !["counter", "gauge", "histogram"].contains(&kind) {
        return Err("not a type".into());
    }
    if (kind == "counter") != name.ends_with("_total") {
        return Err("counters, and only they, end with _total".into());
    }
    if !name.starts_with("zeod_") && !name.starts_with("process_") {
        return Err("not ours".into());
    }
    let bad = ["_bucket", "_sum", "_count", "_info_total"];
    if bad.iter().any(|suffix| name.ends_with(suffix)) {
        return Err("a reserved end".into());
    }
    let odd = [
        "milliseconds",
        "ms",
        "minutes",
        "kilobytes",
        "kb",
        "mb",
        "percent",
        "gauge",
        "counter",
        "histogram",
    ];
    match name.split('_').find(|word| odd.contains(word)) {
        Some(word) => Err(format!("{word:?} is no base unit, or says the type")),
        None => Ok(()),
    }
}

fn is_identifier(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The labels in `a="b",c="d"}`, unescaped.
fn labels(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut labels: Vec<(String, String)> = Vec::new();
    let mut rest = text;
    loop {
        let (name, value) = rest.split_once("=\"").ok_or("no label's value")?;
        if !is_identifier(name) || labels.iter().any(|(other, _)| other == name) {
            return Err("a label's name".into());
        }
        let mut unescaped = String::new();
        let mut chars = value.char_indices();
        let end = loop {
            match chars.next().ok_or("a label without end")? {
                (end, '"') => break end,
                (_, '\\') => match chars.next().ok_or("a label without end")?.1 {
                    'n' => unescaped.push('\n'),
                    c @ ('\\' | '"') => unescaped.push(c),
                    _ => return Err("an unknown escape".into()),
                },
                (_, c) => unescaped.push(c),
            }
        };
        labels.push((name.to_owned(), unescaped));
        rest = &value[end + 1..];
        if rest == "}" {
            return Ok(labels);
        }
        rest = rest.strip_prefix(',').ok_or("no comma")?;
    }
}

#[test]
fn the_reader_refuses_what_is_wrong() {
    let head = "# HELP zeod_a_total A.\n# TYPE zeod_a_total counter\n";
    assert!(Samples::read(&format!("{head}zeod_a_total{{x=\"a\\\"}} ,\"}} 1\n")).is_ok());
    for wrong in [
        "zeod_a_total -1\n",
        "zeod_a_total NaN\n",
        "zeod_a_total 1",
        "zeod_b_total 1\n",
        "zeod_a_total 1\nzeod_a_total 2\n",
        "zeod_a_total{x=\"a\n\"} 1\n",
        "zeod_a_total{x=\"a\\x\"} 1\n",
        "zeod_a_total{x=\"a\" y=\"b\"} 1\n",
    ] {
        assert!(Samples::read(&format!("{head}{wrong}")).is_err(), "{wrong}");
    }
    let head = "# HELP zeod_h_seconds A.\n# TYPE zeod_h_seconds histogram\n";
    let histogram = |a, b, count| {
        format!(
            "{head}zeod_h_seconds_bucket{{le=\"1\"}} {a}\n\
             zeod_h_seconds_bucket{{le=\"+Inf\"}} {b}\nzeod_h_seconds_sum 1\n\
             zeod_h_seconds_count {count}\n"
        )
    };
    assert!(Samples::read(&histogram(1, 2, 2)).is_ok());
    assert!(Samples::read(&histogram(3, 2, 2)).is_err());
    assert!(Samples::read(&histogram(1, 2, 3)).is_err());
    assert!(Samples::read("# TYPE zeod_a gauge\nzeod_a 1\n").is_err());
}
