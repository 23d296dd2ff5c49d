//! Every client on every way that it can go, and a table of what came of it.

use std::fmt::Write as _;
use std::sync::Mutex;
use std::thread;

use super::program::{self, Client};
use super::route::Route;

/// So many cells are tried at once: much of the time of each is waiting.
const AT_ONCE: usize = 4;

enum Cell {
    Passed(usize),
    Impossible(&'static str),
    Failed(String),
}

/// A row for each way, and for each client a cell.
type Table = Vec<Vec<Cell>>;

#[test]
#[ignore = "takes minutes: cargo nextest run --run-ignored only -E 'test(every_client)' --no-capture"]
fn every_client_goes_every_way_that_it_can() {
    let table = run();
    eprintln!("{}", show(&table));
    let failed = table.iter().flatten().filter_map(|cell| match cell {
        Cell::Failed(why) => Some(why.as_str()),
        _ => None,
    });
    let failed: Vec<_> = failed.collect();
    assert!(failed.is_empty(), "{} cells failed:\n{}", failed.len(), failed.join("\n\n"));
}

fn run() -> Table {
    let (ways, clients) = (Route::all(), program::ALL);
    let mut left: Vec<(usize, usize)> =
        (0..ways.len()).flat_map(|way| (0..clients.len()).map(move |one| (way, one))).collect();
    left.reverse();
    let table = ways.iter().map(|_| clients.iter().map(|_| None).collect::<Vec<_>>());
    let (left, table) = (Mutex::new(left), Mutex::new(table.collect::<Vec<_>>()));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((way, one)) = { left.lock().unwrap().pop() } {
                    let cell = cell(&clients[one], ways[way]);
                    table.lock().unwrap()[way][one] = Some(cell);
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

/// The table as text: the number of calls that were made, or the number of a reason below it.
fn show(table: &Table) -> String {
    let mut reasons: Vec<&str> = Vec::new();
    let mut out = String::from("\n| way |");
    for client in program::ALL {
        _ = write!(out, " {} |", client.name());
    }
    _ = write!(out, "\n| --- |{}", " --- |".repeat(program::ALL.len()));
    for (row, way) in table.iter().zip(Route::all()) {
        _ = write!(out, "\n| {} |", way.name());
        for cell in row {
            _ = match cell {
                Cell::Passed(calls) => write!(out, " {calls} |"),
                Cell::Failed(_) => write!(out, " FAILED |"),
                Cell::Impossible(why) => {
                    let known = reasons.iter().position(|one| one == why);
                    let index = known.unwrap_or_else(|| {
                        reasons.push(why);
                        reasons.len() - 1
                    });
                    write!(out, " ({}) |", index + 1)
                }
            };
        }
    }
    out.push('\n');
    for (index, why) in reasons.iter().enumerate() {
        _ = write!(out, "\n({}) {why}", index + 1);
    }
    let count = |what: fn(&Cell) -> bool| table.iter().flatten().filter(|cell| what(cell)).count();
    let passed = count(|cell| matches!(cell, Cell::Passed(_)));
    let impossible = count(|cell| matches!(cell, Cell::Impossible(_)));
    let failed = count(|cell| matches!(cell, Cell::Failed(_)));
    _ = write!(
        out,
        "\n\ncells run: {}, failed: {failed}, impossible: {impossible}",
        passed + failed
    );
    out
}
