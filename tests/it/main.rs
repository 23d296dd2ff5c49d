//! The integration tests: one crate, so that it links once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "support code of tests may panic, and says what it knows then"
)]

mod admin;
mod admin_bounds;
mod answers;
mod audit;
mod authorities;
mod authority;
mod bodies;
mod browser;
mod budgets;
mod checked;
mod client_address;
mod clients;
mod command_line;
mod commands;
mod cors;
mod credentials;
mod deploy;
mod descriptors;
mod diagnosed;
mod disks;
mod docs;
mod egress;
mod empty_bodies;
mod evidence;
mod explained;
mod faults;
mod fields;
mod framing;
mod full_house;
mod h2;
mod half_closed;
mod hand_over;
mod headers;
mod hostile;
mod house;
mod idle;
mod issued;
mod jwt;
mod kept_connections;
mod key_exchange;
mod last_look;
mod lifecycle;
mod link;
mod listeners;
mod local_sockets;
mod mtls;
mod narrow;
mod numbers;
mod openapi;
mod operations;
mod outlives;
mod participants;
mod policy;
mod policy_changes;
mod project_refused;
mod proxied;
mod resilience;
mod sandbox_faults;
mod sandbox_start;
mod secret_commands;
mod secrets;
mod service;
mod shared_connections;
mod shells;
mod slow;
mod startup;
mod store;
mod stuck;
mod support;
mod telemetry;
mod text;
mod threads;
mod tls;
mod trust;
mod try_page;
mod unix_sockets;
mod unread;
mod uploads;
mod uploads_again;
mod usage;
