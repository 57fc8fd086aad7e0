//! Looking at a configuration without a running gateway: `routes`, `config show`, `explain`.

use std::path::Path;

use anyhow::anyhow;
use serde::Serialize;

use super::args;
use super::output::write_out;
use crate::api::{Explanation, Question, RouteDescription};
use crate::config;
use crate::gateway;
use crate::server::{self, Offline};

/// `tollgate routes`.
pub(super) fn routes(path: &Path, json: bool) -> anyhow::Result<()> {
    let offline = Offline::open(path)?;
    super::degrade::learn(path, &offline);
    let Offline { snapshot, state } = offline;
    let routes: Vec<RouteDescription> = snapshot
        .table
        .in_match_order()
        .into_iter()
        .map(|index| {
            let (config, route) = (&snapshot.table.routes()[index], &snapshot.routes[index]);
            server::describe_route(config, route, state.clock.now())
        })
        .collect();
    if json {
        return write_json(&routes);
    }
    let list = |words: &[String]| match words.is_empty() {
        true => "*".to_owned(),
        false => words.join(","),
    };
    let rows = routes.iter().map(|route| {
        // A level other than normal stands with the id.
        let level = match &*route.policy.level.level {
            "normal" => String::new(),
            level => format!(" ({level})"),
        };
        let upstream = match &route.policy.sides {
            Some(sides) if !sides.is_empty() => {
                let each = sides.iter().map(|side| side.upstream.as_str());
                each.collect::<Vec<_>>().join(",")
            }
            _ => {
                let upstream = route.upstream.as_deref();
                upstream.unwrap_or("(answers itself)").to_owned()
            }
        };
        [
            list(&route.methods),
            list(&route.hosts),
            route.path.clone(),
            upstream,
            route.id.clone() + &level,
            route.location.clone(),
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
        return write_json(&answer);
    }
    write_out(&render(&answer))
}

/// Writes what the API answers as the API does: fields in the order of their names.
fn write_json(answer: &impl Serialize) -> anyhow::Result<()> {
    write_out(&format!("{:#}\n", serde_json::to_value(answer)?))
}

fn render(answer: &Explanation) -> String {
    let text = |value: &Option<String>| value.as_deref().unwrap_or("-").to_owned();
    let mut out = format!("decision  {}", answer.decision);
    if let Some(status) = answer.status {
        out.push_str(&format!(" ({status})"));
    }
    if let Some(detail) = &answer.detail {
        out.push_str(&format!(": {detail}"));
    }
    if let Some(cause) = &answer.cause {
        out.push_str(&format!("\ncause     {cause}"));
    }
    out.push_str(&format!("\nroute     {}", text(&answer.route)));
    if let Some(location) = &answer.location {
        out.push_str(&format!("  ({location})"));
    }
    out.push_str(&format!("\npath      {}\n", text(&answer.path)));
    for (name, value) in &answer.captures {
        out.push_str(&format!("capture   {name} = {value}\n"));
    }
    let client = answer.client_ip.map(|client| client.to_string());
    out.push_str(&format!("client    {}\n", text(&client)));
    if let Some(consumer) = &answer.consumer {
        out.push_str(&format!("consumer  {consumer}\n"));
    }
    if let Some(auth) = &answer.consumer_auth {
        out.push_str(&format!("auth      {auth}\n"));
    }
    for step in &answer.steps {
        out.push_str(&format!("step      {:<20} {}\n", step.step, step.verdict));
    }
    for candidate in &answer.candidates {
        let backup = if candidate.backup { ", backup" } else { "" };
        out.push_str(&format!(
            "endpoint  {:<24} weight {}{backup}, {}\n",
            candidate.endpoint, candidate.weight, candidate.state
        ));
    }
    for near in &answer.nearest {
        out.push_str(&format!(
            "near miss {} {} ({}): {}\n",
            near.route, near.path, near.location, near.why
        ));
    }
    out
}
