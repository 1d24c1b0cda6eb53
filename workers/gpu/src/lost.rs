//! Whether a card still answers: the first reason why it did not is kept, and told to whoever asks.

use std::sync::{Arc, Mutex, PoisonError};

use crate::card::Lost;

/// Shared by everything that works on one card.
#[derive(Debug, Clone, Default)]
pub struct Losses(Arc<Mutex<Option<String>>>);

impl Losses {
    /// The answer; where there is none, the reason is noted and `otherwise` stands in.
    pub fn or_else<T>(&self, answer: Result<T, Lost>, otherwise: impl FnOnce() -> T) -> T {
        answer.unwrap_or_else(|Lost(reason)| {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
            otherwise()
        })
    }

    /// Why the card was lost.
    pub fn reason(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_stays() {
        let losses = Losses::default();
        assert_eq!(losses.or_else(Ok(1), || 2), 1);
        assert_eq!(losses.reason(), None);
        assert_eq!(losses.or_else(Err(Lost("first".to_owned())), || 2), 2);
        losses.or_else(Err(Lost("second".to_owned())), || ());
        assert_eq!(losses.reason().as_deref(), Some("first"));
    }
}
