//! Who wrote the weights last.

use serde_json::json;

use crate::support::world::{World, commit, in_place, spec};

#[test]
fn a_route_of_the_same_name_elsewhere_contests_nothing() {
    let told = |elsewhere: Option<&str>| {
        let mut spec = spec("checkout:1", 4, &in_place());
        spec["strategy"]["canary"]["analysis"] = json!(null);
        let mut world = World::new(&spec);
        if let Some(namespace) = elsewhere {
            let mut namesake = world.observed.virtual_services[0].clone();
            namesake.metadata.namespace = Some(namespace.into());
            namesake.spec.hosts = vec!["legacy".into()];
            world.observed.virtual_services.insert(0, namesake);
        }
        world.settle();
        world.pass_time(10);
        commit(&mut world, "checkout:2");
        world.pass_time(60);
        world.log
    };
    assert_eq!(told(Some("billing")), told(None));
}
