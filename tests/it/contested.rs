//! Who wrote the weights last.

use serde_json::json;

use crate::support::world::{World, commit, in_place, spec};

#[test]
fn a_route_of_the_same_name_elsewhere_contests_nothing() {
    let world = |elsewhere: Option<&str>| {
        let mut spec = spec("checkout:1", 4, &in_place());
        spec["strategy"]["canary"]["analysis"] = json!(null);
        spec["strategy"]["canary"]["steps"] = json!([{"setWeight": 40}, {"pause": {}}]);
        let mut world = World::new(&spec);
        if let Some(namespace) = elsewhere {
            let mut namesake = world.observed.virtual_services[0].clone();
            namesake.metadata.namespace = Some(namespace.into());
            let managed = json!([{"manager": "argocd-controller", "fieldsV1": {"f:spec": {"f:http": {}}}}]);
            namesake.metadata.managed_fields = serde_json::from_value(managed).unwrap();
            namesake.spec.hosts = vec!["legacy".into()];
            world.observed.virtual_services.insert(0, namesake);
        }
        world.settle();
        world.pass_time(10);
        commit(&mut world, "checkout:2");
        world.pass_time(60);
        world
    };
    assert_eq!(world(Some("billing")).log, world(None).log);
    // A write of Serin's own that arrived late is nobody else's.
    for elsewhere in [None, Some("billing")] {
        let mut world = world(elsewhere);
        let route = world.observed.rollout.status.route.as_mut().unwrap();
        (route.asked, route.unseen) = (route.asked + 10, true);
        assert_eq!(world.plan().status.route.unwrap().contested, 0, "{elsewhere:?}");
    }
}
