//! What is changed on the way, what of it is looked at, and what the gateway answers by itself: header rules, cross-origin
//! requests, bodies that nest too deep, answers that are too long, fixed answers. Everything
//! that can be prepared is prepared when the configuration is loaded; a request only picks.

mod cors;
mod header_rules;
mod json_depth;
mod maintenance;
mod max_answer;
mod respond;

pub use cors::CorsFilter;
pub use header_rules::{HeaderFilter, read_fields};
pub use json_depth::JsonDepthFilter;
pub use maintenance::MaintenanceFilter;
pub use max_answer::MaxAnswerFilter;
pub use respond::reply;
