//! The plugin with Rollouts whose pod template a Deployment brings.

use jiff::Timestamp;
use serde_json::{Value, json};
use serin::cli::cluster::Cluster;
use serin::cli::diff::{Before, Difference, Effect, Item, difference, from_cluster};
use serin::cli::outcome::{self, NotFound};
use serin::cli::trace::{self, Chain};
use serin::cli::view::UNICODE;
use serin::cli::{set, undo};
use serin::controller::lease::Leadership;
use serin::sim::input;

use crate::shell::{self, Running};
use crate::support::typed;
use crate::support::world::{hash, owned, spec, template};

/// A Deployment as Git holds it.
fn deployment(image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "checkout", "namespace": "shop"},
        "spec": {"selector": {"matchLabels": {"app": "checkout"}}, "template": template(image)},
    })
}

/// The same as an API server gives it back.
fn filled(image: &str) -> Value {
    let mut object = deployment(image);
    object["metadata"]["annotations"] = json!({"serin.dev/git-commit": "4f2a91c0"});
    object["spec"]["replicas"] = json!(0);
    let pod = object["spec"]["template"]["spec"].as_object_mut().unwrap();
    pod.extend(json!({"dnsPolicy": "ClusterFirst", "securityContext": {}}).as_object().cloned().unwrap());
    let container = pod["containers"][0].as_object_mut().unwrap();
    let defaults = json!({"imagePullPolicy": "IfNotPresent", "resources": {}, "terminationMessagePolicy": "File"});
    container.extend(defaults.as_object().cloned().unwrap());
    object
}

/// A Rollout that names it.
fn rollout() -> Value {
    let mut object = inline("checkout:1");
    let spec = object["spec"].as_object_mut().unwrap();
    spec.remove("template");
    spec.remove("selector");
    spec.insert("workloadRef".into(), json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "checkout"}));
    object
}

/// One with a template of its own.
fn inline(image: &str) -> Value {
    let mut spec = spec(image, 3, &owned());
    let canary = spec["strategy"]["canary"].as_object_mut().unwrap();
    canary.remove("analysis");
    canary.insert("steps".to_owned(), json!([{"setWeight": 50}]));
    json!({
        "apiVersion": "serin.dev/v1alpha1", "kind": "Rollout",
        "metadata": {"name": "checkout", "namespace": "shop"}, "spec": spec,
    })
}

/// What manifests do to what there is.
fn told(after: &[Value], before: &Before) -> anyhow::Result<Difference> {
    let texts: Vec<(String, String)> = after.iter().map(|one| ("git".to_owned(), one.to_string())).collect();
    difference(&mut input::read(&texts, "shop")?, 0, before)
}

/// A Rollout that runs the Deployment's template.
fn running(image: &str, revision: &str) -> Value {
    let mut before = rollout();
    let workload =
        json!({"uid": "a", "generation": 1, "replicas": 0, "templateHash": hash(image), "revisionHash": revision});
    before["status"] = json!({"stable": {"hash": revision, "revision": 1}, "workload": workload});
    before
}

fn paths(difference: &Difference) -> Vec<&str> {
    difference.template.iter().chain(&difference.spec).map(|change| change.path.as_str()).collect()
}

/// A Rollout that has taken its Deployment over.
async fn taken_over() -> (Running, Cluster) {
    let clock = shell::virtual_clock();
    let api = shell::cluster(&clock);
    let running = shell::start(&api, &clock, Leadership::alone(), 1.0);
    api.apply("deployments", &filled("checkout:1")).unwrap();
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "checkout", "namespace": "shop"}, "spec": {"selector": {"app": "checkout"}}});
    api.apply("services", &service).unwrap();
    api.apply("rollouts", &rollout()).unwrap();
    running.healthy("checkout", "checkout:1").await;
    running.wait("checkout", "has the Deployment's", |rollout| rollout.status.workload.is_some()).await;
    let cluster = Cluster { client: api.client("shop"), namespace: "shop".to_owned() };
    (running, cluster)
}

#[tokio::test(start_paused = true)]
async fn images_are_set_and_undone_in_the_deployment() {
    let (running, cluster) = taken_over().await;
    let live = || running.cluster.get("deployments", "shop", "checkout").unwrap();
    let words = typed::<set::Arguments>(&["image", "checkout", "app=checkout:2", "--yes"]);
    set::run(&cluster, &words.own).await.unwrap();
    assert_eq!(live().pointer("/spec/template/spec/containers/0/image"), Some(&json!("checkout:2")));
    assert_eq!(live().pointer("/metadata/annotations/serin.dev~1git-commit"), None, "that commit has not brought it");
    assert_eq!(running.cluster.get("rollouts", "shop", "checkout").unwrap()["spec"].get("template"), None);
    running.healthy("checkout", "checkout:2").await;
    let again = set::run(&cluster, &words.own).await.unwrap_err();
    assert_eq!(again.to_string(), "deployment checkout has these images already; nothing was changed");
    let words = typed::<undo::Arguments>(&["checkout", "--apply", "--yes"]);
    undo::run(&cluster, &words.own).await.unwrap();
    assert_eq!(live()["spec"]["template"], template("checkout:1"));
    running.healthy("checkout", "checkout:1").await;
    running.cluster.delete("deployments", "shop", "checkout").unwrap();
    let gone = undo::run(&cluster, &words.own).await.unwrap_err();
    let wanted = "there is no Deployment checkout, which brings the pod template of rollout checkout; create it";
    assert_eq!(outcome::told(&gone), wanted);
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_trace_leads_from_the_deployment_to_the_pods() {
    let (running, cluster) = taken_over().await;
    let chain = Chain::of(&cluster, "checkout").await.unwrap();
    let lines = trace::lines(&chain, &UNICODE, Timestamp::UNIX_EPOCH);
    let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
    assert_eq!(lines[0], "Deployment checkout  brings the template, 0 pods, commit 4f2a91c");
    assert!(lines[1].starts_with("└─ Rollout checkout  Healthy"), "{lines:#?}");
    assert!(lines.iter().any(|line| line.ends_with("Service checkout  selects app=checkout")), "{lines:#?}");
    let of = |target: &'static str| {
        let cluster = cluster.clone();
        async move {
            let words = typed::<trace::Arguments>(&[target]);
            trace::run(&cluster, &words.own, words.look.look()).await
        }
    };
    of("deployment/checkout").await.unwrap();
    let other = of("deploy/orders").await.unwrap_err();
    assert!(other.is::<NotFound>() && other.to_string().contains("names Deployment orders"), "{other}");
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_commit_to_the_deployment_starts_a_rollout() {
    let (running, cluster) = taken_over().await;
    let told = |objects: Vec<Value>| {
        let cluster = cluster.clone();
        async move {
            let texts: Vec<(String, String)> = objects.iter().map(|one| ("git".to_owned(), one.to_string())).collect();
            from_cluster(&cluster, &texts).await
        }
    };
    let items = told(vec![rollout(), deployment("checkout:2")]).await.unwrap();
    let [Item::Rollout(change)] = items.as_slice() else { panic!("{items:?}") };
    assert_eq!(
        (change.effect, change.source.as_deref()),
        (Effect::Rollout, Some("Deployment checkout brings the template"))
    );
    assert_eq!(paths(change), ["spec.template.spec.containers[0].image"]);
    assert_eq!(change.from_revision.as_deref(), Some(hash("checkout:1").as_str()));
    let items = told(vec![rollout(), deployment("checkout:1")]).await.unwrap();
    let [Item::Rollout(same)] = items.as_slice() else { panic!("{items:?}") };
    assert_eq!((same.effect, same.source.as_deref()), (Effect::Nothing, None));
    let alone = told(vec![rollout()]).await.unwrap_err().to_string();
    assert_eq!(alone, "Rollout checkout has the pod template of Deployment checkout; give that manifest, too");
    running.cluster.delete("deployments", "shop", "checkout").unwrap();
    let gone = told(vec![rollout(), deployment("checkout:2")]).await.unwrap_err();
    let wanted = "there is no Deployment checkout in namespace shop, which brings the pod template of rollout checkout; create it, or compare with files: --from";
    assert_eq!(outcome::told(&gone), wanted);
    running.end().await;
}

#[test]
fn what_runs_is_what_the_status_says_of_the_template() {
    // An earlier version of Serin called this template otherwise.
    let before = Before::of(vec![running("checkout:1", "earlier")], vec![filled("checkout:1")]);
    let rollout = || {
        let mut unscaled = rollout();
        unscaled["spec"].as_object_mut().unwrap().remove("replicas");
        unscaled
    };
    let same = told(&[rollout(), deployment("checkout:1")], &before).unwrap();
    assert_eq!((same.effect, same.to_revision.as_str()), (Effect::Nothing, "earlier"));
    let next = told(&[rollout(), deployment("checkout:2")], &before).unwrap();
    assert_eq!((next.effect, next.from_revision.as_deref()), (Effect::Rollout, Some("earlier")));
    assert_eq!(next.time.map(|time| (time.pods_before, time.pods_most)), Some((3, 6)));
    // What was exported from the cluster and edited is no longer what it was.
    let mut exported = deployment("checkout:2");
    exported["metadata"]["uid"] = json!("a");
    exported["metadata"]["generation"] = json!(1);
    assert_eq!(told(&[rollout(), exported], &before).unwrap().effect, Effect::Rollout);
}

#[test]
fn what_brings_the_template_may_change() {
    let mut own = inline("checkout:1");
    own["status"] = json!({"stable": {"hash": hash("checkout:1"), "revision": 1}});
    let before = Before::of(vec![own], Vec::new());
    let mut kept = rollout();
    kept["spec"]["selector"] = json!({"matchLabels": {"app": "checkout"}});
    let to = told(&[kept.clone(), deployment("checkout:1")], &before).unwrap();
    assert_eq!((to.effect, paths(&to)), (Effect::NoRollout, vec!["spec.workloadRef"]));
    assert_eq!(to.warnings, Vec::<String>::new());
    let refused = told(&[rollout(), deployment("checkout:1")], &before).unwrap();
    assert!(refused.summary.ends_with("WARNING: API servers refuse the commit"), "{}", refused.summary);
    assert!(refused.warnings[0].contains("the selector cannot be removed; keep spec.selector"), "{refused:?}");
    let wanted = "Deployment checkout brings the template from now on; the Rollout itself did before";
    assert_eq!(to.source.as_deref(), Some(wanted));
    let also = told(&[kept, deployment("checkout:2")], &before).unwrap();
    assert_eq!(also.effect, Effect::Rollout);
    let before = Before::of(vec![running("checkout:1", &hash("checkout:1"))], vec![filled("checkout:1")]);
    let back = told(&[inline("checkout:1")], &before).unwrap();
    assert_eq!((back.effect, paths(&back)), (Effect::NoRollout, vec!["spec.selector", "spec.workloadRef"]));
    assert_eq!(
        back.source.as_deref(),
        Some("the Rollout itself brings the template from now on; Deployment checkout did before")
    );
    let mut other = deployment("checkout:1");
    other["metadata"]["name"] = json!("orders");
    let mut renamed = rollout();
    renamed["spec"]["workloadRef"]["name"] = json!("orders");
    let moved = told(&[renamed, other], &before).unwrap();
    assert_eq!((moved.effect, paths(&moved)), (Effect::NoRollout, vec!["spec.workloadRef.name"]));
}

#[test]
fn pods_that_go_before_others_come_are_told_loudly() {
    let serving = |replicas: i64| {
        let mut live = filled("checkout:1");
        live["spec"]["replicas"] = json!(replicas);
        live
    };
    let stopped = serving(0);
    let first = told(&[rollout(), stopped.clone()], &Before::of(Vec::new(), vec![serving(3)])).unwrap();
    assert_eq!(first.effect, Effect::New);
    assert!(first.summary.ends_with("WARNING: nobody answers until they are ready"), "{}", first.summary);
    assert!(first.warnings[0].starts_with("Deployment checkout goes from 3 pods to 0"), "{:?}", first.warnings);
    assert!(first.warnings[0].ends_with("commit replicas: 0 once the Rollout is Healthy"), "{:?}", first.warnings);
    let under_way = Before::of(vec![rollout()], vec![serving(3)]);
    assert_eq!(told(&[rollout(), stopped.clone()], &under_way).unwrap().warnings.len(), 1, "it is not stable yet");
    let fine = |after: Value, before: Before| told(&[rollout(), after], &before).unwrap().warnings;
    assert_eq!(fine(serving(3), Before::of(Vec::new(), vec![serving(3)])), Vec::<String>::new(), "they stay");
    assert_eq!(fine(stopped.clone(), Before::of(Vec::new(), vec![serving(0)])), Vec::<String>::new(), "there are none");
    let stable = running("checkout:1", &hash("checkout:1"));
    assert_eq!(fine(stopped, Before::of(vec![stable], vec![serving(3)])), Vec::<String>::new(), "stable serves");
}
