//! What is looked at: what the client was told, what the origins got, the record of it, and what was counted.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::Value;

use super::client::Told;
use super::{Run, World};
use crate::harness::{eventually, holds_within, seconds, ways};

/// What a run was like: each aspect with its value.
pub(super) type Aspects = BTreeMap<String, String>;

/// Short bytes as they are, of long ones what tells them apart.
pub(super) fn digest(bytes: &[u8]) -> String {
    if bytes.len() <= 40 {
        return format!("{:?}", String::from_utf8_lossy(bytes));
    }
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    format!("{} bytes {:x}", bytes.len(), hasher.finish())
}

/// Fields that say how one connection is used, and when: no two answers share them.
const OF_CONNECTIONS: [&str; 4] = ["connection", "keep-alive", "transfer-encoding", "date"];

/// Keys of the access log that name the run, or say how long something took.
const OF_RUNS: [&str; 9] = [
    "timestamp",
    "trace_id",
    "duration_ms",
    "upstream_ms",
    "route",
    "upstream",
    "endpoint",
    "path",
    "protocol",
];

pub(super) fn of_answer(aspects: &mut Aspects, told: &Told, run: &Run, path: &str) {
    let trace = told.fields.get("x-trace-id").map(|values| &values[0]);
    // A head that is refused before its fields are read gets a name of the gateway's own.
    let other = trace.filter(|trace| **trace != run.trace);
    let same = |text: &str| {
        let text = text.replace(&run.trace, "TRACE").replace(path, "PATH");
        other.map_or(text.clone(), |other| text.replace(other, "ANOTHER"))
    };
    let mut put = |name: String, value: String| drop(aspects.insert(name, value));
    put("status".to_owned(), told.status.to_string());
    for (name, values) in &told.fields {
        if !OF_CONNECTIONS.contains(&&**name) {
            put(format!("field {name}"), same(&format!("{values:?}")));
        }
    }
    let body = String::from_utf8_lossy(&told.body);
    let body = match body.contains("\"code\":") {
        true => digest(same(&body).as_bytes()),
        false => digest(&told.body),
    };
    put("body".to_owned(), body);
    put("trailers".to_owned(), format!("{:?}", told.trailers));
    let ends = if told.whole { "whole" } else { "cut off" };
    put("end".to_owned(), ends.to_owned());
    put("interim".to_owned(), same(&format!("{:?}", told.interim)));
}

pub(super) fn of_record(aspects: &mut Aspects, record: Option<&Value>) {
    let Some(record) = record.and_then(Value::as_object) else {
        aspects.insert("record".to_owned(), "none".to_owned());
        return;
    };
    for (key, value) in record {
        if key == "tries" {
            aspects.insert("record tries".to_owned(), ends_of_tries(value));
        } else if !OF_RUNS.contains(&&**key) {
            aspects.insert(format!("record {key}"), value.to_string());
        }
    }
}

/// How each try ended, in order. Endpoints and times belong to one run.
fn ends_of_tries(tries: &Value) -> String {
    let tries = tries.as_array().into_iter().flatten();
    let ends: Vec<String> = tries.map(|one| one["end"].to_string()).collect();
    ends.join(", ")
}

pub(super) fn of_origins(aspects: &mut Aspects, world: &World, run: &Run, path: &str) {
    for (name, origin) in [
        ("main", &world.main),
        ("spare", &world.spare),
        ("shadow", &world.shadow),
    ] {
        let got: Vec<String> = origin.got(path);
        let got = format!("{got:?}").replace(&run.trace, "TRACE");
        aspects.insert(format!("got by {name}"), got);
    }
}

/// Metrics of each route but sums of times and their buckets, by the route's name.
pub(super) fn metrics(world: &World) -> HashMap<String, Aspects> {
    let mut all: HashMap<String, Aspects> = HashMap::new();
    for sample in world.gateway.metrics().samples {
        let mut labels = sample.labels.clone();
        let route = labels.remove("route").or_else(|| labels.remove("routeId"));
        let times = ["_sum", "_bucket"];
        if times.iter().any(|end| sample.name.ends_with(end)) || sample.value == 0.0 {
            continue;
        }
        labels.remove("upstream");
        if let Some(route) = route {
            let name = format!("metric {} {labels:?}", sample.name);
            let values = all.entry(route).or_default();
            values.insert(name, sample.value.to_string());
        }
    }
    all
}

/// Upstreams that every way is asked about the same.
const COMPARABLE: [&str; 7] = [
    "fresh",
    "impatient",
    "two",
    "dead",
    "nobody",
    "spare",
    "shadow",
];

/// What was counted of the upstreams of each way, by its name: over all cases.
pub(super) fn counted(world: &World) -> BTreeMap<&'static str, BTreeMap<String, f64>> {
    let mut all: BTreeMap<&'static str, BTreeMap<String, f64>> = BTreeMap::new();
    for sample in world.gateway.metrics().samples {
        let mut labels = sample.labels.clone();
        let upstream = labels.remove("upstream").unwrap_or_default();
        let (way, kind) = upstream.rsplit_once('-').unwrap_or_default();
        let way = ways().into_iter().find(|known| known.name() == way);
        let counts = ["_total", "_count"];
        if !counts.iter().any(|end| sample.name.ends_with(end)) || !COMPARABLE.contains(&kind) {
            continue;
        }
        for one in ["route", "routeId", "endpoint"] {
            labels.remove(one);
        }
        if let Some(way) = way {
            let name = format!("{kind}: {} {labels:?}", sample.name);
            let counts = all.entry(way.name()).or_default();
            *counts.entry(name).or_default() += sample.value;
        }
    }
    all
}

/// In which counts a way is unlike the first.
pub(super) fn miscounted(counted: &BTreeMap<&str, BTreeMap<String, f64>>) -> Vec<String> {
    let first = &counted["h1"];
    let mut wrong = Vec::new();
    for (way, counts) in counted {
        let names: BTreeSet<&String> = counts.keys().chain(first.keys()).collect();
        for name in names {
            let of = |counts: &BTreeMap<String, f64>| counts.get(name).copied().unwrap_or(0.0);
            let (value, expected) = (of(counts), of(first));
            if (value - expected).abs() > 1e-9 {
                wrong.push(format!("{way}: {name} is {value}, not {expected}"));
            }
        }
    }
    wrong
}

/// The records of so many requests by their traces, once all are written and no copy is under way.
pub(super) fn records(world: &World, requests: usize) -> HashMap<String, Value> {
    holds_within(seconds(5), || {
        let log = world.gateway.stdout();
        log.matches("\"msg\":\"request\"").count() >= requests
    });
    let lines = world.gateway.log_lines().into_iter();
    let lines = lines.filter(|line| line["msg"] == "request");
    let records: HashMap<String, Value> = lines
        .map(|line| (line["trace_id"].as_str().unwrap().to_owned(), line))
        .collect();
    eventually(seconds(5), "every copy is over", || {
        world.gateway.metric("gateway_mirror_in_flight", &[]) == 0.0
    });
    // What is counted shows up to a second later.
    let lines = records.len() as f64;
    holds_within(seconds(2), || {
        world.gateway.metric("gateway_requests_by_route_total", &[]) >= lines
    });
    records
}
