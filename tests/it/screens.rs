//! Screens: `screens/<what>.in.yaml` is a Rollout with what belongs to it, `screens/<what>.out.txt` is what `kubectl serin get`
//! shows of it, in Unicode and in ASCII, and what `explain` and `history` say.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use expect_test::expect_file;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde::Deserialize;
use serin::api::watched::{ReplicaSet, Rollout};
use serin::cli::cluster::Tree;
use serin::cli::view::{self, ASCII, UNICODE};
use serin::cli::{explain, history};

use crate::support::golden_inputs;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    now: Timestamp,
    conditions: BTreeMap<String, String>,
    rollout: Rollout,
    replica_sets: Vec<ReplicaSet>,
    pods: Vec<Pod>,
}

#[test]
fn screens() {
    for (input, expected) in golden_inputs::<Input>("screens") {
        let tree = Tree {
            unseen: Vec::new(),
            rollout: input.rollout,
            replica_sets: input.replica_sets,
            pods: input.pods,
            conditions: input.conditions.into_iter().collect(),
        };
        let mut text = String::new();
        for glyphs in [UNICODE, ASCII] {
            for line in view::lines(&tree, &glyphs, input.now) {
                let line: String = line.spans.iter().map(|span| span.content.as_ref()).collect();
                writeln!(text, "{}", line.trim_end()).unwrap();
            }
            writeln!(text).unwrap();
        }
        for line in explain::lines(&tree, input.now).iter().chain(&history::lines(&tree.rollout.status, input.now)) {
            writeln!(text, "{line}").unwrap();
        }
        expect_file![format!("{expected}.out.txt")].assert_eq(&text);
    }
}
