//! The client, with one change to what kube asks: lists are consistent.
//!
//! kube begins a streaming list with `resourceVersion=0`, which an API server may answer from a cache that lags behind.
//! After a restart or an expired watch the controller would plan from a status older than the one it wrote. Without
//! the parameter the list has all that there was when it was asked for
//! (kubernetes.io, "Kubernetes API Concepts", semantics for watch).

use http::{Request, Uri};
use kube::Client;
use kube::client::ClientBuilder;
use tower::util::MapRequestLayer;

/// A client of the cluster that a configuration names.
pub fn connect(config: kube::Config) -> Result<Client, kube::Error> {
    Ok(ClientBuilder::try_from(config)?.with_layer(&MapRequestLayer::new(consistent)).build())
}

/// The same request; of a streaming list, one that is not answered from an old cache.
pub fn consistent<B>(mut request: Request<B>) -> Request<B> {
    let query = request.uri().query().unwrap_or_default();
    if !query.contains("sendInitialEvents=true") {
        return request;
    }
    let kept: Vec<&str> = query.split('&').filter(|pair| *pair != "resourceVersion=0").collect();
    let path_and_query = format!("{}?{}", request.uri().path(), kept.join("&"));
    let mut parts = request.uri().clone().into_parts();
    parts.path_and_query = path_and_query.parse().ok();
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streaming_lists_are_consistent() {
        for (asked, wanted) in [
            (
                "/api/v1/pods?watch=true&sendInitialEvents=true&resourceVersion=0",
                "/api/v1/pods?watch=true&sendInitialEvents=true",
            ),
            (
                "https://host:6443/api/v1/pods?resourceVersion=0&sendInitialEvents=true",
                "https://host:6443/api/v1/pods?sendInitialEvents=true",
            ),
            ("/api/v1/pods?watch=true&resourceVersion=7", "/api/v1/pods?watch=true&resourceVersion=7"),
            ("/api/v1/pods", "/api/v1/pods"),
        ] {
            let request = Request::builder().uri(asked).body(());
            assert_eq!(request.map(|request| consistent(request).uri().to_string()).ok().as_deref(), Some(wanted));
        }
    }
}
