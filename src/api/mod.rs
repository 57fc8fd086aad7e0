//! The admin API in types: what is asked of a running gateway and what it answers, as JSON.
//!
//! The server builds these values and the command line reads them, so that a field has one name in one place. Whoever
//! reads is lenient: a field that is missing takes its default and one that is unknown is passed over, because the
//! gateway asked may be older or newer. Whoever is asked is strict: a call with an unknown field is refused.
//!
//! A word of a closed set (a state, an algorithm) is a [`ApiWord`] and no enum: the next version may know more of them.

mod calls;
mod explain;
mod headroom;
mod info;
mod limits;
mod policy;
mod reports;
mod routes;
mod traffic;
mod upstreams;

use std::borrow::Cow;

pub use calls::{EndpointSet, Failure, LevelSet, LevelWanted, SideSet};
pub use explain::{Candidate, ExplainedStep, Explanation, NearMiss, Question};
pub use headroom::{Headroom, HeadroomEstimate, HeadroomLatency, WorkerLoad};
pub use info::{
    AuthBufferStatus, CertificateStatus, HealthStatus, Info, NamedCheck, OverloadStatus,
};
pub use limits::LimitStatus;
pub use policy::{
    FallbackStatus, LevelStatus, MirrorStatus, PolicyStatus, SideStatus, SideStopped,
};
pub use reports::{ReloadReport, RouteComparison, TrialReport, UpgradeReport};
pub use routes::{RouteDescription, RouteStatus};
pub use traffic::{Behaviour, RouteWindows, TrafficWindow};
pub use upstreams::{
    BreakerStatus, ClassCounts, EndpointFigures, EndpointScore, EndpointStatus, KeptFrom,
    PlacesStatus, UpstreamStatus, WeightReason,
};

/// A word of the API: written from a constant, read into memory of its own.
pub type ApiWord = Cow<'static, str>;
