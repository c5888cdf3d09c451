//! What tests stand on: a small world that does what actions say.

pub mod world;
