//! Commands that need no cluster, one verb a file. Decides nothing.

pub mod simulate;
