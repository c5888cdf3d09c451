//! Nouns: what users write and read. Types only; no decisions, no I/O.
#![warn(missing_docs)]

pub mod action;
pub mod analysis;
pub mod comparison;
pub mod config;
pub mod crd;
pub mod duration;
pub mod event;
pub mod evidence;
pub mod gateway;
pub mod istio;
pub mod job;
pub mod json;
pub mod kustomize;
pub mod names;
pub mod notification;
pub mod promotion;
pub mod provider;
pub mod rollout;
pub mod route;
pub mod schema;
pub mod status;
pub mod syntax;
pub mod watched;
