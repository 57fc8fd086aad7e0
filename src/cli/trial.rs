//! `tollgate reload --confirm` and `tollgate confirm`: a configuration on trial.

use std::path::Path;
use std::time::Duration;

use super::admin_client::{AdminSocket, call};
use super::output::write_out;
use super::running::socket_of;
use crate::api::TrialReport;
use anyhow::bail;

/// How often a trial is asked about.
const LOOKS: Duration = Duration::from_millis(500);

/// Waits for the end of the trial that was just begun, and says what was seen. Taken back is an error.
pub(super) fn follow(socket: &AdminSocket, hash: &str) -> anyhow::Result<()> {
    let mut said = false;
    loop {
        let (_, report): (_, TrialReport) = call(socket, "GET", "/api/v1/trial")?;
        if !said {
            said = true;
            write_out(&format!(
                "configuration {hash} is in force, on trial for {} s; `tollgate confirm` keeps it\n",
                report.span_seconds
            ))?;
        }
        // Another trial took the place of this one, which ended as replaced.
        let state = if report.config_hash == hash {
            &*report.state
        } else {
            "replaced"
        };
        match state {
            "running" => std::thread::sleep(LOOKS),
            "confirmed" => {
                return write_out(&format!(
                    "{}confirmed, configuration {hash}\n",
                    table(&report)
                ));
            }
            other => {
                write_out(&table(&report))?;
                let fallback = &report.fallback_hash;
                match other {
                    "worse" => bail!(
                        "taken back to configuration {fallback}, because it got clearly worse:\n  {}",
                        report.worse.join("\n  ")
                    ),
                    "expired" => {
                        bail!("taken back to configuration {fallback}: nobody confirmed it in time")
                    }
                    _ => bail!("another reload took its place"),
                }
            }
        }
    }
}

/// `tollgate confirm`.
pub(super) fn confirm(path: &Path) -> anyhow::Result<()> {
    let (_, report): (_, TrialReport) = call(&socket_of(path)?, "POST", "/api/v1/confirm")?;
    let hash = &report.config_hash;
    write_out(&format!(
        "{}confirmed, configuration {hash}\n",
        table(&report)
    ))
}

/// A line for `status`, while a configuration is on trial.
pub(super) fn status_line(report: &TrialReport) -> Option<String> {
    (report.state == "running").then(|| {
        format!(
            "on trial for {:.0} s more, then back to {}; `tollgate confirm` keeps it\n",
            report.left_seconds, report.fallback_hash
        )
    })
}

/// Each route in the minute before and since.
fn table(report: &TrialReport) -> String {
    if report.routes.is_empty() {
        return "no traffic was seen\n".to_owned();
    }
    let mut out = String::from(
        "ROUTE                           REQUESTS             5xx %          REFUSED %            p99 ms\n\
         \x20                            before   since    before   since    before   since    before   since\n",
    );
    for row in &report.routes {
        let (before, since) = (&row.before, &row.since);
        out.push_str(&format!(
            "{:<26} {:>8} {:>7}  {:>8.1} {:>7.1}  {:>8.1} {:>7.1}  {:>8.1} {:>7.1}\n",
            row.route,
            before.requests,
            since.requests,
            before.error_ratio * 100.0,
            since.error_ratio * 100.0,
            before.refusal_ratio * 100.0,
            since.refusal_ratio * 100.0,
            before.p99_ms,
            since.p99_ms,
        ));
    }
    out
}
