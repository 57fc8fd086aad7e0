//! `tollgate reload --confirm` and `tollgate confirm`: a configuration on trial.

use std::path::Path;
use std::time::Duration;

use anyhow::bail;
use serde_json::Value;

use super::admin_client::{call, text};
use super::running::{AdminSocket, socket_of};
use super::write_out;

/// How often a trial is asked about.
const LOOKS: Duration = Duration::from_millis(500);

/// Waits for the end of the trial that was just begun, and says what was seen. Taken back is an error.
pub(super) fn follow(socket: &AdminSocket, hash: &str) -> anyhow::Result<()> {
    let mut said = false;
    loop {
        let (_, report) = call(socket, "GET", "/api/v1/trial")?;
        if !said {
            said = true;
            write_out(&format!(
                "configuration {hash} is in force, on trial for {} s; `tollgate confirm` keeps it\n",
                report["span_seconds"]
            ))?;
        }
        // Another trial took the place of this one, which ended as replaced.
        let state = if report["config_hash"] == hash {
            text(&report["state"])
        } else {
            "replaced".to_owned()
        };
        match &*state {
            "running" => std::thread::sleep(LOOKS),
            "confirmed" => {
                return write_out(&format!(
                    "{}confirmed, configuration {hash}\n",
                    table(&report)
                ));
            }
            other => {
                write_out(&table(&report))?;
                let fallback = text(&report["fallback_hash"]);
                match other {
                    "worse" => bail!(
                        "taken back to configuration {fallback}, because it got clearly worse:\n  {}",
                        worse(&report).join("\n  ")
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
    let (_, report) = call(&socket_of(path)?, "POST", "/api/v1/confirm")?;
    let hash = text(&report["config_hash"]);
    write_out(&format!(
        "{}confirmed, configuration {hash}\n",
        table(&report)
    ))
}

/// A line for `status`, while a configuration is on trial.
pub(super) fn status_line(report: &Value) -> Option<String> {
    (report["state"] == "running").then(|| {
        format!(
            "on trial for {:.0} s more, then back to {}; `tollgate confirm` keeps it\n",
            report["left_seconds"].as_f64().unwrap_or_default(),
            text(&report["fallback_hash"])
        )
    })
}

fn worse(report: &Value) -> Vec<String> {
    let found = report["worse"].as_array().into_iter().flatten();
    found.map(text).collect()
}

/// Each route in the minute before and since.
fn table(report: &Value) -> String {
    let rows = report["routes"].as_array().into_iter().flatten();
    let rows: Vec<&Value> = rows.collect();
    if rows.is_empty() {
        return "no traffic was seen\n".to_owned();
    }
    let mut out = String::from(
        "ROUTE                           REQUESTS             5xx %          REFUSED %            p99 ms\n\
         \x20                            before   since    before   since    before   since    before   since\n",
    );
    for row in rows {
        let pair = |key: &str, factor: f64| {
            [&row["before"], &row["since"]]
                .map(|side| side[key].as_f64().unwrap_or_default() * factor)
        };
        let [requests, errors, refusals, p99] = [
            pair("requests", 1.0),
            pair("error_ratio", 100.0),
            pair("refusal_ratio", 100.0),
            pair("p99_ms", 1.0),
        ];
        out.push_str(&format!(
            "{:<26} {:>8.0} {:>7.0}  {:>8.1} {:>7.1}  {:>8.1} {:>7.1}  {:>8.1} {:>7.1}\n",
            text(&row["route"]),
            requests[0],
            requests[1],
            errors[0],
            errors[1],
            refusals[0],
            refusals[1],
            p99[0],
            p99[1],
        ));
    }
    out
}
