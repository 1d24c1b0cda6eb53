//! What can go wrong between a client and an object store, and when.

use std::time::Duration;

/// A fault: what happens, how often, and to which requests.
///
/// ```ignore
/// server.fault(Fault::drop_after().method("PUT").path("epoch/").probability(0.5));
/// server.fault(Fault::slow_down().first(3));
/// ```
#[derive(Debug, Clone)]
pub struct Fault {
    pub(crate) kind: Kind,
    probability: f64,
    left: u64,
    method: Option<String>,
    path: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Refuse(u16, &'static str),
    Delay(Duration),
    CutBody,
    DropBefore,
    DropAfter,
}

impl Fault {
    fn new(kind: Kind) -> Fault {
        Fault { kind, probability: 1.0, left: u64::MAX, method: None, path: None }
    }
    /// 503 SlowDown; the request is not carried out.
    pub fn slow_down() -> Fault {
        Self::refuse(503, "SlowDown")
    }
    /// 403 AccessDenied; the request is not carried out.
    pub fn denied() -> Fault {
        Self::refuse(403, "AccessDenied")
    }
    /// This status and S3 error code; the request is not carried out.
    pub fn refuse(status: u16, code: &'static str) -> Fault {
        Self::new(Kind::Refuse(status, code))
    }
    /// The answer comes late.
    pub fn delay_ms(ms: u64) -> Fault {
        Self::new(Kind::Delay(Duration::from_millis(ms)))
    }
    /// Half of the answer's body arrives, then the connection is gone.
    pub fn cut_body() -> Fault {
        Self::new(Kind::CutBody)
    }
    /// The connection is dropped; the request is not carried out.
    pub fn drop_before() -> Fault {
        Self::new(Kind::DropBefore)
    }
    /// The request is carried out, then the connection is dropped without an answer.
    pub fn drop_after() -> Fault {
        Self::new(Kind::DropAfter)
    }
    /// Only this share of the requests.
    pub fn probability(mut self, probability: f64) -> Fault {
        self.probability = probability;
        self
    }
    /// Only the first `n` requests it would meet.
    pub fn first(mut self, n: u64) -> Fault {
        self.left = n;
        self
    }
    /// Only requests of this method.
    pub fn method(mut self, method: &str) -> Fault {
        self.method = Some(method.to_owned());
        self
    }
    /// Only requests whose path (bucket and key) contains this.
    pub fn path(mut self, part: &str) -> Fault {
        self.path = Some(part.to_owned());
        self
    }

    /// Whether the fault meets this request; `dice` is uniform in [0, 1).
    pub(crate) fn meets(&mut self, method: &str, path: &str, dice: f64) -> bool {
        let meets = self.left > 0
            && dice < self.probability
            && self.method.as_deref().is_none_or(|m| m == method)
            && self.path.as_deref().is_none_or(|p| path.contains(p));
        self.left -= u64::from(meets);
        meets
    }
}
