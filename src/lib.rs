//! tollgate
pub mod auth;
pub mod config;
pub mod filter;
pub mod limit;
pub mod transform;
pub mod observe;
pub mod primitives;
pub mod route;
pub mod upstream;
pub mod gateway;
