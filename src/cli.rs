//! What people type. `simulate` and `convert` need no cluster; the other commands are those of the plugin `kubectl serin`. One verb a file.

pub mod act;
pub mod clock;
pub mod cluster;
pub mod convert;
pub mod explain;
pub mod get;
pub mod list;
pub mod outcome;
pub mod plugin;
pub mod screen;
pub mod simulate;
pub mod status;
pub mod view;
