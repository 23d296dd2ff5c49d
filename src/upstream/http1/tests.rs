//! Tests of the connection as a whole.
