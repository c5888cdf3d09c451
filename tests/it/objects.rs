//! The objects and patches that actions stand for, to the last field.

use serde_json::{Value, json};

use serin::api::config::ConfigKind;
use serin::api::istio::Protocol;
use serin::api::json::Json;
use serin::api::watched::VirtualService;
use serin::plan::action::{Action, FrontEdit, MetadataEdit, SubsetEdit, WeightEdit};
use serin::plan::objects;
use serin::plan::observed::Observed;
use serin::plan::strategy::{Managed, PodMetadata};
use serin::plan::weight::Split;

fn observed(rollout: &Value, virtual_services: &Value) -> Observed {
    serde_json::from_value(json!({"rollout": rollout, "virtualServices": virtual_services})).unwrap()
}

fn rollout(template: &Value, routing: &Value) -> Value {
    json!({
        "metadata": {"name": "checkout", "namespace": "shop", "uid": "1"},
        "spec": {
            "selector": {"matchLabels": {"app": "checkout"}},
            "template": template,
            "strategy": {"canary": {"steps": [], "trafficRouting": {"istio": routing}}},
        },
    })
}

#[test]
fn a_scale_patch_tests_the_generation_and_the_number_that_it_knows() {
    let number = "/metadata/annotations/serin.dev~1revision";
    let generation = json!({"op": "test", "path": "/metadata/generation", "value": 7});
    let replicas = json!({"op": "add", "path": "/spec/replicas", "value": 3});
    let of_number = json!({"op": "test", "path": number, "value": "2"});
    let next = json!({"op": "add", "path": number, "value": "5"});
    assert_eq!(objects::scale_patch((7, 0), 3, None), json!([generation, replicas]));
    assert_eq!(objects::scale_patch((7, 2), 3, None), json!([generation, replicas, of_number]));
    assert_eq!(objects::scale_patch((7, 2), 3, Some(5)), json!([generation, replicas, of_number, next]));
}

#[test]
fn pods_are_labelled_and_tracking_is_left_behind() {
    let set = |template: &Value| {
        let observed = observed(&rollout(template, &json!({"owned": {"host": "checkout"}})), &json!([]));
        let mut set = objects::replica_set(&observed, "abc", (2, 4), &PodMetadata::default());
        (set["spec"]["template"].take(), set["metadata"].take(), set["spec"]["selector"].take())
    };
    let own = json!({"serin.dev/revision-hash": "abc", "serin.dev/rollout": "checkout", "service.istio.io/canonical-revision": "abc"});
    for without in [json!({}), json!({"metadata": {}}), json!({"metadata": {"labels": null}})] {
        let (template, metadata, selector) = set(&without);
        assert_eq!(template["metadata"]["labels"], own, "{without}");
        assert_eq!(template["metadata"]["annotations"], Value::Null, "{without}");
        assert_eq!(metadata["annotations"], json!({"serin.dev/revision": "4"}));
        assert_eq!(selector["matchLabels"], json!({"app": "checkout", "serin.dev/revision-hash": "abc"}));
    }
    let (template, metadata, _) = set(&json!({"metadata": {
        "labels": {"app": "checkout", "service.istio.io/canonical-revision": "v3", "app.kubernetes.io/instance": "x"},
        "annotations": {"team": "payments", "argocd.argoproj.io/tracking-id": "x"},
    }}));
    assert_eq!(template["metadata"]["labels"]["service.istio.io/canonical-revision"], "abc");
    assert_eq!(template["metadata"]["labels"]["app"], "checkout");
    assert_eq!(template["metadata"]["annotations"], json!({"team": "payments", "serin.dev/canonical-revision": "v3"}));
    assert_eq!(metadata["labels"].get("app.kubernetes.io/instance"), None);
    let (template, ..) = set(&json!({"metadata": {"labels": {"service.istio.io/canonical-revision": "v3"}}}));
    assert_eq!(template["metadata"]["annotations"], json!({"serin.dev/canonical-revision": "v3"}));
}

#[test]
fn pods_are_born_with_what_their_role_asks() {
    let template = json!({"metadata": {"labels": {"app": "checkout"}}});
    let observed = observed(&rollout(&template, &json!({"owned": {"host": "checkout"}})), &json!([]));
    let metadata = json!({"labels": {"role": "canary"}, "annotations": {"why": "a"}});
    let metadata: PodMetadata = serde_json::from_value(metadata).unwrap();
    let set = objects::replica_set(&observed, "abc", (2, 4), &metadata);
    let record = r#"{"labels":{"role":"canary"},"annotations":{"why":"a"}}"#;
    let of_pods = &set["spec"]["template"]["metadata"];
    assert_eq!((&of_pods["labels"]["role"], &of_pods["labels"]["app"]), (&json!("canary"), &json!("checkout")));
    assert_eq!(of_pods["annotations"], json!({"why": "a", "serin.dev/pod-metadata": record}));
    assert_eq!(set["metadata"]["annotations"], json!({"serin.dev/revision": "4", "serin.dev/pod-metadata": record}));
    assert_eq!(set["metadata"]["labels"].get("role"), None, "the ReplicaSet itself has no role");
    assert_eq!(set["spec"]["selector"]["matchLabels"].get("role"), None);
}

#[test]
fn edits_of_pods_carry_the_version_and_take_away_what_is_not_wanted() {
    let edit = MetadataEdit {
        labels: [("role".to_owned(), Some("stable".to_owned())), ("shadow".to_owned(), None)].into(),
        annotations: [("serin.dev/pod-metadata".to_owned(), Some("{}".to_owned()))].into(),
    };
    let labels = json!({"role": "stable", "shadow": null});
    let annotations = json!({"serin.dev/pod-metadata": "{}"});
    assert_eq!(
        objects::pod_patch("7", &edit),
        json!({"metadata": {"resourceVersion": "7", "labels": labels, "annotations": annotations}})
    );
    assert_eq!(
        objects::pod_template_patch("7", &edit),
        json!({
            "metadata": {"resourceVersion": "7", "annotations": {"serin.dev/pod-metadata": "{}", "serin.dev/pod-metadata-pending": "true"}},
            "spec": {"template": {"metadata": {"labels": labels, "annotations": annotations}}},
        })
    );
    assert_eq!(
        objects::end_of_pod_edits("7"),
        json!({"metadata": {"resourceVersion": "7", "annotations": {"serin.dev/pod-metadata-pending": null}}})
    );
}

#[test]
fn owned_routes_have_what_is_given_and_nothing_else() {
    let written = |owned: Value, split| {
        let observed = observed(&rollout(&json!({}), &json!({"owned": owned})), &json!([]));
        objects::virtual_service(&observed, "checkout-serin", None, (split, &[]))["spec"].take()
    };
    let plain = json!([{"name": "serin", "route": [{"destination": {"host": "checkout.shop.svc.cluster.local"}}]}]);
    assert_eq!(written(json!({"host": "checkout"}), None), json!({"http": plain}));
    let full = written(
        json!({"host": "checkout", "hosts": ["shop.example"], "gateways": ["edge"]}),
        Some(Split { stable: 70, canary: 30 }),
    );
    assert_eq!(full["hosts"], json!(["shop.example"]));
    assert_eq!(full["gateways"], json!(["edge"]));
    let weights: Vec<&Value> = full["http"][0]["route"].as_array().unwrap().iter().map(|one| &one["weight"]).collect();
    assert_eq!(weights, [70, 30]);

    let rule = |export_to: &[&str]| {
        let action = Action::WriteDestinationRule {
            name: "checkout-serin".into(),
            version: None,
            host: "checkout".into(),
            export_to: export_to.iter().map(|&one| one.to_owned()).collect(),
            stable: "a".into(),
            canary: "b".into(),
        };
        let observed = observed(&rollout(&json!({}), &json!({"owned": {"host": "checkout"}})), &json!([]));
        objects::destination_rule(&observed, &action)["spec"].take()
    };
    assert_eq!(rule(&[]).get("exportTo"), None);
    assert_eq!(rule(&["."])["exportTo"], json!(["."]));
}

#[test]
fn a_subset_patch_adds_what_is_missing_and_removes_its_own() {
    let patch = |has_labels, hash: Option<&str>| {
        let edit = SubsetEdit { at: 1, name: "canary".into(), has_labels, hash: hash.map(str::to_owned) };
        objects::subset_patch("9", &[edit])[2].take()
    };
    let label = "/spec/subsets/1/labels/serin.dev~1revision-hash";
    assert_eq!(patch(true, Some("abc")), json!({"op": "add", "path": label, "value": "abc"}));
    let labels = json!({"op": "add", "path": "/spec/subsets/1/labels", "value": {"serin.dev/revision-hash": "abc"}});
    assert_eq!(patch(false, Some("abc")), labels);
    assert_eq!(patch(true, None), json!({"op": "remove", "path": label}));
}

#[test]
fn a_newer_version_has_the_same_routes_or_not() {
    let destination = |host: &str, weight: i32| json!({"destination": {"host": host}, "weight": weight});
    let of = |name: &str, namespace: &str, route: &str, destinations: &Value| {
        json!({
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"http": [{"name": "other", "route": []}, {"name": route, "route": destinations}]},
        })
    };
    let routes =
        |stable, canary, mirror| json!([destination("a", stable), destination("b", canary), destination("c", mirror)]);
    let known = of("checkout", "shop", "primary", &routes(60, 30, 10));
    let others = json!([of("payments", "shop", "x", &json!([])), of("checkout", "elsewhere", "y", &json!([])), known]);
    let observed = observed(&rollout(&json!({}), &json!({})), &others);
    let split = Split { stable: 50, canary: 40 };
    let edit = WeightEdit {
        protocol: Protocol::Http,
        at: 1,
        route: Some("primary".into()),
        stable_at: 0,
        canary_at: 1,
        split,
    };
    let same = |newer: Value| {
        let newer: VirtualService = serde_json::from_value(newer).unwrap();
        objects::has_same_routes(&newer, (std::slice::from_ref(&edit), None), &observed, "checkout")
    };
    assert!(same(of("checkout", "shop", "primary", &routes(60, 30, 10))));
    assert!(same(of("checkout", "shop", "primary", &routes(90, 0, 10))), "other weights of its own");
    assert!(!same(of("checkout", "shop", "primary", &routes(60, 25, 15))), "another foreign weight");
    assert!(!same(of("checkout", "shop", "secondary", &routes(60, 30, 10))), "another route");
    let turned = json!([destination("b", 60), destination("a", 30), destination("c", 10)]);
    assert!(!same(of("checkout", "shop", "primary", &turned)), "destinations turned around");
    assert!(!same(of("checkout", "third", "primary", &routes(60, 30, 10))), "an object that the snapshot lacks");
    let newer: VirtualService = serde_json::from_value(known).unwrap();
    assert!(
        !objects::has_same_routes(&newer, (std::slice::from_ref(&edit), None), &observed, "payments"),
        "another name"
    );
}

#[test]
fn routes_and_services_move_traffic() {
    let (name, version) = (|| "checkout".to_owned(), || "1".to_owned());
    let moving = [
        Action::WriteVirtualService { name: name(), version: None, split: None, front: Vec::new() },
        Action::WriteDestinationRule {
            name: name(),
            version: None,
            host: name(),
            export_to: Vec::new(),
            stable: name(),
            canary: name(),
        },
        Action::EditVirtualService { name: name(), version: version(), edits: Vec::new(), front: None },
        Action::EditHttpRoute { name: name(), version: version(), edits: Vec::new() },
        Action::EditDestinationRule { name: name(), version: version(), edits: Vec::new() },
        Action::CreateService { name: name(), ports: Vec::new() },
        Action::EditService { name: name(), version: version(), hash: None },
    ];
    let staying = [
        Action::SetReplicas { replicas: 1 },
        Action::AddFinalizer,
        Action::RemoveFinalizer,
        Action::CreateReplicaSet {
            name: name(),
            hash: name(),
            replicas: 1,
            revision: 1,
            metadata: PodMetadata::default(),
        },
        Action::ScaleReplicaSet { name: name(), generation: 1, number: 1, replicas: 1, revision: None },
        Action::DeleteReplicaSet { name: name(), version: version() },
        Action::CopyConfig { kind: ConfigKind::Secret, source: name(), name: name(), digest: name() },
        Action::DeleteCopy { kind: ConfigKind::ConfigMap, name: name(), uid: name() },
        Action::CreateJob { name: name(), body: Json::default() },
        Action::DeleteJob { name: name(), uid: name() },
        Action::EvictPod { name: name(), uid: name() },
        Action::EditPodTemplate { name: name(), version: version(), edit: MetadataEdit::default() },
        Action::EditPod { name: name(), version: version(), edit: MetadataEdit::default() },
        Action::EndPodEdits { name: name(), version: version() },
        Action::OwnAction { name: name(), version: version() },
        Action::DeleteAction { name: name(), uid: name() },
    ];
    assert_eq!(moving.iter().find(|action| !action.is_route()), None);
    assert_eq!(staying.iter().find(|action| action.is_route()), None);
}

#[test]
fn a_header_route_is_put_in_front_with_the_destinations_of_the_edited_one() {
    let mut routes = json!({"metadata": {"resourceVersion": "7"}, "spec": {"http": [
        {"name": "admin", "route": [{"destination": {"host": "admin"}}]},
        {"name": "primary", "timeout": "7s", "route": [
            {"destination": {"host": "checkout", "subset": "stable"}, "weight": 100},
            {"destination": {"host": "checkout", "subset": "canary", "port": {"number": 80}}, "weight": 0, "headers": {"request": {"set": {"x-side": "canary"}}}},
        ]},
    ]}});
    let git = routes.clone();
    let matches = vec![serde_json::from_value(json!({"headers": {"x-canary": {"exact": "true"}}})).unwrap()];
    let testers = Managed { name: "testers".into(), matches, mirror: None };
    let shadow = Managed { name: "shadow".into(), mirror: Some(10), ..testers.clone() };
    let front = |at, removed: &[(usize, &str)], added: &[&Managed]| FrontEdit {
        at,
        route: Some("primary".into()),
        canary_at: 1,
        removed: removed.iter().map(|(at, name)| (*at, (*name).to_owned())).collect(),
        added: added.iter().map(|&one| one.clone()).collect(),
    };
    let mut patch = |front: &FrontEdit, edits: &[WeightEdit]| {
        let operations = objects::weight_patch("7", edits, Some(front));
        json_patch::patch(&mut routes, &serde_json::from_value::<json_patch::Patch>(operations).unwrap()).unwrap();
        routes["spec"]["http"].clone()
    };
    let canary = json!({"host": "checkout", "subset": "canary", "port": {"number": 80}});
    let http = patch(&front(1, &[], &[&testers, &shadow]), &[]);
    assert_eq!(
        http[0],
        json!({"name": "testers", "match": [{"headers": {"x-canary": {"exact": "true"}}}], "route": [
            {"destination": canary, "weight": 100, "headers": {"request": {"set": {"x-side": "canary"}}}}]})
    );
    assert_eq!((&http[1]["name"], &http[1]["mirror"]), (&json!("shadow"), &canary));
    assert_eq!(
        (&http[1]["mirrorPercentage"]["value"], &http[1]["route"]),
        (&json!(10), &git["spec"]["http"][1]["route"])
    );
    assert_eq!((&http[2], &http[3]), (&git["spec"]["http"][0], &git["spec"]["http"][1]), "others stay");
    // With a weight, the mirror's weights are the new ones.
    let split = Split { stable: 60, canary: 40 };
    let edit = WeightEdit {
        protocol: Protocol::Http,
        at: 3,
        route: Some("primary".into()),
        stable_at: 0,
        canary_at: 1,
        split,
    };
    let http = patch(&front(3, &[(0, "testers"), (1, "shadow")], &[&shadow]), &[edit]);
    assert_eq!(http.as_array().unwrap().len(), 3);
    assert_eq!(http[0]["route"], http[2]["route"]);
    assert_eq!(http[0]["route"][1]["weight"], 40);
    let split = Split { stable: 100, canary: 0 };
    let edit = WeightEdit {
        protocol: Protocol::Http,
        at: 2,
        route: Some("primary".into()),
        stable_at: 0,
        canary_at: 1,
        split,
    };
    assert_eq!(patch(&front(2, &[(0, "shadow")], &[]), &[edit]), git["spec"]["http"], "as Git has it");
}
