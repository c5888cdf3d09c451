//! Invariants are told of plans that break them: a plan of a rollout in the middle, tampered with.

use serde_json::{Value, json};
use serin::plan::violations;

use crate::support::world::{World, hash, hosts, in_place, owned, spec};

/// A snapshot and its plan as JSON, to be tampered with.
struct Scene {
    observed: Value,
    plan: Value,
    world: World,
}

/// A rollout of four pods to another revision, so many seconds after its commit.
fn scene(istio: &Value, canary: &Value, seconds: i64) -> Scene {
    let mut spec = spec("checkout:1", 4, istio);
    if istio.is_null() {
        spec["strategy"]["canary"].as_object_mut().unwrap().remove("trafficRouting");
    }
    json_patch::merge(&mut spec, &json!({"strategy": {"canary": canary}}));
    let mut world = World::new(&spec);
    world.settle();
    world.pass_time(10);
    world.edit(|spec| spec["template"] = crate::support::world::template("checkout:2"));
    world.settle();
    world.pass_time(seconds);
    let plan = world.plan();
    assert!(plan.actions.is_empty(), "{:?}", plan.actions);
    Scene { observed: serde_json::to_value(&world.observed).unwrap(), plan: serde_json::to_value(plan).unwrap(), world }
}

/// At 20% of four pods, one of which is the canary's, paused.
fn at_twenty() -> Scene {
    scene(&owned(), &steps(&json!([{"setWeight": 20}, {"pause": {}}, {"setWeight": 60}])), 20)
}

fn in_place_at_twenty() -> Scene {
    scene(&in_place(), &steps(&json!([{"setWeight": 20}, {"pause": {}}])), 20)
}

fn between_services_at_twenty() -> Scene {
    let mut canary = steps(&json!([{"setWeight": 20}, {"pause": {}}]));
    json_patch::merge(&mut canary, &json!({"stableService": "checkout-stable", "canaryService": "checkout-canary"}));
    scene(&hosts(), &canary, 20)
}

fn steps(steps: &Value) -> Value {
    json!({"steps": steps, "analysis": null})
}

impl Scene {
    /// The snapshot is another.
    fn seen(mut self, pointer: &str, value: Value) -> Self {
        set(&mut self.observed, pointer, value);
        self
    }

    /// The plan is another.
    fn planned(mut self, pointer: &str, value: Value) -> Self {
        set(&mut self.plan, pointer, value);
        self
    }

    /// The plan writes the weights of the owned route.
    fn writes(self, stable: i32, canary: i32) -> Self {
        let split = json!({"stable": stable, "canary": canary});
        self.acts(&json!({"WriteVirtualService": {"name": "checkout-serin", "version": "1", "split": split}}))
    }

    /// The plan writes the weights of a route in place.
    fn edits(self, stable: i32, canary: i32) -> Self {
        self.edits_of("checkout", stable, canary)
    }

    fn edits_of(self, name: &str, stable: i32, canary: i32) -> Self {
        let edit = json!({"protocol": "http", "at": 0, "route": "primary", "stable_at": 0, "canary_at": 1, "split": {"stable": stable, "canary": canary}});
        self.acts(&json!({"EditVirtualService": {"name": name, "version": "1", "edits": [edit]}}))
    }

    /// The plan scales a revision.
    fn scales(self, image: &str, replicas: i32) -> Self {
        let name = format!("checkout-{}", hash(image));
        self.acts(&json!({"ScaleReplicaSet": {"name": name, "generation": 0, "number": 0, "replicas": replicas, "revision": null}}))
    }

    /// The plan moves one side of a route in place.
    fn moves_side(self, name: &str, image: &str) -> Self {
        let edit = json!({"at": 1, "name": name, "has_labels": true, "hash": hash(image)});
        self.acts(&json!({"EditDestinationRule": {"name": "checkout", "version": "1", "edits": [edit]}}))
    }

    /// The plan moves one of two Services.
    fn moves_service(self, name: &str, image: &str) -> Self {
        self.acts(&json!({"EditService": {"name": name, "version": "1", "hash": hash(image)}}))
    }

    /// The plan moves the subsets.
    fn moves(self, stable: &str, canary: &str) -> Self {
        self.acts(&json!({"WriteDestinationRule": {
            "name": "checkout-serin", "version": "1", "host": "checkout", "export_to": [], "stable": hash(stable), "canary": hash(canary)}}))
    }

    fn acts(mut self, action: &Value) -> Self {
        self.plan["actions"].as_array_mut().unwrap().push(action.clone());
        self
    }

    /// So many pods of a revision are ready.
    fn ready(mut self, image: &str, ready: i32) -> Self {
        let sets = self.observed["replicaSets"].as_array_mut().unwrap();
        let own =
            sets.iter_mut().find(|set| set["metadata"]["labels"]["serin.dev/revision-hash"] == hash(image)).unwrap();
        own["status"]["readyReplicas"] = json!(ready);
        own["status"]["availableReplicas"] = json!(ready);
        self
    }

    /// Asserts which invariants are told to be broken, each with a part of what is told.
    fn breaks(self, wanted: &[(&str, &str)]) {
        let observed = serde_json::from_value(self.observed).unwrap();
        let plan = serde_json::from_value(self.plan).unwrap();
        let told: Vec<String> = violations(&observed, &plan, self.world.now).iter().map(ToString::to_string).collect();
        let is_told = |(told, (invariant, part)): (&String, &(&str, &str))| {
            told.starts_with(&format!("{invariant}: ")) && told.contains(part)
        };
        assert!(told.len() == wanted.len() && told.iter().zip(wanted).all(is_told), "{told:?} is not {wanted:?}");
    }
}

fn set(value: &mut Value, pointer: &str, new: Value) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    value.pointer_mut(parent).unwrap()[key] = new;
}

/// In place with a header route at weight zero, paused.
fn led() -> Scene {
    let testers = json!({"name": "testers", "match": [{"headerName": "x-canary", "headerValue": {"exact": "true"}}]});
    scene(&in_place(), &steps(&json!([{"setHeaderRoute": testers}, {"pause": {}}])), 20)
}

/// The plan puts a route in front in place of those there are, and takes another away.
fn fronts(name: &str, value: &str, removed: &Value) -> Value {
    let route = json!({"name": name, "matches": [{"headers": {"x-canary": {"exact": value}}}], "mirror": null});
    let front = json!({"at": 1, "route": "primary", "canary_at": 1, "removed": removed, "added": [route]});
    json!({"EditVirtualService": {"name": "checkout", "version": "1", "edits": [], "front": front}})
}

#[test]
fn header_routes_keep_the_invariants() {
    let own = json!([[0, "testers"]]);
    led().breaks(&[]);
    led().acts(&fronts("testers", "true", &own)).breaks(&[]);
    // S1: a route of Git's is taken away, or put in front.
    led().acts(&fronts("testers", "true", &json!([[1, "primary"]]))).breaks(&[("S1", "primary is not on record")]);
    led()
        .acts(&fronts("other", "true", &own))
        .breaks(&[("S1", "other is not on record"), ("S3", "no step permits it")]);
    // S2: the canary has no ready pod.
    led().ready("checkout:2", 0).breaks(&[("S2", "without ready pods")]);
    // S3: another match than the step's.
    led()
        .acts(&fronts("testers", "false", &own))
        .breaks(&[("S3", "testers leads to the canary, and no step permits it")]);
    // S4: its pods go while requests are led to them.
    led()
        .scales("checkout:2", 0)
        .breaks(&[("S4", "while the route selects it"), ("S4", "while requests are led to it")]);
    // S6: an abort leaves it where it is.
    led()
        .planned("/status/aborted", abort())
        .planned("/withdrawsCanary", json!(true))
        .breaks(&[("S6", "testers leads to the canary")]);
}

/// The canary's abort, as the status has it.
fn abort() -> Value {
    json!({"hash": hash("checkout:2"), "at": "2026-01-01T00:00:00Z", "reason": "", "message": "", "step": 0})
}

#[test]
fn s1_weights_sum() {
    at_twenty().writes(80, 20).breaks(&[]);
    at_twenty().writes(70, 20).breaks(&[("S1", "70+20 is not 100")]);
    at_twenty().writes(101, -1).breaks(&[("S1", "101+-1 is not 100")]);
    at_twenty().writes(-1, 101).breaks(&[("S1", "-1+101 is not 100"), ("S3", "101% is above")]);
    in_place_at_twenty().edits(72, 18).breaks(&[]);
    in_place_at_twenty().edits(72, 18).edits_of("other", 0, 90).breaks(&[]);
    in_place_at_twenty().edits(80, 18).breaks(&[("S1", "80+18 is not 90")]);
}

#[test]
fn s2_weight_has_pods() {
    at_twenty()
        .ready("checkout:2", 0)
        .writes(80, 20)
        .breaks(&[("S2", "20% to a canary without ready pods"), ("S3", "20% is above 0%")]);
    at_twenty().ready("checkout:2", 0).writes(100, 0).breaks(&[]);
    at_twenty().ready("checkout:2", 0).ready("checkout:1", 0).writes(80, 20).breaks(&[]);
    at_twenty().ready("checkout:1", 0).writes(100, 0).breaks(&[("S2", "100% to a stable without ready pods")]);
    at_twenty().ready("checkout:1", 0).ready("checkout:2", 0).writes(100, 0).breaks(&[]);
    at_twenty().ready("checkout:1", 0).writes(80, 20).breaks(&[]);
    // The subsets move under a weight that stays.
    at_twenty()
        .ready("checkout:2", 0)
        .moves("checkout:1", "checkout:2")
        .breaks(&[("S2", "20% to a canary without ready pods"), ("S3", "20% is above 0%")]);
    at_twenty().ready("checkout:1", 0).moves("checkout:2", "checkout:2").breaks(&[]);
    let lost = [("S2", "to a canary without ready pods"), ("S3", "% is above 0%")];
    in_place_at_twenty().moves_side("canary", "checkout:3").breaks(&lost);
    in_place_at_twenty().moves_side("stable", "checkout:1").breaks(&[]);
    between_services_at_twenty().moves_service("checkout-canary", "checkout:3").breaks(&lost);
    between_services_at_twenty().moves_service("checkout-stable", "checkout:1").breaks(&[]);
}

#[test]
fn s3_weight_is_permitted() {
    at_twenty().writes(55, 45).breaks(&[("S3", "45% is above 20%")]);
    at_twenty().planned("/status/currentStepIndex", json!(2)).writes(40, 60).breaks(&[("S3", "60% is above")]);
    at_twenty().planned("/status/currentStepIndex", json!(2)).ready("checkout:2", 2).writes(40, 60).breaks(&[]);
    at_twenty().planned("/status/aborted", abort()).breaks(&[("S3", "20% is above 0%")]);
    at_twenty()
        .seen("/rollout/metadata/deletionTimestamp", json!("2026-01-01T00:00:00Z"))
        .breaks(&[("S3", "20% is above 0%")]);
    // Where both subsets hold the same pods the weights decide nothing.
    at_twenty().moves("checkout:1", "checkout:1").breaks(&[]);
    // One pod more than is wanted carries more; of a scaled canary each carries its part.
    let scaled = || {
        let steps = steps(&json!([{"setCanaryScale": {"replicas": 2}}, {"setWeight": 40}, {"pause": {}}]));
        scene(&owned(), &steps, 20)
    };
    scaled().writes(60, 40).breaks(&[]);
    scaled().ready("checkout:2", 1).writes(60, 40).breaks(&[]);
    scaled().ready("checkout:2", 0).writes(60, 40).breaks(&[("S2", "40%"), ("S3", "40% is above 0%")]);
    // What stable's ready pods cannot carry may stay.
    let dynamic = || {
        let mut canary = steps(&json!([{"setWeight": 50}, {"pause": {}}]));
        canary["dynamicStableScale"] = json!(true);
        scene(&owned(), &canary, 30)
    };
    dynamic().writes(50, 50).breaks(&[]);
    dynamic().writes(40, 60).breaks(&[("S3", "60% is above 50%")]);
    dynamic().ready("checkout:2", 0).ready("checkout:1", 3).breaks(&[("S3", "50% is above 25%")]);
}

#[test]
fn s4_selected_pods_stay() {
    at_twenty().scales("checkout:1", 3).breaks(&[("S4", "is scaled from 4 to 3")]);
    at_twenty().scales("checkout:1", 4).breaks(&[]);
    at_twenty().scales("checkout:1", 6).breaks(&[]);
    at_twenty().scales("checkout:2", 0).breaks(&[("S4", "is scaled from 1 to 0")]);
    at_twenty().scales("checkout:2", 2).breaks(&[]);
    // Without weight the canary needs none, unless it is the stable subset's, too.
    at_twenty()
        .seen("/virtualServices/0/spec/http/0/route/1/weight", json!(0))
        .seen("/virtualServices/0/spec/http/0/route/0/weight", json!(100))
        .scales("checkout:2", 0)
        .breaks(&[]);
    // What a share does not need goes by quarters.
    let half = steps(&json!([{"setWeight": 50}, {"pause": {}}]));
    let dynamic = || scene(&owned(), &half, 30).seen("/rollout/spec/strategy/canary/dynamicStableScale", json!(true));
    dynamic().scales("checkout:1", 3).breaks(&[]);
    dynamic().scales("checkout:1", 2).breaks(&[("S4", "loses 2 of 4 pods at a time")]);
    let scaled = steps(&json!([{"setCanaryScale": {"replicas": 4}}, {"setWeight": 25}, {"pause": {}}]));
    let large = || {
        scene(&owned(), &scaled, 30)
            .seen("/rollout/spec/strategy/canary/steps", json!([{"setWeight": 0}, {"setWeight": 25}, {"pause": {}}]))
    };
    large().scales("checkout:2", 3).breaks(&[]);
    large().scales("checkout:2", 2).breaks(&[("S4", "loses 2 of 4 pods at a time")]);
    // The scale of the current step counts.
    let scaled = steps(&json!([{"setCanaryScale": {"replicas": 3}}, {"setWeight": 40}, {"pause": {}}]));
    scene(&owned(), &scaled, 20)
        .planned("/status/currentStepIndex", json!(0))
        .scales("checkout:2", 2)
        .breaks(&[("S3", "40% is above 0%"), ("S4", "is scaled from 3 to 2")]);
    // At rest both subsets are stable's.
    scene(&owned(), &steps(&json!([{"setWeight": 20}])), 60)
        .scales("checkout:2", 3)
        .breaks(&[("S4", "is scaled from 4 to 3")]);
    // An aborted canary keeps its pods while a route gives it weight; without a route they are the last lever.
    let draining = json!([{"hash": hash("checkout:2"), "reason": "Aborted"}]);
    in_place_at_twenty()
        .planned("/status/draining", draining.clone())
        .scales("checkout:2", 0)
        .breaks(&[("S4", "is scaled from 1 to 0")]);
    let scaled = steps(&json!([{"setCanaryScale": {"replicas": 2}}, {"setWeight": 20}, {"pause": {}}]));
    let routeless = || scene(&in_place(), &scaled, 20).seen("/virtualServices", json!([])).scales("checkout:2", 0);
    routeless().breaks(&[("S4", "is scaled from 2 to 0")]);
    routeless().planned("/status/draining", draining).breaks(&[]);
    let ratio = || {
        scene(
            &Value::Null,
            &json!({"steps": [{"setWeight": 50}, {"pause": {}}], "analysis": null, "maxSurge": 1, "maxUnavailable": 1}),
            30,
        )
    };
    ratio().scales("checkout:1", 1).breaks(&[]);
    ratio().scales("checkout:1", 0).breaks(&[("S4", "2 of 4 available pods are taken; 1 may be missing")]);
    ratio().ready("checkout:1", 1).scales("checkout:1", 0).breaks(&[("S4", "1 of 3 available pods are taken")]);
    ratio().ready("checkout:1", 0).scales("checkout:1", 0).breaks(&[]);
    ratio()
        .seen("/rollout/metadata/deletionTimestamp", json!("2026-01-01T00:00:00Z"))
        .scales("checkout:1", 0)
        .breaks(&[]);
}

/// Requests still reach the Deployment's pods where no root leads past them.
#[test]
fn s4_a_deployment_keeps_its_pods_until_a_root_delegates() {
    let mut spec = spec("checkout:1", 2, &json!({"owned": {"host": "checkout"}}));
    json_patch::merge(
        &mut spec,
        &json!({"template": null, "strategy": {"canary": steps(&json!([{"setWeight": 50}]))}}),
    );
    spec["workloadRef"] = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "checkout"});
    let scene = |has_root: bool| {
        let mut world = World::new(&spec);
        world.patch_deployment(&json!({"spec": {"template": crate::support::world::template("checkout:1")}}));
        world.settle();
        world.pass_time(30);
        if has_root {
            world.create_root();
        }
        let plan = serde_json::to_value(world.plan()).unwrap();
        let scene = Scene { observed: serde_json::to_value(&world.observed).unwrap(), plan, world };
        scene.acts(&json!({"ScaleWorkload": {"name": "checkout", "uid": "deployment", "replicas": 3}}))
    };
    let early = [("S4", "while requests may reach its pods")];
    scene(false).breaks(&early);
    // The root has just come: no proxy is known to have it.
    scene(true).breaks(&early);
}

#[test]
fn s5_stable_changes_by_promotion() {
    let other = |scene: Scene| scene.planned("/status/stable/hash", json!(hash("checkout:2")));
    let recorded = |scene: Scene| {
        let outcome = json!({"hash": hash("checkout:2"), "outcome": "Promoted", "revision": 2, "reason": "",
            "startedAt": "2026-01-01T00:00:00Z", "endedAt": "2026-01-01T00:00:00Z"});
        let mut scene =
            other(scene).planned("/isStatusFirst", json!(true)).planned("/status/currentStepIndex", json!(3));
        let history = &mut scene.plan["status"]["history"];
        if history.is_null() {
            *history = json!([]);
        }
        history.as_array_mut().unwrap().push(outcome);
        scene
    };
    recorded(at_twenty()).breaks(&[]);
    other(at_twenty()).breaks(&[("S5", "recorded false, all steps passed false")]);
    recorded(at_twenty()).planned("/status/currentStepIndex", json!(2)).breaks(&[("S5", "all steps passed false")]);
    recorded(at_twenty())
        .planned("/isStatusFirst", json!(false))
        .breaks(&[("S5", "recorded true, all steps passed true")]);
    recorded(at_twenty())
        .planned("/status/history/0/hash", json!("other"))
        .planned("/status/history/1/hash", json!("other"))
        .breaks(&[("S5", "recorded false")]);
    let failed = json!([{"kind": "Background", "startedAt": "2026-01-01T00:00:00Z", "verdict": "Fail", "metrics": []}]);
    recorded(at_twenty()).planned("/status/analysis", failed).breaks(&[("S5", "failing true")]);
}

#[test]
fn s6_an_abort_moves_traffic() {
    let withdraws = |scene: Scene| scene.planned("/withdrawsCanary", json!(true));
    let aborts = |scene: Scene| withdraws(scene).planned("/status/aborted", abort());
    aborts(at_twenty()).breaks(&[("S3", "20% is above 0%"), ("S6", "20% stays at a canary that is withdrawn")]);
    aborts(at_twenty())
        .writes(90, 10)
        .breaks(&[("S3", "10% is above 0%"), ("S6", "10% stays at a canary that is withdrawn")]);
    withdraws(at_twenty())
        .planned("/status/canary/hash", json!(hash("checkout:3")))
        .breaks(&[("S3", "20% is above 0%"), ("S6", "20% stays")]);
    // What the canary subset has is the next canary's already.
    withdraws(at_twenty()).breaks(&[]);
    withdraws(at_twenty().planned("/status/canary/hash", json!(hash("checkout:3"))))
        .seen("/destinationRules/0/spec/subsets/1/labels", json!({"serin.dev/revision-hash": hash("checkout:1")}))
        .breaks(&[]);
    aborts(at_twenty()).writes(100, 0).breaks(&[]);
    aborts(at_twenty()).ready("checkout:1", 0).breaks(&[]);
    let mut canary = steps(&json!([{"setWeight": 50}, {"pause": {}}]));
    canary["dynamicStableScale"] = json!(true);
    aborts(scene(&owned(), &canary, 30)).breaks(&[]);
    aborts(scene(&owned(), &canary, 30))
        .ready("checkout:1", 3)
        .breaks(&[("S3", "50% is above 25%"), ("S6", "50% stays at a canary")]);
}

#[test]
fn s7_what_failed_stays_failed() {
    let aborted = |scene: Scene| scene.seen("/rollout/status/aborted", abort());
    aborted(at_twenty()).breaks(&[("S7", "is tried again, and nobody asked")]);
    let retry = json!({"at": "2026-01-01T00:00:00Z", "by": "alice", "what": "Retry", "why": ""});
    aborted(at_twenty()).planned("/status/decisions", json!([retry])).breaks(&[]);
    aborted(at_twenty())
        .planned("/status/decisions", json!([retry]))
        .seen("/rollout/status/decisions", json!([retry]))
        .breaks(&[("S7", "is tried again")]);
    let mut other = aborted(at_twenty());
    other.observed["rollout"]["status"]["aborted"]["hash"] = json!(hash("checkout:3"));
    other.breaks(&[]);
}

#[test]
fn s8_measured_in_force() {
    let analysis = |started: i64, measured: i64| {
        let at = |second: i64| jiff::Timestamp::from_second(crate::support::world::BEGAN + second).unwrap();
        json!([{"kind": "Step", "step": 1, "startedAt": at(started), "verdict": "Running", "metrics": [
            {"name": "rate", "verdict": "Running", "measurements": [{"at": at(measured), "value": "1", "assessment": "Success"}]}]}])
    };
    at_twenty().planned("/status/analysis", analysis(29, 29)).breaks(&[]);
    at_twenty().planned("/status/analysis", analysis(1, 2)).breaks(&[("S8", "an analysis begins at")]);
    at_twenty().planned("/status/analysis", analysis(29, 28)).breaks(&[("S8", "a measurement of")]);
    at_twenty()
        .planned("/status/analysis", analysis(1, 2))
        .seen("/rollout/status/analysis", analysis(1, 2))
        .breaks(&[]);
    at_twenty()
        .planned("/status/analysis", analysis(1, 2))
        .seen("/rollout/status/analysis", analysis(0, 2))
        .breaks(&[("S8", "an analysis begins at")]);
}
