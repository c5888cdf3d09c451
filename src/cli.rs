//! What people type. Simulations and checks of manifests need no cluster; the other commands are those of the plugin
//! `kubectl serin`. One verb a file.

pub mod act;
pub mod backtest;
pub mod branch;
pub mod clock;
pub mod cluster;
pub mod completion;
pub mod convert;
pub mod dashboard;
pub mod diff;
pub mod doctor;
pub mod earlier;
pub mod explain;
pub mod files;
pub mod get;
pub mod history;
pub mod lint;
pub mod list;
pub mod origin;
pub mod outcome;
pub mod plugin;
pub mod screen;
pub mod set;
pub mod simulate;
pub mod status;
pub mod table;
pub mod trace;
pub mod undo;
pub mod view;
