//! `kubectl serin dashboard`: Rollouts as a live page in the browser, served on this machine with the person's own rights.

pub mod act;
pub mod frame;
pub mod guard;
pub mod html;
pub mod list;
pub mod page;
pub mod plot;
pub mod preview;
pub mod read;
pub mod seen;
pub mod serve;
pub mod timeline;

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context as _;
use jiff::tz::TimeZone;
use kube::Client;
use kube::api::ListParams;
use tokio::net::TcpListener;

use self::guard::{Guard, key};
use self::plot::Face;
use self::serve::Dashboard;
use super::cluster::Cluster;
use super::outcome::Outcome;
use crate::controller::clock;

/// Where it is served, and what it may do.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  kubectl serin dashboard -A\n  kubectl serin dashboard -n shop --allow-actions\n\nIt listens at 127.0.0.1 alone. The address that it prints has a key, which nobody else on this machine knows."
)]
pub struct Arguments {
    /// Of all namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// The port; 0 for a free one.
    #[arg(long, default_value_t = 8046)]
    port: u16,
    /// Lets the page approve, promote, abort, retry, pause and resume; without it the page only looks.
    #[arg(long)]
    allow_actions: bool,
}

/// Serves until Ctrl-C.
pub async fn run(cluster: &Cluster, arguments: &Arguments) -> anyhow::Result<Outcome> {
    // What cannot be listed is told here, with what to do, and not first in the browser.
    let first = ListParams::default().limit(1);
    cluster.objects(arguments.all_namespaces).list(&first).await.context("list rollouts")?;
    let namespace = (!arguments.all_namespaces).then(|| cluster.namespace.clone());
    let (listener, guard) = listen(arguments.port).await?;
    let told = address(&guard);
    let look = (clock::wall(), Face::Zone(TimeZone::system()));
    let mut dashboard = Dashboard::new(cluster.client.clone(), namespace, guard, look);
    dashboard.acts = arguments.allow_actions;
    writeln!(std::io::stdout(), "{told}")?;
    let may = if arguments.allow_actions {
        "The page may act, as you."
    } else {
        "The page only looks; --allow-actions lets it act."
    };
    writeln!(std::io::stderr(), "{may} Ctrl-C ends it.")?;
    tokio::select! {
        served = serve(listener, Arc::new(dashboard)) => served?,
        _ = tokio::signal::ctrl_c() => {}
    }
    Ok(Outcome::Reached)
}

/// A port of this machine alone, and who may ask there.
pub async fn listen(port: u16) -> anyhow::Result<(TcpListener, Guard)> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let bound = TcpListener::bind(address).await;
    let listener = bound.with_context(|| format!("listen at {address}; --port 0 takes a free port"))?;
    let guard = Guard { port: Some(listener.local_addr()?.port()), key: Some(key()?) };
    Ok((listener, guard))
}

/// Serves a pod's page, which only looks: the API server says who may forward its port, and nobody else reaches it.
pub async fn serve_forwarded(client: Client, namespace: Option<String>, port: u16) -> anyhow::Result<()> {
    let (listener, _) = listen(port).await?;
    // Whoever forwards the port chooses the one at the other end.
    let guard = Guard { port: None, key: None };
    let look = (clock::wall(), Face::Zone(TimeZone::UTC));
    serve(listener, Arc::new(Dashboard::new(client, namespace, guard, look))).await
}

/// The address to open, with the key.
pub fn address(guard: &Guard) -> String {
    let port = guard.port.unwrap_or(80);
    let key = guard.key.as_ref().map_or_else(String::new, |key| format!("?key={key}"));
    format!("http://127.0.0.1:{port}/{key}")
}

/// Serves a dashboard and keeps it fresh.
pub async fn serve(listener: TcpListener, dashboard: Arc<Dashboard>) -> anyhow::Result<()> {
    let app = serve::app(dashboard.clone());
    tokio::select! {
        served = async { axum::serve(listener, app).await } => served.context("serve the dashboard"),
        () = dashboard.follow() => Ok(()),
    }
}
