//! Talking to the running gateway through its admin socket.

use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::running::{AdminSocket, socket_of};
use super::{Shown, headroom, limits, overload, trial, write_out};
use crate::api::{
    BreakerStatus, Headroom, Info, LimitStatus, ReloadReport, RouteStatus, UpgradeReport,
    UpstreamStatus,
};
use crate::server;

/// Longest wait for an answer: a reload of a large configuration included.
const PATIENCE: Duration = Duration::from_secs(60);

/// `tollgate reload`: validates first, so that a bad file is reported here and never reaches the gateway. What the file
/// points to is opened by the gateway alone: its credentials and its environment are not those of whoever asks. With
/// `confirm` the configuration is on trial for so long.
pub(super) fn reload(path: &Path, confirm: Option<&str>) -> anyhow::Result<()> {
    let config = server::load(path)?.config;
    let target = match confirm {
        Some(span) => format!("/api/v1/reload?confirm={span}"),
        None => "/api/v1/reload".to_owned(),
    };
    let socket = AdminSocket::configured(config.server.runtime_dir);
    let (status, report): (_, ReloadReport) = call(&socket, "POST", &target)?;
    let hash = &report.config_hash;
    if status != 200 {
        let why = report.error.as_deref().unwrap_or("no reason given");
        bail!("the gateway kept its old configuration ({hash}):\n{why}");
    }
    let wanted = &config.hash;
    if hash != wanted {
        bail!(
            "the gateway reloaded another file: its hash is {hash}, that of {} is {wanted}",
            path.display()
        );
    }
    for key in &report.needs_upgrade {
        eprintln!("needs upgrade: {key} changed, which a reload cannot apply");
    }
    match confirm {
        Some(_) => trial::follow(&socket, hash),
        None => write_out(&format!("reloaded, configuration {hash}\n")),
    }
}

/// `tollgate upgrade`.
pub(super) fn upgrade(path: &Path) -> anyhow::Result<()> {
    // The file is checked by the program that is going to read it, which may know more than this one.
    let (status, report): (_, UpgradeReport) = call(&socket_of(path)?, "POST", "/api/v1/upgrade")?;
    let known = |text: Option<String>| text.unwrap_or_else(|| "unknown".to_owned());
    if status != 200 {
        bail!("the gateway goes on as it was:\n{}", known(report.error));
    }
    let (version, pid) = (known(report.version), report.pid);
    write_out(&format!(
        "upgraded, tollgate {version} serves as process {pid}\n"
    ))
}

/// `tollgate status`.
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
    out.push_str(&super::degrade::status_lines(&routes));
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
        out.push_str(&format!("  endpoints as known before: {why}\n"));
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

/// One request to the admin socket: status, and what the body says. A body that is not understood (the gateway may be of
/// another version) is told of, and says nothing.
pub(super) fn call<T: DeserializeOwned + Default>(
    socket: &AdminSocket,
    method: &str,
    path: &str,
) -> anyhow::Result<(u16, T)> {
    let (status, body) = exchange(socket, method, path, "")?;
    if !(200..300).contains(&status) && status != 422 {
        eprintln!("{}", body.trim());
        return Err(Shown.into());
    }
    let answer = serde_json::from_str(&body).unwrap_or_else(|error| {
        eprintln!("the answer to {method} {path} is not understood: {error}");
        T::default()
    });
    Ok((status, answer))
}

/// One request to the admin socket: status and body, whatever they are.
pub(super) fn exchange(
    socket: &AdminSocket,
    method: &str,
    path: &str,
    body: &str,
) -> anyhow::Result<(u16, String)> {
    let mut stream = socket.connect()?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: admin\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("the gateway's answer is cut short")?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .context("no status")?;
    Ok((status, body.to_owned()))
}
