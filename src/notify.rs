//! What people and tools are told outside of the cluster, and in which form: pure functions. Which message is due
//! ([`ledger`]), what it says ([`context`], [`template`]), where it may go ([`host`]), how each service wants it ([`mod@format`])
//! and what its answer means ([`answer`]). Sends nothing; the shell of it is `controller::notify`.

pub mod answer;
pub mod chat;
pub mod commit;
pub mod context;
pub mod format;
pub mod host;
pub mod ledger;
pub mod machine;
pub mod mail;
pub mod service;
pub mod sign;
pub mod template;
