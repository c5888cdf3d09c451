//! What people ask by RolloutAction.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use serin::api::status::Phase;

use crate::support::receivers::receiver;
use crate::support::world::{is_aborted, is_healthy};
use crate::support::{Environment, Given, World};

/// A pause step waits for a promotion; a stale one is refused.
pub async fn pause_and_promote(environment: Arc<Environment>, name: String) {
    let world = World::start(environment, &name).await;
    let first = Given { steps: json!([{"setWeight": 40}, {"pause": {}}, {"setWeight": 80}]), ..Given::default() };
    world.healthy(&first).await;
    let second = first.image("checkout:2");
    world.given(&second).await;
    world.wait("Paused", 20, |rollout| rollout.status.phase == Some(Phase::Paused)).await;
    let stale = world.act("promote", &first.hash(), Some(1)).await;
    let (accepted, message) = world.answer(&stale).await;
    world.assert(!accepted && message.contains(&second.hash()), &format!("a stale promotion is refused: {message}"));
    let elsewhere = world.act("promote", &second.hash(), Some(0)).await;
    world.assert(!world.answer(&elsewhere).await.0, "a promotion of another step is refused");
    let pause = world.act("pause", &second.hash(), None).await;
    world.assert(world.answer(&pause).await.0, "a pause is accepted");
    let resume = world.act("resume", &second.hash(), None).await;
    world.assert(world.answer(&resume).await.0, "a resume is accepted");
    let promote = world.act("promote", &second.hash(), Some(1)).await;
    let rollout = world.wait("promoted", 30, |rollout| is_healthy(rollout, &second.hash())).await;
    world.assert(world.answer(&promote).await.0, "the promotion is accepted");
    let decided = rollout
        .status
        .decisions
        .iter()
        .any(|decision| decision.what == "Promote step" && decision.by.contains("alice"));
    world.assert(decided, "the decision is on record, with who");
    let owned = world.object(&format!("/apis/serin.dev/v1alpha1/namespaces/{{ns}}/rolloutactions/{promote}")).await;
    world.assert(
        owned.is_some_and(|object| object.pointer("/metadata/ownerReferences/0/name") == Some(&json!("checkout"))),
        "the Rollout owns the action",
    );
    world.end().await;
}

/// An abort by a person, a retry, and then all steps skipped.
pub async fn abort_and_retry(environment: Arc<Environment>, name: String) {
    let world = World::start(environment, &name).await;
    let first = Given { steps: json!([{"setWeight": 40}, {"pause": {}}]), ..Given::default() };
    world.healthy(&first).await;
    let second = first.image("checkout:2");
    world.given(&second).await;
    world.reaches(40).await;
    world.act("abort", &second.hash(), None).await;
    world.wait("aborted", 5, |rollout| is_aborted(rollout, "AbortedByAction")).await;
    let promote = world.act("promoteFull", &second.hash(), None).await;
    world.assert(!world.answer(&promote).await.0, "an aborted canary is not promoted");
    world.given(&second).await;
    let retry = world.act("retry", &second.hash(), None).await;
    world.assert(world.answer(&retry).await.0, "the retry is accepted");
    world
        .wait("the second attempt", 20, |rollout| {
            rollout.status.attempt.as_ref().is_some_and(|attempt| attempt.number == 2)
        })
        .await;
    world.act("promoteFull", &second.hash(), None).await;
    world.wait("promoted", 30, |rollout| is_healthy(rollout, &second.hash())).await;
    let abort = world.act("abort", &second.hash(), None).await;
    let (accepted, message) = world.answer(&abort).await;
    world.assert(
        !accepted && message.contains("revert"),
        &format!("after the promotion an abort is refused: {message}"),
    );
    world.end().await;
}

/// Git approves a revision, holds the next, rejects it, and asks for it again.
pub async fn declared(environment: Arc<Environment>, name: String) {
    let world = World::start(environment, &name).await;
    let steps = json!([{"setWeight": 40}, {"approval": {"name": "business-signoff"}}, {"setWeight": 80}]);
    let approval = |image: &str| json!([{"step": "business-signoff", "for": {"image": image}, "by": "alice"}]);
    let declares = |given: &Given, promotion: Value| Given { spec: json!({"promotion": promotion}), ..given.clone() };
    let first = Given { steps, ..Given::default() };
    world.healthy(&declares(&first, json!({"approvals": approval("checkout:1")}))).await;
    let second = first.image("checkout:2");
    world.given(&declares(&second, json!({"approvals": approval("checkout:1")}))).await;
    let awaited = world
        .wait("an approval is awaited", 30, |rollout| {
            rollout.status.conditions.iter().any(|one| one.kind == "AwaitingApproval" && one.status == "True")
        })
        .await;
    world.assert(awaited.status.message.contains("for another revision"), &awaited.status.message);
    let promote = world.act("promote", &second.hash(), Some(1)).await;
    world.assert(!world.answer(&promote).await.0, "a promotion does not pass an approval");
    world.given(&declares(&second, json!({"approvals": approval("checkout:2")}))).await;
    let promoted = world.wait("promoted", 30, |rollout| is_healthy(rollout, &second.hash())).await;
    let is_approved =
        |decision: &serin::api::status::Decision| decision.what == "Approve business-signoff" && decision.by == "alice";
    world.assert(promoted.status.decisions.iter().any(is_approved), "the approval is on record, with who");
    let third = first.image("checkout:3");
    world.given(&declares(&third, json!({"hold": true}))).await;
    world.wait("held", 10, |rollout| rollout.status.blocked_by.iter().any(|wait| wait.reason == "Held")).await;
    world.given(&declares(&third, json!({"reject": [{"for": {"templateHash": third.hash()}}]}))).await;
    world.wait("rejected", 10, |rollout| is_aborted(rollout, "Rejected")).await;
    world.given(&declares(&third, json!({"retry": 1, "approvals": approval("checkout:3")}))).await;
    world.wait("promoted at last", 30, |rollout| is_healthy(rollout, &third.hash())).await;
    world.end().await;
}

/// A channel tells a webhook of a promotion, once, and of nothing that it does not name.
pub async fn told(environment: Arc<Environment>, name: String) {
    let told: Arc<Mutex<Vec<Value>>> = Arc::default();
    let kept = told.clone();
    let address = receiver(move |got| kept.lock().unwrap().push(got.json())).await;
    let allowed = format!("--notification-host={address}");
    let world = World::start_with(environment, &name, &["--leader-election=false", &allowed]).await;
    world
        .apply(&json!({
            "apiVersion": "serin.dev/v1alpha1", "kind": "NotificationChannel", "metadata": {"name": "hook"},
            "spec": {"on": ["Promoted"], "webhook": {"url": format!("{address}/serin")}},
        }))
        .await;
    let first = Given { steps: json!([{"setWeight": 40}]), ..Given::default() };
    world.healthy(&first).await;
    for image in ["checkout:2", "checkout:3"] {
        world.healthy(&first.image(image)).await;
    }
    world.until("both promotions are told", 20, || (told.lock().unwrap().len() > 1).then_some(())).await;
    let told: Vec<Value> = told.lock().unwrap().iter().map(|message| message["reason"].clone()).collect();
    world.assert(told == ["Promoted", "Promoted"], &format!("told were {told:?}"));
    let channel = world.object("/apis/serin.dev/v1alpha1/namespaces/{ns}/notificationchannels/hook").await;
    let sent = channel.as_ref().and_then(|channel| channel.pointer("/status/sent"));
    world.assert(sent == Some(&json!(2)), &format!("the channel has sent {sent:?}"));
    world.end().await;
}
