//! x
mod window;
pub use window::{NoZone, Period, Window, Zone};
