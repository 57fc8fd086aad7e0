//! `tollgate status`.

use std::path::Path;

use serde_json::Value;

use super::admin_client::{AdminSocket, call};
use super::output::write_out;
use super::running::socket_of;
use super::{degrade, headroom, limits, overload, trial};
use crate::api::{BreakerStatus, Headroom, Info, LimitStatus, RouteStatus, UpstreamStatus};

/// Shows what the gateway does, as a text or as JSON.
pub(super) fn status(path: &Path, headroom: bool, json: bool) -> anyhow::Result<()> {
    let socket = socket_of(path)?;
    if json {
        return write_out(&format!("{:#}\n", everything(&socket, headroom)?));
    }
    let (_, info): (_, Info) = call(&socket, "GET", "/info")?;
    let (_, routes): (_, Vec<RouteStatus>) = call(&socket, "GET", "/api/v1/routes")?;
    let (_, upstreams): (_, Vec<UpstreamStatus>) = call(&socket, "GET", "/api/v1/upstreams")?;
    // A gateway from before there was this page is asked in vain, and shows the rest.
    let decided = call(&socket, "GET", "/api/v1/limits");
    let decided: Vec<LimitStatus> = decided.map(|(_, limits)| limits).unwrap_or_default();
    let headroom: Option<Headroom> = match headroom {
        true => Some(call(&socket, "GET", "/api/v1/headroom")?.1),
        false => None,
    };
    let mut out = render(&info);
    limits::maintenance(&routes, &mut out);
    if let Some(headroom) = &headroom {
        out.push_str(&headroom::render(headroom));
    }
    render_tables(&routes, &upstreams, &mut out);
    limits::render(&decided, &mut out);
    out.push_str(&degrade::status_lines(&routes));
    write_out(&out)
}

/// Every page in one value, as the gateway wrote them: fields that only a newer one has are passed on.
fn everything(socket: &AdminSocket, headroom: bool) -> anyhow::Result<Value> {
    let (_, mut all): (_, Value) = call(socket, "GET", "/info")?;
    for page in ["routes", "upstreams", "limits", "headroom"] {
        let answer = match page {
            "headroom" if !headroom => continue,
            // A gateway from before there was this page is asked in vain.
            "limits" => call(socket, "GET", "/api/v1/limits").unwrap_or_default(),
            page => call(socket, "GET", &format!("/api/v1/{page}"))?,
        };
        all[page] = answer.1;
    }
    Ok(all)
}

fn render(info: &Info) -> String {
    let mut out = format!(
        "tollgate {} ({}), pid {}, up {} s, {}\nconfiguration {}, {} in flight on {} connections\n",
        info.version,
        info.commit,
        info.pid,
        info.uptime_seconds,
        match &info.not_ready {
            None => "ready".to_owned(),
            Some(why) => format!("not ready ({why})"),
        },
        info.config_hash.as_deref().unwrap_or("null"),
        info.in_flight,
        info.connections,
    );
    if let Some(line) = overload::status_line(&info.overload) {
        out.push_str(&line);
    }
    if let Some(buffer) = &info.auth_buffer {
        out.push_str(&format!(
            "{} of {} bytes of server.auth_buffer taken, {} bodies refused since the start\n",
            buffer.bytes, buffer.most, buffer.refused
        ));
    }
    if let Some(line) = info.trial.as_ref().and_then(trial::status_line) {
        out.push_str(&line);
    }
    if let Some(reload) = &info.last_reload {
        out.push_str(&format!("last reload {} at {}\n", reload.result, reload.at));
        if let Some(error) = &reload.error {
            out.push_str(&format!("  {}\n", error.replace('\n', "\n  ")));
        }
    }
    for certificate in info.certificates.iter().flatten() {
        let left = match certificate.days_left {
            days @ ..0 => format!("expired {} days ago", -days),
            days => format!("{days} days left"),
        };
        out.push_str(&format!(
            "certificate {} on {}: {left}\n",
            certificate.name, certificate.listener,
        ));
    }
    render_upgrade(info, &mut out);
    out
}

/// Of an upgrade only a failure is left to be told: after the others another process is asked.
fn render_upgrade(info: &Info, out: &mut String) {
    let Some(upgrade) = &info.last_upgrade else {
        return;
    };
    if let Some(error) = &upgrade.error {
        let error = error.replace('\n', "\n  ");
        out.push_str(&format!(
            "last upgrade failed at {}\n  {error}\n",
            upgrade.at
        ));
    }
}

fn render_tables(routes: &[RouteStatus], upstreams: &[UpstreamStatus], out: &mut String) {
    out.push_str("\nROUTE                          IN-FLIGHT  REQ/S 10s  5xx 10s   p50 ms   p99 ms  REQ/S 5m\n");
    for status in routes {
        let (short, long) = (&status.windows.last_10s, &status.windows.last_5m);
        out.push_str(&format!(
            "{:<30} {:>9} {:>10.1} {:>7.2}% {:>8.1} {:>8.1} {:>9.1}\n",
            status.route.id,
            status.in_flight,
            short.rate,
            short.error_ratio * 100.0,
            short.p50_ms,
            short.p99_ms,
            long.rate,
        ));
    }
    upstreams
        .iter()
        .for_each(|upstream| render_upstream(upstream, out));
}

fn render_upstream(upstream: &UpstreamStatus, out: &mut String) {
    out.push_str(&format!(
        "\nUPSTREAM {}  {}\n",
        upstream.name, upstream.balance
    ));
    if let Some(why) = &upstream.discovery_error {
        let known = match upstream.endpoints.is_empty() {
            true => "no endpoint is known",
            false => "endpoints as known before",
        };
        out.push_str(&format!("  {known}: {why}\n"));
    }
    if let Some(places) = &upstream.concurrency {
        out.push_str(&overload::places_line(places));
    }
    if let Some(after) = upstream.hedge_after_ms.flatten() {
        out.push_str(&format!("  asks another endpoint after {after:.1} ms\n"));
    }
    if let Some(breaker) = &upstream.breaker {
        out.push_str(&format!("  {}\n", render_breaker(breaker)));
    }
    for endpoint in &upstream.endpoints {
        let backup = if endpoint.backup { " backup" } else { "" };
        let now = match f64::from(endpoint.weight) == endpoint.effective_weight {
            true => String::new(),
            false => format!(", now {:?}", endpoint.effective_weight),
        };
        out.push_str(&format!(
            "  {:<28} {:<8} weight {}{now}{backup}\n",
            endpoint.endpoint, endpoint.state, endpoint.weight
        ));
        for why in &endpoint.why {
            out.push_str(&format!("    {why}\n"));
        }
    }
}

fn render_breaker(breaker: &BreakerStatus) -> String {
    let left = match breaker.open_for_ms {
        0 => String::new(),
        left => format!(", {:.1} s left", left as f64 / 1000.0),
    };
    format!(
        "breaker {}{left}: {} of {} calls failed, {} slow",
        breaker.state, breaker.failed, breaker.calls, breaker.slow
    )
}
