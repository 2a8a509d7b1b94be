//! What a write may have done, by what is known of it.
//!
//! A doubt costs an outage one answer, so nobody may begin one who could not have written. And yet no value may be given that
//! was superseded: whatever is not known is taken for the worse.

/// What is known of a write that was sent on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WriteEffect {
    /// The primary carried it out.
    CarriedOut,
    /// Nothing changed by it.
    None,
    /// It may have been carried out, or may be yet.
    Unknown,
}

/// What was heard of a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WriteHeard {
    /// The primary carried it out.
    CarriedOut,
    /// The primary decided against it, or says that it did nothing; or it was never sent.
    Refused,
    /// Nothing that would say: no answer, none yet, or one of a failure.
    Unheard,
}

/// How much of a write the primary may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// Less than it acts on: of what it is to write the end is missing.
    Short,
    /// As much as it acts on, or what cannot be told from that.
    Enough,
}

/// Whether who sent a write can have had the right to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Writer {
    /// By what is mirrored, yes.
    May,
    /// By what is mirrored, no: as of then, as all that is decided here.
    MayNot,
    /// Only the primary knows.
    Unknown,
}

impl WriteHeard {
    /// What a status of the primary says. Whatever it says with 5xx may have been carried out.
    pub fn of_status(status: u16) -> Self {
        match status {
            200..=299 => Self::CarriedOut,
            500.. => Self::Unheard,
            _ => Self::Refused,
        }
    }
}

impl Writer {
    /// What is known of who was judged as `self` and later as `other`: in between the primary may have gone by either.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::May, _) | (_, Self::May) => Self::May,
            (Self::MayNot, Self::MayNot) => Self::MayNot,
            _ => Self::Unknown,
        }
    }
}

impl WriteEffect {
    /// What a write may have done. What was heard of it counts before what it could have done.
    pub fn of(heard: WriteHeard, reach: Reach, writer: Writer) -> Self {
        match (heard, reach, writer) {
            (WriteHeard::CarriedOut, ..) => Self::CarriedOut,
            (WriteHeard::Refused, ..)
            | (WriteHeard::Unheard, Reach::Short, _)
            | (WriteHeard::Unheard, _, Writer::MayNot) => Self::None,
            (WriteHeard::Unheard, Reach::Enough, Writer::May | Writer::Unknown) => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITERS: [Writer; 3] = [Writer::May, Writer::MayNot, Writer::Unknown];

    #[test]
    fn what_was_heard_decides_whoever_wrote() {
        for writer in WRITERS {
            for reach in [Reach::Short, Reach::Enough] {
                let of = |heard| WriteEffect::of(heard, reach, writer);
                assert_eq!(of(WriteHeard::CarriedOut), WriteEffect::CarriedOut);
                assert_eq!(of(WriteHeard::Refused), WriteEffect::None);
            }
        }
        for status in [307, 400, 403, 404, 405, 412, 429] {
            assert_eq!(WriteHeard::of_status(status), WriteHeard::Refused);
        }
        for status in [500, 502, 503, 504, 599] {
            assert_eq!(WriteHeard::of_status(status), WriteHeard::Unheard);
        }
        assert_eq!(WriteHeard::of_status(204), WriteHeard::CarriedOut);
    }

    #[test]
    fn unheard_of_is_in_doubt_unless_it_cannot_have_been_carried_out() {
        let of = |reach, writer| WriteEffect::of(WriteHeard::Unheard, reach, writer);
        for writer in WRITERS {
            assert_eq!(of(Reach::Short, writer), WriteEffect::None);
        }
        assert_eq!(of(Reach::Enough, Writer::May), WriteEffect::Unknown);
        assert_eq!(of(Reach::Enough, Writer::Unknown), WriteEffect::Unknown);
        assert_eq!(of(Reach::Enough, Writer::MayNot), WriteEffect::None);
    }

    #[test]
    fn only_who_could_not_at_either_moment_could_not() {
        for one in WRITERS {
            for other in WRITERS {
                let both = one.and(other);
                assert_eq!(both, other.and(one));
                let is_sure = one == Writer::MayNot && other == Writer::MayNot;
                assert_eq!(both == Writer::MayNot, is_sure);
            }
        }
    }
}
