//! A configuration ready to serve: compiled routes, built chains, loaded keys. Immutable; swapped whole.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use super::address_lists::AddressLists;
use super::facts::Facts;
use super::limits::Limits;
use super::material::Material;
use super::parts::Parts;
use super::protected_names::ProtectedNames;
use super::route_runtime::{HeaderChanges, RouteRuntime};
use super::upstream_connections::NeededConnections;
use crate::auth::{self, IpRules};
use crate::config::{self, Auth, Config, Problem, Problems, Source, TokenSource};
use crate::filter::Refusal;
use crate::primitives::secret::{ReadSecret, Secret, SecretSource};
use crate::primitives::{ListenerName, RouteName, UpstreamName, clock};
use crate::rollout::RolloutFacts;
use crate::route::RouteTable;
use crate::tls::{self, Expired, ListenerConfig};
use crate::upstream::breaker::Breaker;
use crate::upstream::{PeerTemplate, Pool};

/// A configuration ready to serve.
pub struct Snapshot {
    /// The configuration it was built from.
    pub config: Config,
    /// The files it was read from.
    pub sources: Vec<Source>,
    /// Finds the route of a request.
    pub table: RouteTable,
    /// What a found route does, in the order of the table.
    pub routes: Vec<Arc<RouteRuntime>>,
    /// TLS of the listeners that speak it.
    pub tls: BTreeMap<ListenerName, ListenerConfig>,
    /// Rules of the listeners that do not let everybody in.
    pub listener_rules: HashMap<ListenerName, Arc<IpRules>>,
    /// Upstreams.
    pub pools: BTreeMap<UpstreamName, Arc<Pool>>,
    /// What an operator should know although it serves, such as keys that are not used.
    pub warnings: Vec<Problem>,
    /// Headers that only the gateway may set; a client's own are removed on every route.
    pub identity_headers: ProtectedNames,
    /// Every secret that was read: to keep them out of logs.
    pub secrets: Vec<Secret>,
    /// Names of query parameters that carry tokens: to mask them in logs.
    pub token_parameters: Vec<String>,
    /// Bearer token of the admin listener.
    pub admin_token: Option<Secret>,
}

/// Shortest value of a header rule that is kept out of logs.
const LONG_VALUE: usize = 8;

/// What the gateway says about a client, whoever configured what.
const OWN_HEADERS: [&str; 5] = [
    "x-consumer",
    "x-consumer-auth",
    "x-consumer-claim",
    "x-client-cert-subject",
    "x-client-cert-fingerprint",
];

impl Snapshot {
    /// Builds the snapshot: opens and checks everything that serving will need, and reports all that is wrong with it.
    /// `previous` are the snapshot in force and the one that may be in force again, in this order: what they have that is
    /// the same goes on.
    ///
    /// Facts are looked up, never changed: what the snapshot wants of them holds from
    /// [`State::publish`](super::State::publish) on. Facts that nobody knew are made for it: they belong to the snapshot
    /// until it is [registered](Self::register), are shown by nobody, and go with it when it is not.
    pub fn build(
        config: Config,
        sources: Vec<Source>,
        facts: &Facts,
        previous: &[Arc<Self>],
        material: &dyn Material,
    ) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        let mut wrong =
            |key: &str, why: &str| problems.push(config::problem_at(&sources, key, why));
        let secrets = parking_lot::Mutex::new(Vec::new());
        // What is read is remembered, so that logs never show it.
        let read = |source: &SecretSource| {
            let secret = material.secret(source)?;
            secrets.lock().push(secret.clone());
            Ok(secret)
        };
        let admin_token = config.admin.token.as_ref().and_then(|source| {
            read(source)
                .and_then(meant)
                .map_err(|why: String| wrong("admin.token", &why))
                .ok()
        });
        let mut warnings = Vec::new();
        let mut authenticators = BTreeMap::new();
        for (name, auth) in &config.auths {
            match auth::build(auth, &read, &facts.auth) {
                Ok(authenticator) => {
                    let said = authenticator.warnings().iter();
                    warnings.extend(
                        said.map(|said| config::problem_at(&sources, &said.place, &said.text)),
                    );
                    authenticators.insert(name.clone(), authenticator);
                }
                Err(error) => {
                    let text = error.to_string();
                    let why = text
                        .strip_prefix(error.place())
                        .unwrap_or(&text)
                        .trim_start_matches(':')
                        .trim();
                    wrong(error.place(), why);
                }
            }
        }
        let origins = Origins {
            facts,
            previous,
            material,
            read: &read,
        };
        let pools = origins.pools(&config, &mut wrong);
        let tls = origins.tls(&config, &mut wrong);
        warnings.extend(of_files(&config, &sources, &tls, &pools));
        let mut lists = AddressLists::new(material);
        lists.read_all(&config);
        problems.extend(lists.problems());
        let read_field = |source: &SecretSource| {
            let value = material.secret(source)?;
            // Shorter ones are words that lines are made of.
            if value.expose().len() >= LONG_VALUE {
                secrets.lock().push(value.clone());
            }
            Ok(value)
        };
        let rules: Vec<_> = config
            .routes
            .iter()
            .map(|route| HeaderChanges::read(route, &read_field, &mut problems))
            .collect();
        let fields = config.routes.iter().flat_map(config::Route::header_fields);
        let brought = fields.flat_map(config::HeaderField::brought);
        secrets.lock().extend(brought.cloned());
        if !problems.is_empty() {
            return Err(Problems(problems));
        }
        let parts = Parts {
            auths: &config.auths,
            authenticators,
            limits: Limits::build(&config, &facts.metrics, &facts.limits),
            pools: &pools,
        };
        let known = known_breakers(previous);
        let routes = config.routes.iter().zip(rules).map(|(route, changes)| {
            let known = known.get(&route.name).map_or(&[][..], Vec::as_slice);
            Arc::new(RouteRuntime::new(
                route, changes, &parts, facts, known, &mut lists,
            ))
        });
        let routes = routes.collect();
        let listener_rules = lists.of_listeners(&config);
        Ok(Self {
            table: RouteTable::new(Arc::clone(&config.routes)),
            routes,
            identity_headers: identity_headers(&config),
            token_parameters: token_parameters(&config),
            secrets: secrets.into_inner(),
            tls,
            listener_rules,
            pools,
            admin_token,
            warnings,
            sources,
            config,
        })
    }
}

impl Snapshot {
    /// Tells the log what an operator should know.
    pub fn warn(&self) {
        for warning in &self.warnings {
            log::warn!("{warning}");
        }
    }

    /// Breakers that are due go on, and metrics show what is in force. Done once a second.
    pub fn tick_breakers(&self, now: u64) {
        let of_pools = self.pools.values();
        let of_pools = of_pools.map(|pool| (pool.breaker(), &pool.stats().breaker));
        let of_routes = self.routes.iter();
        let of_routes = of_routes.map(|route| (route.breaker.as_ref(), &route.stats.breaker));
        for (breaker, stats) in of_pools.chain(of_routes) {
            match breaker {
                Some(breaker) => breaker.tick(now),
                None => stats.hide(),
            }
        }
    }

    /// Makes what was made for the snapshot known to all: it is about to be in force. Two that were built from the same
    /// facts have the same, whichever comes first. Endpoints follow when their pools [begin](Pool::begin).
    pub(super) fn register(&self, facts: &Facts) {
        facts.limits.register(self.config.every_limit());
        facts.auth.register(self.config.auths.values());
        let limits = self.config.every_limit();
        limits.for_each(|limit| facts.metrics.register_limit(&limit.name));
        self.routes.iter().for_each(|route| route.register(facts));
    }

    /// Puts the snapshot in force in place of the first of `earlier`, or back, being one of them: endpoints are used,
    /// and sides of splits judged, by its settings from now on.
    pub(super) fn begin(&self, earlier: &[Arc<Self>], now: u64) {
        let in_force = earlier.first();
        for (name, pool) in &self.pools {
            let before = in_force.and_then(|before| before.pools.get(name));
            if before.is_none_or(|before| !Arc::ptr_eq(before, pool)) {
                let known = earlier.iter().filter_map(|earlier| earlier.pools.get(name));
                pool.begin(&known.map(|known| &**known).collect::<Vec<_>>(), now);
            }
        }
        let judged = |snapshot: &Self| -> Vec<Arc<RolloutFacts>> {
            let sides = snapshot.routes.iter();
            let sides = sides.filter_map(|route| route.policy.sides.as_ref());
            sides.map(|sides| Arc::clone(sides.split.facts())).collect()
        };
        let before = in_force.map(|before| judged(before)).unwrap_or_default();
        for facts in judged(self) {
            if !before.iter().any(|before| Arc::ptr_eq(before, &facts)) {
                facts.begin();
            }
        }
    }

    /// What the snapshot needs of connections that are made before any request needs them.
    pub(super) fn needs(&self) -> NeededConnections {
        let mut pools = self.pools.values();
        let mut routes = self.routes.iter();
        NeededConnections {
            upstreams: pools.any(|pool| pool.settings().http2 || pool.tls_reuse_key() != 0),
            mirrors: routes.any(|route| route.policy.mirror.is_some()),
        }
    }

    /// Takes the snapshot out of force; `next` is in force now.
    pub(super) fn end(&self, next: &Self) {
        for (name, pool) in &self.pools {
            let goes_on = next
                .pools
                .get(name)
                .is_some_and(|next| Arc::ptr_eq(next, pool));
            if !goes_on {
                pool.end();
            }
        }
    }

    /// Breakers of upstreams and of routes.
    pub fn breakers(&self) -> impl Iterator<Item = &Arc<Breaker>> {
        let of_pools = self.pools.values().filter_map(|pool| pool.breaker());
        let of_routes = self.routes.iter();
        of_pools.chain(of_routes.filter_map(|route| route.breaker.as_ref()))
    }

    /// Why a client of this address is not served on a listener, if it is not.
    pub(super) fn turns_away(
        &self,
        listener: Option<&ListenerName>,
        client: IpAddr,
    ) -> Option<Refusal> {
        if self.listener_rules.is_empty() {
            return None;
        }
        let rules = self.listener_rules.get(listener?)?;
        (!rules.admits(client)).then(IpRules::refusal)
    }
}

/// What is there when a snapshot is built, besides its configuration.
struct Origins<'b> {
    facts: &'b Facts,
    previous: &'b [Arc<Snapshot>],
    material: &'b dyn Material,
    read: ReadSecret<'b>,
}

impl Origins<'_> {
    /// TLS of the listeners that speak it.
    fn tls(
        &self,
        config: &Config,
        wrong: &mut dyn FnMut(&str, &str),
    ) -> BTreeMap<ListenerName, ListenerConfig> {
        let mut built = BTreeMap::new();
        let starting = self.facts.log.is_some() && self.previous.is_empty();
        let expired = if starting {
            Expired::Served
        } else {
            Expired::Refused
        };
        let now = (clock::unix_now(), expired);
        for (index, listener) in config.listeners.iter().enumerate() {
            let Some(tls) = &listener.tls else { continue };
            match tls::build(tls, listener.http2, &self.facts.tls, now, &|path| {
                self.material.file(path)
            }) {
                Ok(tls) => {
                    built.insert(listener.name.clone(), tls);
                }
                Err(errors) => {
                    for error in errors {
                        let key = format!("listener[{index}].tls.{}", error.key);
                        wrong(&key, &error.to_string());
                    }
                }
            }
        }
        built
    }

    /// The pools of a configuration. One whose settings did not change is carried over with its rotation and checks,
    /// unless TLS or a secret is involved: its files may have changed. During a trial, one that is as it was before the trial
    /// goes on from there.
    fn pools(
        &self,
        config: &Config,
        wrong: &mut dyn FnMut(&str, &str),
    ) -> BTreeMap<UpstreamName, Arc<Pool>> {
        let facts = self.facts;
        let now = facts.clock.now();
        let mut pools = BTreeMap::new();
        for (name, settings) in &config.upstreams {
            let known = self
                .previous
                .iter()
                .filter_map(|earlier| earlier.pools.get(name));
            let known = known
                .clone()
                .find(|known| known.settings() == settings)
                .or_else(|| known.clone().next());
            let carried = settings.tls.is_none() && settings.sticky.is_none();
            if let Some(known) = known.filter(|known| known.settings() == settings && carried) {
                pools.insert(name.clone(), Arc::clone(known));
                continue;
            }
            let peers = match PeerTemplate::new(settings, &|path| self.material.file(path)) {
                Ok(peers) => peers,
                Err(error) => {
                    wrong(&format!("upstream.{name}.tls"), &error.to_string());
                    continue;
                }
            };
            let stats = facts.metrics.upstream(name);
            let mut pool = Pool::new(
                settings.clone(),
                peers,
                Arc::clone(&facts.endpoints),
                stats,
                now,
            );
            if let Some(sticky) = &settings.sticky {
                match (self.read)(&sticky.secret)
                    .and_then(meant)
                    .and_then(long_enough)
                {
                    Ok(secret) => pool.let_stay(&secret, now),
                    Err(why) => wrong(&format!("upstream.{name}.sticky.secret"), &why),
                }
            }
            if let Some(known) = known {
                pool = pool.inherit(known, now);
            }
            pools.insert(name.clone(), Arc::new(pool));
        }
        pools
    }
}

/// The breakers of routes, those of the configuration in force first.
fn known_breakers(earlier: &[Arc<Snapshot>]) -> HashMap<&RouteName, Vec<&Arc<Breaker>>> {
    let mut known: HashMap<_, Vec<_>> = HashMap::new();
    for route in earlier.iter().flat_map(|earlier| &earlier.routes) {
        if let Some(breaker) = &route.breaker {
            known.entry(&route.name).or_default().push(breaker);
        }
    }
    known
}

/// What is wrong with files that are used all the same.
fn of_files(
    config: &Config,
    sources: &[Source],
    tls: &BTreeMap<ListenerName, ListenerConfig>,
    pools: &BTreeMap<UpstreamName, Arc<Pool>>,
) -> Vec<Problem> {
    let mut warnings = Vec::new();
    let mut warn = |key: &str, why: &str| warnings.push(config::problem_at(sources, key, why));
    for (index, listener) in config.listeners.iter().enumerate() {
        let built = tls.get(&listener.name);
        for warning in built.iter().flat_map(|tls| &tls.warnings) {
            let key = format!("listener[{index}].tls.{}", warning.key);
            warn(&key, &warning.to_string());
        }
    }
    for (name, pool) in pools {
        if let Some(warning) = pool.warning() {
            warn(&format!("upstream.{name}.tls.cert"), &warning.to_string());
        }
    }
    warnings
}

/// Refuses a secret that is none, which anybody knows, and one that brought along what is not part of it.
fn meant(secret: Secret) -> Result<Secret, String> {
    if secret.expose().is_empty() {
        return Err("is empty".to_owned());
    }
    secret.check_end()?;
    Ok(secret)
}

fn long_enough(secret: Secret) -> Result<Secret, String> {
    if secret.expose().len() < config::HS_SECRET {
        return Err(config::SHORT_SECRET.to_owned());
    }
    Ok(secret)
}

fn identity_headers(config: &Config) -> ProtectedNames {
    let mut names: BTreeSet<String> = OWN_HEADERS.map(str::to_owned).into();
    for auth in config.auths.values() {
        if let Auth::Jwt(jwt) = auth {
            names.extend(
                jwt.forward_claims
                    .iter()
                    .map(|(_, header)| header.as_str().to_owned()),
            );
        }
    }
    let names = names.into_iter().filter_map(|name| name.parse().ok());
    ProtectedNames::new(names.collect())
}

fn token_parameters(config: &Config) -> Vec<String> {
    let jwt = config.auths.values().filter_map(|auth| match auth {
        Auth::Jwt(jwt) => Some(jwt),
        Auth::Signature(_) => None,
    });
    let names = jwt.flat_map(|jwt| &jwt.from).filter_map(|from| match from {
        TokenSource::Query(name) => Some(name.clone()),
        _ => None,
    });
    names.collect()
}
