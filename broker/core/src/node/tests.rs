//! Small worlds of one broker.
