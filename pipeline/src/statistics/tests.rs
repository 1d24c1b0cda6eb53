//! Totals against slow references; retraction; any number of workers.
