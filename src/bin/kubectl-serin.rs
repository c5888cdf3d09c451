//! The plugin `kubectl serin`: see a rollout, understand it, act on it.

use std::process::ExitCode;

fn main() -> ExitCode {
    serin::cli::plugin::main()
}
