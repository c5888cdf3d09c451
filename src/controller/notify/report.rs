//! What a channel's status says besides its messages: conditions, counts and log lines.

use jiff::Timestamp;

use crate::api::notification::NotificationChannelStatus;
use crate::api::status::Condition;
use crate::api::watched::NotificationChannel;
use crate::controller::Shell;
use crate::notify::service::{Fault, Service};

/// The status with its conditions.
pub fn complete(
    mut status: NotificationChannelStatus,
    channel: &NotificationChannel,
    fault: Option<&Fault>,
    now: Timestamp,
) -> NotificationChannelStatus {
    let generation = channel.metadata.generation.unwrap_or(0);
    status.observed_generation = generation;
    let (truth, reason, message) = ready(&status, fault);
    let mut list = vec![("Ready", truth, reason, message.clone())];
    // What only people can mend is told in kstatus' words, too.
    if fault.is_some() {
        list.push(("Stalled", "True", reason, message));
    }
    let known =
        |kind: &str, truth: &str| channel.status.conditions.iter().find(|one| one.kind == kind && one.status == truth);
    let condition = |(kind, truth, reason, message): (&str, &str, &str, String)| Condition {
        kind: kind.to_owned(),
        status: truth.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: generation,
        last_transition_time: known(kind, truth).map_or(now, |known| known.last_transition_time),
    };
    status.conditions = list.into_iter().map(condition).collect();
    status
}

/// Whether a channel is ready, a word and a sentence.
fn ready<'a>(status: &NotificationChannelStatus, fault: Option<&'a Fault>) -> (&'static str, &'a str, String) {
    if let Some(fault) = fault {
        let place = if fault.path.is_empty() { String::new() } else { format!("{}: ", fault.path) };
        return ("False", fault.reason, format!("{place}{}", fault.message));
    }
    if let Some((in_flight, error)) = status.in_flight.as_ref().and_then(|one| Some((one, one.error.as_ref()?))) {
        let message = format!("{} of {} is tried again: {error}", in_flight.event.reason, in_flight.rollout);
        return ("False", "Retrying", message);
    }
    match status.last.as_ref().filter(|last| last.outcome == "Failed") {
        Some(last) => {
            let error = last.error.as_deref().unwrap_or("no reason is known");
            let message =
                format!("{} of {} was not sent: {error}; mend it, the next event is told", last.reason, last.rollout);
            ("False", "DeliveryFailed", message)
        }
        None => ("True", "Ready", "waits for events".to_owned()),
    }
}

/// Counts and logs what a written status says that the one before did not.
pub fn count(
    shell: &Shell,
    channel: &str,
    service: Option<Service>,
    (before, after): (&NotificationChannelStatus, &NotificationChannelStatus),
) {
    let Some(service) = service else { return };
    let results = [
        ("sent", before.sent, after.sent),
        ("failed", before.failed, after.failed),
        ("unconfirmed", before.unconfirmed, after.unconfirmed),
    ];
    for (result, _, _) in results.into_iter().filter(|(_, before, after)| after > before) {
        shell.metrics.notified(service.name(), result);
        let Some(last) = &after.last else { continue };
        let error = last.error.as_deref().unwrap_or_default();
        if result == "sent" {
            tracing::info!(channel, rollout = %last.rollout, reason = %last.reason, "a message was sent");
        } else {
            tracing::warn!(channel, rollout = %last.rollout, reason = %last.reason, error, result, "a message was not sent");
        }
    }
    let tries = |status: &NotificationChannelStatus| status.in_flight.as_ref().and_then(|one| one.retry_at);
    if let Some(error) =
        after.in_flight.as_ref().filter(|_| tries(after) != tries(before)).and_then(|one| one.error.clone())
    {
        shell.metrics.notified(service.name(), "retried");
        tracing::warn!(channel, error, "a message is tried again");
    }
}
