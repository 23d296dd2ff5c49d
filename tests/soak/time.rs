//! The only ways in which a soak lets time go by: until something holds, and for the delay of a
//! peer or a fault that is part of the scenario. `tests/it/house` refuses every other sleep.

use std::time::Duration;

use anyhow::ensure;
use tokio::time::{Instant, sleep};

/// Waits until something holds.
///
/// # Errors
/// Where it does not hold in time, or cannot be asked.
pub(crate) async fn wait_until(
    what: &str,
    most: Duration,
    mut holds: impl AsyncFnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let end = Instant::now() + most;
    while !holds().await? {
        ensure!(Instant::now() < end, "waited in vain until {what}");
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// Time that is part of the scenario: between two requests of a caller, or while a fault lasts.
pub(crate) async fn scenario_delay(time: Duration) {
    sleep(time).await;
}
