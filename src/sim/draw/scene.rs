//! Scenes at the end of a story: a release, and one thing that must not go wrong with it.

use serde_json::{Value, json};

use super::{Draw, template};
use crate::sim::story::{Answer, Event, Pods, Rule};

/// Images that nothing else of a story touches.
const IMAGES: [&str; 2] = ["checkout:8", "checkout:9"];

impl Draw {
    /// Draws a scene that begins then. When it ends.
    pub(super) fn scene(&mut self, objects: &[Value], at: u64) -> u64 {
        let at = at + self.seconds(0, 60);
        let image = self.one_of(&IMAGES);
        self.event(at, Event::Commit(json!({"template": template(image)})));
        let route = objects.iter().find_map(turned);
        match (self.chance.usize(..9), route) {
            (0, _) => self.status_refused(image, at),
            (1, _) => self.earlier_step(at),
            (2, _) => self.crashing(image, at),
            (3, _) => self.held(at),
            (4, _) => self.background_silent(image, at),
            (5, _) => self.deleted(at),
            (6, _) => self.scaled_to_nothing(at),
            (7, Some(route)) => self.route_rearranged(route, at),
            _ => self.back_and_forth(at),
        }
    }

    /// A metric fails, or Git goes to another revision, while no status can be written.
    fn status_refused(&mut self, image: &str, at: u64) -> u64 {
        let at = at + self.seconds(5, 60);
        self.event(at, Event::RefuseStatus(200_000));
        let ends = at + self.seconds(0, 10);
        let event = match IMAGES.iter().find(|other| **other != image) {
            Some(other) if self.chance.bool() => Event::Commit(json!({"template": template(other)})),
            _ => Event::Answers(Rule { image: Some(image.to_owned()), answer: Answer::Bad, ..Rule::default() }),
        };
        self.event(ends, event);
        at + 200_000
    }

    /// A person promotes the step that was there some time ago.
    fn earlier_step(&mut self, mut at: u64) -> u64 {
        for _ in 0..self.chance.usize(2..=5) {
            at += self.seconds(2, 20);
            let step = self.chance.usize(..5);
            self.event(at, Event::Act(format!("promote@{step}")));
        }
        at
    }

    /// One pod comes and goes, the others never come.
    fn crashing(&mut self, image: &str, at: u64) -> u64 {
        let period = self.seconds(6, 25);
        self.event(at, Event::Pods(image.to_owned(), Pods::Crashing(period)));
        at + 400_000
    }

    /// A person holds the release, and lets it go on.
    fn held(&mut self, at: u64) -> u64 {
        let at = at + self.seconds(3, 60);
        self.event(at, Event::Act("pause".to_owned()));
        let at = at + self.seconds(40, 120);
        self.event(at, Event::Act("resume".to_owned()));
        at
    }

    /// The background analysis has no answers for a while.
    fn background_silent(&mut self, image: &str, at: u64) -> u64 {
        let answers = |answer| {
            Event::Answers(Rule {
                metric: Some("background".to_owned()),
                image: Some(image.to_owned()),
                answer,
                ..Rule::default()
            })
        };
        let at = at + self.seconds(3, 60);
        self.event(at, answers(Answer::Nothing));
        let at = at + self.seconds(40, 120);
        self.event(at, answers(Answer::Good));
        at
    }

    /// Git turns the destinations of the route around while the controllers see it late.
    fn route_rearranged(&mut self, route: Value, at: u64) -> u64 {
        let at = at + self.seconds(0, 60);
        let lag = self.seconds(5, 20);
        self.event(at, Event::Lag("virtualservices".to_owned(), lag));
        let turns = at + self.chance.u64(0..=lag);
        self.event(turns, Event::Apply(route));
        at + 60_000
    }

    /// Git wants no pods at all, for a while or for good.
    fn scaled_to_nothing(&mut self, at: u64) -> u64 {
        let at = at + self.seconds(0, 60);
        self.event(at, Event::Commit(json!({"replicas": 0})));
        if self.chance.bool() {
            return at;
        }
        let at = at + self.seconds(10, 60);
        let replicas = self.chance.i64(1..=5);
        self.event(at, Event::Commit(json!({"replicas": replicas})));
        at
    }

    /// Somebody deletes the Rollout.
    fn deleted(&mut self, at: u64) -> u64 {
        let at = at + self.seconds(0, 90);
        self.event(at, Event::Delete("rollouts".to_owned(), "checkout".to_owned()));
        at
    }

    /// Git goes to another revision and back, and a person wants it at once.
    fn back_and_forth(&mut self, mut at: u64) -> u64 {
        let images = if self.chance.bool() { IMAGES } else { [IMAGES[1], IMAGES[0]] };
        for image in [images[0], images[1], images[0]] {
            at += self.seconds(5, 60);
            self.event(at, Event::Commit(json!({"template": template(image)})));
        }
        let at = at + self.chance.u64(0..=3_000);
        self.event(at, Event::Act("promoteFull".to_owned()));
        at
    }
}

/// A VirtualService or HTTPRoute with the destinations of its routes in another order.
fn turned(object: &Value) -> Option<Value> {
    let (routes, destinations) = match object.get("kind")?.as_str()? {
        "VirtualService" => ("/spec/http", "route"),
        "HTTPRoute" => ("/spec/rules", "backendRefs"),
        _ => return None,
    };
    let mut object = object.clone();
    for route in object.pointer_mut(routes)?.as_array_mut()? {
        route.get_mut(destinations)?.as_array_mut()?.reverse();
    }
    Some(object)
}
