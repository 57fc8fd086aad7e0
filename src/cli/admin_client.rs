//! Talking to the running gateway through its admin socket.

use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;

use super::running::{AdminSocket, socket_of};
use super::{Shown, headroom, limits, overload, trial, write_out};
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
    let (status, answer) = call(&socket, "POST", &target)?;
    let hash = answer["config_hash"].as_str().unwrap_or_default();
    if status != 200 {
        let why = answer["error"].as_str().unwrap_or("no reason given");
        bail!("the gateway kept its old configuration ({hash}):\n{why}");
    }
    let wanted = &config.hash;
    if hash != wanted {
        bail!(
            "the gateway reloaded another file: its hash is {hash}, that of {} is {wanted}",
            path.display()
        );
    }
    for key in answer["needs_upgrade"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
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
    let (status, answer) = call(&socket_of(path)?, "POST", "/api/v1/upgrade")?;
    let text = |key: &str| answer[key].as_str().unwrap_or("unknown").to_owned();
    if status != 200 {
        bail!("the gateway goes on as it was:\n{}", text("error"));
    }
    let (version, pid) = (text("version"), &answer["pid"]);
    write_out(&format!(
        "upgraded, tollgate {version} serves as process {pid}\n"
    ))
}

/// `tollgate status`.
pub(super) fn status(path: &Path, headroom: bool, json: bool) -> anyhow::Result<()> {
    let socket = socket_of(path)?;
    let (_, info) = call(&socket, "GET", "/info")?;
    let (_, routes) = call(&socket, "GET", "/api/v1/routes")?;
    let (_, upstreams) = call(&socket, "GET", "/api/v1/upstreams")?;
    // A gateway from before there was this page is asked in vain, and shows the rest.
    let decided = call(&socket, "GET", "/api/v1/limits");
    let decided = decided.map(|(_, limits)| limits).unwrap_or_default();
    let headroom = match headroom {
        true => Some(call(&socket, "GET", "/api/v1/headroom")?.1),
        false => None,
    };
    if json {
        let mut all = info;
        all["routes"] = routes;
        all["upstreams"] = upstreams;
        all["limits"] = decided;
        if let Some(headroom) = headroom {
            all["headroom"] = headroom;
        }
        return write_out(&format!("{all:#}\n"));
    }
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

pub(super) fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn render(info: &Value) -> String {
    let mut out = format!(
        "tollgate {} ({}), pid {}, up {} s, {}\nconfiguration {}, {} in flight on {} connections\n",
        text(&info["version"]),
        text(&info["commit"]),
        info["pid"],
        info["uptime_seconds"],
        match info["not_ready"].as_str() {
            None => "ready".to_owned(),
            Some(why) => format!("not ready ({why})"),
        },
        text(&info["config_hash"]),
        info["in_flight"],
        info["connections"],
    );
    if let Some(line) = overload::status_line(&info["overload"]) {
        out.push_str(&line);
    }
    if let Some(most) = info["auth_buffer"]["most"].as_u64() {
        let (bytes, refused) = (
            &info["auth_buffer"]["bytes"],
            &info["auth_buffer"]["refused"],
        );
        out.push_str(&format!(
            "{bytes} of {most} bytes of server.auth_buffer taken, {refused} bodies refused since the start\n"
        ));
    }
    if let Some(line) = trial::status_line(&info["trial"]) {
        out.push_str(&line);
    }
    if let Some(reload) = info["last_reload"].as_object() {
        out.push_str(&format!(
            "last reload {} at {}\n",
            text(&reload["result"]),
            text(&reload["at"])
        ));
        if let Some(error) = reload["error"].as_str() {
            out.push_str(&format!("  {}\n", error.replace('\n', "\n  ")));
        }
    }
    for certificate in info["certificates"].as_array().into_iter().flatten() {
        let days = certificate["days_left"].as_i64().unwrap_or_default();
        let left = match days {
            ..0 => format!("expired {} days ago", -days),
            _ => format!("{days} days left"),
        };
        out.push_str(&format!(
            "certificate {} on {}: {left}\n",
            text(&certificate["name"]),
            text(&certificate["listener"]),
        ));
    }
    render_upgrade(info, &mut out);
    out
}

/// Of an upgrade only a failure is left to be told: after the others another process is asked.
fn render_upgrade(info: &Value, out: &mut String) {
    if let Some(error) = info["last_upgrade"]["error"].as_str() {
        let (at, error) = (
            text(&info["last_upgrade"]["at"]),
            error.replace('\n', "\n  "),
        );
        out.push_str(&format!("last upgrade failed at {at}\n  {error}\n"));
    }
}

fn render_tables(routes: &Value, upstreams: &Value, out: &mut String) {
    out.push_str("\nROUTE                          IN-FLIGHT  REQ/S 10s  5xx 10s   p50 ms   p99 ms  REQ/S 5m\n");
    for route in routes.as_array().into_iter().flatten() {
        let (short, long) = (&route["last_10s"], &route["last_5m"]);
        let number = |value: &Value| value.as_f64().unwrap_or_default();
        out.push_str(&format!(
            "{:<30} {:>9} {:>10.1} {:>7.2}% {:>8.1} {:>8.1} {:>9.1}\n",
            text(&route["id"]),
            route["in_flight"].as_u64().unwrap_or_default(),
            number(&short["rate"]),
            number(&short["error_ratio"]) * 100.0,
            number(&short["p50_ms"]),
            number(&short["p99_ms"]),
            number(&long["rate"]),
        ));
    }
    for upstream in upstreams.as_array().into_iter().flatten() {
        out.push_str(&format!(
            "\nUPSTREAM {}  {}\n",
            text(&upstream["name"]),
            text(&upstream["balance"])
        ));
        if let Some(why) = upstream["discovery_error"].as_str() {
            out.push_str(&format!("  endpoints as known before: {why}\n"));
        }
        if let Some(line) = overload::places_line(&upstream["concurrency"]) {
            out.push_str(&line);
        }
        if let Some(after) = upstream["hedge_after_ms"].as_f64() {
            out.push_str(&format!("  asks another endpoint after {after:.1} ms\n"));
        }
        if let Some(breaker) = upstream.get("breaker") {
            out.push_str(&format!("  {}\n", render_breaker(breaker)));
        }
        for endpoint in upstream["endpoints"].as_array().into_iter().flatten() {
            let backup = if endpoint["backup"] == true {
                " backup"
            } else {
                ""
            };
            let (name, state) = (text(&endpoint["endpoint"]), text(&endpoint["state"]));
            let (weight, now) = (&endpoint["weight"], &endpoint["effective_weight"]);
            let now = match weight.as_f64() == now.as_f64() {
                true => String::new(),
                false => format!(", now {now}"),
            };
            out.push_str(&format!(
                "  {name:<28} {state:<8} weight {weight}{now}{backup}\n"
            ));
            for why in endpoint["why"].as_array().into_iter().flatten() {
                out.push_str(&format!("    {}\n", text(why)));
            }
        }
    }
}

fn render_breaker(breaker: &Value) -> String {
    let left = breaker["open_for_ms"].as_f64().unwrap_or_default() / 1000.0;
    let left = if left > 0.0 {
        format!(", {left:.1} s left")
    } else {
        String::new()
    };
    format!(
        "breaker {}{left}: {} of {} calls failed, {} slow",
        text(&breaker["state"]),
        breaker["failed"],
        breaker["calls"],
        breaker["slow"]
    )
}

/// One request to the admin socket: status and JSON body.
pub(super) fn call(socket: &AdminSocket, method: &str, path: &str) -> anyhow::Result<(u16, Value)> {
    let (status, body) = exchange(socket, method, path, "")?;
    if !(200..300).contains(&status) && status != 422 {
        eprintln!("{}", body.trim());
        return Err(Shown.into());
    }
    Ok((status, serde_json::from_str(&body).unwrap_or_default()))
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
