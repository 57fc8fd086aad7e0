//! The Prometheus text format, read back.

use std::collections::BTreeMap;

/// One line of it.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

/// One scrape.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) samples: Vec<Sample>,
    /// `# TYPE` lines.
    pub(crate) kinds: BTreeMap<String, String>,
    /// Names with a `# HELP` line.
    pub(crate) helped: Vec<String>,
}

impl Metrics {
    pub(crate) fn parse(text: &str) -> Self {
        let mut metrics = Self::default();
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                metrics.kinds.insert(name.to_owned(), kind.to_owned());
            } else if let Some(rest) = line.strip_prefix("# HELP ") {
                metrics
                    .helped
                    .push(rest.split(' ').next().unwrap().to_owned());
            } else if !line.starts_with('#') {
                metrics.samples.push(sample(line));
            }
        }
        metrics
    }

    /// The sum of all series of `name` that carry these labels.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.matching(name, labels).map(|s| s.value).sum()
    }

    pub(crate) fn has(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        self.matching(name, labels).next().is_some()
    }

    pub(crate) fn matching(
        &self,
        name: &str,
        labels: &[(&str, &str)],
    ) -> impl Iterator<Item = &Sample> {
        self.samples
            .iter()
            .filter(move |s| s.name == name)
            .filter(move |s| {
                labels
                    .iter()
                    .all(|(k, v)| s.labels.get(*k).is_some_and(|found| found == v))
            })
    }

    /// The label names of `name`, without those a histogram adds.
    pub(crate) fn label_names(&self, name: &str) -> Vec<String> {
        let samples = [name.to_owned(), format!("{name}_count")];
        let found = self.samples.iter().find(|s| samples.contains(&s.name));
        found
            .map(|s| s.labels.keys().cloned().collect())
            .unwrap_or_default()
    }
}

fn sample(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').unwrap();
    let (name, labels) = match series.split_once('{') {
        None => (series, BTreeMap::new()),
        Some((name, rest)) => (name, label_pairs(rest.strip_suffix('}').unwrap())),
    };
    Sample {
        name: name.to_owned(),
        labels,
        value: value.parse().unwrap(),
    }
}

fn label_pairs(mut text: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    while let Some((name, rest)) = text.split_once("=\"") {
        let mut value = String::new();
        let mut chars = rest.char_indices();
        let end = loop {
            match chars.next().unwrap() {
                (at, '"') => break at,
                (_, '\\') => match chars.next().unwrap().1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, c) => value.push(c),
            }
        };
        labels.insert(name.trim_start_matches(',').to_owned(), value);
        text = &rest[end + 1..];
    }
    labels
}
