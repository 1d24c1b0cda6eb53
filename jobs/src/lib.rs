//! atomflow.
