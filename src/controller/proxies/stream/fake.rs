//! An istiod that sends what a test tells it to.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::task::{Context, Poll};

use futures::channel::mpsc::{UnboundedReceiver, unbounded};
use futures::future::BoxFuture;
use futures::stream::unfold;
use prost::Message;
use tokio::sync::watch;
use tonic::body::Body;
use tonic::server::{NamedService, StreamingService};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use super::super::xds::{Any, DiscoveryRequest, DiscoveryResponse};

/// The number of a push, and resources by name.
type Pushed = (u64, BTreeMap<String, Any>);
/// Names of resources by type.
type Names = BTreeMap<String, BTreeSet<String>>;
type Answers = UnboundedReceiver<Result<DiscoveryResponse, Status>>;

/// The istiod.
#[derive(Clone)]
pub(in super::super) struct Fake {
    pushed: watch::Sender<Pushed>,
    /// What it was last asked for, by type, and the token that it was shown.
    pub(in super::super) asked: watch::Sender<(Names, Option<String>)>,
}

impl Fake {
    /// Serves on a port of its own; the istiod and its URL.
    pub(in super::super) async fn serve() -> (Self, String) {
        let fake = Self { pushed: watch::Sender::default(), asked: watch::Sender::default() };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let incoming =
            unfold(listener, async |listener| Some((listener.accept().await.map(|(stream, _)| stream), listener)));
        let server = tonic::transport::Server::builder().add_service(fake.clone());
        tokio::spawn(server.serve_with_incoming(Box::pin(incoming)));
        (fake, url)
    }

    /// Pushes resources: by name, their type and what they are.
    pub(in super::super) fn push(&self, number: u64, resources: &[(&str, &str, &impl Message)]) {
        self.pushed.send_modify(|(last, all)| {
            *last = number;
            for (name, kind, resource) in resources {
                let any = Any { type_url: (*kind).to_owned(), value: resource.encode_to_vec() };
                all.insert((*name).to_owned(), any);
            }
        });
    }
}

fn response(kind: &str, names: &BTreeSet<String>, (number, all): &Pushed) -> DiscoveryResponse {
    let version = format!("2026-11-22T09:36:36Z/{number}");
    DiscoveryResponse {
        nonce: format!("{version}{}", "0".repeat(36)),
        version_info: version,
        resources: names.iter().filter_map(|name| all.get(name)).filter(|one| one.type_url == kind).cloned().collect(),
        type_url: kind.to_owned(),
    }
}

impl StreamingService<DiscoveryRequest> for Fake {
    type Response = DiscoveryResponse;
    type ResponseStream = Answers;
    type Future = BoxFuture<'static, Result<Response<Answers>, Status>>;

    fn call(&mut self, request: Request<Streaming<DiscoveryRequest>>) -> Self::Future {
        let token = request.metadata().get("authorization").map(|token| token.to_str().unwrap().to_owned());
        self.asked.send_modify(|(_, shown)| *shown = token);
        let (fake, mut inbound) = (self.clone(), request.into_inner());
        let (answers, outbound) = unbounded();
        tokio::spawn(async move {
            let mut pushed = fake.pushed.subscribe();
            let mut known = Names::new();
            loop {
                tokio::select! {
                    message = inbound.message() => {
                        let Ok(Some(message)) = message else { return };
                        let names: BTreeSet<String> = message.resource_names.into_iter().collect();
                        if known.insert(message.type_url.clone(), names.clone()).as_ref() != Some(&names) {
                            fake.asked.send_modify(|(all, _)| *all = known.clone());
                            let now = pushed.borrow().clone();
                            answers.unbounded_send(Ok(response(&message.type_url, &names, &now))).unwrap();
                        }
                    }
                    changed = pushed.changed() => {
                        changed.unwrap();
                        let now = pushed.borrow_and_update().clone();
                        for (kind, names) in &known {
                            answers.unbounded_send(Ok(response(kind, names, &now))).unwrap();
                        }
                    }
                }
            }
        });
        Box::pin(std::future::ready(Ok(Response::new(outbound))))
    }
}

impl NamedService for Fake {
    const NAME: &'static str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
}

impl tower::Service<http::Request<Body>> for Fake {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let fake = self.clone();
        Box::pin(async move {
            let codec: ProstCodec<DiscoveryResponse, DiscoveryRequest> = ProstCodec::default();
            Ok(tonic::server::Grpc::new(codec).streaming(fake, request).await)
        })
    }
}
