//! `podwire explain --web`: the page, served to the browsers of this machine until a signal ends it.
//!
//! Only 127.0.0.1 is listened on, and only who knows the address that is printed gets an answer: it
//! has a part by chance, so that other users of the machine do not guess it, and a request under
//! another name of the host, as a stranger's web page can have a browser make it (DNS rebinding), is
//! refused. It takes no orders: there is the page, and the event that there is a newer one.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::process::ExitCode;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, REFERRER_POLICY};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::sse::{Event, Sse};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use diagnosis::Reference;
use futures_util::Stream;
use futures_util::stream::unfold;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio::sync::watch::{self, Receiver};
use topology::Machine;

use super::live::{self, Subject};
use crate::cli::explain::Explain;
use crate::cli::print;
use crate::failure::{Exit, Failure, Result};

/// The page as it is now.
#[derive(Clone, Debug, Default)]
pub(super) struct Page {
    /// Which one it is: each that differs from the one before has a number of its own.
    pub(super) number: u64,
    /// When the machine was looked at, as [`topology::Host::taken`] has it.
    pub(super) taken: u64,
    pub(super) html: Bytes,
}

/// Serves until a signal comes.
pub(super) fn serve(arguments: &Explain, wanted: Reference, machine: Machine) -> Result<ExitCode> {
    let failed = |error: io::Error| Failure::new(Exit::Unknown, format!("serve the page: {error}"));
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(failed)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?.port();
    let token: String = kernel::random::<16>().iter().map(|byte| format!("{byte:02x}")).collect();

    let is_live = arguments.from.is_none();
    let subject = Subject { wanted, teach: arguments.teach, is_live };
    let html = subject.page(&machine, 0).html;
    let taken = machine.host.taken;
    let (renew, page) = watch::channel(Page { number: 0, taken, html: html.into() });
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(failed)?;
    let router = router(&token, port, page, is_live);
    let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
    thread("http")
        .spawn(move || {
            runtime.block_on(async move {
                if let Ok(listener) = tokio::net::TcpListener::from_std(listener) {
                    let _ = axum::serve(listener, router).await;
                }
            });
        })
        .map_err(failed)?;
    if is_live {
        thread("look").spawn(move || live::follow(subject, machine, renew)).map_err(failed)?;
    }
    print(&format!("http://127.0.0.1:{port}/{token}/\n"))?;
    // Nothing was made, so that nothing is to be removed.
    let exit = match signals.forever().next() {
        Some(SIGTERM) => Exit::Terminated,
        _ => Exit::Interrupted,
    };
    Ok(exit.into())
}

fn router(token: &str, port: u16, page: Receiver<Page>, is_live: bool) -> Router {
    let mut router = Router::new().route(&format!("/{token}/"), get(html));
    if is_live {
        router = router.route(&format!("/{token}/events/{{number}}"), get(events));
    }
    router.with_state(page).layer(from_fn_with_state(port, guard))
}

/// Answers those who ask this server by its own name, and has nobody keep the answer, frame it, or
/// tell others its address.
async fn guard(State(port): State<u16>, request: Request, next: Next) -> Response {
    let names = ["127.0.0.1", "localhost"].map(|name| format!("{name}:{port}"));
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = hosts.next().filter(|_| hosts.next().is_none());
    let mut response = if !host.is_some_and(|host| names.iter().any(|name| host == name)) {
        let why = format!("ask for 127.0.0.1:{port}\n");
        (StatusCode::FORBIDDEN, why).into_response()
    } else if request.method() != Method::GET {
        (StatusCode::METHOD_NOT_ALLOWED, "there is only something to read\n").into_response()
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // The page has a policy of its own beside this, which it cannot say itself.
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("frame-ancestors 'none'"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

async fn html(State(page): State<Receiver<Page>>) -> Html<Bytes> {
    Html(page.borrow().html.clone())
}

/// Tells whoever has one page that there is a newer one, also one that came before they asked.
async fn events(
    State(page): State<Receiver<Page>>,
    Path(number): Path<u64>,
) -> Sse<impl Stream<Item = std::result::Result<Event, Infallible>>> {
    Sse::new(unfold((page, number), |(mut page, had)| async move {
        let number = page.wait_for(|page| page.number != had).await.ok()?.number;
        let event = Event::default().event("changed").data(number.to_string());
        Some((Ok(event), (page, number)))
    }))
}
