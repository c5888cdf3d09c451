//! What stories stand on: the environment, one story's world, and the monitor that checks the invariants.

pub mod audit;
pub mod environment;
pub mod example;
pub mod exporter;
pub mod gitops;
pub mod inbox;
pub mod monitor;
pub mod pods;
#[path = "../tests/it/support/receivers.rs"]
pub mod receivers;
pub mod shipped;
#[path = "../tests/it/support/transcript.rs"]
pub mod transcript;
pub mod world;

pub use environment::Environment;
pub use example::Example;
pub use inbox::Inboxes;
pub use pods::Ready;
pub use world::{Given, World};
