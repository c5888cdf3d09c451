//! Configuration that belongs to a revision: copies of ConfigMaps and Secrets.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use serin::api::config::ConfigKind::{self, ConfigMap, Secret};
use serin::api::status::Phase;
use serin::api::watched::Rollout;
use serin::cli;
use serin::cli::diff::{Difference, Effect, Item, from_cluster};
use serin::controller::lease::Leadership;
use serin::embedded::Cluster;
use serin::plan::analysis::later;
use serin::plan::observed::{Config, Configs, GoneConfig, Undeleted};
use serin::plan::snapshot::{Resolved, Unknown, resolved};
use serin::plan::strategy::ConfigSnapshots;
use tokio::time::sleep;

use crate::shell::{self, Met, Running, client_with};
use crate::support::world::{World, owned, spec, template};

/// A template that takes configuration from a ConfigMap and a Secret.
fn configured(image: &str) -> Value {
    let mut template = template(image);
    template["spec"]["containers"][0]["envFrom"] = json!([{"configMapRef": {"name": "settings"}}]);
    template["spec"]["volumes"] = json!([{"name": "keys", "secret": {"secretName": "keys"}}]);
    template
}

fn new(snapshots: &Value) -> World {
    let mut spec = spec("checkout:1", 4, &owned());
    spec["template"] = configured("checkout:1");
    spec["configSnapshots"] = snapshots.clone();
    let canary = &mut spec["strategy"]["canary"];
    canary["analysis"] = json!(null);
    canary["steps"] = json!([{"setWeight": 50}, {"pause": {}}]);
    World::new(&spec)
}

/// A Rollout at rest that copies both kinds.
fn at_rest() -> World {
    let mut world = new(&json!({"kinds": ["ConfigMap", "Secret"]}));
    world.set_config(ConfigMap, "settings", "one", false);
    world.set_config(Secret, "keys", "k", false);
    world.settle();
    world.pass_time(20);
    assert_eq!(world.phase(), "Healthy");
    world
}

/// The copies that there are.
fn copies(world: &World) -> Vec<String> {
    let of = |kind: ConfigKind| world.observed.configs.of(kind).unwrap_or_default().iter();
    of(ConfigMap).chain(of(Secret)).filter(|one| one.is_copy).map(|one| one.name.clone()).collect()
}

/// What the ReplicaSet of a revision records.
fn recorded(world: &World, hash: &str) -> String {
    let sets = &world.observed.replica_sets;
    let set = sets.iter().find(|set| set.metadata.name.as_deref() == Some(&format!("checkout-{hash}"))).unwrap();
    set.metadata.annotations.as_ref().unwrap()["serin.dev/config-copies"].clone()
}

fn stable(world: &World) -> String {
    world.observed.rollout.status.stable.as_ref().unwrap().hash.clone()
}

fn waits(world: &World) -> Vec<String> {
    world.observed.rollout.status.blocked_by.iter().map(|wait| format!("{}: {}", wait.reason, wait.message)).collect()
}

#[test]
fn a_change_of_configuration_alone_is_a_canary_and_its_end_brings_the_old_one_back() {
    let mut world = at_rest();
    let (first, of_first) = (stable(&world), copies(&world));
    assert_eq!(of_first.len(), 2, "{of_first:?}");
    let log = world.log.join("\n");
    let copied = log.find("copy ConfigMap settings as checkout-settings-").unwrap();
    assert!(copied < log.find("create ReplicaSet").unwrap(), "pods find their configuration: {log}");
    assert_eq!(recorded(&world, &first), format!("ConfigMap/{},Secret/{}", of_first[0], of_first[1]));

    world.set_config(ConfigMap, "settings", "two", false);
    world.settle();
    assert_eq!(copies(&world), of_first, "what else the commit changes may follow");
    assert_eq!(
        waits(&world),
        ["ConfigSettling: ConfigMap settings has just changed; what else the commit changes may follow"]
    );
    world.pass_time(20);
    assert_eq!(world.weight(), 50, "nothing of the template has changed: {:?}", world.log);
    let second = world.observed.rollout.status.canary.as_ref().unwrap().hash.clone();
    assert_ne!(second, first);
    assert_ne!(recorded(&world, &second), recorded(&world, &first));
    assert_eq!(copies(&world).len(), 3, "the Secret is the same, and so is its copy");

    world.act("abort");
    world.pass_time(60);
    assert_eq!(world.weight(), 0);
    assert_eq!(stable(&world), first);
    assert!(of_first.iter().all(|copy| copies(&world).contains(copy)), "stable's configuration is there");

    world.set_config(ConfigMap, "settings", "one", false);
    world.pass_time(20);
    assert_eq!(world.phase(), "Healthy", "the old content is the old revision");
    assert_eq!(stable(&world), first);
}

#[test]
fn template_and_configuration_of_one_commit_are_one_revision() {
    let mut world = at_rest();
    world.set_config(ConfigMap, "settings", "two", false);
    world.settle();
    world.pass_time(2);
    world.edit(|spec| spec["template"] = configured("checkout:2"));
    world.settle();
    world.pass_time(30);
    let status = &world.observed.rollout.status;
    assert_eq!(status.canary.as_ref().unwrap().image, "checkout:2");
    let ended: Vec<String> = status.history.iter().map(|one| one.outcome.to_string()).collect();
    assert_eq!(ended, ["Promoted"], "nothing was superseded");
}

#[test]
fn configuration_that_git_takes_away_breaks_no_pods() {
    let mut world = at_rest();
    let (first, of_first) = (stable(&world), copies(&world));
    world.remove_config(ConfigMap, "settings");
    world.pass_time(20);
    assert_eq!(
        waits(&world),
        [
            "ConfigMissing: the template refers to ConfigMap settings, which does not exist; create it, or list it in spec.configSnapshots.except"
        ]
    );
    assert_eq!(world.phase(), "Degraded");
    let told = world.observed.rollout.status.events.last().unwrap();
    assert_eq!((told.reason.as_str(), told.revision.as_str()), ("Stalled", ""), "stable's commit is not at fault");
    assert_eq!((stable(&world), copies(&world)), (first.clone(), of_first));
    assert_eq!(world.observed.rollout.status.stable.as_ref().unwrap().ready, 4, "they serve");
    world.set_config(ConfigMap, "settings", "one", false);
    world.pass_time(20);
    assert_eq!((world.phase().as_str(), stable(&world)), ("Healthy", first));
}

#[test]
fn what_is_there_already_waits_for_nothing() {
    let mut world = at_rest();
    let (first, of_first) = (stable(&world), copies(&world));
    world.set_config(ConfigMap, "settings", "one", false);
    world.settle();
    assert_eq!((world.phase().as_str(), waits(&world)), ("Healthy", Vec::new()), "a touch that changes nothing");
    world.remove_config(ConfigMap, &of_first[0]);
    world.settle();
    let restored = copies(&world).into_iter().collect::<BTreeSet<_>>();
    assert_eq!(restored, of_first.into_iter().collect(), "the next pod of stable finds its configuration");

    world.set_config(ConfigMap, "settings", "two", false);
    world.pass_time(20);
    world.act("abort");
    world.pass_time(60);
    assert_eq!(world.phase(), "Degraded");
    world.set_config(ConfigMap, "settings", "three", false);
    world.settle();
    assert_eq!(world.phase(), "Progressing", "the fix is not what was aborted: {:?}", waits(&world));
    world.set_config(ConfigMap, "settings", "one", false);
    world.settle();
    assert_eq!((world.phase().as_str(), stable(&world)), ("Healthy", first), "a revert is at once");
}

#[test]
fn copies_go_with_the_last_revision_that_has_them() {
    let mut world = at_rest();
    world.edit(|spec| spec["revisionHistoryLimit"] = json!(1));
    for content in ["two", "three", "four"] {
        world.set_config(ConfigMap, "settings", content, false);
        world.pass_time(20);
        world.act("promote");
        world.pass_time(90);
        assert_eq!(world.phase(), "Healthy", "{content}: {:?}", waits(&world));
    }
    let sets = world.observed.replica_sets.iter().filter_map(|set| set.metadata.annotations.as_ref());
    let used: BTreeSet<String> = sets
        .flat_map(|all| all["serin.dev/config-copies"].split(',').map(|one| one.split_once('/').unwrap().1.to_owned()))
        .collect();
    assert_eq!(copies(&world).into_iter().collect::<BTreeSet<_>>(), used);
    assert_eq!(used.len(), 3, "two ConfigMaps and the Secret, which never changed");

    // Without copies any more, the template refers to the objects themselves, which is another revision.
    world.edit(|spec| spec["configSnapshots"] = json!(null));
    world.settle();
    world.pass_time(20);
    world.act("promote");
    world.edit(|spec| spec["revisionHistoryLimit"] = json!(0));
    world.pass_time(120);
    assert_eq!(copies(&world), Vec::<String>::new());
}

#[test]
fn what_may_not_be_read_is_awaited_by_name() {
    let mut world = new(&json!({"kinds": ["Secret"]}));
    world.settle();
    world.pass_time(20);
    assert_eq!(
        waits(&world)[..1],
        [
            "ConfigUnlisted: Secrets are being read, as spec.configSnapshots asks; if that lasts, Serin may not list them here: bind ClusterRole serin-secret-snapshots in this namespace"
        ]
    );
    assert_eq!(world.observed.replica_sets, []);
    world.set_config(Secret, "keys", "k", false);
    world.settle();
    world.pass_time(20);
    assert_eq!(world.phase(), "Healthy");
    assert_eq!(copies(&world).len(), 1, "ConfigMaps are read as they are");
}

#[test]
fn a_copy_that_cannot_be_deleted_is_named_and_holds_nothing() {
    let mut world = at_rest();
    world.set_config(ConfigMap, "checkout-settings-left", "old", true);
    let until = later(world.now, SignedDuration::from_mins(10));
    world.observed.configs.undeleted = Some(Undeleted { message: "configmaps is forbidden".into(), until });
    world.settle();
    assert_eq!(waits(&world), ["CopyUndeleted: configmaps is forbidden"]);
    assert_eq!(world.phase(), "Healthy");
    world.set_config(ConfigMap, "settings", "two", false);
    world.pass_time(20);
    assert_eq!(world.weight(), 50, "a canary waits for nothing of it: {:?}", waits(&world));
    assert!(copies(&world).contains(&"checkout-settings-left".to_owned()));
    world.pass_time(10 * 60);
    assert!(!copies(&world).contains(&"checkout-settings-left".to_owned()), "it is tried again");
    assert!(waits(&world).iter().all(|wait| !wait.starts_with("CopyUndeleted")), "{:?}", waits(&world));
}

#[test]
fn an_optional_object_that_is_created_again_changes_nothing() {
    let mut world = new(&json!({"kinds": ["ConfigMap"]}));
    world.edit(|spec| {
        let source = &mut spec["template"]["spec"]["containers"][0]["envFrom"][0]["configMapRef"];
        source["optional"] = json!(true);
    });
    world.set_config(ConfigMap, "settings", "one", false);
    world.settle();
    world.pass_time(20);
    let first = stable(&world);
    world.remove_config(ConfigMap, "settings");
    world.observed.configs.gone = vec![GoneConfig { kind: ConfigMap, name: "settings".into(), at: world.now }];
    world.settle();
    assert!(waits(&world)[0].starts_with("ConfigSettling: ConfigMap settings"), "{:?}", waits(&world));
    world.pass_time(2);
    world.set_config(ConfigMap, "settings", "one", false);
    world.pass_time(20);
    assert_eq!((world.phase().as_str(), stable(&world)), ("Healthy", first));
    assert_eq!(world.observed.rollout.status.history.len(), 1, "there was no other revision");

    world.remove_config(ConfigMap, "settings");
    world.observed.configs.gone = vec![GoneConfig { kind: ConfigMap, name: "settings".into(), at: world.now }];
    world.settle();
    world.pass_time(20);
    assert_eq!(world.weight(), 50, "what stays away is another configuration");
}

fn config(kind: ConfigKind, name: &str) -> Config {
    let changed_at = Some(Timestamp::from_second(1).unwrap());
    Config { kind, name: name.into(), uid: "1".into(), digest: "d".into(), changed_at, is_copy: false }
}

fn configs() -> Configs {
    Configs {
        config_maps: Some(vec![config(ConfigMap, "a"), config(ConfigMap, "pinned")]),
        secrets: Some(vec![config(Secret, "b")]),
        ..Configs::default()
    }
}

/// What becomes of a template of the Rollout `web`.
fn led(given: &Value, kinds: &[ConfigKind], configs: &Configs) -> Resolved {
    let except = BTreeSet::from(["pinned".to_owned()]);
    resolved(("web", given), &ConfigSnapshots { kinds: kinds.iter().copied().collect(), except }, configs)
}

#[test]
fn every_reference_leads_to_the_copy() {
    let given = json!({"spec": {
        "initContainers": [{"envFrom": [{"secretRef": {"name": "b"}}]}],
        "containers": [{
            "env": [{"valueFrom": {"configMapKeyRef": {"name": "a", "key": "x"}}}, {"valueFrom": {"secretKeyRef": {"name": "b", "key": "x"}}}, {"value": "a"}],
            "envFrom": [{"configMapRef": {"name": "a"}}, {"configMapRef": {"name": "gone", "optional": true}}, {"configMapRef": {"name": "pinned"}}],
        }],
        "volumes": [
            {"configMap": {"name": "a"}}, {"secret": {"secretName": "b"}},
            {"projected": {"sources": [{"configMap": {"name": "a"}}, {"secret": {"name": "b"}}, {"downwardAPI": {}}]}},
        ],
        "imagePullSecrets": [{"name": "b"}],
    }});
    let (template, copies) = led(&given, &[ConfigMap, Secret], &configs()).unwrap();
    let names: Vec<&str> = copies.iter().map(|copy| copy.name.as_str()).collect();
    let [a, b] = names[..] else { panic!("{names:?}") };
    assert!(a.starts_with("web-a-") && b.starts_with("web-b-"), "{names:?}");
    let mut wanted = given.to_string();
    for (field, from, to) in [("name", "a", a), ("secretName", "b", b), ("name", "b", b)] {
        wanted = wanted.replace(&format!(r#""{field}":"{from}""#), &format!(r#""{field}":"{to}""#));
    }
    let pulled = |name: &str| format!(r#""imagePullSecrets":[{{"name":"{name}"}}]"#);
    assert_eq!(template.to_string(), wanted.replace(&pulled(b), &pulled("b")));
    assert_eq!(led(&given, &[], &configs()), Ok((given.clone(), Vec::new())));

    let without = Configs { config_maps: Some(Vec::new()), ..configs() };
    assert_eq!(led(&given, &[ConfigMap], &without), Err(Unknown::Missing(vec!["ConfigMap a".into()])));
    let unlisted = Configs { secrets: None, ..configs() };
    assert_eq!(led(&given, &[Secret], &unlisted), Err(Unknown::Unlisted(Secret)));
}

#[test]
fn names_of_copies_tell_everything_apart() {
    let volume = |kind, source: &str| {
        let volume = match kind {
            ConfigMap => json!({"configMap": {"name": source}}),
            Secret => json!({"secret": {"secretName": source}}),
        };
        json!({"spec": {"volumes": [volume]}})
    };
    // A template that names a copy, as an undo finds it, is that revision's.
    let copy = Config { is_copy: true, ..config(ConfigMap, "web-a-8l2gbx7rcv") };
    let has_copy = Configs { config_maps: Some(vec![copy]), ..configs() };
    let named = volume(ConfigMap, "web-a-8l2gbx7rcv");
    let (template, copies) = led(&named, &[ConfigMap], &has_copy).unwrap();
    assert_eq!((template, copies.len()), (named, 1));

    let name = |rollout: &str, kind, source: &str, digest: &str| {
        let one = Config { digest: digest.into(), ..config(kind, source) };
        let secrets = Some(vec![Config { kind: Secret, ..one.clone() }]);
        let configs = Configs { config_maps: Some(vec![one]), secrets, ..Configs::default() };
        let snapshots = ConfigSnapshots { kinds: ConfigKind::ALL.into(), ..ConfigSnapshots::default() };
        resolved((rollout, &volume(kind, source)), &snapshots, &configs).unwrap().1.remove(0).name
    };
    assert_eq!(name("web", ConfigMap, &"x".repeat(253), "d").len(), 253);
    let names = [
        name("web", ConfigMap, "a", "d"),
        name("web", ConfigMap, "a", "e"),
        name("web", Secret, "a", "d"),
        name("api", ConfigMap, "a", "d"),
    ];
    assert_eq!(BTreeSet::from(names).len(), 4);
}

/// What a pod of a revision would read: the content of the copy that its template refers to.
fn read_by(cluster: &Cluster, hash: &str) -> Value {
    let set = cluster.get("replicasets", "shop", &format!("checkout-{hash}")).unwrap();
    let name = set["spec"]["template"]["spec"]["containers"][0]["envFrom"][0]["configMapRef"]["name"].as_str().unwrap();
    let copy = cluster.get("configmaps", "shop", name).unwrap();
    assert_eq!(
        (&copy["immutable"], &copy["metadata"]["ownerReferences"][0]["kind"]),
        (&json!(true), &json!("Rollout"))
    );
    copy["data"].clone()
}

/// What `kubectl serin diff` says of manifests.
async fn offline(cluster: &Cluster, objects: &[&Value]) -> Difference {
    let text: Vec<String> = objects.iter().map(ToString::to_string).collect();
    let cluster = cli::cluster::Cluster { client: cluster.client("shop"), namespace: "shop".to_owned() };
    let mut items = from_cluster(&cluster, &[("git".to_owned(), text.join("\n---\n"))]).await.unwrap();
    let Item::Rollout(difference) = items.remove(0) else { panic!("{items:?}") };
    difference
}

fn settings(content: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings", "namespace": "shop"}, "data": {"greeting": content}})
}

/// A ConfigMap, and a Rollout that copies it.
fn small(cluster: &Cluster) -> Value {
    cluster.apply("configmaps", &settings("hello")).unwrap();
    cluster.apply("services", &json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "checkout", "namespace": "shop"}, "spec": {"selector": {"app": "checkout"}}})).unwrap();
    let mut spec = spec("checkout:1", 3, &owned());
    spec["template"]["spec"]["containers"][0]["envFrom"] =
        json!([{"configMapRef": {"name": "settings", "optional": true}}]);
    spec["configSnapshots"] = json!({"kinds": ["ConfigMap"]});
    spec["revisionHistoryLimit"] = json!(0);
    json!({"apiVersion": "serin.dev/v1alpha1", "kind": "Rollout", "metadata": {"name": "checkout", "namespace": "shop"}, "spec": spec})
}

fn names(cluster: &Cluster) -> Vec<String> {
    cluster.list("configmaps").iter().map(|one| one["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

/// A small Rollout, Healthy with its first revision.
async fn running(meets: impl Fn(&str, &str) -> Option<Met> + Send + Sync + 'static) -> (Running, Value) {
    let clock = shell::virtual_clock();
    let cluster = shell::cluster(&clock);
    let rollout = small(&cluster);
    cluster.apply("rollouts", &rollout).unwrap();
    let leads = (Leadership::alone(), serin::controller::readiness());
    let client = (client_with(&cluster, meets), None);
    let running = shell::run_with(&cluster, &clock, client, leads, 1.0);
    running.wait("checkout", "Healthy", |rollout| rollout.status.phase == Some(Phase::Healthy)).await;
    assert_eq!(names(&cluster).len(), 2, "{:?}", names(&cluster));
    (running, rollout)
}

#[tokio::test(start_paused = true)]
async fn copies_of_a_kind_that_is_asked_for_no_more_go_with_their_last_revision() {
    let (running, mut rollout) = running(|_, _| None).await;
    rollout["spec"]["configSnapshots"] = json!(null);
    running.cluster.apply("rollouts", &rollout).unwrap();
    sleep(Duration::from_mins(3)).await;
    assert_eq!(names(&running.cluster), ["settings"]);
    let status = running.rollout("checkout").status;
    assert_eq!((status.phase, status.config_copies.len()), (Some(Phase::Healthy), 0));
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_deletion_of_a_copy_stops_no_canary() {
    let is_lifted = Arc::new(AtomicBool::new(false));
    let lifted = is_lifted.clone();
    let refuses = move |method: &str, path: &str| {
        let is_copy = method == "DELETE" && path.contains("/configmaps/") && !lifted.load(Ordering::Relaxed);
        is_copy.then_some(Met::Refusal(403))
    };
    let (running, mut rollout) = running(refuses).await;
    for image in ["checkout:2", "checkout:3"] {
        rollout["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
        running.cluster.apply("configmaps", &settings(image)).unwrap();
        running.cluster.apply("rollouts", &rollout).unwrap();
        let is_stable = |rollout: &Rollout| {
            let stable = rollout.status.stable.as_ref();
            rollout.status.phase == Some(Phase::Healthy) && stable.is_some_and(|stable| stable.image == image)
        };
        running.wait("checkout", "Healthy though copies stay", is_stable).await;
        sleep(Duration::from_mins(1)).await;
    }
    let told = running.rollout("checkout").status.blocked_by;
    assert_eq!(told.iter().map(|wait| wait.reason.as_str()).collect::<Vec<_>>(), ["CopyUndeleted"]);
    assert!(told[0].message.contains("delete ConfigMap checkout-settings-"), "{}", told[0].message);
    assert_eq!(names(&running.cluster).len(), 4, "{:?}", names(&running.cluster));
    let asked = |cluster: &Cluster| cluster.requests().len();
    let before = asked(&running.cluster);
    sleep(Duration::from_mins(30)).await;
    assert!(asked(&running.cluster) - before < 10, "once in ten minutes");
    is_lifted.store(true, Ordering::Relaxed);
    sleep(Duration::from_mins(11)).await;
    assert_eq!(names(&running.cluster).len(), 2, "{:?}", names(&running.cluster));
    assert_eq!(running.rollout("checkout").status.blocked_by, []);
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_controller_waits_for_an_optional_object_to_come_back() {
    let (running, _) = running(|_, _| None).await;
    sleep(Duration::from_mins(1)).await;
    running.cluster.delete("configmaps", "shop", "settings").unwrap();
    sleep(Duration::from_secs(2)).await;
    assert_eq!(running.rollout("checkout").status.blocked_by[0].reason, "ConfigSettling");
    running.cluster.apply("configmaps", &settings("hello")).unwrap();
    sleep(Duration::from_mins(1)).await;
    let status = running.rollout("checkout").status;
    assert_eq!((status.phase, status.history.len()), (Some(Phase::Healthy), 1));
    running.cluster.delete("configmaps", "shop", "settings").unwrap();
    sleep(Duration::from_mins(2)).await;
    assert_eq!(running.rollout("checkout").status.history.len(), 2, "what stays away is another configuration");
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_controller_copies_what_the_revision_was_made_of() {
    let clock = shell::virtual_clock();
    let cluster = shell::cluster(&clock);
    let config = |content: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings", "namespace": "shop"}, "data": {"greeting": content}});
    cluster.apply("configmaps", &config("hello")).unwrap();
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys", "namespace": "shop"}, "type": "Opaque", "data": {"key": "c2VjcmV0"}});
    cluster.apply("secrets", &secret).unwrap();
    let release = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "sh.helm.release.v1.web.v1", "namespace": "shop"}, "type": "helm.sh/release.v1", "data": {}});
    cluster.apply("secrets", &release).unwrap();
    let mut spec = spec("checkout:1", 3, &owned());
    spec["template"] = configured("checkout:1");
    spec["configSnapshots"] = json!({"kinds": ["ConfigMap", "Secret"]});
    let rollout = json!({"apiVersion": "serin.dev/v1alpha1", "kind": "Rollout", "metadata": {"name": "checkout", "namespace": "shop"}, "spec": spec});
    cluster.apply("services", &json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "checkout", "namespace": "shop"}, "spec": {"selector": {"app": "checkout"}}})).unwrap();
    cluster.apply("rollouts", &rollout).unwrap();
    let uid = cluster.get("rollouts", "shop", "checkout").unwrap()["metadata"]["uid"].clone();
    let owner = json!({"apiVersion": "serin.dev/v1alpha1", "kind": "Rollout", "name": "checkout", "uid": uid});
    let users = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "users", "namespace": "shop", "ownerReferences": [owner]}});
    cluster.apply("configmaps", &users).unwrap();
    let running = shell::start(&cluster, &clock, Leadership::alone(), 1.0);
    let healthy = |rollout: &Rollout| rollout.status.phase == Some(Phase::Healthy);
    let first = running.wait("checkout", "Healthy", healthy).await.status.stable.unwrap().hash;
    assert_eq!(read_by(&cluster, &first), json!({"greeting": "hello"}));

    sleep(Duration::from_mins(1)).await;
    let told = offline(&cluster, &[&rollout, &config("good day"), &secret]).await;
    assert_eq!((told.effect, told.from_revision.as_deref()), (Effect::Rollout, Some(first.as_str())), "{told:?}");
    let unchanged = offline(&cluster, &[&rollout, &config("hello"), &secret]).await;
    assert_eq!((unchanged.effect, unchanged.to_revision.as_str()), (Effect::Nothing, first.as_str()));
    let unknown = offline(&cluster, &[&rollout, &secret]).await;
    assert!(unknown.warnings[0].contains("ConfigMap settings cannot be compared"), "{:?}", unknown.warnings);
    cluster.apply("configmaps", &config("good day")).unwrap();
    let is_next =
        |rollout: &Rollout| healthy(rollout) && rollout.status.stable.as_ref().is_some_and(|one| one.hash != first);
    let second = running.wait("checkout", "Healthy with the new content", is_next).await.status.stable.unwrap().hash;
    assert_eq!(second, told.to_revision, "as it was told before the merge");
    assert_eq!(read_by(&cluster, &second), json!({"greeting": "good day"}));
    assert_eq!(read_by(&cluster, &first), json!({"greeting": "hello"}), "until the revision is forgotten");

    sleep(Duration::from_mins(2)).await;
    let before = cluster.requests().len();
    sleep(Duration::from_mins(20)).await;
    assert_eq!(cluster.requests()[before..], [] as [String; 0], "nothing at rest");
    cluster
        .apply("rollouts", &{
            let mut rollout = rollout.clone();
            rollout["spec"]["revisionHistoryLimit"] = json!(0);
            rollout
        })
        .unwrap();
    sleep(Duration::from_mins(1)).await;
    let left = cluster.list("configmaps").len();
    assert_eq!(left, 3, "the object, the copy of stable, and what a user lets go with the Rollout");
    running.end().await;
}
