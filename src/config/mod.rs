//! The configuration: text in; a validated value, or every problem with its place, out. No files, sockets or clocks.
//!
//! One file per section of the TOML holds a private raw type (the spelling, meaning and default of each key) and its
//! public, validated twin. Past this room an invalid value cannot be written down.

mod addresses;
mod admin;
mod auth;
mod cors;
mod document;
mod error;
mod expand;
mod file;
mod header_rules;
mod limit;
mod listener;
mod log;
mod maintenance;
mod method;
mod overload;
mod raw;
mod respond;
mod route;
mod schema;
mod scope;
mod server;
mod tls;
mod upstream;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

pub use addresses::{AddressList, ListFile};
pub use admin::Admin;
pub use auth::{
    App, AppKey, Auth, HS_SECRET, JwtAuth, JwtKey, SHORT_SECRET, SignatureAuth, SignatureScheme,
    TokenSource,
};
pub use cors::Cors;
pub use document::Source;
pub use error::{Location, Problem, Problems, did_you_mean};
pub use expand::Env;
pub use header_rules::{HeaderField, HeaderRules};
pub use limit::{Algorithm, Limit, LimitHeaders, LimitKey, LimitUse, OnMissingKey};
pub use listener::Listener;
pub use log::{Level, Log, LogFormat, Sink};
pub use maintenance::Maintenance;
pub use overload::{Class, Overload};
pub use respond::{RedirectTemplate, Respond};
pub use route::{
    Access, Action, Degrade, Fallback, FallbackCause, FallbackOn, HostPattern, LastGood, Matching,
    Mirror, Policies, Route, RouteLimits, Scheme, Side, Split, SplitKey, Transform,
};
pub use schema::{json_schema, keys};
pub use server::{ClientLimits, ErrorFormat, Server};
pub use tls::{CertificateFiles, CertificatePart, ListenerTls};
pub use upstream::{
    Balance, Breaker, BreakerWindow, Concurrency, ConcurrencyLimit, Endpoint, EndpointAddress,
    Failures, HashOn, HeadLimits, Health, Hedge, HedgeAfter, Jitter, Outlier, Passive, Retry,
    SameSite, Score, Sticky, Timeouts, Upstream, UpstreamTls,
};

use crate::primitives::address::Address;
use crate::primitives::digest;
use crate::primitives::{AuthName, LimitName, UpstreamName};
use document::{At, Document, Placeholder};
use file::RawFile;
use route::{GroupAt, GroupPlace, Groups, Known};
use scope::Scope;

/// The whole configuration, validated.
#[derive(Clone, Debug)]
pub struct Config {
    /// The process as a whole.
    pub server: Server,
    /// Where connections come in.
    pub listeners: Vec<Listener>,
    /// The admin listener.
    pub admin: Admin,
    /// Logs.
    pub log: Log,
    /// Groups of endpoints.
    pub upstreams: BTreeMap<UpstreamName, Upstream>,
    /// Ways to find out who is calling.
    pub auths: BTreeMap<AuthName, Auth>,
    /// Limits.
    pub limits: BTreeMap<LimitName, Limit>,
    /// Routes in file order.
    pub routes: Arc<[Route]>,
    /// The first 12 hex digits of a SHA-256 over all files: tells two configurations apart.
    pub hash: String,
}

/// A problem that shows only when what a key points to is opened, at that key's place.
pub fn problem_at(sources: &[Source], key: &str, message: &str) -> Problem {
    let steps = split_key(key);
    let mut found: Option<(usize, Problem)> = None;
    for source in sources {
        let document = Document::parse(source, &mut Vec::new());
        let (depth, place) = document.nearest(&steps);
        if found.as_ref().is_none_or(|(known, _)| depth > *known) {
            let (file, line, column) = (place.file.to_string(), place.line, place.column);
            found = Some((
                depth,
                Problem {
                    file,
                    line,
                    column,
                    key: key.to_owned(),
                    message: message.to_owned(),
                },
            ));
        }
    }
    let nowhere = || Problem {
        file: String::new(),
        line: 0,
        column: 0,
        key: key.to_owned(),
        message: message.to_owned(),
    };
    found.map_or_else(nowhere, |(_, problem)| problem)
}

/// The parts of a dotted key, some of which may be quoted.
fn split_key(key: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = key;
    while !rest.is_empty() {
        let (part, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => rest.split_at(rest.find('.').unwrap_or(rest.len())),
        };
        parts.push(part);
        rest = after.strip_prefix('.').unwrap_or(after);
    }
    parts
}

/// What `include` names in `source`, with the key's place for messages about it. What cannot be expanded is left out here;
/// [`load`] reports it.
pub fn includes(source: &Source, env: Env<'_>) -> Vec<(String, Location)> {
    let document = Document::parse(source, &mut Vec::new());
    let Some(list) = document
        .tree
        .get_ref()
        .get("include")
        .and_then(|value| value.get_ref().as_array())
    else {
        return Vec::new();
    };
    let texts = list.iter().enumerate();
    let at = At::ROOT.key("include");
    texts
        .filter_map(|(i, value)| {
            let (pattern, _) = expand::expand(value.get_ref().as_str()?, env).ok()?;
            Some((pattern, document.locate(&at.index(i))))
        })
        .collect()
}

/// `server.runtime_dir` of files that may be broken elsewhere; its default where they say nothing of it. `None`: it
/// depends on a variable that is not there.
pub fn runtime_dir(sources: &[Source], env: Env<'_>) -> Option<PathBuf> {
    for source in sources {
        let document = Document::parse(source, &mut Vec::new());
        let server = document.tree.get_ref().get("server");
        let server = server.and_then(|table| table.get_ref().as_table());
        let named = server.and_then(|table| table.get("runtime_dir")?.get_ref().as_str());
        if let Some(named) = named {
            let (named, _) = expand::expand(named, env).ok()?;
            return Some(PathBuf::from(named));
        }
    }
    Some(PathBuf::from(server::RUNTIME_DIR))
}

/// Validates the files together; the first is the main one.
pub fn load(sources: &[Source], env: Env<'_>) -> Result<Config, Problems> {
    load_with(sources, env, Vec::new())
}

/// Like [`load`], when it is known already that some file is `missing`: whatever else is wrong is reported besides, but
/// not that there is nothing of a name, which the missing file may define.
pub fn load_with(
    sources: &[Source],
    env: Env<'_>,
    missing: Vec<Problem>,
) -> Result<Config, Problems> {
    let mut problems = Vec::new();
    let incomplete = !missing.is_empty();
    let Parsed {
        files,
        placeholders,
        unread,
    } = parse(sources, env, &mut problems);
    let mut further = Vec::new();
    let mut config = assemble(&files, &mut further);
    // What was mended was reported already; what a file that could not be read may define is not missed.
    let unread = unread || incomplete;
    let covered = |p: &Problem| {
        placeholders
            .iter()
            .any(|(file, placeholder)| **file == *p.file && placeholder.covers(&p.key))
    };
    further.retain(|p| !covered(p) && (!unread || !may_be_elsewhere(p)));
    problems.extend(further);
    for problem in &mut problems {
        let documents = files.iter().map(|(document, _)| document);
        documents.for_each(|document| document.veil(&mut problem.message));
    }
    problems.extend(missing);
    if problems.is_empty() {
        config.hash = hash(sources);
        Ok(config)
    } else {
        Err(sorted(problems, sources))
    }
}

/// Whether another file may define what this one lacks.
fn may_be_elsewhere(problem: &Problem) -> bool {
    ["there is no [", "no [[listener]]"]
        .iter()
        .any(|missed| problem.message.starts_with(missed))
}

/// The effective configuration as TOML: defaults filled in, includes merged, secrets masked, and free text that the
/// environment has a part in as it is written.
pub fn show(sources: &[Source], env: Env<'_>) -> Result<String, Problems> {
    let mut problems = Vec::new();
    let files = parse(sources, env, &mut problems).files;
    if !problems.is_empty() {
        return Err(sorted(problems, sources));
    }
    let mut merged = RawFile::default();
    for (document, _) in files {
        let tree = toml::de::Deserializer::from(document.shown());
        let raw: RawFile =
            serde::Deserialize::deserialize(tree).map_err(|error: toml::de::Error| {
                Problems::of_file(&document.source.file, error.message())
            })?;
        merged.server = merged.server.or(raw.server);
        merged.admin = merged.admin.or(raw.admin);
        merged.log = merged.log.or(raw.log);
        merged.listener.extend(raw.listener);
        merged.route.extend(raw.route);
        merged.upstream.extend(raw.upstream);
        merged.auth.extend(raw.auth);
        merged.limit.extend(raw.limit);
        merged.group.extend(raw.group);
    }
    merged.server.get_or_insert_default();
    merged.log.get_or_insert_default();
    toml::to_string(&merged).map_err(|error| Problems::of_file(&sources[0].file, error.to_string()))
}

/// Files as read, and what had to be mended in them.
struct Parsed<'t> {
    files: Vec<(Document<'t>, RawFile)>,
    placeholders: Vec<(Arc<str>, Placeholder)>,
    /// Some file could not be read at all.
    unread: bool,
}

fn parse<'t>(sources: &'t [Source], env: Env<'_>, problems: &mut Vec<Problem>) -> Parsed<'t> {
    let schema = json_schema();
    let mut parsed = Parsed {
        files: Vec::with_capacity(sources.len()),
        placeholders: Vec::new(),
        unread: false,
    };
    for source in sources {
        let before = problems.len();
        let mut document = Document::parse(source, problems);
        if problems.len() > before {
            // What follows a syntax error would be guesswork.
            parsed.unread = true;
            continue;
        }
        document.expand(env, problems);
        let placeholders = schema::check(&document, &schema, problems);
        let mut tree = document.tree.clone();
        document::patch(tree.get_mut(), &placeholders);
        match serde::Deserialize::deserialize(toml::de::Deserializer::from(tree)) {
            Ok(raw) => parsed.files.push((document, raw)),
            Err(error) => {
                let error: toml::de::Error = error;
                parsed.unread = true;
                if problems.len() == before {
                    let span = error.span().unwrap_or(0..0);
                    problems.push(document.problem(
                        span,
                        String::new(),
                        error.message().to_owned(),
                    ));
                }
            }
        }
        parsed.placeholders.extend(
            placeholders
                .into_iter()
                .map(|placeholder| (Arc::clone(&source.file), placeholder)),
        );
    }
    parsed
}

fn sorted(mut problems: Vec<Problem>, sources: &[Source]) -> Problems {
    let rank = |file: &str| sources.iter().position(|source| &*source.file == file);
    problems.sort_by_cached_key(|p| (rank(&p.file), p.line, p.column));
    problems.dedup();
    Problems(problems)
}

fn hash(sources: &[Source]) -> String {
    let parts: Vec<&[u8]> = sources
        .iter()
        .map(|source| source.text.as_bytes())
        .collect();
    let mut hex = format!("{:032x}", digest::key128(&parts));
    hex.truncate(12);
    hex
}

fn assemble(files: &[(Document<'_>, RawFile)], problems: &mut Vec<Problem>) -> Config {
    report_duplicates(files, problems);
    let server = single(
        files,
        "server",
        |raw| raw.server.as_ref(),
        file::RawServer::validate,
        problems,
    );
    let admin = single(
        files,
        "admin",
        |raw| raw.admin.as_ref(),
        file::RawAdmin::validate,
        problems,
    );
    let log = single(
        files,
        "log",
        |raw| raw.log.as_ref(),
        file::RawLog::validate,
        problems,
    );
    let mut config = Config {
        listeners: Vec::new(),
        upstreams: BTreeMap::new(),
        auths: BTreeMap::new(),
        limits: BTreeMap::new(),
        routes: Arc::from([]),
        hash: String::new(),
        server,
        admin,
        log,
    };
    for (index, (document, raw)) in files.iter().enumerate() {
        let mut scope = Scope { document, problems };
        if index > 0 && !raw.include.is_empty() {
            scope.problem(
                &At::ROOT.key("include"),
                "an included file may not include others",
            );
        }
        config.take_tables(raw, &mut scope);
    }
    check_listeners(files, &config, problems);
    let mut routes = routes(files, &config, problems);
    config.settle_limits(&mut routes);
    config.routes = routes.into();
    config
}

impl Config {
    /// Every limit, those of routes with amounts of their own besides.
    pub fn every_limit(&self) -> impl Iterator<Item = &Limit> {
        let uses = self
            .routes
            .iter()
            .flat_map(|route| route.limits.uses.values());
        let own = uses.filter_map(|used| used.own.as_deref());
        self.limits.values().chain(own)
    }

    /// What limits learn from the routes that ask them.
    fn settle_limits(&mut self, routes: &mut [Route]) {
        for route in routes {
            for (name, used) in &mut route.limits.uses {
                match (&mut used.own, self.limits.get_mut(name)) {
                    (Some(own), _) => {
                        own.route = Some(route.name.clone());
                        own.largest_cost = used.cost;
                    }
                    (None, Some(limit)) => limit.largest_cost = limit.largest_cost.max(used.cost),
                    (None, None) => {}
                }
            }
        }
    }

    fn take_tables(&mut self, raw: &RawFile, scope: &mut Scope<'_>) {
        let list = At::ROOT.key("listener");
        let listeners = raw.listener.iter().enumerate();
        self.listeners
            .extend(listeners.filter_map(|(i, raw)| raw.validate(&list.index(i), scope)));
        let table = At::ROOT.key("upstream");
        for (name, raw) in &raw.upstream {
            self.upstreams.insert(
                UpstreamName::new(name),
                raw.validate(name, &table.key(name), scope),
            );
        }
        let table = At::ROOT.key("auth");
        for (name, raw) in &raw.auth {
            if let Some(auth) = raw.validate(name, &table.key(name), scope) {
                raw.check_max_token(&auth, &self.server.client, &table.key(name), scope);
                self.auths.insert(AuthName::new(name), auth);
            }
        }
        let table = At::ROOT.key("limit");
        for (name, raw) in &raw.limit {
            if let Some(limit) = raw.validate(name, &table.key(name), scope) {
                self.limits.insert(LimitName::new(name), limit);
            }
        }
        let table = At::ROOT.key("group");
        for (name, raw) in &raw.group {
            raw.validate(&table.key(name), scope);
        }
    }
}

/// A table that may stand in one file only. Absent, its defaults hold.
fn single<R: Default, V>(
    files: &[(Document<'_>, RawFile)],
    key: &str,
    pick: impl Fn(&RawFile) -> Option<&R>,
    validate: impl Fn(&R, &At<'_>, &mut Scope<'_>) -> V,
    problems: &mut Vec<Problem>,
) -> V {
    let at = At::ROOT.key(key);
    let found = files
        .iter()
        .find_map(|(document, raw)| Some((document, pick(raw)?)));
    match found {
        Some((document, raw)) => validate(raw, &at, &mut Scope { document, problems }),
        None => {
            let empty = Source {
                file: Arc::from(""),
                text: Arc::from(""),
            };
            let document = Document::parse(&empty, &mut Vec::new());
            validate(
                &R::default(),
                &at,
                &mut Scope {
                    document: &document,
                    problems,
                },
            )
        }
    }
}

/// Names and single tables defined in two files. Within one file TOML itself refuses them.
fn report_duplicates(files: &[(Document<'_>, RawFile)], problems: &mut Vec<Problem>) {
    let mut first: HashMap<(&str, &str), Location> = HashMap::new();
    for (document, raw) in files {
        let singles = [
            ("server", raw.server.is_some()),
            ("admin", raw.admin.is_some()),
            ("log", raw.log.is_some()),
        ];
        let singles = singles
            .into_iter()
            .filter(|(_, given)| *given)
            .map(|(key, _)| (key, ""));
        let named = (raw.upstream.keys().map(|name| ("upstream", name.as_str())))
            .chain(raw.auth.keys().map(|name| ("auth", name.as_str())))
            .chain(raw.limit.keys().map(|name| ("limit", name.as_str())))
            .chain(raw.group.keys().map(|name| ("group", name.as_str())));
        for (kind, name) in singles.chain(named) {
            let table = At::ROOT.key(kind);
            let at = if name.is_empty() {
                table
            } else {
                table.key(name)
            };
            let here = document.locate(&at);
            match first.get(&(kind, name)) {
                Some(before) => {
                    problems.push(
                        document.problem_at(&at, format!("defined twice; first at {before}")),
                    );
                }
                None => {
                    first.insert((kind, name), here);
                }
            }
        }
    }
}

fn check_listeners(
    files: &[(Document<'_>, RawFile)],
    config: &Config,
    problems: &mut Vec<Problem>,
) {
    let places = files
        .iter()
        .flat_map(|(document, raw)| (0..raw.listener.len()).map(move |index| (document, index)));
    let mut seen: Vec<&Listener> = Vec::new();
    if config.listeners.is_empty()
        && let Some((document, raw)) = files.first()
        && raw.listener.is_empty()
        && files.iter().all(|(_, raw)| raw.listener.is_empty())
    {
        let message = "no [[listener]]: the gateway would accept no connection; add address = \"0.0.0.0:8080\"";
        problems.push(document.problem_at(&At::ROOT, message.to_owned()));
    }
    if seen.capacity() == 0 && config.listeners.len() != places.clone().count() {
        return;
    }
    for (listener, (document, index)) in config.listeners.iter().zip(places) {
        let list = At::ROOT.key("listener");
        let at = list.index(index);
        let clash = seen
            .iter()
            .find(|other| overlaps(&other.address, &listener.address));
        if let Some(other) = clash {
            let message = format!(
                "{} is already taken by listener {:?}",
                listener.address,
                other.name.as_str()
            );
            problems.push(document.problem_at(&at.key("address"), message));
        }
        if seen.iter().any(|other| other.name == listener.name) && clash.is_none() {
            problems.push(document.problem_at(&at.key("name"), "the name stands twice".to_owned()));
        }
        if config
            .admin
            .address
            .is_some_and(|admin| overlaps(&Address::Inet(admin), &listener.address))
        {
            problems.push(document.problem_at(
                &at.key("address"),
                "is also the address of [admin]".to_owned(),
            ));
        }
        if listener.proxy_protocol
            && listener.address.inet().is_some()
            && config.server.trusted_proxies.is_empty()
        {
            let message = "server.trusted_proxies names nobody whose PROXY header would be believed, \
                           so every connection would be closed; name the load balancers there";
            problems.push(document.problem_at(&at.key("proxy_protocol"), message.to_owned()));
        }
        seen.push(listener);
    }
}

/// Same port, and same address or one of them any; or the same path.
fn overlaps(a: &Address, b: &Address) -> bool {
    let (Some(a), Some(b)) = (a.inet(), b.inet()) else {
        return a == b;
    };
    a.port() == b.port()
        && (a.ip() == b.ip()
            || (a.is_ipv4() == b.is_ipv4() && (a.ip().is_unspecified() || b.ip().is_unspecified())))
}

fn routes(
    files: &[(Document<'_>, RawFile)],
    config: &Config,
    problems: &mut Vec<Problem>,
) -> Vec<Route> {
    let raw_limits: HashMap<&str, &file::RawLimit> = files
        .iter()
        .flat_map(|(_, raw)| raw.limit.iter().map(|(name, limit)| (name.as_str(), limit)))
        .collect();
    let groups = files.iter().flat_map(|(document, raw)| {
        let named = move |(name, raw)| GroupAt {
            raw,
            place: GroupPlace { name, document },
        };
        let groups = raw.group.iter();
        groups.map(move |(name, raw)| (name.as_str(), named((name.as_str(), raw))))
    });
    let groups: Groups<'_> = groups.collect();
    let defined = |pick: fn(&RawFile) -> Vec<&str>| {
        files
            .iter()
            .flat_map(move |(_, raw)| pick(raw))
            .collect::<Vec<_>>()
    };
    let upstreams = defined(|raw| raw.upstream.keys().map(String::as_str).collect());
    let auths = defined(|raw| raw.auth.keys().map(String::as_str).collect());
    let limits = defined(|raw| raw.limit.keys().map(String::as_str).collect());
    let hedged = defined(|raw| {
        let hedged = raw.upstream.iter().filter(|(_, raw)| raw.is_hedged());
        hedged.map(|(name, _)| name.as_str()).collect()
    });
    let known = Known {
        hedged: &|name| hedged.contains(&name),
        upstreams: &|name| upstreams.binary_search(&name).is_ok() || upstreams.contains(&name),
        auths: &|name| auths.contains(&name),
        limits: &|name| limits.contains(&name),
        names: &|kind| match kind {
            "upstream" => upstreams.clone(),
            "auth" => auths.clone(),
            _ => limits.clone(),
        },
        limit: &|name| {
            Some((
                *raw_limits.get(name)?,
                config.limits.get(&LimitName::new(name))?,
            ))
        },
        max_body: config.server.client.max_body,
        signs: &|name| {
            let auth = config.auths.get(&AuthName::new(name));
            matches!(auth, Some(Auth::Signature(_)))
        },
        auth_buffer: config.server.auth_buffer,
        maintenance: config.server.maintenance.as_ref(),
    };
    let mut routes = Vec::new();
    let mut places = Vec::new();
    let list = At::ROOT.key("route");
    for (document, raw) in files {
        for (index, route) in raw.route.iter().enumerate() {
            let mut scope = Scope { document, problems };
            if let Some(route) = route.validate(&list.index(index), &groups, &known, &mut scope) {
                routes.push(route);
                places.push((document, index));
            }
        }
    }
    route::name_routes(&mut routes);
    route::check_conflicts(&routes, &mut |route, message| {
        let (document, index) = places[route];
        problems.push(document.problem_at(&list.index(index), message));
    });
    routes
}
