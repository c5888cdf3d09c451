//! Serin: progressive delivery for Istio. Read `api` (the nouns), then `plan` (the decisions), then `controller` (the shell).

pub mod api;
pub mod cli;
pub mod controller;
pub mod convert;
pub mod demo;
pub mod embedded;
pub mod evidence;
pub mod lint;
pub mod notify;
pub mod plan;
pub mod schema;
pub mod sim;
