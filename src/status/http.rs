use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::health::Verdict;
use super::{CONNECTION_TIME, Snapshot, Watched, health, metrics};

/// A request's head comes within this time.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// A request's head is no longer than this.
const MAX_HEAD_BYTES: usize = 16 << 10;
/// A request has so many headers at most.
const MAX_HEADERS: usize = 64;

const PLAIN: &str = "text/plain; charset=utf-8";
/// What Prometheus calls its text format.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON: &str = "application/json";

const INDEX: &str = "zeod\n\n/healthz\n/readyz\n/readyz/read\n/metrics\n/status.json\n";

/// What is answered.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: StatusCode,
    content_type: &'static str,
    body: String,
}

/// Answers one request, and closes. Whatever the other side does or does not,
/// it is over after [`CONNECTION_TIME`].
pub async fn serve<S>(stream: S, watched: Arc<Watched>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let service = service_fn(|request: Request<Incoming>| respond(request, Arc::clone(&watched)));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(CONNECTION_TIME, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!("status: {error}"),
        Err(_) => tracing::debug!("status: not over after {} s", CONNECTION_TIME.as_secs()),
    }
}

async fn respond(
    request: Request<Incoming>,
    watched: Arc<Watched>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, _) = request.into_parts();
    // With many clients this takes its time, and clients' tasks are not to wait.
    let answered = tokio::task::spawn_blocking(move || {
        let path = head.uri.path();
        answer(&head.method, path, &watched)
    });
    let answer = answered.await.unwrap_or_else(|error| {
        tracing::error!("status: {error}");
        plain(StatusCode::INTERNAL_SERVER_ERROR, "it could not be told\n")
    });
    Ok(response(answer))
}

fn response(answer: Answer) -> Response<Full<Bytes>> {
    let is_refusal = answer.status == StatusCode::METHOD_NOT_ALLOWED;
    let mut response = Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    let mut set = |name, value| headers.insert(name, HeaderValue::from_static(value));
    set(CONTENT_TYPE, answer.content_type);
    set(CACHE_CONTROL, "no-store");
    set(X_CONTENT_TYPE_OPTIONS, "nosniff");
    if is_refusal {
        set(ALLOW, "GET, HEAD");
    }
    response
}

/// What is asked for, now. A HEAD is answered as a GET; its body is left out later.
fn answer(method: &Method, path: &str, watched: &Watched) -> Answer {
    if method != Method::GET && method != Method::HEAD {
        let words = "only GET and HEAD are answered here\n";
        return plain(StatusCode::METHOD_NOT_ALLOWED, words);
    }
    match path {
        "/" => plain(StatusCode::OK, INDEX),
        "/healthz" => verdict(&health::health(&Snapshot::of(watched))),
        "/readyz" => verdict(&health::readiness(&Snapshot::of(watched))),
        "/readyz/read" => verdict(&health::readiness_to_read(&Snapshot::of(watched))),
        "/metrics" => Answer {
            status: StatusCode::OK,
            content_type: EXPOSITION,
            body: metrics::text(&Snapshot::of(watched)),
        },
        "/status.json" => match serde_json::to_string_pretty(&Snapshot::with_clients(watched)) {
            Ok(body) => Answer {
                status: StatusCode::OK,
                content_type: JSON,
                body: body + "\n",
            },
            Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error}\n")),
        },
        _ => plain(StatusCode::NOT_FOUND, INDEX),
    }
}

fn verdict(verdict: &Verdict) -> Answer {
    let status = if verdict.is_good {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    plain(status, &verdict.words)
}

fn plain(status: StatusCode, words: &str) -> Answer {
    Answer {
        status,
        content_type: PLAIN,
        body: words.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Limits, Phase};
    use super::*;

    fn get(watched: &Watched, path: &str) -> (u16, String) {
        let answer = answer(&Method::GET, path, watched);
        (answer.status.as_u16(), answer.body)
    }

    #[test]
    fn a_server_goes_from_starting_over_ready_to_stopping() {
        let watched = Watched::new(Limits::default());
        let json = |watched: &Watched| -> serde_json::Value {
            serde_json::from_str(&get(watched, "/status.json").1).unwrap()
        };
        watched.set_phase(Phase::Starting("opening storage 1".to_owned()));
        let words = "starting: opening storage 1\n".to_owned();
        assert_eq!(get(&watched, "/readyz"), (503, words));
        assert_eq!(json(&watched)["doing"], "opening storage 1");
        watched.set_phase(Phase::Ready);
        assert_eq!(get(&watched, "/readyz"), (200, "ready\n".to_owned()));
        assert_eq!(json(&watched)["state"], "ready");
        watched.set_phase(Phase::Stopping);
        assert_eq!(get(&watched, "/readyz"), (503, "stopping\n".to_owned()));
        assert_eq!(get(&watched, "/healthz"), (200, "ok\n".to_owned()));
        assert!(get(&watched, "/metrics").1.contains("\nzeod_ready 0\n"));
        assert_eq!(json(&watched)["state"], "stopping");
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_is_closed() {
        let watched = Arc::new(Watched::new(Limits::default()));
        let (_silent, stream) = tokio::io::duplex(1024);
        let begun = tokio::time::Instant::now();
        serve(stream, watched).await;
        assert!(begun.elapsed() <= CONNECTION_TIME, "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_is_closed() {
        let watched = Arc::new(Watched::new(Limits::default()));
        // The answer does not fit.
        let (mut unread, stream) = tokio::io::duplex(16);
        let begun = tokio::time::Instant::now();
        let served = tokio::spawn(serve(stream, watched));
        let request = b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n";
        tokio::io::AsyncWriteExt::write_all(&mut unread, request)
            .await
            .unwrap();
        served.await.unwrap();
        assert!(begun.elapsed() <= CONNECTION_TIME, "{:?}", begun.elapsed());
    }
}
