//! The text of `tollgate status --headroom`.

use std::fmt::Write;

use crate::api::Headroom;

/// The estimate, or why there is none.
pub(super) fn render(headroom: &Headroom) -> String {
    let mut out = String::new();
    // Writing to memory cannot fail.
    let _ = write(headroom, &mut out);
    out
}

fn write(headroom: &Headroom, out: &mut String) -> std::fmt::Result {
    writeln!(out, "\nHEADROOM, from the last {:.0} s", headroom.seconds)?;
    let workers = &headroom.workers;
    writeln!(
        out,
        "  serving    {:.1} requests/s at {:.1} µs of CPU each, on {} workers and {:.1} processors",
        headroom.rate,
        headroom.cpu_us_per_request,
        workers.len(),
        headroom.processors,
    )?;
    for (index, worker) in workers.iter().enumerate() {
        writeln!(
            out,
            "  worker {index:<3} {:.1} % busy, late by {:.1} ms at worst{}",
            worker.busy * 100.0,
            worker.lag_ms,
            if headroom.busiest == Some(index) && workers.len() > 1 {
                "   (the busiest)"
            } else {
                ""
            }
        )?;
    }
    writeln!(
        out,
        "  process    {:.2} processors used, {:.2} idle",
        headroom.processors_used, headroom.processors_idle,
    )?;
    let [before, now] = &headroom.latency;
    writeln!(
        out,
        "  latency    p50 {:.1} ms, p99 {:.1} ms; before that {:.1} and {:.1}",
        now.p50_ms, now.p99_ms, before.p50_ms, before.p99_ms,
    )?;
    let Some(estimate) = &headroom.estimate else {
        let reasons = headroom.too_thin.join("; ");
        return writeln!(out, "  estimate   too thin to say: {reasons}");
    };
    let full = estimate.full * 100.0;
    let limit = match &*estimate.limit {
        "worker" => format!(
            "worker {} is {full:.0} % busy",
            headroom.busiest.unwrap_or_default()
        ),
        "processors" => format!("{full:.0} % of the processors it may use are busy"),
        _ => format!("{full:.0} % of the processors are busy with all that runs here"),
    };
    writeln!(
        out,
        "  estimate   about {} requests/s more until {limit}",
        rounded(estimate.more)
    )?;
    if workers.len() > 1 {
        writeln!(
            out,
            "             {} if the workers had equal shares",
            rounded(estimate.more_if_even)
        )?;
    }
    writeln!(out, "  assumes    {}", estimate.assumes)
}

/// Two digits that count: an estimate has no more.
fn rounded(value: f64) -> String {
    if value < 10.0 {
        return format!("{value:.0}");
    }
    let step = 10f64.powf(value.log10().floor() - 1.0);
    format!("{:.0}", (value / step).round() * step)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn seen() -> Headroom {
        let seen = json!({
            "seconds": 60.0, "requests": 60000, "rate": 1000.0, "cpu_us_per_request": 500.0, "processors": 2.0,
            "processors_used": 0.5, "processors_idle": 1.5, "busiest": 1, "too_thin": [],
            "workers": [{ "busy": 0.1, "lag_ms": 1.0 }, { "busy": 0.4, "lag_ms": 6.0 }],
            "latency": [{ "p50_ms": 4.0, "p99_ms": 5.0 }, { "p50_ms": 4.5, "p99_ms": 9.0 }],
            "estimate": { "more": 1049.0, "more_if_even": 2200.0, "limit": "worker", "full": 0.8, "assumes": "the same" },
        });
        serde_json::from_value(seen).expect("headroom")
    }

    #[test]
    fn names_the_worker_that_is_the_limit() {
        let text = render(&seen());
        for line in [
            "1000.0 requests/s at 500.0 µs of CPU each, on 2 workers and 2.0 processors",
            "worker 1   40.0 % busy, late by 6.0 ms at worst   (the busiest)",
            "p50 4.5 ms, p99 9.0 ms; before that 4.0 and 5.0",
            "about 1000 requests/s more until worker 1 is 80 % busy",
            "2200 if the workers had equal shares",
            "assumes    the same",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }

    #[test]
    fn says_why_there_is_no_estimate() {
        let mut seen = seen();
        seen.estimate = None;
        seen.too_thin = ["one", "two"].map(str::to_owned).to_vec();
        let text = render(&seen);
        assert!(text.contains("too thin to say: one; two"), "{text}");
        assert!(!text.contains("requests/s more"), "{text}");
    }

    #[test]
    fn rounds_to_two_digits() {
        for (value, wanted) in [
            (0.0, "0"),
            (7.2, "7"),
            (45.4, "45"),
            (45_449.0, "45000"),
            (996.0, "1000"),
        ] {
            assert_eq!(rounded(value), wanted);
        }
    }
}
