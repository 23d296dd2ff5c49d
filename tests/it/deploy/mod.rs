//! What is there to run the gateway with (`deploy/`), held to the gateway itself.

mod helm;
