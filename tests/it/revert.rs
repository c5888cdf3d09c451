//! What pipelines do with an abort: `deploy/revert/revert.sh` against a bare repository on this machine.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

struct Town {
    origin: PathBuf,
    clone: PathBuf,
}

fn git(dir: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git").args(arguments).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

impl Town {
    fn new(name: &str) -> Self {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("revert-{name}"));
        let _ = std::fs::remove_dir_all(&root);
        std::fs::create_dir_all(&root).unwrap();
        git(&root, &["init", "--quiet", "--bare", "--initial-branch=main", "origin.git"]);
        git(&root, &["clone", "--quiet", "origin.git", "clone"]);
        let town = Self { origin: root.join("origin.git"), clone: root.join("clone") };
        for (key, value) in
            [("user.name", "serin"), ("user.email", "serin@example.invalid"), ("commit.gpgsign", "false")]
        {
            git(&town.clone, &["config", key, value]);
        }
        town.commit("image: checkout:1");
        town
    }

    /// Commits the manifest to main, and pushes it.
    fn commit(&self, text: &str) -> String {
        git(&self.clone, &["checkout", "--quiet", "-B", "main"]);
        std::fs::write(self.clone.join("rollout.yaml"), text).unwrap();
        git(&self.clone, &["add", "rollout.yaml"]);
        git(&self.clone, &["commit", "--quiet", "-m", text]);
        git(&self.clone, &["push", "--quiet", "origin", "main"]);
        git(&self.clone, &["rev-parse", "HEAD"])
    }

    fn revert(&self, arguments: &[&str]) -> Output {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/revert/revert.sh");
        let output = Command::new("sh").arg(script).args(arguments).current_dir(&self.clone).output().unwrap();
        git(&self.clone, &["checkout", "--quiet", "main"]);
        output
    }

    fn branches(&self) -> Vec<String> {
        let branches = git(&self.origin, &["for-each-ref", "--format=%(refname:short)", "refs/heads"]);
        branches.lines().map(str::to_owned).collect()
    }

    fn manifest(&self, branch: &str) -> String {
        git(&self.origin, &["show", &format!("{branch}:rollout.yaml")])
    }
}

fn last_line(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_owned()
}

#[test]
fn a_commit_is_taken_back_once_on_a_branch_of_its_own() {
    let town = Town::new("once");
    let bad = town.commit("image: checkout:2");
    let branch = format!("revert/checkout/{bad}");
    for time in 0..3 {
        let output = town.revert(&["checkout", &bad]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(last_line(&output), branch, "time {time}");
    }
    assert_eq!(town.branches(), ["main", &branch]);
    assert_eq!(town.manifest(&branch), "image: checkout:1");
    assert_eq!(town.manifest("main"), "image: checkout:2", "main is a person's");
    let only = git(&town.origin, &["rev-list", "--count", &format!("main..{branch}")]);
    assert_eq!(only, "1");
    // Merged and deleted, it is not made again.
    git(&town.clone, &["fetch", "--quiet", "origin"]);
    git(&town.clone, &["merge", "--quiet", "--no-edit", &format!("origin/{branch}")]);
    git(&town.clone, &["push", "--quiet", "origin", "main", &format!(":{branch}")]);
    let output = town.revert(&["checkout", &bad]);
    assert_eq!((output.status.success(), last_line(&output)), (true, String::new()));
    assert_eq!(town.branches(), ["main"]);
}

#[test]
fn a_merge_is_taken_back_too() {
    let town = Town::new("merge");
    git(&town.clone, &["checkout", "--quiet", "-b", "release"]);
    std::fs::write(town.clone.join("rollout.yaml"), "image: checkout:2").unwrap();
    git(&town.clone, &["commit", "--quiet", "-am", "release"]);
    git(&town.clone, &["checkout", "--quiet", "main"]);
    git(&town.clone, &["merge", "--quiet", "--no-ff", "--no-edit", "release"]);
    git(&town.clone, &["push", "--quiet", "origin", "main"]);
    let merge = git(&town.clone, &["rev-parse", "HEAD"]);
    let output = town.revert(&["checkout", &merge]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(town.manifest(&last_line(&output)), "image: checkout:1");
}

#[test]
fn nothing_else_is_touched() {
    let town = Town::new("nothing");
    let bad = town.commit("image: checkout:2");
    // A commit that is not on main, one that is changed again since, and texts that are none.
    git(&town.clone, &["checkout", "--quiet", "-b", "other"]);
    std::fs::write(town.clone.join("other.yaml"), "a").unwrap();
    git(&town.clone, &["add", "other.yaml"]);
    git(&town.clone, &["commit", "--quiet", "-m", "other"]);
    let other = git(&town.clone, &["rev-parse", "HEAD"]);
    git(&town.clone, &["checkout", "--quiet", "main"]);
    let output = town.revert(&["checkout", &other]);
    assert_eq!((output.status.success(), last_line(&output)), (true, String::new()));
    for (rollout, commit) in [
        ("checkout", "HEAD"),
        ("checkout", &bad[..12]),
        ("checkout", "$(touch x)"),
        ("../main", bad.as_str()),
        ("-f", bad.as_str()),
        ("a b", bad.as_str()),
        ("", bad.as_str()),
    ] {
        let output = town.revert(&[rollout, commit]);
        assert!(!output.status.success(), "{rollout} {commit}");
    }
    town.commit("image: checkout:3");
    assert!(!town.revert(&["checkout", &bad]).status.success(), "a conflict is a person's");
    assert_eq!(town.branches(), ["main"]);
    assert_eq!(town.manifest("main"), "image: checkout:3");
}

/// Of a group of its own each, no revert is dropped for another: GitHub keeps one run of a group that waits.
#[test]
fn no_revert_waits_in_the_group_of_another() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/revert/github.yaml");
    let workflow: serde_json::Value = serde_yaml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let group = workflow["jobs"]["revert"]["concurrency"].as_str().unwrap();
    let of = |context: &str, sha: &str| {
        group.replace("${{ github.event.context }}", context).replace("${{ github.event.sha }}", sha)
    };
    assert_ne!(of("serin/shop/checkout", "a"), of("serin/shop/cart", "a"), "two Rollouts of one commit");
    assert_ne!(of("serin/shop/checkout", "a"), of("serin/shop/checkout", "b"), "two commits of one Rollout");
}
