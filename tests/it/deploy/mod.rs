//! What is in `deploy/`: it is run, or judged by the tools of those who read it.

mod monitoring;
