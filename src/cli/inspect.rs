//! Looking at a configuration without a running gateway: `routes`, `config show`, `explain`.

use std::path::Path;

use anyhow::anyhow;
use serde_json::Value;

use super::args;
use super::write_out;
use crate::config;
use crate::gateway::{self, Question};
use crate::server::{self, Offline};

/// `tollgate routes`.
pub(super) fn routes(path: &Path, json: bool) -> anyhow::Result<()> {
    let offline = Offline::open(path)?;
    super::degrade::learn(path, &offline);
    let Offline { snapshot, state } = offline;
    let routes: Vec<Value> = snapshot
        .table
        .in_match_order()
        .into_iter()
        .map(|index| {
            let (config, route) = (&snapshot.table.routes()[index], &snapshot.routes[index]);
            server::describe_route(config, route, state.clock.now())
        })
        .collect();
    if json {
        return write_out(&format!("{:#}\n", Value::Array(routes)));
    }
    let list = |value: &Value| {
        let words: Vec<&str> = value
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        if words.is_empty() {
            "*".to_owned()
        } else {
            words.join(",")
        }
    };
    let text = |value: &Value| value.as_str().unwrap_or("(answers itself)").to_owned();
    let rows = routes.iter().map(|route| {
        let location = text(&route["location"]);
        // A level other than normal stands with the id.
        let level = route["policy"]["level"]["level"].as_str();
        let level = level.filter(|level| *level != "normal");
        let level = level.map(|level| format!(" ({level})")).unwrap_or_default();
        let sides = route["policy"]["sides"].as_array().into_iter().flatten();
        let sides: Vec<String> = sides.map(|side| text(&side["upstream"])).collect();
        let upstream = match sides.is_empty() {
            true => text(&route["upstream"]),
            false => sides.join(","),
        };
        [
            list(&route["methods"]),
            list(&route["hosts"]),
            text(&route["path"]),
            upstream,
            text(&route["id"]) + &level,
            location,
        ]
    });
    let header = ["METHODS", "HOSTS", "PATH", "UPSTREAM", "ID", "DEFINED AT"].map(str::to_owned);
    let rows: Vec<[String; 6]> = std::iter::once(header).chain(rows).collect();
    write_out(&table(&rows))
}

/// Columns as wide as their widest cell.
fn table(rows: &[[String; 6]]) -> String {
    let widths: [usize; 6] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0));
    let mut out = String::new();
    for row in rows {
        let cells = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
    }
    out
}

/// `tollgate config show`.
pub(super) fn config_show(path: &Path) -> anyhow::Result<()> {
    let loaded = server::load(path)?;
    write_out(&config::show(&loaded.sources, &server::environment)?)
}

/// `tollgate explain`.
pub(super) fn explain(path: &Path, asked: &args::Question) -> anyhow::Result<()> {
    let offline = Offline::open(path)?;
    super::degrade::learn(path, &offline);
    let mut headers = Vec::new();
    for field in &asked.headers {
        let (name, value) = field
            .split_once(':')
            .ok_or_else(|| anyhow!("-H {field:?}: write 'name: value'"))?;
        headers.push((name.trim().to_owned(), value.trim().to_owned()));
    }
    let question = Question {
        method: asked.method.clone(),
        url: asked.url.clone(),
        headers,
        ip: asked.ip,
        body: asked.body.clone(),
    };
    let answer = gateway::explain(&question, &offline.snapshot, &offline.state);
    if asked.json {
        return write_out(&format!("{answer:#}\n"));
    }
    write_out(&render(&answer))
}

fn render(answer: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let mut out = format!("decision  {}", text(&answer["decision"]));
    if let Some(status) = answer["status"].as_u64() {
        out.push_str(&format!(" ({status})"));
    }
    if let Some(detail) = answer["detail"].as_str() {
        out.push_str(&format!(": {detail}"));
    }
    if let Some(cause) = answer["cause"].as_str() {
        out.push_str(&format!("\ncause     {cause}"));
    }
    out.push_str(&format!("\nroute     {}", text(&answer["route"])));
    if let Some(location) = answer["location"].as_str() {
        out.push_str(&format!("  ({location})"));
    }
    out.push_str(&format!("\npath      {}\n", text(&answer["path"])));
    for capture in answer["captures"].as_array().into_iter().flatten() {
        out.push_str(&format!(
            "capture   {} = {}\n",
            text(&capture[0]),
            text(&capture[1])
        ));
    }
    out.push_str(&format!("client    {}\n", text(&answer["client_ip"])));
    if let Some(consumer) = answer["consumer"].as_str() {
        out.push_str(&format!("consumer  {consumer}\n"));
    }
    if let Some(auth) = answer["consumer_auth"].as_str() {
        out.push_str(&format!("auth      {auth}\n"));
    }
    for step in answer["steps"].as_array().into_iter().flatten() {
        out.push_str(&format!(
            "step      {:<20} {}\n",
            text(&step["step"]),
            text(&step["verdict"])
        ));
    }
    for candidate in answer["candidates"].as_array().into_iter().flatten() {
        let backup = if candidate["backup"] == true {
            ", backup"
        } else {
            ""
        };
        let (endpoint, state) = (text(&candidate["endpoint"]), text(&candidate["state"]));
        out.push_str(&format!(
            "endpoint  {endpoint:<24} weight {}{backup}, {state}\n",
            candidate["weight"]
        ));
    }
    for near in answer["nearest"].as_array().into_iter().flatten() {
        let (route, path, place) = (
            text(&near["route"]),
            text(&near["path"]),
            text(&near["location"]),
        );
        out.push_str(&format!(
            "near miss {route} {path} ({place}): {}\n",
            text(&near["why"])
        ));
    }
    out
}
