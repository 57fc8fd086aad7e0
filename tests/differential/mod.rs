//! One corpus of requests and of what origins do with them, over every transport on both sides: the client gets the same
//! answer, the access log has the same record, the metrics count the same. What differs stands in `known.txt`, each with its
//! reason; a difference that is gone has to leave that table.

mod case;
mod client;
mod corpus;
mod known;
mod origin;
mod seen;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Semaphore;

use self::case::{Asked, Case, Only, UPSTREAMS};
use self::client::{Door, Told};
use self::origin::Origin;
use self::seen::{
    Aspects, counted, digest, metrics, miscounted, of_answer, of_origins, of_record, records,
};
use crate::harness::{Caller, Faces, Gateway, Speaks, Way, clients, reserve, ways};

/// Requests at once: as many as do not keep each other waiting.
const AT_ONCE: usize = 32;

/// A case over a way, from a client.
#[derive(Clone)]
struct Run {
    case: usize,
    way: Way,
    caller: Caller,
    /// Of its last request.
    trace: String,
}

/// Where a run is served: the path of its route. Those of one case are of one length, since refusals name them.
fn path(case: &Case, way: Way, caller: Caller) -> String {
    format!("/{}/{:_<13}/{:_<6}", case.name, way.name(), caller.name())
}

fn runs(cases: &[Case]) -> Vec<Run> {
    let mut runs = Vec::new();
    for (index, case) in cases.iter().enumerate() {
        for way in ways() {
            let says = match case.only {
                Only::Everywhere => true,
                Only::Hedged => way.hedged,
                Only::Http1Upstream => way.speaks == Speaks::Http1,
            };
            for caller in clients().into_iter().filter(|_| says) {
                runs.push(Run {
                    case: index,
                    way,
                    caller,
                    trace: format!("{:032x}", runs.len() + 1),
                });
            }
        }
    }
    runs
}

/// Everything that the runs go through.
struct World {
    gateway: Gateway,
    door: Door,
    main: Origin,
    spare: Origin,
    shadow: Origin,
    _faces: [Faces; 4],
}

impl World {
    async fn of(cases: &[Case], runs: &[Run]) -> Self {
        let main = Origin::of(cases).await;
        let (spare, shadow) = (Origin::named("spare").await, Origin::named("shadow").await);
        let [first, second] = main.addresses;
        let faces = [first, second, spare.addresses[0], shadow.addresses[0]].map(Faces::of);
        let secure = reserve();
        let mut text = format!(
            "[server]\nthreads = 2\n\
             [[listener]]\nname = \"public\"\naddress = \"{{listen}}\"\nhttp2 = true\n\
             [[listener]]\nname = \"secure\"\naddress = \"{secure}\"\n[listener.tls]\n\
             certificates = [{{ cert = \"{{dir}}/server.pem\", key = \"{{dir}}/server.key\" }}]\n"
        );
        for way in ways() {
            text += &upstreams(way, &faces);
        }
        for run in runs {
            text += &route(&cases[run.case], run);
        }
        let certificates = Faces::certificates();
        let pem = |name: &str| certificates[name].as_str().unwrap();
        let gateway = Gateway::with(&text)
            .file("face.pem", Faces::ca())
            .file("server.pem", pem("server"))
            .file("server.key", pem("server_key"))
            .start();
        Self {
            door: Door::new(gateway.listen(), secure),
            gateway,
            main,
            spare,
            shadow,
            _faces: faces,
        }
    }
}

/// The upstreams of one way. No failure of one case may be seen by another.
fn upstreams(way: Way, [first, second, spare, shadow]: &[Faces; 4]) -> String {
    let (first, second) = (first.over(way), second.over(way));
    let retry = |attempts: u32| {
        format!(
            "passive = {{ max_fails = 0 }}\n\
             retry = {{ attempts = {attempts}, methods = [\"GET\", \"PUT\", \"HEAD\"], backoff = \"1ms\", budget = \"100%\" }}\n"
        )
    };
    let late = "after = \"10s\", methods = [\"GET\", \"PUT\", \"HEAD\"]";
    let soon = "after = \"60ms\", methods = [\"GET\", \"PUT\", \"HEAD\"]";
    let mut text = String::new();
    for asked in UPSTREAMS {
        let (endpoints, hedge, more) = match asked {
            Asked::One => (vec![first.clone()], late, retry(0)),
            Asked::Fresh => {
                let none = "keepalive = 0\n";
                (vec![first.clone()], late, none.to_owned() + &retry(0))
            }
            Asked::Impatient => {
                let read = "timeout = { read = \"400ms\" }\n";
                (vec![first.clone()], late, read.to_owned() + &retry(0))
            }
            Asked::Two => {
                let (endpoints, none) = (vec![first.clone(), second.clone()], "keepalive = 0\n");
                (endpoints, late, none.to_owned() + &retry(1))
            }
            Asked::Dead => (vec![way.nowhere(), second.clone()], late, retry(1)),
            Asked::Nobody => (vec![way.nowhere(), way.nowhere()], late, retry(0)),
            Asked::Soon => (vec![first.clone(), second.clone()], soon, retry(0)),
        };
        let name = format!("{}-{}", way.name(), asked.name());
        text += &way.upstream(&name, &endpoints, hedge, &more);
    }
    for (name, faces) in [("spare", spare), ("shadow", shadow)] {
        let name = format!("{}-{name}", way.name());
        text += &way.upstream(&name, &[faces.over(way)], late, &retry(0));
    }
    text
}

fn route(case: &Case, run: &Run) -> String {
    let all = ways();
    let at = all.iter().position(|way| *way == run.way).unwrap();
    let other = all[(at + 3) % all.len()];
    let path = path(case, run.way, run.caller);
    let keys = case.route.replace("{way}", run.way.name());
    let keys = keys.replace("{other}", other.name());
    format!(
        "[[route]]\nid = \"{}\"\npath = \"{path}\"\nupstream = \"{}-{}\"\n{keys}",
        id(&path),
        run.way.name(),
        case.asked.name()
    )
}

/// The name of the route that serves this path.
fn id(path: &str) -> String {
    path.trim_start_matches('/').replace('/', ".")
}

/// Runs everything; gives what each client was told.
async fn told(world: &Arc<World>, cases: &Arc<Vec<Case>>, runs: &[Run]) -> Vec<Told> {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = Vec::new();
    for run in runs.iter().cloned() {
        let (room, world, cases) = (Arc::clone(&room), Arc::clone(world), Arc::clone(cases));
        tasks.push(tokio::spawn(async move {
            let _place = room.acquire().await;
            let case = &cases[run.case];
            let path = path(case, run.way, run.caller);
            for earlier in 1..case.ask.times {
                let trace = format!("f{earlier}{}", &run.trace[2..]);
                world.door.ask(run.caller, &case.ask, &path, &trace).await;
            }
            world
                .door
                .ask(run.caller, &case.ask, &path, &run.trace)
                .await
        }));
    }
    let mut all = Vec::new();
    for task in tasks {
        all.push(task.await.unwrap());
    }
    all
}

// ---- the comparison ----------------------------------------------------------------------------

/// An aspect of a run that is not as it should be.
struct Mismatch<'a> {
    run: &'a Run,
    aspect: String,
    value: String,
    expected: String,
}

fn expected(case: &Case, aspects: &mut Aspects) {
    aspects.insert("status".to_owned(), case.status.to_string());
    if let Some(body) = &case.body {
        aspects.insert("body".to_owned(), digest(body));
    }
    aspects.insert("trailers".to_owned(), format!("{:?}", case.trailers));
}

/// Holds every run against the first of its case, and that one against what the case says.
fn mismatches<'a>(cases: &[Case], runs: &'a [Run], seen: &[Aspects]) -> Vec<Mismatch<'a>> {
    let mut all = Vec::new();
    let mut standard: (usize, Aspects) = (usize::MAX, Aspects::new());
    for (run, aspects) in runs.iter().zip(seen) {
        if standard.0 != run.case {
            standard = (run.case, aspects.clone());
            expected(&cases[run.case], &mut standard.1);
        }
        let names: BTreeSet<&String> = aspects.keys().chain(standard.1.keys()).collect();
        for name in names {
            let of = |aspects: &Aspects| aspects.get(name).cloned().unwrap_or_default();
            let (value, expected) = (of(aspects), of(&standard.1));
            if value != expected {
                all.push(Mismatch {
                    run,
                    aspect: name.clone(),
                    value,
                    expected,
                });
            }
        }
    }
    all
}

/// The unknown ones, those that look alike in one line.
fn report(cases: &[Case], unknown: &[&Mismatch<'_>]) -> String {
    let mut lines: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for one in unknown {
        let case = &cases[one.run.case].name;
        let line = format!(
            "{case}: {} is {:?}, not {:?}",
            one.aspect, one.value, one.expected
        );
        let on = format!("{}<-{}", one.run.way.name(), one.run.caller.name());
        lines.entry(line).or_default().insert(on);
    }
    let lines = lines.iter().map(|(line, on)| {
        let on: Vec<&str> = on.iter().map(String::as_str).collect();
        format!("{line}\n    on {}", on.join(" "))
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn one_corpus_is_answered_recorded_and_counted_the_same_over_every_transport() {
    let cases = Arc::new(corpus::corpus());
    let names: BTreeSet<&String> = cases.iter().map(|case| &case.name).collect();
    assert_eq!(names.len(), cases.len(), "each case has a name of its own");
    let runs = runs(&cases);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let began = Instant::now();
    let world = Arc::new(runtime.block_on(World::of(&cases, &runs)));
    let up = began.elapsed();
    let told = runtime.block_on(told(&world, &cases, &runs));
    let asked = began.elapsed();
    let requests = runs.iter().map(|run| cases[run.case].ask.times).sum();
    let records = records(&world, requests);
    let metrics = metrics(&world);
    let counted = counted(&world);
    let mut seen = Vec::new();
    for (run, told) in runs.iter().zip(&told) {
        let path = path(&cases[run.case], run.way, run.caller);
        let mut aspects = Aspects::new();
        of_answer(&mut aspects, told, run, &path);
        of_record(&mut aspects, records.get(&run.trace));
        of_origins(&mut aspects, &world, run, &path);
        aspects.extend(metrics.get(&id(&path)).cloned().unwrap_or_default());
        seen.push(aspects);
    }
    let shown = seen
        .iter()
        .filter(|aspects| aspects.keys().any(|key| key.starts_with("metric ")));
    assert!(
        shown.count() * 10 > runs.len() * 9,
        "nearly every run is counted"
    );
    println!(
        "{} runs: up after {up:?}, asked after {asked:?}, looked at after {:?}",
        runs.len(),
        began.elapsed()
    );
    // A gateway that is left by a panic shows its file, which is long.
    drop(world);
    let mismatches = mismatches(&cases, &runs, &seen);
    let verdict = known::judge(&cases, &mismatches);
    let unknown = report(&cases, &verdict.unknown);
    let miscounted = miscounted(&counted);
    assert!(
        verdict.unknown.is_empty() && verdict.gone.is_empty() && miscounted.is_empty(),
        "differences that are not known:\n{unknown}\n\ncounted otherwise:\n{}\n\nrows of the table that nothing shows any more: {:?}\n\nthe table:\n{}",
        miscounted.join("\n"),
        verdict.gone,
        verdict.table
    );
}
