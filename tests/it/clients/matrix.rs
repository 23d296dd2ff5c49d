//! Every client on every route that it can take, and a table of the results.

use std::sync::Mutex;
use std::thread;

use super::program::{self, Client};
use super::route::Route;
use crate::house::root;

/// So many cells are tried at once: much of the time of each is waiting.
const AT_ONCE: usize = 4;

enum Cell {
    Passed(usize),
    Impossible(&'static str),
    Failed(String),
}

/// A row for each route, and for each client a cell.
type Table = Vec<Vec<Cell>>;

#[test]
#[ignore = "takes minutes: cargo nextest run --profile programs --run-ignored only -E 'test(every_client)'"]
fn every_client_takes_every_route_that_it_can() {
    let table = run();
    eprintln!("\n{}\n", show(&table));
    let failed = table.iter().flatten().filter_map(|cell| match cell {
        Cell::Failed(why) => Some(why.as_str()),
        _ => None,
    });
    let failed: Vec<_> = failed.collect();
    assert!(failed.is_empty(), "{} cells failed:\n{}", failed.len(), failed.join("\n\n"));
}

#[test]
fn the_page_of_clients_shows_the_table() {
    let row = |route| {
        program::ALL.iter().map(move |client| match client.impossible(route) {
            Some(why) => Cell::Impossible(why),
            None => Cell::Passed(client.calls()),
        })
    };
    let table = Route::all().into_iter().map(|route| row(route).collect()).collect();
    let page = std::fs::read_to_string(root().join("docs/clients.md")).unwrap();
    assert!(page.contains(&show(&table)), "docs/clients.md should have\n{}", show(&table));
}

fn run() -> Table {
    let (routes, clients) = (Route::all(), program::ALL);
    let mut left: Vec<(usize, usize)> = (0..routes.len())
        .flat_map(|route| (0..clients.len()).map(move |one| (route, one)))
        .collect();
    left.reverse();
    let table = routes.iter().map(|_| clients.iter().map(|_| None).collect::<Vec<_>>());
    let (left, table) = (Mutex::new(left), Mutex::new(table.collect::<Vec<_>>()));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((route, one)) = { left.lock().unwrap().pop() } {
                    let cell = cell(&clients[one], routes[route]);
                    table.lock().unwrap()[route][one] = Some(cell);
                }
            });
        }
    });
    let table = table.into_inner().unwrap().into_iter();
    table.map(|row| row.into_iter().map(Option::unwrap).collect()).collect()
}

fn cell(client: &Client, route: Route) -> Cell {
    match client.impossible(route) {
        Some(why) => Cell::Impossible(why),
        None => client.run(route).map_or_else(Cell::Failed, Cell::Passed),
    }
}

/// The table as text: the number of calls that were made, or of the reason below it.
fn show(table: &Table) -> String {
    let mut reasons: Vec<&str> = Vec::new();
    let names = program::ALL.iter().map(Client::name).collect::<Vec<_>>();
    let mut out = format!("| HTTP version | {} |\n", names.join(" | "));
    out += &format!("| --- |{}", " --- |".repeat(names.len()));
    for (row, route) in table.iter().zip(Route::all()) {
        out += &format!("\n| {} |", route.name());
        for cell in row {
            out += &match cell {
                Cell::Passed(calls) => format!(" {calls} |"),
                Cell::Failed(_) => " FAILED |".to_owned(),
                Cell::Impossible(why) => {
                    if !reasons.contains(why) {
                        reasons.push(why);
                    }
                    let index = reasons.iter().position(|one| one == why).unwrap();
                    format!(" ({}) |", index + 1)
                }
            };
        }
    }
    out.push('\n');
    for (index, why) in reasons.iter().enumerate() {
        out += &format!("\n- ({}) {why}", index + 1);
    }
    let impossible = table.iter().flatten().filter(|cell| matches!(cell, Cell::Impossible(_)));
    let (all, impossible) = (table.iter().flatten().count(), impossible.count());
    out + &format!("\n\nCells run: {}. Cells impossible: {impossible}.", all - impossible)
}
