//! The clients of the world: what they send, replayed, and they themselves, through the proxies that
//! stand before gateways. `docs/clients.md` has the table.

mod captured;
mod matrix;
mod migrate;
mod page;
mod program;
mod route;

use program::Client;
use route::Http::{One, Two};
use route::{Proxy, Route};

#[track_caller]
fn passes(client: &Client, route: Route) {
    if let Err(why) = client.run(route) {
        panic!("{why}");
    }
}

#[test]
fn a_java_backend_works_though_it_asks_for_an_upgrade() {
    passes(&Client::Program(&program::JAVA), Route::new(One, Proxy::None, One));
}

#[test]
fn a_go_backend_works_behind_caddy() {
    passes(&Client::Program(&program::GO), Route::new(Two, Proxy::Caddy, Two));
}

#[test]
fn a_node_backend_works_over_http2() {
    passes(&Client::Program(&program::NODE), Route::new(Two, Proxy::None, Two));
}

#[test]
fn a_python_backend_works_behind_haproxy() {
    passes(&Client::Program(&program::REQUESTS), Route::new(One, Proxy::Haproxy, Two));
}

#[test]
fn another_python_backend_works_behind_haproxy() {
    passes(&Client::Program(&program::HTTPX), Route::new(Two, Proxy::Haproxy, One));
}

#[test]
fn a_php_backend_works_behind_nginx() {
    passes(&Client::Program(&program::PHP), Route::new(Two, Proxy::Nginx, One));
}

#[test]
fn a_ruby_backend_works_behind_nginx() {
    passes(&Client::Program(&program::RUBY), Route::new(One, Proxy::Nginx, One));
}

#[test]
fn flat_server_works_and_its_malformed_calls_get_a_400() {
    passes(&Client::Program(&program::FLAT), Route::new(One, Proxy::None, One));
}

#[test]
fn the_official_demo_finds_what_it_reads_from_a_page() {
    passes(&Client::FetchMiddleware, Route::new(One, Proxy::None, One));
}

#[test]
fn the_web_sdk_watches_its_conversions_under_the_name_of_the_service() {
    passes(&Client::WhiteWebSdk, Route::new(Two, Proxy::None, Two));
}
