//! tollgate
pub mod auth;
pub mod config;
pub mod filter;
pub mod limit;
pub mod observe;
pub mod primitives;
