//! tollgate: an API gateway for edge hosts, built on Pingora.
//!
//! # Bird's eye
//!
//! A connection comes in at a worker, its request head is examined as bytes, the route is found in one tree, the
//! route's filters are asked in order, an endpoint is chosen, head and body are forwarded, the answer goes back by one
//! writer, one record is written. The configuration that decides all this is one immutable snapshot; a reload swaps it
//! whole.
//!
//! # The house
//!
//! Modules are rooms and stand on floors; a file imports from its own room or from floors below. `tests/house.rs`
//! walks the tree and fails on an import that points up or sideways.
//!
//! | Floor | Rooms | Knows |
//! |---|---|---|
//! | 6 | [`cli`] | `server`, and the floors below for commands that serve nothing |
//! | 5 | [`server`] | the framework's server, the gateway, files, signals |
//! | 4 | [`gateway`] | every room; the framework's session |
//! | 3 | [`route`] [`auth`] [`limit`] [`upstream`] [`transform`] [`tls`] [`degrade`] [`rollout`] | floors 0 to 2; never each other |
//! | 2 | [`api`] [`filter`] [`observe`] | floors 0 and 1; `observe` the other two besides |
//! | 1 | [`config`] | `primitives` |
//! | 0 | [`primitives`] | crates |
//!
//! Where to look: a route is matched in [`route`], who is calling is found out in [`auth`], counted in [`limit`]; an
//! endpoint is picked in [`upstream`]; what a route does in bad times is in [`degrade`], while something new is tried in
//! [`rollout`]. [`gateway`] puts them into one order and writes every byte that a client sees. [`filter`] is what all
//! filters share, [`api`] the admin API's questions and answers as types, [`observe`] metrics and logs. [`server`] boots,
//! reloads, hands over to the next process and serves the admin listener; [`cli`] asks it.
//!
//! | I want to | Begin at |
//! |---|---|
//! | follow a request | `gateway/serve.rs`; `docs/architecture.md` goes along its whole road, with what lives how long and what may wait where |
//! | do something to the body of an answer | `gateway/answer/stage.rs`, a variant of `Stage` |
//! | look at a request, or refuse it | `filter/mod.rs`, and `docs/add-a-filter.md` |
//! | reach endpoints in another way | `gateway/exchange/transport.rs` |
//! | find endpoints in another place | `upstream/source.rs` |
//! | change the order in which filters are asked | `gateway/chain.rs` |
//! | know who sends a status | `filter/refusal.rs`, the table of reasons |
//! | keep something over an upgrade | `primitives/sections.rs`, `server/handover/carried.rs` |
//! | know what happens when something fails | `docs/failures.md` |
//!
//! # One way for data
//!
//! TOML text → raw → validated [`config::Config`] → [`gateway::Snapshot`] → context of one request. Settings come that
//! way; facts (counts, health, nonces, connections) are [`gateway::Facts`]: they lie below every snapshot and outlive it.
//! Building a snapshot changes none that there is; [`gateway::State`] holds them and the snapshot in force, and is where
//! settings reach facts. What has to outlive the process is written in [sections](primitives::sections).
//!
//! # Words
//!
//! One word, one thing; in code, comments, metrics and messages.
//!
//! | Word | What it is |
//! |---|---|
//! | listener | a socket that accepts clients, with its own protocols and certificates |
//! | client, downstream | who asks; the side of a connection on which requests come in |
//! | upstream | a named group of endpoints that answer alike; the side on which requests go out |
//! | endpoint | one address of an upstream |
//! | source | what finds an upstream's endpoints and says them all each time; names that are resolved are the first |
//! | pool | an upstream as it is in force: settings, endpoints, balancer |
//! | balancer | picks an endpoint among those that are usable |
//! | health | what active checks and outliers say of an endpoint: up, down, ejected, drained |
//! | breaker | stops sending where too many calls fail, and lets a few through after a while |
//! | budget | how many tries more than requests there may be |
//! | route | what decides about a request: a pattern, filters, where it goes |
//! | table | all routes, as one tree that is searched once |
//! | filter | looks at a request or changes it; one file, one struct |
//! | chain | the filters of a route in the order in which they are asked |
//! | verdict | what a filter says: go on, refuse, answer, wait, the body first |
//! | refusal | why a request is not served: a reason, and what else the client or the log is told |
//! | reason | one of a closed list: status, code, title |
//! | principal | who is calling, and the claims that go with it |
//! | consumer | the name by which a principal is counted and logged |
//! | nonce | a number that may be used once; the store remembers those that were |
//! | limit | how much a key may have; it lets through, delays or refuses |
//! | key | what requests are counted under: an address, a consumer, a header |
//! | permit | what is held while something is under way, and given back when it is dropped |
//! | class | how much a request matters when not all can be served: critical, normal, sheddable |
//! | shedding | refusing early because more comes in than can be served |
//! | level | how much of its work a route does: normal, lean, fallback, off |
//! | fallback | what answers in the upstream's place: another upstream, the last good answer, a fixed one |
//! | split, side | several upstreams for one route; one of them |
//! | mirror | a copy of a request whose answer nobody waits for |
//! | exchange | one request with its answer: as a filter sees it, or with an upstream |
//! | attempt | one try to get an answer from an endpoint: when, how long, why it ended |
//! | hedge | a second attempt while the first is still awaited |
//! | failover | an attempt at another upstream after the first could not answer |
//! | transport | how an exchange with an upstream is carried: HTTP/1 or HTTP/2, over TCP, TLS or a Unix socket |
//! | upload | a request's body on its way to an upstream |
//! | response writer | the one place that delimits, counts and sends an answer to its client |
//! | stage | one step through which the pieces of an answer's body go on their way; the list is empty for most |
//! | framing | where a body ends: a length, chunks, the end of the connection |
//! | wire | what a request comes in by: HTTP/1, HTTP/2, or memory for those made inside the process |
//! | section | what one room leaves to the next process: a name, a version, bytes with a checksum |
//! | worker | a thread that serves its own connections and shares nothing it need not |
//! | configuration | the validated file; without I/O |
//! | snapshot | the configuration in force with all that was built of it; immutable, swapped whole |
//! | facts | what was learned by serving: counts, health, nonces, connections; below the snapshot, and outlives it |
//! | state | the snapshot in force, and the facts |
//! | reload | another snapshot in the same process |
//! | trial | a reload that is taken back by itself unless somebody confirms it |
//! | upgrade, handover | another process takes the sockets and the facts over |
//! | drain | serving what is under way to its end, and taking nothing new |
//! | record | what is known of a request once it is over: access line and metrics are made of it |
//!
//! # Invariants, which are absences
//!
//! - `config` performs no I/O: text in, a value or every problem out.
//! - No `static` holds mutable state.
//! - The framework's `Session` appears in `gateway` only, its `Server` in `server` only.
//! - No filter waits or writes to the client; no traffic reaches a panic that takes more than its own request along.
//! - Every wait has a deadline, every collection a bound, every metric label a finite set of values.

pub mod cli;
pub mod server;

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;

pub mod gateway;

pub mod auth;
pub mod degrade;
pub mod limit;
pub mod rollout;
pub mod route;
pub mod tls;
pub mod transform;
pub mod upstream;

pub mod api;
pub mod filter;
pub mod observe;

pub mod config;

pub mod primitives;
