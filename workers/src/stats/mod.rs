//! Mergeable statistics of codes: integers only, so that adding and taking away are exact.
