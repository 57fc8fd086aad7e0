//! A metric family while it is filled: its kind, help, and one value per set of labels.

use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};

use super::stats::{self, BUCKETS};

/// A family being filled.
pub(super) struct Family<S> {
    family: MetricFamily,
    metrics: Vec<Metric>,
    set: fn(&mut Metric, S),
}

impl<S> Family<S> {
    fn new(name: &str, help: &str, kind: MetricType, set: fn(&mut Metric, S)) -> Self {
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        Self {
            family,
            metrics: Vec::new(),
            set,
        }
    }

    pub(super) fn push(&mut self, labels: Vec<LabelPair>, value: S) {
        let mut metric = Metric::from_label(labels);
        (self.set)(&mut metric, value);
        self.metrics.push(metric);
    }

    pub(super) fn done(mut self) -> MetricFamily {
        self.family.set_metric(self.metrics);
        self.family
    }
}

pub(super) fn counter(name: &str, help: &str) -> Family<f64> {
    Family::new(name, help, MetricType::COUNTER, |metric, value| {
        let mut counter = Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    })
}

pub(super) fn gauge(name: &str, help: &str) -> Family<f64> {
    Family::new(name, help, MetricType::GAUGE, |metric, value| {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    })
}

pub(super) fn histogram(name: &str, help: &str) -> Family<Observed> {
    Family::new(
        name,
        help,
        MetricType::HISTOGRAM,
        |metric, (counts, sum): Observed| {
            let mut total = 0;
            let buckets = BUCKETS.iter().zip(counts).map(|(bound, count)| {
                total += count;
                let mut bucket = Bucket::default();
                bucket.set_upper_bound(*bound);
                bucket.set_cumulative_count(total);
                bucket
            });
            let mut histogram = Histogram::default();
            histogram.set_bucket(buckets.collect());
            histogram.set_sample_count(counts.iter().sum());
            histogram.set_sample_sum(sum);
            metric.set_histogram(histogram);
        },
    )
}

/// Counts per bucket, and the sum.
pub(super) type Observed = ([u64; BUCKETS.len() + 1], f64);

pub(super) fn observed(histogram: &stats::Histogram) -> Observed {
    (histogram.counts(), histogram.sum())
}

pub(super) fn labels(pairs: &[(&str, &str)]) -> Vec<LabelPair> {
    let pair = |(name, value): &(&str, &str)| {
        let mut label = LabelPair::default();
        label.set_name((*name).to_owned());
        label.set_value((*value).to_owned());
        label
    };
    pairs.iter().map(pair).collect()
}
