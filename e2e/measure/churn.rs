//! An hour of releases, deletions and new Rollouts: memory, told each minute.

use std::time::{Duration, Instant};

use fastrand::Rng;
use futures::future::join_all;
use serde_json::json;

use crate::bed::{Bed, Controller, split_events};
use crate::canary::{App, NO_PROXIES, Prometheus};

const NAMESPACES: usize = 5;
/// Those who commit, each to Rollouts of its own.
const TEAMS: usize = 6;
const PACE: Duration = Duration::from_millis(400);

fn variable(name: &str, absent: u64) -> u64 {
    std::env::var(name).map_or(absent, |text| text.parse().unwrap())
}

/// Releases, deletes and creates for as long as `BENCH_MINUTES` says, an hour unless it is set.
pub async fn churn(bed: &Bed) {
    let (minutes, count) = (variable("BENCH_MINUTES", 60), variable("BENCH_ROLLOUTS", 300));
    println!("\nchurn: {count} Rollouts of one pod, {TEAMS} teams that release, delete and create every {PACE:?}");
    let prometheus = Prometheus::default();
    let address = prometheus.serve().await;
    let controller = bed.start(&[&NO_PROXIES[..], &["--prometheus-url", &address]].concat()).await;
    let metric = json!({"name": "rate", "interval": "1s", "count": 2, "successCondition": "result[0] > 0.9", "prometheus": {"query": "rate"}});
    let template = json!({"apiVersion": "serin.dev/v1alpha1", "kind": "AnalysisTemplate", "metadata": {"name": "rate"}, "spec": {"metrics": [metric]}});
    for number in 0..NAMESPACES {
        let name = format!("bench-churn-{number}");
        bed.namespace(&name).await;
        bed.post(&format!("/apis/serin.dev/v1alpha1/namespaces/{name}/analysistemplates"), &template).await;
    }
    let until = Instant::now() + Duration::from_mins(minutes);
    let teams = join_all((0..TEAMS).map(|team| work(bed, team, usize::try_from(count).unwrap() / TEAMS, until)));
    tokio::join!(teams, tell(&controller, &prometheus, minutes));
    println!("  then at rest:");
    tokio::time::sleep(Duration::from_mins(1)).await;
    row(&controller, &prometheus, minutes + 1).await;
    controller.kill();
}

/// One team: its Rollouts are created, then released, released twice in a row, or deleted with all that is theirs and made anew.
async fn work(bed: &Bed, team: usize, count: usize, until: Instant) {
    let mut chance = Rng::with_seed(u64::try_from(team).unwrap());
    let analysis = json!({"analysis": {"templates": [{"templateName": "rate"}]}});
    let apps: Vec<App> = (0..count)
        .map(|number| {
            let steps = json!([{"setWeight": 20}, analysis, {"setWeight": 60}]);
            let namespace = format!("bench-churn-{}", number % NAMESPACES);
            let mut app = App::new(&namespace, &format!("app-{team}-{number}"), steps);
            app.replicas = 1;
            app.canary["scaleDownDelaySeconds"] = json!(2);
            app
        })
        .collect();
    for app in &apps {
        app.create(bed, &app.template("app:0")).await;
    }
    let mut image = 0;
    while Instant::now() < until {
        let app = &apps[chance.usize(..apps.len())];
        image += 1;
        match chance.u8(0..10) {
            0 => {
                app.delete(bed).await;
                app.create(bed, &app.template("app:0")).await;
            }
            1 => {
                app.change(bed, &app.template(&format!("app:{image}-early"))).await;
                tokio::time::sleep(Duration::from_millis(300)).await;
                app.change(bed, &app.template(&format!("app:{image}"))).await;
            }
            _ => app.change(bed, &app.template(&format!("app:{image}"))).await,
        }
        tokio::time::sleep(PACE).await;
    }
}

async fn tell(controller: &Controller, prometheus: &Prometheus, minutes: u64) {
    println!("| minute | resident, MiB | at most | CPU s | writes | events | queries | series of /metrics |");
    println!("|---|---|---|---|---|---|---|---|");
    for minute in 1..=minutes {
        tokio::time::sleep(Duration::from_mins(1)).await;
        row(controller, prometheus, minute).await;
    }
}

/// All counts are since the start.
async fn row(controller: &Controller, prometheus: &Prometheus, minute: u64) {
    let (events, writes) = split_events(&controller.requests().await);
    let series = controller.metrics().await.lines().filter(|line| !line.starts_with('#')).count();
    println!(
        "| {minute} | {:.1} | {:.1} | {:.1} | {writes} | {events} | {} | {series} |",
        controller.resident_mib("VmRSS"),
        controller.resident_mib("VmHWM"),
        controller.cpu_seconds(),
        prometheus.asked(),
    );
}
