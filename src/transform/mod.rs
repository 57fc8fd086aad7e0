//! What is changed on the way, and what the gateway answers by itself: header rules, cross-origin requests, fixed
//! answers. Everything that can be prepared is prepared when the configuration is loaded; a request only picks.

mod cors;
mod header_rules;
mod maintenance;
mod respond;

pub use cors::CorsFilter;
pub use header_rules::{HeaderFilter, read_fields};
pub use maintenance::MaintenanceFilter;
pub use respond::reply;
