//! One integration binary: laws, golden plans, the shell against the embedded API, what is generated, the house's order.
#![expect(unreachable_pub, reason = "a test binary has no outside")]
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a failing test may panic")]

mod actions;
mod awaited;
mod brought;
mod conformance;
mod contested;
mod convert;
mod customizations;
mod diff;
mod events;
mod examples;
mod force;
mod generated;
mod golden;
mod http_routes;
mod invariant;
mod law;
mod leaving;
mod lint;
mod notify;
mod notify_forms;
mod notify_post;
mod objects;
mod pages;
mod port;
mod presets;
mod pressing;
mod ratio;
mod reading;
mod requests;
mod revert;
mod roles;
mod scale;
mod screens;
mod shell;
mod simulate;
mod simulation;
mod snapshots;
mod support;
mod tidy;
mod timelines;
mod traffic;
mod workload;
